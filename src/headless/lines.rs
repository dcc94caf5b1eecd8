//! The engine's events and progress as lines of text. Nothing is printed here.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use crate::data::describe_place;
use crate::engine::{Event, Phase, Plan, PlannedCell, Progress, ResourceEstimate};
use crate::human::{bytes, count, duration};
use crate::results::{CellState, Environment, Footprint, Measurement, Metrics, ModelInfo, Seconds};
use crate::scores::stats::mean_over_tasks;
use crate::scores::{Subject, headline_scores};
use crate::study::{CellSpec, Contamination, RUN_TOKENS};
use crate::text::escape;

/// What has been said so far, so that the next line can build on it.
#[derive(Debug, Default)]
pub(super) struct Lines {
    labels: HashMap<String, String>,
    metrics: HashMap<Option<String>, Metrics>,
    phases: HashSet<(Option<String>, Phase)>,
    /// Warnings that were said of the study as a whole.
    said: HashSet<String>,
    cells: usize,
    done: usize,
}

impl Lines {
    /// The lines that an event is worth; `None` for one that only programs care for. `live` tells that phases are
    /// shown by a live line, and need no line of their own.
    pub fn of_event(&mut self, event: &Event, live: bool) -> Option<String> {
        match event {
            Event::Plan { study, model, environment, cells, estimate } => {
                self.learn(cells.iter().map(|cell| (&cell.spec, cell.state)));
                let summary = summary(model, environment, cells);
                Some(format!("study {study}: {summary}\nneeds {}", needs(estimate)))
            }
            Event::Cell { cell, state: CellState::Cancelled } => {
                Some(format!("{}: cancelled", self.label(cell.as_deref())))
            }
            Event::Phase { cell, phase } => {
                let first = self.phases.insert((cell.clone(), *phase));
                (first && !live).then(|| format!("{}: {}", self.label(cell.as_deref()), phase.doing()))
            }
            Event::Metrics { cell, metrics } => {
                self.metrics.insert(cell.clone(), metrics.clone());
                None
            }
            Event::CellDone { cell, seconds, footprint } => {
                Some(self.done_line(cell.as_deref(), seconds, *footprint))
            }
            Event::Calibration { set, component, coverage, .. } => {
                let place = describe_place(set, component.as_deref());
                Some(format!("{}: {}", escape(&place), coverage.describe()))
            }
            Event::Contamination { set, found } => {
                let shares: Vec<String> = found.iter().map(Contamination::describe).collect();
                let place = describe_place(set, None);
                Some(
                    escape(&format!(
                        "{place}: {RUN_TOKENS} tokens in a row of it are in {}",
                        shares.join(", ")
                    ))
                    .into_owned(),
                )
            }
            Event::Warning { cell: None, message } => {
                self.said.insert(message.clone());
                Some(format!("warning: {}", escape(message)))
            }
            // Of a calibration set it is said once, not again for every cell.
            Event::Warning { message, .. } if self.said.contains(message) => None,
            Event::Warning { cell, message } => {
                Some(format!("warning: {}: {}", self.label(cell.as_deref()), escape(message)))
            }
            Event::Exported { cell, path } => {
                let path = path.to_string_lossy();
                Some(format!("{}: written to {}", self.label(Some(cell.as_str())), escape(&path)))
            }
            Event::CellFailed { cell, message } => {
                Some(format!("{}: failed: {}", self.label(cell.as_deref()), escape(message)))
            }
            _ => None,
        }
    }

    /// Takes note of a cell that is asked for.
    pub fn know(&mut self, cell: &CellSpec) {
        self.labels.insert(cell.id(), escape(&cell.label()).into_owned());
    }

    /// Takes note of all cells of a study, and of how many are done.
    pub fn learn<'a>(&mut self, cells: impl Iterator<Item = (&'a CellSpec, CellState)>) {
        (self.cells, self.done) = (0, 0);
        for (cell, state) in cells {
            self.know(cell);
            self.cells += 1;
            self.done += usize::from(state == CellState::Done);
        }
    }

    fn label(&self, cell: Option<&str>) -> String {
        match cell {
            None => "base".into(),
            Some(id) => self.labels.get(id).cloned().unwrap_or_else(|| escape(id).into_owned()),
        }
    }

    fn done_line(&mut self, cell: Option<&str>, seconds: &Seconds, footprint: Option<Footprint>) -> String {
        let mut line = self.label(cell);
        if cell.is_some() {
            self.done += 1;
            let _ = write!(line, " ({} of {})", self.done, self.cells.max(self.done));
        }
        let _ = write!(line, ": done in {}", duration(seconds.total()));
        if let Some(footprint) = footprint {
            let _ = write!(line, ", {:.2}% zeros", footprint.sparsity() * 100.0);
            if footprint.removed > 0 {
                let _ = write!(line, ", {} parameters removed", count(footprint.removed));
            }
        }
        if let Some(metrics) = self.metrics.get(&cell.map(str::to_owned)) {
            line.push_str(&figures(metrics));
        }
        line
    }

    /// How far things are, on one line.
    pub fn of_progress(&self, progress: &Progress) -> String {
        let mut line = format!(
            "[{:3.0}%] {}",
            progress.study.clamp(0.0, 1.0) * 100.0,
            match &progress.cell {
                None => "base".to_owned(),
                Some(id) => self.label(Some(id)),
            }
        );
        if let Some(phase) = progress.phase {
            let _ = write!(line, ": {}", phase.doing());
        }
        match (progress.unit, progress.total) {
            (_, 0) => {}
            ("bytes", total) => {
                let _ = write!(line, " {} of {}", bytes(progress.done), bytes(total));
            }
            (unit, total) => {
                let _ = write!(line, " {}/{total} {unit}", progress.done);
            }
        }
        if progress.tokens_per_second >= 0.5 {
            let _ = write!(line, ", {:.0} tokens/s", progress.tokens_per_second);
        }
        if let Some(eta) = progress.eta_seconds {
            let _ = write!(line, ", {} left", duration(eta));
        }
        if progress.paused {
            line.push_str(", paused");
        }
        line
    }
}

/// The figures of one cell after each other. What a model shows by itself is told for each text; what compares it with
/// the base, and scores of tasks, are averaged.
fn figures(metrics: &Metrics) -> String {
    let mut text = String::new();
    for score in headline_scores(Subject::Corpus) {
        let found: Vec<&Measurement> = metrics.of(score).collect();
        if score.compares() {
            if let Some(mean) = mean(found.iter().map(|found| found.value)) {
                let _ = write!(text, ", {}", score.in_line(mean));
            }
            continue;
        }
        for found in found {
            let _ = write!(text, ", {} ({})", score.in_line(found.value), escape(&found.data_set));
        }
    }
    for score in headline_scores(Subject::Task) {
        if let Some(mean) = mean_over_tasks(&metrics.of(score).collect::<Vec<_>>(), &[]) {
            let _ = write!(text, ", {}", score.in_line(mean.value));
        }
    }
    text
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let n = values.len();
    (n > 0).then(|| values.sum::<f64>() / n as f64)
}

/// `1 cell`, `2 cells`.
fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn summary(model: &ModelInfo, environment: &Environment, cells: &[PlannedCell]) -> String {
    format!(
        "{} ({}, {} parameters, {} blocks, {}), base and {} on {} in {} with {}",
        escape(&model.source),
        escape(&model.architecture),
        count(model.parameters),
        model.blocks,
        escape(&model.dtype),
        counted(cells.len(), "cell"),
        environment.device,
        environment.compute_dtype,
        counted(environment.threads, "thread"),
    )
}

fn needs(estimate: &ResourceEstimate) -> String {
    let mut text = format!("{} of memory", bytes(estimate.host_bytes));
    if estimate.host_available > 0 {
        let _ = write!(text, " ({} free)", bytes(estimate.host_available));
    }
    if estimate.device_bytes > 0 {
        let _ = write!(text, ", {} on the device", bytes(estimate.device_bytes));
        if let Some(free) = estimate.device_available {
            let _ = write!(text, " ({} free)", bytes(free));
        }
    }
    let _ = write!(text, ", {} of disk", bytes(estimate.disk_bytes));
    if estimate.disk_available > 0 {
        let _ = write!(text, " ({} free)", bytes(estimate.disk_available));
    }
    let _ = write!(text, ", about {}", duration(estimate.seconds));
    text
}

const DONE_EARLIER: &str = "done by an earlier run";

/// The plan of a dry run for people; `None` for any other event.
pub(super) fn plan(Plan { model, environment, base_done, cells, estimate, scripts, .. }: &Plan) -> String {
    let mut text = format!("{}\n\n", summary(model, environment, cells));
    let labels: Vec<String> = cells.iter().map(|cell| escape(&cell.spec.label()).into_owned()).collect();
    let wide = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(4);
    let base = if *base_done { DONE_EARLIER } else { "to measure" };
    let _ = writeln!(text, "  {:wide$}  {base}", "base");
    for (cell, label) in cells.iter().zip(&labels) {
        let state = match (cell.state, cell.blocks_done) {
            (CellState::Done, _) => DONE_EARLIER.to_owned(),
            (_, 0) => "to do".to_owned(),
            (_, blocks) => format!("to do from block {blocks} of {}", model.blocks),
        };
        let _ = writeln!(text, "  {label:wide$}  {state}");
    }
    for script in scripts {
        let lines: Vec<_> = script.lines().map(escape).collect();
        let _ = writeln!(text, "\nwould be submitted to Slurm:\n\n{}", lines.join("\n"));
    }
    let _ = write!(text, "\nneeds {}\nnothing was run", needs(estimate));
    text
}
