use crossterm::event::KeyCode;
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

use super::sample::*;
use super::{act, draw, panels, rows, wanted};
use crate::engine::Event;
use crate::results::{Answer, CellState};
use crate::study::{CellSpec, Contamination, MeasuredAs, short_name};
use crate::tui::keymap::Action;
use crate::tui::message::{Effect, EffectOutcome, Message, OpenReason};
use crate::tui::state::{EngineState, Pane, Panel, Screen, State, StudyView};
use crate::tui::testing::press;
use crate::tui::theme::ColorMode;
use crate::tui::update::update;
use crate::tui::widgets::text;

pub(super) fn keys(state: &mut State, keys: &str) -> Vec<Effect> {
    keys.chars().flat_map(|c| press(state, KeyCode::Char(c))).collect()
}

fn drawn(state: &State) -> Buffer {
    let (columns, rows) = state.size;
    let area = Rect::new(0, 0, columns, rows.saturating_sub(2).max(1));
    let mut buffer = Buffer::empty(area);
    draw(state, area, &mut buffer);
    buffer
}

pub(super) fn picture(state: &State) -> String {
    lines(&drawn(state)).join("\n")
}

fn shown(state: &State) -> (String, String) {
    let study_view = state.study_view.as_ref().unwrap();
    let right = rows::right(state).map(|cell| cell.id.clone());
    (study_view.label(rows::left(state)), study_view.label(right.as_deref()))
}

pub(super) fn prompts(state: &State) -> Vec<usize> {
    rows::rows(state).iter().map(|row| row.asked.record).collect()
}

pub(super) fn chosen(state: &State) -> usize {
    let rows = rows::rows(state);
    rows[rows::selected(state, &rows)].asked.record
}

fn load(cell: Option<&str>) -> Effect {
    Effect::LoadAnswers { study: 3, cell: cell.map(str::to_owned) }
}

#[test]
fn h_and_l_step_the_right_hand_side_through_the_cells_and_around() {
    let mut state = inspecting((80, 24));
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(shown(&state).1);
        keys(&mut state, "l");
    }
    assert_eq!(
        seen,
        ["wanda 50% c4", "sparsegpt 50% c4", "sparsegpt 2:4 c4", "wanda 70% c4", "magnitude 50%"]
    );
    assert_eq!(shown(&state), ("base".into(), "wanda 50% c4".into()));
    keys(&mut state, "hh");
    assert_eq!(shown(&state).1, "wanda 70% c4");
    press(&mut state, KeyCode::Right);
    press(&mut state, KeyCode::Left);
    assert_eq!(shown(&state).1, "wanda 70% c4");
}

#[test]
fn b_steps_the_left_hand_side_from_the_base_on_and_no_cell_stands_on_both() {
    let mut state = inspecting((80, 24));
    let mut seen = Vec::new();
    for _ in 0..5 {
        keys(&mut state, "b");
        seen.push(shown(&state));
    }
    let lefts: Vec<&str> = seen.iter().map(|(left, _)| left.as_str()).collect();
    assert_eq!(lefts, ["magnitude 50%", "sparsegpt 50% c4", "sparsegpt 2:4 c4", "wanda 70% c4", "base"]);
    assert!(seen.iter().all(|(_, right)| right == "wanda 50% c4"));
    keys(&mut state, "bh");
    assert_eq!(shown(&state), ("magnitude 50%".into(), "wanda 70% c4".into()));
}

#[test]
fn the_first_finished_cell_is_shown_until_one_is_chosen() {
    let mut state = empty((80, 24));
    state.study_view = Some(study_view());
    assert_eq!(shown(&state), ("base".into(), "magnitude 50%".into()));
    state.inspect.choose(QUEUED);
    assert_eq!(shown(&state), ("base".into(), "wanda 70% c4".into()));
    state.inspect.reset();
    assert_eq!(shown(&state), ("base".into(), "magnitude 50%".into()));
    for cell in &mut state.study_view.as_mut().unwrap().cells {
        cell.state = if cell.id == RUNNING { CellState::Running } else { CellState::Queued };
    }
    assert_eq!(shown(&state).1, "sparsegpt 50% c4");
}

#[test]
fn the_selected_prompt_stays_selected_when_the_cell_changes_and_answers_come_in() {
    let mut state = inspecting((80, 24));
    keys(&mut state, "jl");
    assert_eq!(chosen(&state), 1);
    state.engine.study = Some(3);
    let early = Answer { record: 0, ..answer(0, "x", &[], scores(0.0, 0.0, 0.0)) };
    update(&mut state, Message::Engine(Event::Answer { cell: Some(RUNNING.into()), answer: early }));
    assert_eq!(chosen(&state), 1);
}

#[test]
fn keys_move_the_selection_by_lines_pages_and_to_the_ends() {
    let mut state = inspecting((80, 24));
    for (code, expected) in [
        (KeyCode::Char('k'), 0),
        (KeyCode::Down, 1),
        (KeyCode::Char('G'), 3),
        (KeyCode::Down, 3),
        (KeyCode::Up, 2),
        (KeyCode::Home, 0),
        (KeyCode::PageDown, 3),
        (KeyCode::PageUp, 0),
        (KeyCode::End, 3),
        (KeyCode::Char('g'), 0),
    ] {
        press(&mut state, code);
        assert_eq!(chosen(&state), expected, "{code:?}");
    }
}

#[test]
fn w_hands_the_arrows_to_the_prompt_then_to_the_answers() {
    let mut state = inspecting((80, 24));
    keys(&mut state, "j");
    assert_eq!(state.panel(), Panel::Prompts);
    keys(&mut state, "w");
    assert_eq!((state.panel(), state.inspect.pane), (Panel::Answers, Pane::Prompt));
    let before = picture(&state);
    keys(&mut state, "jj");
    assert_ne!(picture(&state), before);
    press(&mut state, KeyCode::End);
    assert!(picture(&state).contains("When does the electron give off light?"));
    // The end is the end: one step back is seen at once.
    keys(&mut state, "jjjj");
    let end = picture(&state);
    keys(&mut state, "k");
    assert_ne!(picture(&state), end);

    keys(&mut state, "w");
    assert_eq!(state.inspect.pane, Pane::Answers);
    assert!(!picture(&state).contains("everywhere"));
    press(&mut state, KeyCode::PageDown);
    assert!(picture(&state).contains("everywhere"));
    assert_eq!(chosen(&state), 1);
    keys(&mut state, "w");
    assert_eq!(state.inspect.pane, Pane::Prompts);
    // Another prompt is read from its beginning.
    keys(&mut state, "j");
    assert_eq!((state.inspect.prompt_scroll, state.inspect.answer_scroll), (0, 0));
    // On a low screen the prompt has no pane of its own.
    state.size = (60, 15);
    keys(&mut state, "w");
    assert_eq!(state.inspect.pane, Pane::Answers);
}

#[test]
fn m_shows_the_modules_and_o_their_largest_error_first() {
    let mut state = inspecting((80, 24));
    keys(&mut state, "m");
    assert_eq!(state.panel(), Panel::Modules);
    let text = picture(&state);
    assert!(text.contains("Modules of wanda 50% c4") && text.contains("down_proj"), "{text}");
    let at = |state: &State| {
        let modules = rows::modules(state, rows::right(state).unwrap());
        modules[rows::selected_module(state, &modules)].block
    };
    keys(&mut state, "jj");
    assert_eq!(at(&state), 1);
    press(&mut state, KeyCode::PageDown);
    assert!(at(&state) > 5);
    press(&mut state, KeyCode::End);
    assert_eq!(at(&state), 11);
    keys(&mut state, "g");
    assert_eq!(at(&state), 0);
    keys(&mut state, "o");
    assert_eq!(at(&state), 11);
    // The left-hand side has no part in it, and says so.
    keys(&mut state, "b");
    assert!(state.toast.as_ref().unwrap().bad);
    assert_eq!(shown(&state).0, "base");
    keys(&mut state, "l");
    assert!(picture(&state).contains("Modules of sparsegpt 50% c4"));
    keys(&mut state, "m");
    assert_eq!(state.panel(), Panel::Prompts);
}

#[test]
fn answers_are_asked_for_once_by_whoever_shows_them() {
    let mut state = empty((80, 24));
    assert_eq!(wanted(&mut state), []);
    state.study_view = Some(study_view());
    assert_eq!(wanted(&mut state), [load(None), load(Some(MAGNITUDE))]);
    assert_eq!(wanted(&mut state), []);
    // The cell that is at work may have answers of an earlier run; the waiting one has none.
    assert_eq!(keys(&mut state, "l"), [load(Some(WANDA))]);
    assert_eq!(keys(&mut state, "l"), [load(Some(RUNNING))]);
    assert_eq!(keys(&mut state, "l"), [load(Some(FAILED))]);
    assert_eq!(keys(&mut state, "l"), []);
    assert_eq!(keys(&mut state, "hhhhllll"), []);
    // Another study is another matter.
    state.inspect.reset();
    state.study_view.as_mut().unwrap().study = 4;
    assert_eq!(wanted(&mut state).len(), 2);
}

#[test]
fn modules_need_no_answers() {
    let mut state = empty((80, 24));
    state.study_view = Some(study_view());
    state.inspect.modules = true;
    assert_eq!(wanted(&mut state), []);
    assert_eq!(keys(&mut state, "m"), [load(None), load(Some(MAGNITUDE))]);
}

#[test]
fn a_cell_that_becomes_done_is_read_again_unless_all_its_answers_were_heard() {
    let mut state = inspecting((80, 24));
    state.engine.study = Some(3);
    state.engine.state = EngineState::Running;
    assert_eq!(keys(&mut state, "l"), [load(Some(RUNNING))]);
    let cell = || Some(RUNNING.to_owned());
    let say = |state: &mut State, event| update(state, Message::Engine(event));
    let done = || Event::Cell { cell: cell(), state: CellState::Done };
    let all = wanda_answers();
    // An answer that is given while the earlier ones are read is not lost.
    say(&mut state, Event::Answer { cell: cell(), answer: all[1].clone() });
    let read = EffectOutcome::Answers { study: 3, cell: cell(), answers: vec![all[0].clone()] };
    update(&mut state, Message::Done(read));
    assert_eq!(state.study_view.as_ref().unwrap().answers[&cell()].len(), 2);
    say(&mut state, Event::Metrics { cell: cell(), metrics: metrics(40.0, Some(0.1), 0.4) });
    let mut other = state.clone();
    assert_eq!(say(&mut state, done()), [load(Some(RUNNING))]);
    assert_eq!(say(&mut state, done()), []);
    for answer in &all[2..] {
        say(&mut other, Event::Answer { cell: cell(), answer: answer.clone() });
    }
    assert_eq!(say(&mut other, done()), []);
}

#[test]
fn answers_of_a_cell_that_another_process_runs_are_read_with_every_look_at_the_study() {
    let mut state = inspecting((80, 24));
    state.options.readonly = true;
    assert_eq!(keys(&mut state, "l"), [load(Some(RUNNING))]);
    let look = |state: &mut State| {
        update(state, Message::Done(EffectOutcome::Study(Box::new(study_view()), OpenReason::Refresh)))
    };
    assert_eq!(look(&mut state), [load(Some(RUNNING))]);
    state.screen = Screen::Compare;
    assert_eq!(look(&mut state), []);
}

#[test]
fn the_list_names_the_task_where_there_are_several() {
    let mut state = inspecting((80, 24));
    assert!(!picture(&state).lines().nth(2).unwrap().contains("squad"));
    let study_view = state.study_view.as_mut().unwrap();
    let other = Answer { task: "alpaca".into(), ..answer(0, "Paris", &[], scores(0.0, 0.0, 0.0)) };
    study_view.answers.get_mut(&None).unwrap().push(other);
    let text = picture(&state);
    let tasks: Vec<&str> =
        text.lines().skip(2).take(4).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(tasks, ["alpaca", "squad", "squad", "squad"], "{text}");
}

#[test]
fn the_list_leaves_out_what_all_prompts_of_a_task_begin_with() {
    let mut state = inspecting((80, 24));
    let instruction = "Answer with words from the text.";
    let ask = |state: &mut State, questions: [&str; 4]| {
        for answers in state.study_view.as_mut().unwrap().answers.values_mut() {
            for (answer, question) in answers.iter_mut().zip(questions) {
                answer.prompt = format!("{instruction}\n\n{question}");
            }
        }
        picture(state)
            .lines()
            .skip(2)
            .take(4)
            .map(|line| line.chars().skip(9).take(40).collect())
            .collect::<Vec<String>>()
    };
    let seen = ask(&mut state, ["Who was first?", "Who was last?", "What is blue?", "\u{1b}漢"]);
    for (line, expected) in
        seen.iter().zip(["… Who was first?", "… Who was last?", "… What is blue?", "… \\x1b漢"])
    {
        assert!(line.starts_with(expected), "{line}");
    }
    // Nothing else is left of a prompt that is all of it.
    let seen = ask(&mut state, ["", "Who was last?", "What is blue?", "Why?"]);
    assert!(seen[0].starts_with(instruction), "{seen:?}");
    assert!(seen[1].starts_with("… Who was last?"), "{seen:?}");
}

#[test]
fn without_a_study_keys_say_what_is_missing() {
    let mut state = empty((80, 24));
    assert_eq!(keys(&mut state, "hlbofmwjk"), []);
    assert!(state.toast.as_ref().unwrap().text.contains("no study is open"));
}

#[test]
fn tokens_are_shaded_by_disagreement_and_told_apart_without_colours() {
    let mut state = inspecting((80, 24));
    let style_of = |state: &State, word: &str| {
        let buffer = drawn(state);
        let lines = lines(&buffer);
        let y = lines.iter().position(|line| line.contains(word)).unwrap();
        let x = text::width(lines[y].split(word).next().unwrap());
        buffer[(x as u16, y as u16)].style()
    };
    assert_ne!(style_of(&state, "Lyon").bg, style_of(&state, "capital is").bg);
    assert_eq!(style_of(&state, "Lyon").bg, state.theme.shade(f64::from(0.97_f32)).bg);
    state.theme = theme(ColorMode::None, false);
    assert!(style_of(&state, "Lyon").add_modifier.contains(Modifier::REVERSED));
    assert_eq!(style_of(&state, "capital is").add_modifier, Modifier::empty());
    let buffer = drawn(&state);
    let colours: Vec<_> = buffer.content.iter().filter(|c| c.style().fg != Some(Color::Reset)).collect();
    assert!(colours.is_empty(), "{colours:?}");
}

#[test]
fn ascii_draws_nothing_else() {
    let mut state = inspecting((160, 48));
    state.theme = theme(ColorMode::Ansi16, true);
    let mut study_view = study_view();
    for (cell, answers) in &state.study_view.as_ref().unwrap().answers {
        study_view.answers.insert(cell.clone(), answers[..3].to_vec());
    }
    state.study_view = Some(study_view);
    for keys_of in ["", "l", "lm", "llm", "o", "oo", "f", "ff"] {
        let mut state = state.clone();
        keys(&mut state, keys_of);
        let text = picture(&state);
        assert!(text.is_ascii(), "{text}");
    }
}

#[test]
fn a_cell_that_was_calibrated_on_what_is_measured_says_so() {
    let mut state = inspecting((160, 48));
    let study_view = state.study_view.as_mut().unwrap();
    let cell = study_view.cells[1].spec.clone();
    let found = Contamination {
        calibration: short_name(cell.calibration.as_deref().unwrap()),
        seed: cell.seed,
        data_set: "wikitext2".into(),
        measured_as: MeasuredAs::Corpus,
        contaminated: 3,
        n: 64,
    };
    study_view.contamination = vec![found];
    let warning = study_view.contamination_warning(&cell).unwrap();
    assert!(warning.starts_with("contaminated data: 3 of 64 windows of wikitext2 (4.7%) hold"), "{warning}");
    assert_eq!(study_view.contamination_warning(&CellSpec { calibration: None, ..cell }), None);
    assert_eq!(study_view.result().contamination, study_view.contamination);
}

#[test]
fn hostile_text_is_shown_escaped_and_breaks_no_frame() {
    for size in [(80, 24), (160, 48), (61, 20)] {
        let mut state = inspecting(size);
        let study_view = state.study_view.as_mut().unwrap();
        study_view.failures.insert(Some(FAILED.into()), NASTY.into());
        study_view.cells[2].warnings.push(NASTY.into());
        press(&mut state, KeyCode::End);
        for keys_of in ["", "l", "ll", "lm", "llm"] {
            let mut state = state.clone();
            keys(&mut state, keys_of);
            let buffer = drawn(&state);
            for cell in &buffer.content {
                let unsafe_character = |c: char| {
                    c.is_control()
                        || ('\u{202a}'..='\u{202e}').contains(&c)
                        || ('\u{2066}'..='\u{2069}').contains(&c)
                };
                assert!(!cell.symbol().contains(unsafe_character), "{:?}", cell.symbol());
            }
            let text = lines(&buffer);
            // Every line that a frame begins is ended by one, in the last column. The legend may stand beside the last
            // line of the list.
            let framed = |line: &&String| line.starts_with(['│', '╭']);
            for line in text.iter().filter(framed) {
                assert!(line.ends_with(['│', '╮', '╯']), "{line}");
                assert_eq!(text::width(line), usize::from(size.0), "{line}");
            }
        }
        let seen = picture(&state);
        assert!(seen.contains("\\x1b[2J") && seen.contains("漢字"), "{seen}");
    }
}

#[test]
fn it_says_what_is_missing_and_what_will_come() {
    let mut state = empty((80, 24));
    assert!(picture(&state).contains("No study is open"));
    state.study_view = Some(StudyView { cells: Vec::new(), ..study_view() });
    assert!(picture(&state).contains("no cells yet"));
    state.study_view = Some(study_view());
    assert!(picture(&state).contains("No answers of base are stored"));
    wanted(&mut state);
    assert!(picture(&state).contains("Reading the answers of base"));
    for (cell, words) in [
        (RUNNING, "sparsegpt 50% c4 is running"),
        (QUEUED, "wanda 70% c4 is queued"),
        (FAILED, "Hessian is not positive"),
    ] {
        state.inspect.choose(cell);
        assert!(picture(&state).contains(words), "{}", picture(&state));
    }
    state.study_view.as_mut().unwrap().cells[0].state = CellState::Cancelled;
    state.inspect.choose(MAGNITUDE);
    assert!(picture(&state).contains("was stopped before it answered"));
    state.study_view.as_mut().unwrap().failures.clear();
    state.inspect.choose(FAILED);
    assert!(picture(&state).contains("damping was raised to 1"));
    state.study_view.as_mut().unwrap().spec.as_mut().unwrap().evaluation.tasks.clear();
    assert!(picture(&state).contains("This study has no tasks"));
}

const SIZES: [(u16, u16); 4] = [(80, 24), (160, 48), (40, 12), (1, 1)];

#[test]
fn it_looks_as_it_did() {
    for size in SIZES {
        let name = |what: &str| format!("{what}-{}x{}", size.0, size.1);
        let snapshot = |what: &str, state: &State| insta::assert_snapshot!(name(what), picture(state));
        snapshot("empty", &empty(size));
        let mut state = inspecting(size);
        keys(&mut state, "j");
        snapshot("done", &state);
        let mut nasty = state.clone();
        press(&mut nasty, KeyCode::End);
        snapshot("hostile", &nasty);
        let mut two = state.clone();
        keys(&mut two, "gob");
        snapshot("two-cells", &two);
        let mut running = state.clone();
        keys(&mut running, "l");
        snapshot("mid-run", &running);
        keys(&mut running, "m");
        snapshot("mid-run-modules", &running);
        keys(&mut running, "l");
        snapshot("failed-modules", &running);
        let mut failed = empty(size);
        failed.study_view = Some(study_view());
        failed.inspect.choose(FAILED);
        snapshot("failed", &failed);
        let mut ascii = state.clone();
        ascii.theme = theme(ColorMode::None, true);
        snapshot("ascii", &ascii);
        keys(&mut state, "m");
        snapshot("warnings-modules", &state);
    }
}

const ACTIONS: [Action; 16] = [
    Action::Up,
    Action::Down,
    Action::PageUp,
    Action::PageDown,
    Action::First,
    Action::Last,
    Action::OtherCell,
    Action::Left,
    Action::Right,
    Action::OtherSide,
    Action::NextOrder,
    Action::NextFilter,
    Action::AllRecords,
    Action::ShowModules,
    Action::NextPane,
    Action::Pin,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_keys_leave_what_can_be_drawn_at_any_size_and_only_there(
        what in 0..4_usize,
        actions in proptest::collection::vec(0..ACTIONS.len(), 0..20),
        size in (1..200_u16, 1..60_u16),
        room in (0..180_u16, 0..50_u16),
        text in any::<String>(),
    ) {
        let mut state = match what {
            0 => empty(size),
            1 => inspecting(size),
            2 => choosing(size),
            _ => {
                let mut state = empty(size);
                state.study_view = Some(study_view());
                state
            }
        };
        if let Some(study_view) = &mut state.study_view {
            let own = answer(1, &text, &vec![0.3; text.split(' ').count()], scores(0.0, 0.0, 0.0));
            study_view.answers.insert(Some(QUEUED.into()), vec![Answer { prompt: text.clone(), ..own }]);
            study_view.cells[4].warnings.push(text.clone());
        }
        for at in actions {
            act(&mut state, ACTIONS[at]);
        }
        let whole = Rect::new(0, 0, 200, 60);
        let area = Rect::new(3, 2, room.0, room.1);
        let mut buffer = Buffer::empty(whole);
        draw(&state, area, &mut buffer);
        for y in 0..whole.height {
            for x in 0..whole.width {
                prop_assert!(area.contains((x, y).into()) || buffer[(x, y)].symbol() == " ", "{x} {y}");
            }
        }
        for (_, place) in panels(&state, area) {
            prop_assert_eq!(place.intersection(area), place);
        }
    }
}
