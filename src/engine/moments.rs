//! Mean and variance of the features of module inputs, collected while windows go through a block.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::error::Result;
use crate::methods::SiteFigures;
use crate::model::{ActivationObserver, Activations, BlockLayout, InputSite, ModuleId};

/// Rows whose moments are taken together on the host.
const ROWS: usize = 256;

/// Moments of some rows: how many there are, and of every column the mean and the sum of squared deviations from it.
#[derive(Debug, Clone, PartialEq, Default)]
struct Moments {
    rows: usize,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// Of rows on the host, in two passes.
    fn of(x: &[f32], width: usize) -> Self {
        let rows = x.len() / width.max(1);
        let (mut mean, mut squares) = (vec![0.0; width], vec![0.0; width]);
        for row in x.chunks_exact(width) {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        for sum in &mut mean {
            *sum /= rows.max(1) as f64;
        }
        for row in x.chunks_exact(width) {
            for ((sum, value), mean) in squares.iter_mut().zip(row).zip(&mean) {
                let off = f64::from(*value) - mean;
                *sum += off * off;
            }
        }
        Self { rows, mean, squares }
    }

    /// Of rows on a device, `[rows, width]`, which only sends the moments to the host.
    fn of_device(x: &Tensor) -> Result<Self> {
        let x = x.to_dtype(DType::F32)?.to_dtype(DType::F64)?;
        let rows = x.dim(0)?;
        // Products with ones: devices sum columns far faster that way than by a reduction.
        let ones = Tensor::ones((1, rows), DType::F64, x.device())?;
        let mean = (ones.matmul(&x)? / rows.max(1) as f64)?;
        let squares = ones.matmul(&x.broadcast_sub(&mean)?.sqr()?)?;
        let on_host = |sums: &Tensor| sums.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f64>();
        Ok(Self { rows, mean: on_host(&mean)?, squares: on_host(&squares)? })
    }

    /// Adds the moments of further rows (Chan et al., 1979).
    fn join(&mut self, other: Self) {
        if self.rows == 0 {
            *self = other;
            return;
        }
        let (own, more) = (self.rows as f64, other.rows as f64);
        let all = own + more;
        let columns = self.mean.iter_mut().zip(&mut self.squares).zip(other.mean.iter().zip(other.squares));
        for ((mean, squares), (other_mean, other_squares)) in columns {
            let off = other_mean - *mean;
            *mean += off * more / all;
            *squares += other_squares + off * off * own * more / all;
        }
        self.rows += other.rows;
    }
}

/// Collects the moments of some inputs of one block.
#[derive(Debug, Default)]
pub(super) struct MomentCollector {
    running: BTreeMap<InputSite, Moments>,
}

impl MomentCollector {
    /// What the inputs of these modules were like.
    pub fn finish(mut self, layout: &BlockLayout, modules: &[ModuleId]) -> Vec<SiteFigures> {
        let figures = |id: &ModuleId| {
            let module = layout.module(*id);
            let Moments { rows, mean, squares } = self.running.remove(&module.site)?;
            let variance = squares.iter().map(|sum| sum / rows.saturating_sub(1).max(1) as f64).collect();
            Some(SiteFigures { module: module.name.clone(), mean, variance })
        };
        modules.iter().filter_map(figures).collect()
    }
}

impl ActivationObserver for MomentCollector {
    fn input(&mut self, site: InputSite, x: &Activations) -> Result<()> {
        let width = x.width()?;
        let known = self.running.entry(site).or_default();
        match x {
            Activations::Host { data, .. } => {
                // In the order of the rows, so that the sums are the same however many threads there are.
                let parts: Vec<_> =
                    data.par_chunks(ROWS * width).map(|rows| Moments::of(rows, width)).collect();
                for part in parts {
                    known.join(part);
                }
            }
            Activations::Device(x) => known.join(Moments::of_device(x)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_parts_are_those_of_all_rows_on_host_and_device() {
        let rows: Vec<f32> = (0..600).map(|i| 100.0 + ((i * 37) % 101) as f32 / 7.0).collect();
        let width = 3;
        let plain = |column: usize| {
            let values: Vec<f64> = rows.iter().skip(column).step_by(width).map(|v| f64::from(*v)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (mean, values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>())
        };
        let mut found = Moments::default();
        for part in [&rows[..30], &rows[30..33], &rows[33..]] {
            found.join(Moments::of(part, width));
        }
        let device = Tensor::from_slice(&rows, (200, 3), &Device::Cpu).unwrap();
        for found in [found, Moments::of_device(&device).unwrap()] {
            assert_eq!(found.rows, 200);
            for column in 0..width {
                let (mean, squares) = plain(column);
                assert!((found.mean[column] - mean).abs() < 1e-10, "{found:?}");
                assert!((found.squares[column] / squares - 1.0).abs() < 1e-10, "{found:?}");
            }
        }
    }
}
