//! How fast this machine multiplies.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use crate::device;
use crate::error::Result;
use crate::kernels::matmul;

/// A device by name, a precision, the sides of a weight.
type SpeedKey = (String, DType, (usize, usize));

/// Speeds measured so far.
static SPEEDS: Mutex<Option<HashMap<SpeedKey, f64>>> = Mutex::new(None);

/// Operations per second with weights `[outer, inner]`, measured once a process: a study that is planned while another
/// runs would measure what the other leaves.
pub(super) fn measured(device: &Device, dtype: DType, (inner, outer): (usize, usize)) -> Result<f64> {
    let kind = (device::device_name(device), dtype, (inner, outer));
    let mut speeds = SPEEDS.lock().unwrap_or_else(PoisonError::into_inner);
    let speeds = speeds.get_or_insert_default();
    if let Some(speed) = speeds.get(&kind) {
        return Ok(*speed);
    }
    let speed = measure(device, dtype, (inner, outer))?;
    speeds.insert(kind, speed);
    Ok(speed)
}

/// Operations per second of a product of the model's own shape: the best of a few short trials, since the first pays
/// for waking threads and devices, and others may be disturbed.
fn measure(device: &Device, dtype: DType, (inner, outer): (usize, usize)) -> Result<f64> {
    const TRIALS: usize = 5;
    const TRIAL_SECONDS: f64 = 0.05;
    let rows = 512;
    let work = 2.0 * rows as f64 * inner as f64 * outer as f64;
    let mut multiply: Box<dyn FnMut() -> Result<()>> = if device.is_cpu() {
        let (x, w) = (vec![0.5f32; rows * inner], vec![0.25f32; outer * inner]);
        let mut out = vec![0f32; rows * outer];
        Box::new(move || {
            matmul::linear(&mut out, &x, &w, inner, false, matmul::parallel());
            Ok(())
        })
    } else {
        let x = Tensor::zeros((rows, inner), dtype, device)?;
        let w = Tensor::zeros((inner, outer), dtype, device)?;
        Box::new(move || {
            x.matmul(&w)?;
            Ok(x.device().synchronize()?)
        })
    };
    let mut best = 0f64;
    for _ in 0..TRIALS {
        let (started, mut done) = (Instant::now(), 0.0);
        while started.elapsed().as_secs_f64() < TRIAL_SECONDS {
            multiply()?;
            done += work;
        }
        best = best.max(done / started.elapsed().as_secs_f64());
    }
    // A forward pass is more than its products: norms, attention, copies, which weigh the more the faster products are.
    Ok(best * if device.is_cpu() { 0.8 } else { 0.3 })
}
