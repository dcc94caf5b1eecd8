//! Collects statistics of the inputs of modules while calibration windows go through a block.

use std::time::{Duration, Instant};

use candle_core::{DType, Tensor, cuda};
use rayon::prelude::*;

use crate::error::Result;
use crate::kernels::{matmul, simd};
use crate::methods::{InputStatistics, Needs, Statistics};
use crate::model::{ActivationObserver, Activations, InputSite};

/// Rows whose squares are summed in `f32` before they join the `f64` total.
const ROWS: usize = 256;

/// Sums while forward passes run.
#[derive(Debug)]
enum Running {
    HostNorms(Vec<f64>),
    /// `[in]` in `f64`; a device that is asked for it after every batch would wait for the host.
    DeviceNorms(Tensor),
    /// One triangle.
    HostGram(Vec<f32>),
    /// Both triangles.
    DeviceGram(Tensor),
}

/// Collects the statistics of all inputs of one block over calibration batches.
#[derive(Debug)]
pub(super) struct Collector {
    needs: Needs,
    running: Vec<(InputSite, usize, Running)>,
    sequences: usize,
    busy: Duration,
}

impl Collector {
    /// Collects what a method needs.
    pub fn new(needs: Needs) -> Self {
        Self { needs, running: Vec::new(), sequences: 0, busy: Duration::ZERO }
    }

    /// Says that `count` more sequences have been shown. Sums are over tokens, means over sequences.
    pub fn count(&mut self, count: usize) {
        self.sequences += count;
    }

    /// Seconds spent on collecting so far, apart from the forward passes around it.
    pub fn seconds(&self) -> f64 {
        self.busy.as_secs_f64()
    }

    /// The statistics, one for every site that was reached.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn finish(self) -> Result<Vec<(InputSite, InputStatistics)>> {
        let sequences = self.sequences;
        let statistics = |running| -> Result<Statistics> {
            Ok(match running {
                Running::HostNorms(sums) => Statistics::ColumnNorms(sums),
                Running::DeviceNorms(sums) => Statistics::ColumnNorms(sums.to_vec1()?),
                Running::HostGram(gram) => Statistics::Gram(gram),
                Running::DeviceGram(gram) => Statistics::DeviceGram(gram),
            })
        };
        self.running
            .into_iter()
            .map(|(site, width, running)| {
                Ok((site, InputStatistics::new(statistics(running)?, width, sequences)))
            })
            .collect()
    }

    fn at(&mut self, site: InputSite, x: &Activations) -> Result<&mut Running> {
        let width = x.width()?;
        let found = self.running.iter().position(|(s, _, _)| *s == site);
        let index = if let Some(index) = found {
            index
        } else {
            let running = match (self.needs, x) {
                (Needs::Hessian, Activations::Host { .. }) => Running::HostGram(vec![0.0; width * width]),
                (Needs::Hessian, Activations::Device(x)) => {
                    Running::DeviceGram(Tensor::zeros((width, width), DType::F32, x.device())?)
                }
                (_, Activations::Host { .. }) => Running::HostNorms(vec![0.0; width]),
                (_, Activations::Device(x)) => {
                    Running::DeviceNorms(Tensor::zeros(width, DType::F64, x.device())?)
                }
            };
            self.running.push((site, width, running));
            self.running.len() - 1
        };
        Ok(&mut self.running[index].2)
    }
}

impl ActivationObserver for Collector {
    fn input(&mut self, site: InputSite, x: &Activations) -> Result<()> {
        if self.needs == Needs::Nothing {
            return Ok(());
        }
        let started = Instant::now();
        self.add(site, x)?;
        self.busy += started.elapsed();
        Ok(())
    }
}

impl Collector {
    fn add(&mut self, site: InputSite, x: &Activations) -> Result<()> {
        let width = x.width()?;
        match (self.at(site, x)?, x) {
            (Running::HostNorms(sums), Activations::Host { data, .. }) => add_squares(sums, data, width),
            (Running::DeviceNorms(sums), Activations::Device(x)) => {
                // A product with ones: devices sum columns far faster that way than by a reduction.
                let squares = x.to_dtype(DType::F32)?.sqr()?;
                let ones = Tensor::ones((1, squares.dim(0)?), DType::F32, x.device())?;
                let squares = ones.matmul(&squares)?.squeeze(0)?;
                *sums = (&*sums + squares.to_dtype(DType::F64)?)?;
            }
            (Running::HostGram(gram), Activations::Host { data, .. }) => {
                matmul::gram_lower(gram, data, width);
            }
            (Running::DeviceGram(gram), Activations::Device(x)) => {
                *gram = (&*gram + gram_of(x)?)?;
            }
            _ => return Err(crate::Error::failure("the inputs of one module came from two devices")),
        }
        Ok(())
    }
}

/// `xᵀ · x` in `f32`, on the device of `x`, `[n, width]`.
fn gram_of(x: &Tensor) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    // The tensor cores of a GPU take ten bits of an `f32`'s mantissa and add up in `f32`. A half has no more: its products
    // are exact there too, at many times the speed.
    let before = cuda::gemm_reduced_precision_f32();
    cuda::set_gemm_reduced_precision_f32(x.dtype().size_in_bytes() == 2);
    let gram = wide.t()?.matmul(&wide);
    cuda::set_gemm_reduced_precision_f32(before);
    Ok(gram?)
}

/// Adds the sum of squares of every column of `x`, `[n, width]`.
fn add_squares(sums: &mut [f64], x: &[f32], width: usize) {
    let partial: Vec<Vec<f32>> = x
        .par_chunks(ROWS * width)
        .map(|rows| {
            let mut sums = vec![0f32; width];
            simd(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact(width) {
                        for (sum, v) in sums.iter_mut().zip(row) {
                            *sum = v.mul_add(*v, *sum);
                        }
                    }
                },
            );
            sums
        })
        .collect();
    for part in partial {
        for (sum, v) in sums.iter_mut().zip(part) {
            *sum += f64::from(v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelFolder, Synthetic};
    use candle_core::Device;

    #[test]
    fn norms_are_means_over_sequences_of_sums_over_tokens() {
        let folder = tempfile::tempdir().unwrap();
        Synthetic::default().write(folder.path()).unwrap();
        let config = ModelFolder::open(folder.path()).unwrap().config;
        let sites: Vec<InputSite> = config.layout(0).sites().map(|(site, _)| site).collect();
        let mut collector = Collector::new(Needs::ColumnNorms);
        let x = Activations::of(&Tensor::new(&[[1f32, 2.0], [3.0, 0.0]], &Device::Cpu).unwrap()).unwrap();
        collector.input(sites[0], &x).unwrap();
        collector.count(2);
        collector.input(sites[0], &x).unwrap();
        collector.input(sites[3], &x).unwrap();
        collector.count(2);
        let found = collector.finish().unwrap();
        assert_eq!((found.len(), found[1].0), (2, sites[3]));
        assert_eq!(found[1].1.input_norms_squared().unwrap(), vec![10.0 / 4.0, 4.0 / 4.0]);
        assert_eq!(found[0].1.input_norms_squared().unwrap(), vec![20.0 / 4.0, 8.0 / 4.0]);
    }
}
