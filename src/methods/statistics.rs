//! What methods get to know of the inputs of modules.

use std::any::Any;
use std::fmt;

use candle_core::{DType, Device, Tensor};

use super::Needs;
use super::routed::RoutedTokens;
use crate::error::Result;
use crate::kernels::device::factor::diagonal_of;

/// Statistics of one input, shared by all modules that read it.
#[derive(Debug)]
pub enum Statistics {
    /// Sum of squares of every feature, `[in]`.
    ColumnNorms(Vec<f64>),
    /// `Σ x xᵀ`, `[in, in]`; only the lower triangle counts.
    Gram(Vec<f32>),
    /// `Σ x xᵀ`, `[in, in]`, both triangles, on a device.
    DeviceGram(Tensor),
}

/// The statistics of an input, with what a method made of them for the first module that reads it.
pub struct InputStatistics {
    /// What was collected.
    pub statistics: Statistics,
    /// Input features.
    pub width: usize,
    /// Calibration sequences seen.
    pub sequences: usize,
    /// Of an expert's input: how many tokens were routed there. `None` where every token is seen.
    pub routed: Option<RoutedTokens>,
    cache: Option<Box<dyn Any + Send>>,
}

impl fmt::Debug for InputStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputStatistics")
            .field("width", &self.width)
            .field("sequences", &self.sequences)
            .finish_non_exhaustive()
    }
}

impl InputStatistics {
    /// Statistics of an input of `width` features over so many sequences.
    pub fn new(statistics: Statistics, width: usize, sequences: usize) -> Self {
        Self { statistics, width, sequences, routed: None, cache: None }
    }

    /// The same of an expert that so many tokens were routed to.
    #[must_use]
    pub fn of_expert(self, tokens: usize) -> Self {
        Self { routed: Some(RoutedTokens { tokens, columns: self.width }), ..self }
    }

    /// What stands for the statistics of an expert that saw no token: all features count alike, so that the weights' own
    /// size decides. `device` is where methods look for them.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn of_unseen_expert(needs: Needs, width: usize, sequences: usize, device: &Device) -> Result<Self> {
        let statistics = match needs {
            Needs::Hessian if device.is_cpu() => {
                let mut gram = vec![0.0; width * width];
                gram.iter_mut().step_by(width + 1).for_each(|diagonal| *diagonal = 1.0);
                Statistics::Gram(gram)
            }
            Needs::Hessian => Statistics::DeviceGram(Tensor::eye(width, DType::F32, device)?),
            Needs::ColumnNorms | Needs::Nothing => Statistics::ColumnNorms(vec![1.0; width]),
        };
        Ok(Self::new(statistics, width, sequences).of_expert(0))
    }

    /// The damping to begin with, where `asked` is asked for: more for an expert that saw fewer tokens than it has
    /// columns, see [`RoutedTokens::damping_factor`].
    pub fn damping(&self, asked: f64) -> f64 {
        asked * self.routed.map_or(1.0, RoutedTokens::damping_factor)
    }

    /// Mean over sequences of every feature's sum of squares (`scaler_row` in the Wanda authors' code), `[in]`.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn input_norms_squared(&self) -> Result<Vec<f64>> {
        let n = self.sequences.max(1) as f64;
        let mean = |sum: f32| f64::from(sum) / n;
        Ok(match &self.statistics {
            Statistics::ColumnNorms(sums) => sums.iter().map(|s| s / n).collect(),
            Statistics::Gram(gram) => gram.iter().step_by(self.width + 1).map(|&sum| mean(sum)).collect(),
            Statistics::DeviceGram(gram) => diagonal_of(gram)?.into_iter().map(mean).collect(),
        })
    }

    /// `Σ x xᵀ` where that was collected and lies on the host.
    pub fn gram(&self) -> Option<&[f32]> {
        match &self.statistics {
            Statistics::Gram(gram) => Some(gram),
            Statistics::ColumnNorms(_) | Statistics::DeviceGram(_) => None,
        }
    }

    /// `Σ x xᵀ` where that was collected and lies on a device.
    pub fn device_gram(&self) -> Option<&Tensor> {
        match &self.statistics {
            Statistics::DeviceGram(gram) => Some(gram),
            Statistics::ColumnNorms(_) | Statistics::Gram(_) => None,
        }
    }

    /// Brings statistics that lie on a device to the host.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn move_to_host(&mut self) -> Result<()> {
        if let Statistics::DeviceGram(gram) = &self.statistics {
            self.statistics = Statistics::Gram(gram.flatten_all()?.to_vec1()?);
            self.cache = None;
        }
        Ok(())
    }

    /// What `make` makes of the statistics, once for all modules that share the input.
    ///
    /// # Errors
    /// What `make` says.
    pub fn prepared<T: Any + Send>(&mut self, make: impl FnOnce(&Self) -> Result<T>) -> Result<(&Self, &T)> {
        if !self.cache.as_ref().is_some_and(|cache| cache.is::<T>()) {
            self.cache = Some(Box::new(make(self)?));
        }
        match self.cache.as_ref().and_then(|cache| cache.downcast_ref()) {
            Some(prepared) => Ok((self, prepared)),
            None => Err(crate::Error::failure("what was prepared for an input is of another type")),
        }
    }
}
