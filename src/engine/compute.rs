//! A cell, or the base, from wherever it was left to its last answer.

use super::allocation::allocate;
use super::assignment::Assignment;
use super::finding::{Finding, Findings};
use super::ledger::replace_module;
use super::measure::measure;
use super::place::Place;
use super::stream::HiddenStates;
use super::structure::{removed_parts, savings};
use super::study::Study;
use super::width::{self, narrowed_model};
use super::{Reporter, answer, cell, choices, warnings};
use crate::error::{Error, Result};
use crate::results::Seconds;
use crate::sysinfo;

/// Computes what an assignment lacks and returns the base's final hidden states of the evaluation windows, which cells are
/// compared with; none of a cell. What is found out is told step by step; of a model of which everything is known, nothing
/// is.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled) with every whole block on disk; anything that fails.
pub(super) fn compute(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
    findings: &mut Findings<'_>,
) -> Result<Option<HiddenStates>> {
    let mut seconds = assignment.seconds;
    if assignment.is_known {
        let (states, mut saving) =
            cell::pass(study, place, assignment, reporter, &mut seconds, &mut |_| Ok(()))?;
        saving.wait()?;
        return kept(study, assignment, states);
    }
    for message in &assignment.calibration_warnings {
        findings(Finding::Warning { message: message.clone() })?;
    }
    let computed = measure_and_answer(study, place, assignment, reporter, &mut seconds, findings);
    // What was spent is spent, also where the work ends early.
    let noted = findings(Finding::Seconds { seconds });
    let states = computed?;
    noted?;
    findings(Finding::Done { peak_rss_bytes: sysinfo::process_memory().peak })?;
    Ok(states)
}

/// The same of a cell, from the choice of what it removes on.
///
/// # Errors
/// As [`compute`].
pub(super) fn choose_and_compute(
    study: &Study,
    place: &Place,
    assignment: &mut Assignment,
    reporter: &mut Reporter,
    findings: &mut Findings<'_>,
) -> Result<()> {
    let started = reporter.clock();
    assignment.removed = removed_parts(study, place, assignment, reporter)?;
    assignment.narrowed = narrowed_model(study, place, assignment, reporter)?;
    assignment.calibration_warnings.extend(width::warnings(study, assignment)?);
    allocate(study, place, assignment, reporter)?;
    if !assignment.removed.is_empty() || assignment.narrowed.is_some() || assignment.profile.is_some() {
        assignment.seconds.calibrate += reporter.clock() - started;
    }
    compute(study, place, assignment, reporter, findings)?;
    Ok(())
}

fn measure_and_answer(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
    seconds: &mut Seconds,
    findings: &mut Findings<'_>,
) -> Result<Option<HiddenStates>> {
    let mut modules = assignment.modules.clone();
    let passed = cell::pass(study, place, assignment, reporter, seconds, &mut |finding| {
        if let Finding::Module { module } = &finding {
            replace_module(&mut modules, module);
        }
        findings(finding)
    });
    // Also where the pass fails: what is to be known of the modules before may be why.
    let cancelled = matches!(passed, Err(Error::Cancelled));
    let about_modules = match &assignment.cell {
        Some(cell) if !cancelled => warnings::of_modules(&study.procedure(cell)?, &modules),
        _ => Vec::new(),
    };
    for message in &about_modules {
        findings(Finding::Warning { message: message.clone() })?;
    }
    let (states, mut saving) = passed?;
    let metrics = measure(study, place, assignment, reporter, &states, seconds)?;
    if study.needs_final_states(assignment.cell.is_some()) {
        saving.wait()?;
    } else {
        saving.abandon();
    }

    let mut all_warnings = assignment.calibration_warnings.clone();
    all_warnings.extend(about_modules);
    findings(Finding::Seconds { seconds: *seconds })?;
    let model = assignment.model(study)?;
    let (saved_at_ends, removed) = savings(study, &model);
    findings(Finding::Measured { metrics, warnings: all_warnings, saved_at_ends, removed })?;
    let choices = choices::score(study, place, assignment, reporter, (&states, seconds), findings)?;
    // A whole model answers: what is not needed any more makes room for it.
    let states = kept(study, assignment, states)?;
    let mut measurements = answer::answer(study, place, assignment, reporter, &mut seconds.answer, findings)?;
    measurements.extend(choices);
    if !measurements.is_empty() {
        findings(Finding::Scored { measurements })?;
    }
    Ok(states)
}

/// What is needed of final states once they are measured: the base's, of the windows alone. Choices are compared by their
/// likelihoods.
fn kept(study: &Study, assignment: &Assignment, states: HiddenStates) -> Result<Option<HiddenStates>> {
    let is_base = assignment.cell.is_none();
    is_base.then(|| states.into_first(study.sizes.evaluation_windows)).transpose()
}
