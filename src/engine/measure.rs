//! What final states are worth: the heads, and the metrics of every corpus.

use super::Reporter;
use super::assignment::Assignment;
use super::costs::Work;
use super::evaluate::{Heads, evaluate};
use super::event::Phase;
use super::place::Place;
use super::stream::HiddenStates;
use super::study::Study;
use crate::error::Result;
use crate::kernels::scratch;
use crate::model::{LmHead, ModelFolder};
use crate::results::{Metrics, Seconds};
use crate::store::checkpoint;
use crate::study::CellSpec;

/// The heads of a cell and the base; the base's (`None`) for both. `own` is the cell's, where it is in memory already.
pub(super) fn load_heads(
    study: &Study,
    place: &Place,
    cell: Option<&CellSpec>,
    own: Option<LmHead>,
) -> Result<Heads> {
    let load = |model: &ModelFolder| LmHead::load(model, study.dtype, &place.device);
    let model = study.model_of(cell)?;
    let base = model.ends.head.map(|_| load(&study.folder)).transpose()?;
    Ok(Heads::new(own.map_or_else(|| load(&model), Ok)?, base))
}

/// Measures final states on every corpus, and keeps what every position showed.
pub(super) fn measure(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
    states: &HiddenStates,
    seconds: &mut Seconds,
) -> Result<Metrics> {
    if study.corpora.is_empty() {
        return Ok(Metrics::default());
    }
    let started = reporter.clock();
    let heads = load_heads(study, place, assignment.cell.as_ref(), None)?;
    let base = assignment.cell.as_ref().and(place.base_states());
    let windows = study.sizes.evaluation_windows;
    reporter.phase(assignment.id.as_deref(), Phase::Evaluate, windows as u64, "windows");
    let work = study.sizes.head(1 + usize::from(base.is_some())) / windows.max(1) as f64;
    let mut last = started;
    let corpora = (study.corpora.as_slice(), study.spec.evaluation.score);
    let (metrics, positions) = evaluate(&heads, &place.device, corpora, states, base, &mut |done| {
        let now = reporter.clock();
        reporter.tracker.did(Work::Head, work, now - last);
        last = now;
        reporter.tracker.step(done as u64);
        reporter.check()
    })?;
    scratch::release();
    checkpoint::positions::write(&assignment.folder, &positions)?;
    seconds.evaluate += reporter.clock() - started;
    Ok(metrics)
}
