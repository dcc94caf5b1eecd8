//! What a GPU is made ready with before the first operation.

use candle_core::Device;

/// Kernels of passes, which are being compiled for a GPU on a thread of their own.
#[derive(Debug)]
pub(crate) struct KernelLoading {
    #[cfg(feature = "cuda")]
    thread: Option<std::thread::JoinHandle<()>>,
}

impl KernelLoading {
    /// Waits until they are there.
    #[cfg_attr(not(feature = "cuda"), allow(clippy::unused_self, reason = "there is nothing to wait for"))]
    pub fn wait(self) {
        #[cfg(feature = "cuda")]
        if let Some(thread) = self.thread {
            // What goes wrong here goes wrong again where a kernel is needed, and is reported there.
            let _ = thread.join();
        }
    }
}

/// Makes a device ready: a GPU keeps the memory that it frees for what comes next, and the kernels of passes
/// are compiled while files are read.
pub(crate) fn prepare(device: &Device) -> KernelLoading {
    #[cfg(feature = "cuda")]
    {
        let Device::Cuda(device) = device.clone() else { return KernelLoading { thread: None } };
        super::cuda_start::keep_memory(&device);
        // The first of them brings all others.
        let load = move || drop(super::cuda::PASS_KERNELS.kernel(&device, "add_parts"));
        KernelLoading { thread: std::thread::Builder::new().name("kernels".into()).spawn(load).ok() }
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = device;
        KernelLoading {}
    }
}
