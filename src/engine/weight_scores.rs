//! What the scores of a block's weights say of it, given the norms of its inputs: how many are outliers, and what its modules
//! lose with the lowest.

use candle_core::{DType, Device, Tensor};

use super::study::Study;
use crate::error::Result;
use crate::methods::{ErrorCurve, InputStatistics, ScoreSum, count_above};
use crate::model::ops::with_elements;
use crate::model::{Block, InputSite, ModuleId};

/// By which allocations tell blocks apart.
pub(super) struct WeightScores {
    /// Outliers among all modules, in percent of their weights.
    pub outlier_ratio: f64,
    /// The relative squared error of the modules that are pruned, at every hundredth of their weights.
    pub errors: Vec<f64>,
}

/// The scores of block `index`. Experts that no token reached are left out: nothing is known of their inputs.
///
/// # Errors
/// Weights that cannot be read; a tensor operation that fails.
pub(super) fn weight_scores(
    study: &Study,
    (block, index): (&Block, usize),
    statistics: &[(InputSite, InputStatistics)],
) -> Result<WeightScores> {
    let mut modules: Vec<(ModuleId, Vec<f32>)> = Vec::new();
    for (id, module) in block.layout().modules() {
        let of_site = statistics.iter().find(|(site, _)| *site == module.site).map(|(_, inputs)| inputs);
        let seen = of_site.filter(|inputs| inputs.routed.is_none_or(|routed| routed.tokens > 0));
        if let Some(inputs) = seen {
            let norms = inputs.input_norms_squared()?;
            modules.push((id, norms.into_iter().map(|norm| (norm as f32).sqrt()).collect()));
        }
    }
    let mut sum = ScoreSum::default();
    for (id, norms) in &modules {
        let weights = weights(study, block, *id)?;
        with_elements(&weights, |weights| sum.add(weights, norms))?;
    }
    let (threshold, mut outliers, mut curve) = (sum.threshold(), 0, ErrorCurve::new());
    for (id, norms) in &modules {
        let weights = weights(study, block, *id)?;
        outliers += with_elements(&weights, |weights| count_above(weights, norms, threshold))?;
        if study.modules[index].contains(id) {
            with_elements(&weights, |weights| curve.add(weights, norms))?;
        }
    }
    Ok(WeightScores { outlier_ratio: sum.percent(outliers), errors: curve.finish() })
}

/// A module's weights as the model's files have them, in `f32` on the host.
fn weights(study: &Study, block: &Block, id: ModuleId) -> Result<Tensor> {
    if study.dtype == DType::F32 {
        let weight = block.module(id)?.weight;
        if weight.device().is_cpu() {
            return Ok(weight);
        }
    }
    study.folder.matrix(block.layout().module(id), DType::F32, &Device::Cpu)
}
