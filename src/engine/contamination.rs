//! How much of a study's data stands in the windows that it calibrates on.

use super::study::Study;
use crate::data::{ChoiceRecord, Encoder, TaskRecord, TokenRuns};
use crate::error::Result;
use crate::interrupt::GoOn;
use crate::study::{Contamination, MeasuredAs};

/// Looks through every corpus and task for tokens in a row of these windows, which a calibration set of this short name
/// and seed gave. `go_on` is asked before each window and record.
///
/// # Errors
/// A record that cannot be tokenised; what `go_on` says.
pub(super) fn measure_contamination(
    study: &Study,
    (set, seed): (&str, u64),
    windows: &[Vec<u32>],
    go_on: &mut GoOn<'_>,
) -> Result<Vec<Contamination>> {
    let runs = TokenRuns::of(windows);
    if runs.is_empty() {
        // Windows shorter than a run tell nothing.
        return Ok(Vec::new());
    }
    let encoder = Encoder::new(&study.tokenizer)?;
    let mut found = Vec::new();
    let mut count =
        |data_set: &str, measured_as, all: &mut dyn Iterator<Item = Result<bool>>| -> Result<()> {
            let (mut contaminated, mut n) = (0, 0);
            for one in all {
                go_on()?;
                contaminated += usize::from(one?);
                n += 1;
            }
            let (calibration, data_set) = (set.to_owned(), data_set.to_owned());
            found.push(Contamination { calibration, seed, data_set, measured_as, contaminated, n });
            Ok(())
        };
    for corpus in &study.corpora {
        let mut windows = corpus.windows.iter().map(|window| Ok(runs.are_in(window)));
        count(&corpus.name, MeasuredAs::Corpus, &mut windows)?;
    }
    for task in &study.tasks {
        let mut records = task.records.iter().map(|record| holds_run(record, &encoder, &runs));
        count(&task.name, MeasuredAs::Task, &mut records)?;
    }
    for task in &study.choices {
        let mut records = task.records.iter().map(|record| choices_hold_run(record, &encoder, &runs));
        count(&task.name, MeasuredAs::Task, &mut records)?;
    }
    Ok(found)
}

/// Whether the record's own texts hold a run, each by itself: the template that the model is asked with is the same for
/// all records, and a calibration set of instructions has it too.
fn holds_run(record: &TaskRecord, encoder: &Encoder<'_>, runs: &TokenRuns<'_>) -> Result<bool> {
    for text in [&record.instruction, &record.input].into_iter().chain(&record.references) {
        if runs.are_in(&encoder.encode_plain(text)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the question with one of its choices holds a run. Its description and examples are not its own.
fn choices_hold_run(record: &ChoiceRecord, encoder: &Encoder<'_>, runs: &TokenRuns<'_>) -> Result<bool> {
    for (context, continuation) in ChoiceRecord::new(record.form.clone(), record.gold).requests() {
        if runs.are_in(&encoder.encode_plain(&format!("{context}{continuation}"))?) {
            return Ok(true);
        }
    }
    Ok(false)
}
