//! Inspect: answers side by side, and what pruning did to every module of a cell.

mod draw;
mod modules;
mod places;
mod rows;
#[cfg(test)]
pub(in crate::tui) mod sample;
mod shading;
#[cfg(test)]
mod tests;
mod update;

use std::collections::HashMap;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::results::CellState;
use crate::tui::message::Effect;
use crate::tui::state::{Panel, State};

pub use update::act;

/// What the keys move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Pane {
    /// The selection in the list of prompts.
    #[default]
    Prompts,
    /// The text of the prompt.
    Prompt,
    /// The text of both answers.
    Answers,
}

/// What only the inspect screen knows.
#[derive(Debug, Clone, Default)]
pub struct InspectView {
    /// Modules are shown instead of answers.
    pub modules: bool,
    /// The cell on the left-hand side; `None` is the base.
    left: Option<String>,
    /// The cell on the right-hand side; `None` until one is chosen.
    right: Option<String>,
    pane: Pane,
    /// The largest disagreement, or the largest error, comes first.
    largest_first: bool,
    /// Task and record of the selected prompt; `None` is the first in the list.
    prompt: Option<(String, usize)>,
    /// Name of the selected module; `None` is the first in the table.
    module: Option<String>,
    /// Lines by which the prompt is scrolled.
    prompt_scroll: usize,
    /// Lines by which the answers are scrolled.
    answer_scroll: usize,
    /// Answers that were asked for, by study and cell, with the state in which the cell was then.
    asked: HashMap<(i64, Option<String>), CellState>,
}

impl InspectView {
    /// The panel in focus.
    pub fn panel(&self) -> Panel {
        match self.pane {
            _ if self.modules => Panel::Modules,
            Pane::Prompts => Panel::Prompts,
            Pane::Prompt | Pane::Answers => Panel::Answers,
        }
    }
}

/// Forgets what belongs to the study that was shown.
pub fn reset(state: &mut State) {
    let InspectView { modules, pane, largest_first, .. } = std::mem::take(&mut state.inspect);
    state.inspect = InspectView { modules, pane, largest_first, ..InspectView::default() };
}

/// Shows a cell (by id) against the base.
pub fn choose(state: &mut State, cell: &str) {
    state.inspect.left = None;
    state.inspect.right = Some(cell.to_owned());
    state.inspect.module = None;
    (state.inspect.prompt_scroll, state.inspect.answer_scroll) = (0, 0);
}

/// Answers that are shown and have not been read yet. They are asked for once, and once more when a cell that was
/// still at work, or had stopped, is done.
pub fn wanted(state: &mut State) -> Vec<Effect> {
    let (Some(board), false) = (&state.board, state.inspect.modules) else { return Vec::new() };
    let study = board.study;
    let right = rows::right(state).map(|cell| Some(cell.id.clone()));
    let sides = [rows::left(state).map(str::to_owned)].into_iter().chain(right);
    let lacking: Vec<_> = sides
        .filter_map(|side| {
            let now = rows::state_of(board, side.as_deref());
            let asked = state.inspect.asked.get(&(study, side.clone()));
            (asked != Some(&now) && rows::lacks_answers(board, side.as_deref())).then_some((side, now))
        })
        .collect();
    let ask = |(cell, now): (Option<String>, CellState)| {
        state.inspect.asked.insert((study, cell.clone()), now);
        Effect::LoadAnswers { study, cell }
    };
    lacking.into_iter().map(ask).collect()
}

/// The study was read anew: where another process runs it, its cells may have given more answers.
pub fn refreshed(state: &mut State) -> Vec<Effect> {
    if !state.board_is_live() {
        state.inspect.asked.retain(|_, asked| *asked == CellState::Done);
    }
    if state.screen == crate::tui::state::Screen::Inspect { wanted(state) } else { Vec::new() }
}

/// Where the panels are.
pub fn panels(state: &State, area: Rect) -> Vec<(Panel, Rect)> {
    if state.inspect.modules || rows::rows(state).is_empty() {
        return vec![(state.inspect.panel(), area)];
    }
    let places = places::places(area);
    vec![(Panel::Prompts, places.prompts), (Panel::Answers, places.detail)]
}

/// Draws the screen.
pub fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    draw::draw(state, area, buffer);
}

/// Where the screen is drawn in a terminal of the state's size: below the head and above the foot, a row each.
fn body(state: &State) -> Rect {
    Rect::new(0, 1, state.size.0, state.size.1.saturating_sub(2))
}
