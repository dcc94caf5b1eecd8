//! Which device computes, and in what precision.

use candle_core::{DType, Device};

use crate::error::{Error, Result};

/// Whether this build can use NVIDIA GPUs.
pub(crate) const BUILT_WITH_CUDA: bool = cfg!(feature = "cuda");

/// What a user may ask for, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Auto,
    Cpu,
    Cuda(usize),
}

fn wish(name: &str) -> Result<Wish> {
    let wish = match name {
        "auto" => Some(Wish::Auto),
        "cpu" => Some(Wish::Cpu),
        "cuda" => Some(Wish::Cuda(0)),
        other => other.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Wish::Cuda),
    };
    let wish = wish.ok_or_else(|| {
        Error::mistake(format!("unknown device `{name}`: accepted are auto, cpu, cuda, cuda:N"))
    })?;
    if matches!(wish, Wish::Cuda(_)) && !BUILT_WITH_CUDA {
        return Err(Error::mistake(format!(
            "device `{name}`: this secateur was built without CUDA; build it with \
             `cargo build --release --features cuda` (needs the CUDA toolkit), or use cpu"
        )));
    }
    Ok(wish)
}

/// Checks the name of a device without touching one.
///
/// # Errors
/// [`Error::Mistake`] for an unknown name, or for `cuda` in a build without it.
pub(crate) fn check_device(name: &str) -> Result<()> {
    wish(name).map(drop)
}

/// Whether the driver shows this process a GPU: `CUDA_VISIBLE_DEVICES` and a job's limits may hide all of them.
#[cfg(feature = "cuda")]
fn sees_a_gpu() -> bool {
    use candle_core::cuda_backend::cudarc::driver::CudaContext;
    CudaContext::device_count().is_ok_and(|count| count > 0)
}

#[cfg(not(feature = "cuda"))]
fn sees_a_gpu() -> bool {
    false
}

/// The device that `name` (`auto`, `cpu`, `cuda`, `cuda:N`) stands for; `auto` is the first GPU where the build
/// knows GPUs and there is one, else the CPU.
///
/// # Errors
/// [`Error::Mistake`] for an unknown name, for `cuda` in a build without it, and for a GPU that is not there.
pub fn choose_device(name: &str) -> Result<Device> {
    match wish(name)? {
        // Whoever has a GPU does not want hours on the CPU because another process holds it.
        Wish::Auto if sees_a_gpu() => Device::new_cuda(0)
            .map_err(|e| unusable(&e, "device `auto`: there is a GPU that cannot be used", "cpu, cuda:N")),
        Wish::Auto | Wish::Cpu => Ok(Device::Cpu),
        Wish::Cuda(n) => Device::new_cuda(n)
            .map_err(|e| unusable(&e, &format!("device `{name}` is not available"), "auto, cpu")),
    }
}

fn unusable(error: &candle_core::Error, trouble: &str, accepted: &str) -> Error {
    // A GPU library's error may carry a backtrace below its first line.
    let reason = error.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    Error::mistake(format!("{trouble} ({reason}); accepted are {accepted}"))
}

/// Checks the name of a precision, on the device as it was asked for, without touching the device.
///
/// # Errors
/// [`Error::Mistake`] for an unknown name, and for half precision where the CPU is certain to compute.
pub(crate) fn check_dtype(name: &str, device: &str) -> Result<()> {
    let wish = wish(device)?;
    let certainly_cpu = wish == Wish::Cpu || (wish == Wish::Auto && !BUILT_WITH_CUDA);
    dtype(name, certainly_cpu).map(drop)
}

/// The precision that `name` (`auto`, `f32`, `bf16`, `f16`) stands for on `device`; `auto` is f32 on the CPU and
/// bf16 on a GPU.
///
/// # Errors
/// [`Error::Mistake`] for an unknown name, and for half precision on the CPU.
pub(crate) fn choose_dtype(name: &str, device: &Device) -> Result<DType> {
    dtype(name, device.is_cpu())
}

/// The same on a device of this name, which may be one of another machine.
///
/// # Errors
/// As [`choose_dtype`].
pub(crate) fn dtype_on(name: &str, device: &str) -> Result<DType> {
    dtype(name, wish(device)? == Wish::Cpu)
}

fn dtype(name: &str, cpu: bool) -> Result<DType> {
    match name {
        "f32" => Ok(DType::F32),
        "auto" if cpu => Ok(DType::F32),
        "bf16" | "f16" if cpu => Err(Error::mistake(format!(
            "dtype `{name}` on the cpu is slow or unsupported; accepted there are auto, f32 \
             (weights are stored as the source stores them all the same)"
        ))),
        "auto" | "bf16" => Ok(DType::BF16),
        "f16" => Ok(DType::F16),
        _ => Err(Error::mistake(format!("unknown dtype `{name}`: accepted are auto, f32, bf16, f16"))),
    }
}

/// How reports name a device: `cpu`, `cuda:0`.
pub(crate) fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_in_f32_and_refuses_half_precision_by_name() {
        let cpu = choose_device("cpu").unwrap();
        assert_eq!(device_name(&cpu), "cpu");
        assert_eq!(choose_dtype("auto", &cpu).unwrap(), DType::F32);
        for name in ["bf16", "f16"] {
            let message = choose_dtype(name, &cpu).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("f32"), "{message}");
        }
        assert!(choose_dtype("f8", &cpu).unwrap_err().to_string().contains("`f8`"));
    }

    #[test]
    fn unknown_devices_are_refused_by_name() {
        for name in ["gpu", "cuda:x", "cuda:", "CPU", ""] {
            let error = check_device(name).unwrap_err();
            assert!(error.to_string().contains("auto, cpu, cuda") && error.exit_code() == 2, "{error}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_how_to_get_one() {
        for name in ["cuda", "cuda:1"] {
            let error = choose_device(name).unwrap_err();
            assert!(error.to_string().contains("--features cuda") && error.exit_code() == 2, "{error}");
        }
        assert!(choose_device("auto").unwrap().is_cpu());
        assert!(check_dtype("bf16", "auto").is_err());
    }
}
