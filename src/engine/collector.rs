//! Collects statistics of the inputs of modules while calibration windows go through a block.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::error::Result;
use crate::kernels::{device, matmul, simd};
use crate::methods::{InputStatistics, Needs, Statistics};
use crate::model::{ActivationObserver, Activations, BlockLayout, InputSite};

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

/// What one input has shown so far.
#[derive(Debug)]
struct Seen {
    tokens: usize,
    running: Running,
}

/// Collects the statistics of all inputs of one block over calibration batches.
#[derive(Debug)]
pub(super) struct Collector {
    needs: Needs,
    running: HashMap<InputSite, Seen>,
    sequences: usize,
    busy: Duration,
}

impl Collector {
    /// Collects what a method needs.
    pub fn new(needs: Needs) -> Self {
        Self { needs, running: HashMap::new(), sequences: 0, busy: Duration::ZERO }
    }

    /// Says that `count` more sequences have been shown. Sums are over tokens, means over sequences.
    pub fn count(&mut self, count: usize) {
        self.sequences += count;
    }

    /// Seconds spent on collecting so far, apart from the forward passes around it.
    pub fn seconds(&self) -> f64 {
        self.busy.as_secs_f64()
    }

    /// The statistics of the inputs `sites` of a block; an expert that was reached by no token has none of its own, see
    /// [`InputStatistics::of_unseen_expert`].
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn finish(
        mut self,
        layout: &BlockLayout,
        sites: &[InputSite],
        device: &Device,
    ) -> Result<Vec<(InputSite, InputStatistics)>> {
        let (needs, sequences) = (self.needs, self.sequences);
        let mut all = Vec::with_capacity(sites.len());
        for &site in sites {
            let Some((_, module)) = layout.modules().find(|(_, module)| module.site == site) else {
                continue;
            };
            let width = module.shape.1;
            match self.running.remove(&site) {
                Some(Seen { tokens, running }) => {
                    let statistics = InputStatistics::new(running.finish()?, width, sequences);
                    let is_expert = module.expert.is_some();
                    all.push((site, if is_expert { statistics.of_expert(tokens) } else { statistics }));
                }
                None if module.expert.is_some() => {
                    all.push((site, InputStatistics::of_unseen_expert(needs, width, sequences, device)?));
                }
                None => {}
            }
        }
        Ok(all)
    }

    fn at(&mut self, site: InputSite, x: &Activations) -> Result<&mut Seen> {
        match self.running.entry(site) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                Ok(entry.insert(Seen { tokens: 0, running: Running::new(self.needs, x)? }))
            }
        }
    }
}

impl Running {
    fn new(needs: Needs, x: &Activations) -> Result<Self> {
        let width = x.width()?;
        Ok(match (needs, x) {
            (Needs::Hessian, Activations::Host { .. }) => Self::HostGram(vec![0.0; width * width]),
            (Needs::Hessian, Activations::Device(x)) => {
                Self::DeviceGram(Tensor::zeros((width, width), DType::F32, x.device())?)
            }
            (_, Activations::Host { .. }) => Self::HostNorms(vec![0.0; width]),
            (_, Activations::Device(x)) => Self::DeviceNorms(Tensor::zeros(width, DType::F64, x.device())?),
        })
    }

    fn finish(self) -> Result<Statistics> {
        Ok(match self {
            Self::HostNorms(sums) => Statistics::ColumnNorms(sums),
            Self::DeviceNorms(sums) => Statistics::ColumnNorms(sums.to_vec1()?),
            Self::HostGram(gram) => Statistics::Gram(gram),
            Self::DeviceGram(gram) => Statistics::DeviceGram(gram),
        })
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
        let (width, rows) = (x.width()?, x.len()?);
        let seen = self.at(site, x)?;
        seen.tokens += rows;
        match (&mut seen.running, x) {
            (Running::HostNorms(sums), Activations::Host { data, .. }) => add_squares(sums, data, width),
            (Running::DeviceNorms(sums), Activations::Device(x)) => device::add_squares(sums, x)?,
            (Running::HostGram(gram), Activations::Host { data, .. }) => {
                matmul::gram_lower(gram, data, width);
            }
            (Running::DeviceGram(gram), Activations::Device(x)) => device::add_gram(gram, x)?,
            _ => return Err(crate::Error::failure("the inputs of one module came from two devices")),
        }
        Ok(())
    }
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
    use crate::model::arch::mixtral::Mixtral;
    use crate::model::{ModelFolder, Synthetic};

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
        let found = collector.finish(config.layout(0), &sites, &Device::Cpu).unwrap();
        assert_eq!((found.len(), found[1].0), (2, sites[3]));
        assert_eq!(found[1].1.input_norms_squared().unwrap(), vec![10.0 / 4.0, 4.0 / 4.0]);
        assert_eq!(found[0].1.input_norms_squared().unwrap(), vec![20.0 / 4.0, 8.0 / 4.0]);
        assert!(found.iter().all(|(_, inputs)| inputs.routed.is_none()));
    }

    #[test]
    fn an_expert_says_how_many_tokens_it_saw_and_columns_count_alike_where_it_saw_none() {
        let folder = tempfile::tempdir().unwrap();
        Synthetic::tiny(&Mixtral).write(folder.path()).unwrap();
        let config = ModelFolder::open(folder.path()).unwrap().config;
        let experts = config.layout(0).modules().filter(|(_, module)| module.expert.is_some());
        let inputs: Vec<(InputSite, usize)> = experts.map(|(_, m)| (m.site, m.shape.1)).collect();
        let sites = [inputs[0].0, inputs[2].0];
        for (needs, ones) in [(Needs::ColumnNorms, None), (Needs::Hessian, Some(inputs[2].1 + 1))] {
            let mut collector = Collector::new(needs);
            let x = Tensor::ones((3, inputs[0].1), DType::F32, &Device::Cpu).unwrap();
            collector.input(sites[0], &Activations::of(&x).unwrap()).unwrap();
            collector.count(1);
            let found = collector.finish(config.layout(0), &sites, &Device::Cpu).unwrap();
            let tokens: Vec<_> = found.iter().map(|(_, inputs)| inputs.routed.unwrap().tokens).collect();
            assert_eq!(tokens, [3, 0]);
            assert_eq!(found[1].1.input_norms_squared().unwrap(), vec![1.0; inputs[2].1]);
            let places = found[1].1.gram().map(|gram| {
                let others = gram.iter().filter(|v| **v > 0.0).count();
                (gram.iter().step_by(ones.unwrap()).all(|v| *v > 0.0), others)
            });
            assert_eq!(places, ones.map(|step| (true, step - 1)), "the identity");
        }
    }
}
