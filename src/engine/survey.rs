//! The survey: one pass of the dense model over a calibration set.

use std::collections::BTreeSet;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::Reporter;
use super::collector::Collector;
use super::costs::Work;
use super::event::{Event, Phase};
use super::expert_scores::ShownExperts;
use super::moments::MomentCollector;
use super::outliers::outlier_ratio;
use super::place::Place;
use super::stream::{HiddenStates, Placement};
use super::study::Study;
use crate::error::Result;
use crate::methods::{Needs, Survey, cosine, span_angles};
use crate::model::ops::with_elements;
use crate::model::{ActivationObserver, Activations, InputSite, ModuleId, WidthPart};
use crate::store::survey as kept_survey;

/// What is collected of the inputs of a block's modules.
struct SurveyedInputs {
    norms: Collector,
    moments: MomentCollector,
    /// The inputs whose moments are taken.
    outputs: Vec<InputSite>,
}

impl ActivationObserver for SurveyedInputs {
    fn input(&mut self, site: InputSite, x: &Activations) -> Result<()> {
        if self.outputs.contains(&site) {
            self.moments.input(site, x)?;
        }
        self.norms.input(site, x)
    }
}

/// Sends the windows through the dense model, block by block, without the blocks `dropped`, which have no figures of module
/// inputs; `cell` is the one that is waiting for it.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled) when it is to end; anything that fails.
pub(super) fn take_survey(
    study: &Study,
    place: &Place,
    (windows, dropped): (&[Vec<u32>], &[usize]),
    cell: Option<&str>,
    reporter: &mut Reporter,
) -> Result<Survey> {
    let (blocks, hidden) = (study.folder.config.blocks, study.folder.config.hidden_size);
    reporter.phase(cell, Phase::Survey, blocks as u64, "blocks");
    let placement = Placement { batch_tokens: study.spec.compute.batch_tokens, home: &place.home };
    let mut states =
        HiddenStates::embed(&study.folder, windows, study.dtype, placement, &mut || reporter.boundary())?;
    let tokens = states.tokens();
    let (mut influence, mut outliers) = (Vec::with_capacity(blocks), Vec::with_capacity(blocks));
    let mut last = vec![states.last_states(hidden)?];
    let (mut experts, mut figures) = (Vec::with_capacity(blocks), vec![Vec::new(); blocks]);
    for index in (0..blocks).filter(|index| !dropped.contains(index)) {
        reporter.boundary()?;
        let started = reporter.clock();
        let block = study.load_block(index, &place.device)?;
        let loaded = reporter.clock();
        let outputs: Vec<ModuleId> = block.widths().parts().map(|part: &WidthPart| part.output).collect();
        let sites: Vec<InputSite> = block.layout().sites().map(|(site, _)| site).collect();
        let mut inputs = SurveyedInputs {
            norms: Collector::new(Needs::ColumnNorms),
            moments: MomentCollector::default(),
            outputs: outputs.iter().map(|id| block.layout().module(*id).site).collect(),
        };
        let mut turned = 0.0;
        let mut scores = ShownExperts::of(&block);
        states.forward_seen(
            &block,
            (&study.ropes, &place.device),
            (&sites, &mut inputs, &mut scores),
            &mut || reporter.check(),
            &mut |before, after, _| {
                turned += total_turning(before, after)?;
                Ok(())
            },
        )?;
        influence.push(turned / tokens.max(1) as f64);
        experts.push(scores.finish());
        last.push(states.last_states(hidden)?);
        let forwarded = reporter.clock();
        let SurveyedInputs { mut norms, moments, .. } = inputs;
        figures[index] = moments.finish(block.layout(), &outputs);
        norms.count(states.sequences());
        let statistics = norms.finish(block.layout(), &sites, &place.device)?;
        outliers.push(outlier_ratio(study, &block, &statistics)?);
        let beside = loaded - started + reporter.clock() - forwarded;
        reporter.tracker.did(Work::Block, study.sizes.block(), beside);
        reporter.tracker.did(Work::Forward, study.sizes.forward(tokens), forwarded - loaded);
        reporter.tracker.throughput(tokens as f64, 1.0);
        reporter.tracker.step(index as u64 + 1);
    }
    let angles = span_angles(&last, hidden);
    Ok(Survey { windows: windows.len(), influence, angles, experts, outlier_ratio: outliers, sites: figures })
}

/// Tells the surveys that lie in the base's folder and are not among `told`.
///
/// # Errors
/// A folder or a file that cannot be read.
pub(super) fn tell_surveys(
    base_folder: &Path,
    blocks: usize,
    told: &mut BTreeSet<String>,
    reporter: &mut Reporter,
) -> Result<()> {
    for calibration in kept_survey::keys(base_folder)? {
        if told.insert(calibration.clone())
            && let Some(found) = kept_survey::read(&kept_survey::path(base_folder, &calibration), blocks)?
        {
            reporter.event(Event::Surveyed { calibration, influence: found.influence });
        }
    }
    Ok(())
}

/// The sum over rows of `1 − cos(before, after)`.
fn total_turning(before: &Tensor, after: &Tensor) -> Result<f64> {
    let hidden = before.dims2()?.1;
    let on_host = |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F32);
    let (before, after) = (on_host(before)?, on_host(after)?);
    let rows = |before: &[f32], after: &[f32]| -> Vec<f64> {
        before
            .par_chunks(hidden)
            .zip(after.par_chunks(hidden))
            .map(|(before, after)| 1.0 - cosine(before, after))
            .collect()
    };
    let turned = with_elements(&before, |before| with_elements(&after, |after| rows(before, after)))??;
    // In the order of the rows, so that the sum is the same however many threads there are.
    Ok(turned.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_turn_by_one_less_their_cosine() {
        let before = Tensor::new(&[[1f32, 0.0], [0.0, 2.0], [0.0, 0.0]], &Device::Cpu).unwrap();
        let after = Tensor::new(&[[2f32, 0.0], [3.0, 0.0], [1.0, 0.0]], &Device::Cpu).unwrap();
        assert!((total_turning(&before, &after).unwrap() - 1.5).abs() < 1e-12);
    }
}
