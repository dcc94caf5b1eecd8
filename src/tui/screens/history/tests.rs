use crossterm::event::KeyCode;
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{act, draw};
use crate::results::CellState;
use crate::store::StudySummary;
use crate::study::{Contamination, MeasuredAs, short_name};
use crate::tui::keymap::Action;
use crate::tui::message::{Effect, EffectOutcome, EngineOrder, Message, OpenReason};
use crate::tui::screens::inspect::sample as study;
use crate::tui::screens::inspect::sample::{lines, theme};
use crate::tui::state::{Dialog, DialogAnswer, EngineState, Screen, State, StudyView};
use crate::tui::testing::press;
use crate::tui::theme::ColorMode;
use crate::tui::update::update;

fn summary(id: i64, model: &str, cells_done: usize, state: CellState) -> StudySummary {
    StudySummary {
        id,
        created_at: 1_772_366_700 + id * 86_400,
        model: model.into(),
        cells: 5,
        cells_done,
        state,
    }
}

/// A store with five studies; 3 is the one that tests open.
fn stored(size: (u16, u16)) -> State {
    let mut state = study::empty(size);
    state.screen = Screen::History;
    let studies = vec![
        summary(1, "HuggingFaceTB/SmolLM2-135M", 5, CellState::Done),
        summary(2, "/data/models/TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1, CellState::Failed),
        summary(3, "HuggingFaceTB/SmolLM2-135M", 2, CellState::Cancelled),
        summary(
            4,
            "./\u{1b}[2J\u{202e}漢字👩\u{200d}👧-a-name-that-is-much-longer-than-any-column-could-be",
            0,
            CellState::Queued,
        ),
        summary(5, "built-in", 3, CellState::Running),
    ];
    update(&mut state, Message::Done(EffectOutcome::Studies(studies)));
    state
}

fn keys(state: &mut State, keys: &str) -> Vec<Effect> {
    keys.chars().flat_map(|c| press(state, KeyCode::Char(c))).collect()
}

fn at(state: &State) -> i64 {
    state.history.selected().unwrap().id
}

/// The store with study 3 open and selected.
fn opened(size: (u16, u16)) -> State {
    let mut state = stored(size);
    state.study_view = Some(study::study_view());
    keys(&mut state, "jj");
    assert_eq!(at(&state), 3);
    state
}

fn drawn(state: &State) -> Buffer {
    let (columns, rows) = state.size;
    let area = Rect::new(0, 0, columns, rows.saturating_sub(2).max(1));
    let mut buffer = Buffer::empty(area);
    draw(state, area, &mut buffer);
    buffer
}

fn picture(state: &State) -> String {
    lines(&drawn(state)).join("\n")
}

fn complaint(state: &State) -> &str {
    let toast = state.toast.as_ref().unwrap();
    assert!(toast.bad, "{}", toast.text);
    &toast.text
}

#[test]
fn the_newest_study_comes_first_and_keys_move_through_them() {
    let mut state = stored((80, 24));
    for (code, expected) in [
        (KeyCode::Up, 5),
        (KeyCode::Down, 4),
        (KeyCode::Char('j'), 3),
        (KeyCode::Char('k'), 4),
        (KeyCode::End, 1),
        (KeyCode::Down, 1),
        (KeyCode::Home, 5),
        (KeyCode::Char('G'), 1),
        (KeyCode::Char('g'), 5),
        (KeyCode::PageDown, 1),
        (KeyCode::PageUp, 5),
    ] {
        press(&mut state, code);
        assert_eq!(at(&state), expected, "{code:?}");
    }
}

#[test]
fn the_selection_stays_with_its_study_and_falls_to_a_neighbour_when_that_is_gone() {
    let mut state = stored((80, 24));
    keys(&mut state, "jj");
    let mut studies = state.history.studies.clone();
    studies.reverse();
    studies.push(summary(6, "new", 0, CellState::Queued));
    state.history.listed(studies.clone());
    assert_eq!(at(&state), 3);
    studies.retain(|study| study.id != 3);
    state.history.listed(studies.clone());
    assert_eq!(at(&state), 2);
    studies.truncate(1);
    state.history.listed(studies);
    assert_eq!(at(&state), 1);
    state.history.listed(Vec::new());
    assert!(state.history.selected().is_none());
    assert!(picture(&state).contains("has no studies yet"));
}

#[test]
fn enter_and_o_open_the_selected_study() {
    let mut state = stored((80, 24));
    keys(&mut state, "j");
    let open = [Effect::OpenStudy(4, OpenReason::Open)];
    assert_eq!(press(&mut state, KeyCode::Enter), open);
    assert_eq!(keys(&mut state, "o"), open);
    // What is open already is shown as it is.
    let mut state = opened((80, 24));
    assert_eq!(keys(&mut state, "o"), []);
    assert_eq!(state.screen, Screen::Compare);
}

#[test]
fn capital_r_goes_on_with_a_study_that_is_not_done() {
    let mut state = opened((80, 24));
    state.engine.failure = Some("earlier".into());
    assert_eq!(keys(&mut state, "R"), [Effect::Engine(EngineOrder::Resume(3))]);
    assert_eq!((state.screen, state.engine.state), (Screen::Run, EngineState::Starting));
    assert_eq!((state.engine.started, &state.engine.failure), (Some(state.now), &None));
}

#[test]
fn what_cannot_be_resumed_is_said() {
    let refuse = |state: &mut State| {
        assert_eq!(keys(state, "R"), []);
        assert_eq!(state.screen, Screen::History);
        complaint(state).to_owned()
    };
    let mut state = opened((80, 24));
    state.options.readonly = true;
    assert!(refuse(&mut state).contains("--readonly"));
    for engine in [EngineState::Starting, EngineState::Running, EngineState::Stopping] {
        let mut state = opened((80, 24));
        state.engine.state = engine;
        assert!(refuse(&mut state).contains("is running"));
    }
    let mut state = opened((80, 24));
    state.engine.state = EngineState::Gone;
    assert!(refuse(&mut state).contains("restart"));
    let mut state = opened((80, 24));
    keys(&mut state, "G");
    assert!(refuse(&mut state).contains("study 1 is complete"));
}

#[test]
fn v_lays_a_study_over_the_comparison_and_takes_it_off() {
    let mut state = stored((80, 24));
    assert_eq!(keys(&mut state, "v"), []);
    assert!(complaint(&state).contains("Enter to open one"));
    let mut state = opened((80, 24));
    assert_eq!(keys(&mut state, "v"), []);
    assert!(complaint(&state).contains("is already open"));
    keys(&mut state, "j");
    assert_eq!(keys(&mut state, "v"), [Effect::OpenStudy(2, OpenReason::Overlay)]);
    let other = StudyView { study: 2, ..study::study_view() };
    update(&mut state, Message::Done(EffectOutcome::Study(Box::new(other), OpenReason::Overlay)));
    assert!(picture(&state).contains("overlaid"));
    assert_eq!(keys(&mut state, "v"), []);
    assert!(state.overlays.is_empty());
    assert!(!picture(&state).contains("overlaid"));
}

#[test]
fn x_asks_which_finished_cell_is_written_where() {
    let mut state = opened((80, 24));
    keys(&mut state, "x");
    let Some(Dialog::Prompt(prompt)) = state.dialogs.last() else { panic!("{:?}", state.dialogs) };
    assert_eq!(prompt.cells, [study::MAGNITUDE, study::WANDA]);
    assert_eq!((prompt.study, prompt.line.text()), (3, "./magnitude-0.5"));
    // The proposed folder follows the cell.
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Down);
    let export =
        |cell: &str, folder: &str| Effect::ExportModel { study: 3, cell: cell.into(), folder: folder.into() };
    assert_eq!(press(&mut state, KeyCode::Enter), [export(study::WANDA, "./wanda-0.5-c4-s7")]);
    // A typed one does not.
    keys(&mut state, "x");
    keys(&mut state, "-mine");
    press(&mut state, KeyCode::Down);
    assert_eq!(press(&mut state, KeyCode::Enter), [export(study::WANDA, "./magnitude-0.5-mine")]);
}

#[test]
fn x_reads_the_cells_of_a_study_that_is_not_open_and_needs_a_finished_one() {
    let mut state = opened((80, 24));
    keys(&mut state, "j");
    assert_eq!(keys(&mut state, "x"), [Effect::OpenStudy(2, OpenReason::Export)]);
    let read = StudyView { study: 2, ..study::study_view() };
    update(&mut state, Message::Done(EffectOutcome::Study(Box::new(read), OpenReason::Export)));
    let Some(Dialog::Prompt(prompt)) = state.dialogs.last() else { panic!("{:?}", state.dialogs) };
    assert_eq!((prompt.study, prompt.cells.len()), (2, 2));
    // What is open stays open.
    assert_eq!((state.screen, state.study_view.as_ref().unwrap().study), (Screen::History, 3));
    let mut state = opened((80, 24));
    keys(&mut state, "k");
    assert_eq!((at(&state), keys(&mut state, "x")), (4, vec![]));
    assert!(complaint(&state).contains("no finished cell"));
}

#[test]
fn contamination_stands_beside_the_name_of_what_is_measured() {
    let mut state = opened((160, 48));
    let clean = picture(&state);
    let study_view = state.study_view.as_mut().unwrap();
    let corpus = short_name(&study_view.spec.as_ref().unwrap().evaluation.corpora[0]);
    study_view.contamination = vec![Contamination {
        calibration: "c4".into(),
        seed: 7,
        data_set: corpus.clone(),
        measured_as: MeasuredAs::Corpus,
        contaminated: 3,
        n: 64,
    }];
    let beside = format!("{corpus} (4.7% contaminated)");
    assert!(!clean.contains("contaminated") && picture(&state).contains(&beside), "{}", picture(&state));
}

#[test]
fn d_asks_before_it_deletes_and_enter_keeps() {
    for key in [KeyCode::Char('d'), KeyCode::Delete] {
        let mut state = opened((80, 24));
        assert_eq!(press(&mut state, key), []);
        let Some(Dialog::Question(question)) = state.dialogs.last() else { panic!("{:?}", state.dialogs) };
        assert_eq!(question.answers[question.chosen].2, DialogAnswer::Back);
        assert!(question.text[0].contains("SmolLM2") && question.text[1].contains("2 of 5"));
        let mut kept = state.clone();
        assert_eq!(press(&mut kept, KeyCode::Enter), []);
        assert_eq!(keys(&mut state, "d"), [Effect::DeleteStudy(3)]);
    }
}

#[test]
fn what_the_engine_holds_and_what_is_read_only_is_not_deleted() {
    for engine in [EngineState::Idle, EngineState::Running, EngineState::Stopping] {
        let mut state = opened((80, 24));
        (state.engine.study, state.engine.state) = (Some(3), engine);
        assert_eq!(keys(&mut state, "d"), []);
        assert!(state.dialogs.is_empty() && complaint(&state).contains("study 3"));
    }
    let mut state = opened((80, 24));
    state.options.readonly = true;
    keys(&mut state, "d");
    assert!(state.dialogs.is_empty() && complaint(&state).contains("--readonly"));
}

#[test]
fn an_empty_store_answers_every_key_with_a_word() {
    let mut state = study::empty((80, 24));
    state.screen = Screen::History;
    assert!(picture(&state).contains("Reading the store studies.db"));
    state.history.listed(Vec::new());
    for c in "oRvxdjkgG".chars() {
        state.toast = None;
        assert_eq!(press(&mut state, KeyCode::Char(c)), [], "{c}");
        assert_eq!(state.toast.is_some(), "oRvxd".contains(c), "{c}");
    }
}

#[test]
fn the_running_study_is_as_far_as_its_events_have_told() {
    let mut state = opened((80, 24));
    (state.engine.study, state.engine.state) = (Some(3), EngineState::Running);
    state.study_view.as_mut().unwrap().cells[2].state = CellState::Done;
    let text = picture(&state);
    let line = text.lines().find(|line| line.contains("open ")).unwrap();
    assert!(line.contains("3/5") && line.contains("running"), "{text}");
}

#[test]
fn hostile_names_are_shown_escaped_and_break_no_frame() {
    for size in [(80, 24), (160, 48)] {
        let mut state = stored(size);
        keys(&mut state, "j");
        let buffer = drawn(&state);
        assert!(buffer.content.iter().all(|cell| !cell.symbol().contains(['\u{1b}', '\u{202e}'])));
        let text = lines(&buffer);
        assert!(text.iter().any(|line| line.contains("\\x1b[2J")), "{text:?}");
        assert!(text.iter().all(|line| line.ends_with(['│', '╮', '╯'])), "{text:?}");
    }
}

const SIZES: [(u16, u16); 4] = [(80, 24), (160, 48), (40, 12), (1, 1)];

#[test]
fn it_looks_as_it_did() {
    for size in SIZES {
        let name = |what: &str| format!("{what}-{}x{}", size.0, size.1);
        let snapshot = |what: &str, state: &State| insta::assert_snapshot!(name(what), picture(state));
        let mut empty = study::empty(size);
        empty.history.listed(Vec::new());
        snapshot("empty", &empty);
        snapshot("listed", &stored(size));
        let mut state = opened(size);
        state.overlays.push(StudyView { study: 1, ..study::study_view() });
        (state.engine.study, state.engine.state) = (Some(3), EngineState::Running);
        snapshot("running", &state);
        state.theme = theme(ColorMode::None, true);
        snapshot("ascii", &state);
        keys(&mut state, "G");
        snapshot("overlaid", &state);
    }
}

const ACTIONS: [Action; 12] = [
    Action::Up,
    Action::Down,
    Action::PageUp,
    Action::PageDown,
    Action::First,
    Action::Last,
    Action::Confirm,
    Action::OpenStudy,
    Action::ResumeStudy,
    Action::Overlay,
    Action::ExportModel,
    Action::DeleteStudy,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_keys_leave_what_can_be_drawn_at_any_size_and_only_there(
        open in any::<bool>(),
        actions in proptest::collection::vec(0..ACTIONS.len(), 0..12),
        size in (0..180_u16, 0..50_u16),
        model in any::<String>(),
    ) {
        let mut state = if open { opened((80, 24)) } else { stored((80, 24)) };
        state.history.studies[1].model = model;
        for at in actions {
            act(&mut state, ACTIONS[at]);
        }
        let whole = Rect::new(0, 0, 200, 60);
        let area = Rect::new(3, 2, size.0, size.1);
        let mut buffer = Buffer::empty(whole);
        draw(&state, area, &mut buffer);
        for y in 0..whole.height {
            for x in 0..whole.width {
                prop_assert!(area.contains((x, y).into()) || buffer[(x, y)].symbol() == " ", "{x} {y}");
            }
        }
    }
}
