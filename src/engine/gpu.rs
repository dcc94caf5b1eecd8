//! What an NVIDIA GPU is doing, by its driver's library, which is looked for when the program runs.

use std::ffi::OsStr;

use candle_core::{Device, DeviceLocation};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

/// The driver's library where only its versioned name is there, as without the developers' files.
const VERSIONED: &str = "libnvidia-ml.so.1";

/// A GPU that tells.
pub(super) struct Gpu {
    nvml: Nvml,
    selector: GpuSelector,
}

/// How the driver's library finds a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
enum GpuSelector {
    Index(u32),
    Uuid(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct GpuSample {
    /// Share of the time of late in which it computed, `0 … 1`; `None` where it does not tell.
    pub busy: Option<f32>,
    /// Memory in use, in bytes.
    pub used: u64,
    /// Memory that is free, in bytes.
    pub free: u64,
    /// Its memory, in bytes.
    pub total: u64,
}

impl Gpu {
    /// The GPU that a device is; `None` for the CPU, and where library, driver or GPU do not answer.
    pub fn of(device: &Device) -> Option<Self> {
        let DeviceLocation::Cuda { gpu_id } = device.location() else { return None };
        let nvml = Nvml::init().or_else(|_| Nvml::builder().lib_path(OsStr::new(VERSIONED)).init()).ok()?;
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let gpu = Self { nvml, selector: select(visible.as_deref(), gpu_id)? };
        gpu.sample().is_some().then_some(gpu)
    }

    pub fn sample(&self) -> Option<GpuSample> {
        let read = || -> Result<GpuSample, NvmlError> {
            let device = match &self.selector {
                GpuSelector::Index(index) => self.nvml.device_by_index(*index)?,
                GpuSelector::Uuid(uuid) => self.nvml.device_by_uuid(uuid.as_str())?,
            };
            let memory = device.memory_info()?;
            // A slice of a GPU (MIG) has memory but no utilisation of its own.
            let busy = device.utilization_rates().ok().map(|rates| rates.gpu as f32 / 100.0);
            Ok(GpuSample { busy, used: memory.used, free: memory.free, total: memory.total })
        };
        read().ok()
    }
}

/// Where GPU `id` of this process is among those of the machine: `CUDA_VISIBLE_DEVICES` (`visible`) renumbers them.
fn select(visible: Option<&str>, id: usize) -> Option<GpuSelector> {
    let Some(visible) = visible else { return u32::try_from(id).ok().map(GpuSelector::Index) };
    let named = visible.split(',').nth(id)?.trim();
    match named.parse() {
        Ok(index) => Some(GpuSelector::Index(index)),
        Err(_) if named.starts_with("GPU-") || named.starts_with("MIG-") => {
            Some(GpuSelector::Uuid(named.into()))
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_devices_renumber_gpus() {
        assert_eq!(select(None, 1), Some(GpuSelector::Index(1)));
        assert_eq!(select(Some("3, 1"), 1), Some(GpuSelector::Index(1)));
        assert_eq!(select(Some("3,1"), 0), Some(GpuSelector::Index(3)));
        assert_eq!(select(Some("GPU-8932f937-d72c"), 0), Some(GpuSelector::Uuid("GPU-8932f937-d72c".into())));
        assert_eq!(select(Some("3"), 1), None);
        assert_eq!(select(Some(""), 0), None);
    }

    #[test]
    fn the_cpu_is_no_gpu() {
        assert!(Gpu::of(&Device::Cpu).is_none());
    }
}
