//! Cells that are added to the study that is shown. One that is complete and only open is taken up again for that.

use crate::results::CellState;
use crate::study::CellSpec;
use crate::tui::message::{Effect, EngineOrder};
use crate::tui::state::{EngineState, State};

/// Why no cells can be added to the study that is shown.
pub(super) fn takes_no_cells(state: &State) -> Option<&'static str> {
    let Some(study_view) = &state.study_view else {
        return Some("no study is open: press r to start one, or Enter on History to open one");
    };
    let is_complete = study_view.base_state == CellState::Done
        && study_view.cells.iter().all(|cell| cell.state == CellState::Done);
    match state.engine.state {
        _ if state.options.readonly => Some("read-only: restart without --readonly to add cells"),
        EngineState::Gone => Some("the engine has stopped: restart secateur to add cells"),
        EngineState::Starting if !state.added.is_empty() => {
            Some("the study is being taken up: it takes more cells in a moment")
        }
        _ if state.shows_engine_study() => None,
        EngineState::Idle if is_complete => None,
        EngineState::Idle => {
            Some("this study is not complete: R on History resumes it, and then it takes more cells")
        }
        _ => Some("another study is running: this one takes cells once that has ended"),
    }
}

/// Has a cell computed in the study that is shown.
pub(super) fn add(state: &mut State, cell: CellSpec) -> Vec<Effect> {
    if state.shows_engine_study() {
        state.queue(&cell);
        return vec![Effect::Engine(EngineOrder::AddCell(cell))];
    }
    let Some(study) = state.study_view.as_ref().map(|study_view| study_view.study) else { return Vec::new() };
    state.added.push(cell);
    state.engine.starting(state.now);
    vec![Effect::Engine(EngineOrder::Resume(study))]
}

/// The engine has taken up a study: what was to be added to it follows.
pub(super) fn taken_up(state: &mut State) -> Vec<Effect> {
    std::mem::take(&mut state.added).into_iter().flat_map(|cell| add(state, cell)).collect()
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyCode;

    use super::*;
    use crate::engine::{Event, PlannedCell, ResourceEstimate};
    use crate::results::{Environment, ModelInfo};
    use crate::tui::message::{EffectOutcome, Message, OpenReason};
    use crate::tui::state::{Screen, StudyView};
    use crate::tui::testing::{press, state, text};
    use crate::tui::update::update;

    fn planned() -> Vec<PlannedCell> {
        let spec = CellSpec { recipe: "magnitude@50%".parse().unwrap(), calibration: None, seed: 0 };
        vec![PlannedCell { id: spec.id(), spec, state: CellState::Done, blocks_done: 2 }]
    }

    /// A study of the store, open on Compare.
    fn open(base_state: CellState) -> State {
        let mut state = state();
        let mut shown = StudyView::planned(7, ModelInfo::of_two_blocks(), Environment::default(), &planned());
        shown.base_state = base_state;
        state.study_view = Some(shown);
        state.screen = Screen::Compare;
        state
    }

    #[test]
    fn a_complete_study_that_is_only_open_is_taken_up_for_a_new_cell() {
        let mut state = open(CellState::Done);
        press(&mut state, KeyCode::Char('a'));
        let effects = press(&mut state, KeyCode::Enter);
        assert_eq!(effects, [Effect::Engine(EngineOrder::Resume(7))]);
        assert!(state.engine.busy(), "the header says so");
        press(&mut state, KeyCode::Char('a'));
        assert!(state.dialogs.is_empty(), "not twice");
        let plan = Event::Plan {
            study: 7,
            model: Box::new(ModelInfo::of_two_blocks()),
            environment: Environment::default(),
            cells: planned(),
            estimate: ResourceEstimate::default(),
        };
        let effects = update(&mut state, Message::Engine(plan));
        let cells: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Engine(EngineOrder::AddCell(cell)) => Some(cell.id()),
                _ => None,
            })
            .collect();
        assert_eq!(cells.len(), 1, "{effects:?}");
        assert_eq!(state.engine.queue, cells);
        assert!(state.added.is_empty());
        // What the store has of the study comes later, and does not know of it.
        let found =
            Box::new(StudyView::planned(7, ModelInfo::of_two_blocks(), Environment::default(), &planned()));
        update(&mut state, Message::Done(EffectOutcome::Study(found, OpenReason::Refresh)));
        assert!(state.study_view.as_ref().is_some_and(|shown| shown.cell(&cells[0]).is_some()));
    }

    #[test]
    fn a_study_of_another_model_than_the_one_that_is_open_starts_only_when_that_is_meant() {
        let mut state = open(CellState::Done);
        assert!(press(&mut state, KeyCode::Char('r')).is_empty());
        let drawn = text(&state, 80, 24);
        for part in ["Start another study?", "a study of models/tiny, 6 cells", "Study 7"] {
            assert!(drawn.contains(part), "{part}: {drawn}");
        }
        press(&mut state, KeyCode::Enter);
        assert!(state.dialogs.is_empty() && !state.engine.busy(), "the answer that is chosen goes back");
        press(&mut state, KeyCode::Char('r'));
        let effects = press(&mut state, KeyCode::Char('y'));
        assert!(matches!(effects[..], [Effect::Start(_)]) && state.engine.busy(), "{effects:?}");

        let mut state = open(CellState::Done);
        state.screen = Screen::Study;
        let effects = press(&mut state, KeyCode::Char('r'));
        assert!(matches!(effects[..], [Effect::Start(_)]), "what starts is in sight: {effects:?}");
    }

    #[test]
    fn what_cannot_take_cells_says_what_to_do() {
        let complaint = |state: &mut State| {
            press(state, KeyCode::Char('a'));
            assert!(state.dialogs.is_empty());
            state.toast.as_ref().unwrap().text.clone()
        };
        assert!(complaint(&mut open(CellState::Queued)).contains("R on History resumes it"));
        let mut other = open(CellState::Done);
        other.engine.state = EngineState::Running;
        other.engine.study = Some(8);
        assert!(complaint(&mut other).contains("another study is running"));
        let mut none = state();
        none.screen = Screen::Compare;
        assert!(complaint(&mut none).contains("no study is open"));
    }
}
