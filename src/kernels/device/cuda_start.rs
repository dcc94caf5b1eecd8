//! A GPU before its first operation: memory, and kernels.
#![allow(unsafe_code, reason = "the driver's calls take pointers; each call says what holds")]

use std::ptr::from_mut;
use std::thread::{self, JoinHandle};

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::kernels::{
    AFFINE, BINARY, CAST, FILL, INDEXING, Module, REDUCE, SORT, TERNARY, UNARY,
};

use super::cuda;

/// What studies use of candle's kernels, those first that take longest.
const MODULES: [Module; 9] = [BINARY, UNARY, INDEXING, REDUCE, CAST, TERNARY, AFFINE, FILL, SORT];

/// With this variable the driver keeps no kernels: what is loaded ahead would only be translated twice.
const NO_CACHE: &str = "CUDA_CACHE_DISABLE";

/// Lets the device keep the memory that tensors free. Else the driver gives it back whenever the host waits for the
/// device, and the next tensors wait for new memory. What an earlier study left is given back here.
pub(super) fn keep_memory(device: &CudaDevice) {
    let mut all = u64::MAX;
    let stream = device.cuda_stream();
    // SAFETY: the device is the one of a context that lives, its pool with it; the attribute is a number of 64 bits.
    let kept = unsafe {
        result::device::get_default_mem_pool(stream.context().cu_device()).and_then(|pool| {
            result::mem_pool::trim_to(pool, 0)?;
            result::mem_pool::set_attribute(
                pool,
                CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                from_mut(&mut all).cast(),
            )
        })
    };
    // A device without a pool is only slower.
    let _ = kept;
}

/// Loads all kernels that a study may need, on threads of their own. Ours stay loaded. candle loads its own again when
/// they are first used, and finds them translated.
pub(super) fn load_kernels(device: &CudaDevice) -> Vec<JoinHandle<()>> {
    let ours = {
        let device = device.clone();
        thread::Builder::new().name("kernels".into()).spawn(move || drop(cuda::load(&device)))
    };
    if std::env::var_os(NO_CACHE).is_some_and(|value| value == "1") {
        return ours.into_iter().collect();
    }
    let context = device.cuda_stream().context().clone();
    let load = |module: Module| {
        let context = context.clone();
        let load = move || drop(context.load_module(Ptx::from_src(module.ptx())));
        thread::Builder::new().name("kernels".into()).spawn(load)
    };
    ours.into_iter().chain(MODULES.into_iter().filter_map(|module| load(module).ok())).collect()
}
