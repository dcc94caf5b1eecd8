//! What stands on the two sides, and the prompts that either has answered.

use std::collections::{BTreeMap, HashMap};

use super::prompt_row::PromptRow;
use super::records::listed;
use crate::results::{CellResult, CellState, ModuleResult};
use crate::scores::{Score, Subject, headline_scores, records};
use crate::tui::state::{State, StudyView};

/// The cell on the right-hand side: the chosen one, else the first that has something to show.
pub(super) fn right(state: &State) -> Option<&CellResult> {
    let study_view = state.study_view.as_ref()?;
    let chosen = state.inspect.right.as_deref().and_then(|id| study_view.cell(id));
    let in_state = |wanted| study_view.cells.iter().find(|cell| cell.state == wanted);
    chosen
        .or_else(|| in_state(CellState::Done))
        .or_else(|| in_state(CellState::Running))
        .or_else(|| in_state(CellState::Failed))
        .or_else(|| study_view.cells.first())
}

/// The cell on the left-hand side; `None` is the base.
pub(super) fn left(state: &State) -> Option<&str> {
    let id = state.inspect.left.as_deref()?;
    let other = right(state).is_some_and(|right| right.id != id);
    (other && state.study_view.as_ref()?.cell(id).is_some()).then_some(id)
}

/// How far a cell, or the base, has come.
pub(super) fn state_of(study_view: &StudyView, cell: Option<&str>) -> CellState {
    match cell {
        None => study_view.base_state,
        Some(id) => study_view.cell(id).map_or(CellState::Queued, |cell| cell.state),
    }
}

/// Whether a cell, or the base, may have given answers that the study view does not have.
pub(super) fn misses_answers(study_view: &StudyView, cell: Option<&str>) -> bool {
    let known = study_view.answers.get(&cell.map(str::to_owned)).map_or(0, Vec::len);
    match state_of(study_view, cell) {
        CellState::Queued => false,
        CellState::Running | CellState::Cancelled | CellState::Failed => true,
        CellState::Done => {
            let given = study_view.metrics(cell).map_or(0, records);
            !asks_nothing(study_view) && (known == 0 || known < given)
        }
    }
}

/// Whether the study is known to have no tasks.
pub(super) fn asks_nothing(study_view: &StudyView) -> bool {
    study_view.spec.as_ref().is_some_and(|spec| spec.evaluation.tasks.is_empty())
}

/// The prompts that are listed: those of [`every`] that are wanted, in the order that is wanted.
pub(super) fn rows(state: &State) -> Vec<PromptRow<'_>> {
    listed(every(state), state.inspect.filter, state.inspect.order)
}

/// The prompts that either side has answered, in the order of the tasks.
pub(super) fn every(state: &State) -> Vec<PromptRow<'_>> {
    let (Some(study_view), Some(cell)) = (&state.study_view, right(state)) else { return Vec::new() };
    let of = |side: Option<&str>| study_view.answers.get(&side.map(str::to_owned)).into_iter().flatten();
    let mut found: BTreeMap<(&str, usize), PromptRow<'_>> = BTreeMap::new();
    for answer in of(left(state)) {
        let row = PromptRow { asked: answer, left: Some(answer), right: None };
        found.insert((&answer.task, answer.record), row);
    }
    for answer in of(Some(&cell.id)) {
        let alone = PromptRow { asked: answer, left: None, right: None };
        found.entry((&answer.task, answer.record)).or_insert(alone).right = Some(answer);
    }
    found.into_values().collect()
}

/// What all prompts of a task begin with, by task: an instruction that tells none from another. Whole words; empty
/// where there is too little to be worth leaving out.
pub(super) fn shared_beginnings<'a>(rows: &[PromptRow<'a>]) -> HashMap<&'a str, &'a str> {
    /// Bytes that are worth leaving out.
    const WORTH: usize = 16;
    let mut shared: HashMap<&str, (&str, usize)> = HashMap::new();
    for PromptRow { asked, .. } in rows {
        let (start, count) = shared.entry(&asked.task).or_insert((&asked.prompt, 0));
        let same = start.char_indices().zip(asked.prompt.chars()).find(|((_, a), b)| a != b);
        let end = same.map_or(start.len().min(asked.prompt.len()), |((at, _), _)| at);
        (*start, *count) = (&start[..end], *count + 1);
    }
    let whole_words = |(start, count): (&'a str, usize)| {
        let end = start.rfind(char::is_whitespace).unwrap_or(0);
        if count > 1 && end >= WORTH { &start[..end] } else { "" }
    };
    shared.into_iter().map(|(task, found)| (task, whole_words(found))).collect()
}

/// Place of the selected prompt in the list.
pub(super) fn selected(state: &State, rows: &[PromptRow<'_>]) -> usize {
    let wanted = state.inspect.prompt.as_ref();
    wanted
        .and_then(|(task, record)| rows.iter().position(|row| row.key() == (task.as_str(), *record)))
        .unwrap_or(0)
}

/// The modules of a cell in the order that is wanted.
pub(super) fn modules<'a>(state: &State, cell: &'a CellResult) -> Vec<&'a ModuleResult> {
    let mut modules: Vec<&ModuleResult> = cell.modules.iter().collect();
    if state.inspect.largest_error_first {
        // A module whose error is no number is the first to be looked at.
        let error = |module: &ModuleResult| match module.reconstruction_error {
            error if error.is_nan() => f64::INFINITY,
            error => error,
        };
        modules.sort_by(|a, b| error(b).total_cmp(&error(a)));
    }
    modules
}

/// Place of the selected module in the table.
pub(super) fn selected_module(state: &State, modules: &[&ModuleResult]) -> usize {
    let wanted = state.inspect.module.as_deref();
    wanted.and_then(|name| modules.iter().position(|module| module.name == name)).unwrap_or(0)
}

/// Why a cell, or the base, failed; as far as is known.
pub(super) fn failure<'a>(study_view: &'a StudyView, cell: Option<&str>) -> Option<&'a str> {
    if state_of(study_view, cell) != CellState::Failed {
        return None;
    }
    let told = study_view.failures.get(&cell.map(str::to_owned)).map(String::as_str);
    let warned = || cell.and_then(|id| study_view.cell(id)?.warnings.last()).map(String::as_str);
    Some(told.or_else(warned).unwrap_or("see the log file beside the store"))
}

/// The score that tells the sides of these rows apart, where it is one for all of them.
pub(super) fn only_score(rows: &[PromptRow<'_>]) -> Option<&'static Score> {
    let mut scores = rows.iter().filter_map(PromptRow::score);
    match scores.next() {
        None => headline_scores(Subject::Task).next(),
        Some(first) => scores.all(|score| score == first).then_some(first),
    }
}

/// What it is called.
pub(super) fn score_name(rows: &[PromptRow<'_>]) -> &'static str {
    only_score(rows).map_or("score", |score| score.name)
}
