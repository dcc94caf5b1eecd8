//! A cell, or the base, from wherever it was left to its last answer.

use super::allocation::allocate;
use super::assignment::Assignment;
use super::cell::Passed;
use super::finding::{Finding, Findings};
use super::ledger::replace_module;
use super::measure::measure;
use super::place::{BaseStates, Place};
use super::snapshot::Snapshots;
use super::structure::{removed_parts, savings};
use super::study::Study;
use super::width::{self, narrowed_model};
use super::{Reporter, answer, cell, choices, warnings};
use crate::error::{Error, Result};
use crate::results::Seconds;
use crate::sysinfo;

/// Computes what an assignment lacks and returns the base's final hidden states of the evaluation windows, which cells are
/// compared with and which may still be on their way to the disk; none of a cell. What is found out is told step by step;
/// of a model of which everything is known, nothing is.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled) with every whole block on disk; anything that fails.
pub(super) fn compute(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
    findings: &mut Findings<'_>,
) -> Result<Option<BaseStates>> {
    let mut seconds = assignment.seconds;
    if assignment.is_known {
        let passed = cell::pass(study, place, assignment, reporter, &mut seconds, &mut |_| Ok(()))?;
        return kept(study, assignment, passed).map(|(base, _)| base);
    }
    for message in &assignment.calibration_warnings {
        findings(Finding::Warning { message: message.clone() })?;
    }
    let computed = measure_and_answer(study, place, assignment, reporter, &mut seconds, findings);
    // What was spent is spent, also where the work ends early.
    let noted = findings(Finding::Seconds { seconds });
    let (base, saving) = computed?;
    noted?;
    findings(Finding::Done { peak_rss_bytes: sysinfo::process_memory().peak })?;
    if let Some(saving) = saving {
        place.leftovers.remove_states(&assignment.folder, saving);
    }
    Ok(base)
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
) -> Result<(Option<BaseStates>, Option<Snapshots>)> {
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
    let mut passed = passed?;
    let measured = measure(study, place, assignment, reporter, &passed.states, seconds);
    // The last block goes to the disk while what came of it is measured.
    if let Some(block) = passed.written.wait()? {
        findings(Finding::Checkpoint { block })?;
    }
    let metrics = measured?;
    if !study.needs_final_states(assignment.cell.is_some()) {
        passed.snapshots.abandon();
    } else if !study.tasks.is_empty() || !study.choices.is_empty() {
        // Answering takes longer than saving, and wants the room.
        passed.snapshots.wait()?;
    }

    let mut all_warnings = assignment.calibration_warnings.clone();
    all_warnings.extend(about_modules);
    findings(Finding::Seconds { seconds: *seconds })?;
    let model = assignment.model(study)?;
    let (saved_at_ends, removed) = savings(study, &model);
    findings(Finding::Measured { metrics, warnings: all_warnings, saved_at_ends, removed })?;
    let choices = choices::score(study, place, assignment, reporter, (&passed.states, seconds), findings)?;
    // A whole model answers: what is not needed any more makes room for it.
    let kept = kept(study, assignment, passed)?;
    let mut measurements = answer::answer(study, place, assignment, reporter, &mut seconds.answer, findings)?;
    measurements.extend(choices);
    if !measurements.is_empty() {
        findings(Finding::Scored { measurements })?;
    }
    Ok(kept)
}

/// What is needed of a pass once it is measured: the base's final states, of the windows alone, since choices are compared
/// by their likelihoods; and of a cell what still saves its states.
fn kept(
    study: &Study,
    assignment: &Assignment,
    Passed { states, snapshots, .. }: Passed,
) -> Result<(Option<BaseStates>, Option<Snapshots>)> {
    if assignment.cell.is_some() {
        return Ok((None, Some(snapshots)));
    }
    let states = states.into_first(study.sizes.evaluation_windows)?;
    Ok((Some(BaseStates { states, saving: snapshots }), None))
}
