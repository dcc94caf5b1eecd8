//! A GPU before its first operation.
#![allow(unsafe_code, reason = "the driver's calls take pointers; each call says what holds")]

use std::ptr::from_mut;

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;

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
