//! What a GPU is made ready with before the first operation.

use candle_core::Device;

/// Kernels that are being translated for a GPU, on threads of their own.
#[derive(Debug)]
#[must_use = "the first operations wait for kernels one after the other"]
pub(crate) struct KernelLoading {
    #[cfg(feature = "cuda")]
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl KernelLoading {
    /// Waits for the last one.
    pub fn wait(self) {
        #[cfg(feature = "cuda")]
        for thread in self.threads {
            // What goes wrong here goes wrong again where a kernel is needed, and is reported there.
            let _ = thread.join();
        }
    }
}

/// Makes a device ready: a GPU keeps the memory that it frees for what comes next, and begins to load its kernels. The
/// driver translates a set of kernels when it is first loaded on a machine, which takes seconds, and keeps what comes of
/// it; sets that are loaded side by side are translated side by side.
pub(crate) fn prepare(device: &Device) -> KernelLoading {
    #[cfg(feature = "cuda")]
    {
        let threads = match device {
            Device::Cuda(device) => {
                super::cuda_start::keep_memory(device);
                super::cuda_start::load_kernels(device)
            }
            _ => Vec::new(),
        };
        KernelLoading { threads }
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = device;
        KernelLoading {}
    }
}
