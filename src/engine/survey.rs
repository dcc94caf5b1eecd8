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
use super::place::Place;
use super::snapshot::Snapshots;
use super::stream::{HiddenStates, Placement};
use super::study::Study;
use super::weight_scores::{WeightScores, weight_scores};
use crate::error::Result;
use crate::methods::{BlockFigures, Needs, Survey, cosine};
use crate::model::ops::with_elements;
use crate::model::{ActivationObserver, Activations, InputSite, ModuleId, Tree, WidthPart};
use crate::store::checkpoint::States;
use crate::store::survey as kept_survey;

/// What the tensors of an unfinished survey are called: hidden states, batch by batch, and those of the last tokens.
const STATES: &str = "windows.";
const LAST: &str = "last.";

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

/// What is surveyed, and where the survey will lie.
pub(super) struct SurveyRequest<'a> {
    pub windows: &'a [Vec<u32>],
    /// Blocks that are left out.
    pub dropped: &'a [usize],
    pub path: &'a Path,
    /// The cell that is waiting for it.
    pub cell: Option<&'a str>,
}

/// A survey in the making.
struct SurveyPass<'a> {
    study: &'a Study,
    place: &'a Place,
    states: HiddenStates,
    figures: Vec<BlockFigures>,
    /// States of the last tokens of the windows, `[windows, hidden]`: those before the first block, and those behind each.
    last: Vec<Tensor>,
}

/// Sends the windows through the dense model, block by block, or takes up such a pass where an earlier run left it. What is
/// known of it is kept beside the survey, and stays there: whoever writes the survey removes it.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled) when it is to end; anything that fails.
pub(super) fn take_survey(
    study: &Study,
    place: &Place,
    request: &SurveyRequest<'_>,
    reporter: &mut Reporter,
) -> Result<Survey> {
    let (blocks, hidden) = (study.folder.config.blocks, study.folder.config.hidden_size);
    let order: Vec<usize> = (0..blocks).filter(|index| !request.dropped.contains(index)).collect();
    let mut pass = match SurveyPass::resumed(study, place, request, &order)? {
        Some(pass) => pass,
        None => SurveyPass::begun(study, place, request, reporter)?,
    };
    reporter.tracker.unit(&study.sizes.survey(pass.figures.len()));
    reporter.phase(request.cell, Phase::Survey, blocks as u64, "blocks");
    reporter.tracker.step(pass.figures.len() as u64);
    reporter.boundary()?;
    let mut snapshots = Snapshots::new(kept_survey::unfinished_states(request.path));
    for &index in &order[pass.figures.len()..] {
        pass.survey_block(index, reporter)?;
        let done = pass.figures.len();
        reporter.tracker.step(done as u64);
        if done < order.len() {
            // States that are ahead of the figures would be of no use.
            kept_survey::write_unfinished_figures(request.path, &pass.figures)?;
            if snapshots.is_due()? {
                snapshots.begin(done, pass.kept(), None)?;
            }
            let stopping = reporter.boundary();
            if stopping.is_err() {
                snapshots.save(done, pass.kept())?;
                stopping?;
            }
        }
    }
    snapshots.wait()?;
    let last = pass.last.iter().map(|last| last.flatten_all()?.to_vec1::<f32>());
    let last = last.collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Survey::of_blocks(pass.figures, blocks, &last, (request.windows.len(), hidden)))
}

impl<'a> SurveyPass<'a> {
    fn begun(
        study: &'a Study,
        place: &'a Place,
        request: &SurveyRequest<'_>,
        reporter: &mut Reporter,
    ) -> Result<Self> {
        let placement = placement(study, place);
        let states =
            HiddenStates::embed(&study.folder, request.windows, study.dtype, placement, &mut || {
                reporter.boundary()
            })?;
        let mut pass = Self { study, place, states, figures: Vec::new(), last: Vec::new() };
        pass.keep_last()?;
        Ok(pass)
    }

    /// `None` where an earlier run left nothing, or something of another pass.
    fn resumed(
        study: &'a Study,
        place: &'a Place,
        request: &SurveyRequest<'_>,
        order: &[usize],
    ) -> Result<Option<Self>> {
        let Some((figures, saved)) = kept_survey::read_unfinished(request.path)? else { return Ok(None) };
        let of = |prefix: &str| -> Vec<Tensor> {
            saved
                .iter()
                .filter(|(name, _)| name.starts_with(prefix))
                .map(|(_, tensor)| tensor.clone())
                .collect()
        };
        let lengths: Vec<_> = request.windows.iter().map(|window| Tree::alone(window.len())).collect();
        let states = HiddenStates::from_saved(&of(STATES), &lengths, placement(study, place));
        let last = of(LAST);
        let shape = [request.windows.len(), study.folder.config.hidden_size];
        let is_of_this = last.len() == figures.len() + 1
            && last.iter().all(|last| last.dims() == shape)
            && figures.len() < order.len()
            && figures.iter().map(|figures| figures.block).eq(order[..figures.len()].iter().copied());
        let states = states.ok().filter(|_| is_of_this);
        Ok(states.map(|states| Self { study, place, states, figures, last }))
    }

    /// What the pass goes on with, by name.
    fn kept(&self) -> States {
        let named = |prefix: &'static str, tensors: &[Tensor]| -> States {
            tensors
                .iter()
                .enumerate()
                .map(|(at, tensor)| (format!("{prefix}{at:05}"), tensor.clone()))
                .collect()
        };
        [named(STATES, self.states.batches()), named(LAST, &self.last)].concat()
    }

    fn keep_last(&mut self) -> Result<()> {
        let hidden = self.study.folder.config.hidden_size;
        let last = self.states.last_states(hidden)?;
        self.last.push(Tensor::from_vec(last, (self.states.sequences(), hidden), &Device::Cpu)?);
        Ok(())
    }

    fn survey_block(&mut self, index: usize, reporter: &mut Reporter) -> Result<()> {
        let (study, place) = (self.study, self.place);
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
        self.states.forward_seen(
            &block,
            (&study.ropes, &place.device),
            (&sites, &mut inputs, &mut scores),
            &mut || reporter.check(),
            &mut |before, after, _| {
                turned += total_turning(before, after)?;
                Ok(())
            },
        )?;
        self.keep_last()?;
        let forwarded = reporter.clock();
        let SurveyedInputs { mut norms, moments, .. } = inputs;
        norms.count(self.states.sequences());
        let statistics = norms.finish(block.layout(), &sites, &place.device)?;
        let WeightScores { outlier_ratio, errors } = weight_scores(study, (&block, index), &statistics)?;
        let tokens = self.states.tokens();
        self.figures.push(BlockFigures {
            block: index,
            influence: turned / tokens.max(1) as f64,
            experts: scores.finish(),
            outlier_ratio,
            errors,
            sites: moments.finish(block.layout(), &outputs),
        });
        let beside = loaded - started + reporter.clock() - forwarded;
        reporter.tracker.did(Work::Block, study.sizes.block(), beside);
        reporter.tracker.did(Work::Forward, study.sizes.forward(tokens), forwarded - loaded);
        reporter.tracker.throughput(tokens as f64, 1.0);
        Ok(())
    }
}

fn placement<'a>(study: &Study, place: &'a Place) -> Placement<'a> {
    Placement { batch_tokens: study.spec.compute.batch_tokens, home: &place.home }
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
