//! Where everything stands.

use ratatui::layout::{Constraint, Layout, Rect};

/// From so many columns on the prompts stand beside the answers.
const WIDE: u16 = 130;
/// From so many columns on the two answers stand side by side.
const BESIDE: u16 = 50;

/// The parts of the screen when answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InspectPlaces {
    /// The list of prompts, with its frame.
    pub prompts: Rect,
    /// All that belongs to the selected prompt.
    pub detail: Rect,
    /// The whole prompt and its references, with a frame, where there is room.
    pub prompt: Option<Rect>,
    /// A line for the references, where there is no room for the prompt.
    pub reference: Option<Rect>,
    /// The answer of the left-hand side, with its frame.
    pub left: Rect,
    /// The answer of the right-hand side, with its frame.
    pub right: Rect,
    /// A line for the scale of disagreements.
    pub legend: Option<Rect>,
}

pub(super) fn places(area: Rect) -> InspectPlaces {
    let [prompts, detail] = if area.width >= WIDE {
        let width = (area.width / 8 * 3).clamp(40, 64);
        Layout::horizontal([Constraint::Length(width), Constraint::Min(0)]).areas(area)
    } else {
        let height = (area.height / 3).clamp(if area.height < 12 { 3 } else { 5 }, 10);
        Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(area)
    };
    let line = |wanted: bool| Constraint::Length(u16::from(wanted));
    let framed = if detail.height >= 10 { (detail.height / 3).clamp(4, 14) } else { 0 };
    let [prompt, reference, answers, legend] = Layout::vertical([
        Constraint::Length(framed),
        line(framed == 0 && detail.height >= 5),
        Constraint::Min(0),
        line(detail.height >= 7),
    ])
    .areas(detail);
    let halves = [Constraint::Fill(1); 2];
    let [left, right] = if answers.width >= BESIDE {
        Layout::horizontal(halves).areas(answers)
    } else {
        Layout::vertical(halves).areas(answers)
    };
    let shown = |place: Rect| (!place.is_empty()).then_some(place);
    InspectPlaces {
        prompts,
        detail,
        prompt: shown(prompt),
        reference: shown(reference),
        left,
        right,
        legend: shown(legend),
    }
}
