use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::style::Modifier;

use super::*;
use crate::engine::Event;
use crate::results::{
    Answer, BaseResult, CellResult, Divergence, Environment, ErrorBasis, Estimate, Insight, Metrics,
    ModelInfo, ModuleResult, Perplexity, Scores, Seconds, TaskScores,
};
use crate::study::{CellSpec, Method, Sparsity, StudySpec};
use crate::tui::keymap::Action;
use crate::tui::message::{Message, Outcome, Purpose};
use crate::tui::state::{Board, EngineState, Options, Screen};
use crate::tui::theme::{Background, ColorMode, Theme};
use crate::tui::update::update;
use crate::tui::widgets::text;

pub(in crate::tui) const MAGNITUDE: &str = "magnitude-0.5";
pub(in crate::tui) const WANDA: &str = "wanda-0.5-c4-s7";
pub(in crate::tui) const RUNNING: &str = "sparsegpt-0.5-c4-s7";
pub(in crate::tui) const FAILED: &str = "sparsegpt-2of4-c4-s7";
pub(in crate::tui) const QUEUED: &str = "wanda-0.7-c4-s7";

/// Text that tries to take the terminal over, and to be wider or narrower than it looks.
const NASTY: &str = "\u{1b}[2J\u{1b}]0;title\u{7}left \u{202e}thgir\u{202c} שלום עולם مرحبا 漢字漢字漢字 👩\u{200d}👩\u{200d}👧\u{200d}👦 \
                     🇩🇪 e\u{301}\u{301}\u{301} a\u{200b}b\u{feff} \u{9b}31m\ttab\r\nline";

pub(in crate::tui) fn theme(mode: ColorMode, ascii: bool) -> Theme {
    Theme::new(mode, Background::Dark, ascii)
}

pub(in crate::tui) fn spec() -> StudySpec {
    serde_json::from_str(include_str!("../../../store/test_spec.json")).unwrap()
}

/// A dashboard with nothing open.
pub(in crate::tui) fn empty(size: (u16, u16)) -> State {
    let options = Options { store: "studies.db".into(), ..Options::default() };
    let mut state = State::new(&spec(), options, theme(ColorMode::TrueColor, false), size);
    state.screen = Screen::Inspect;
    state
}

fn scores(exact_match: f64, f1: f64, rouge1: f64) -> Scores {
    Scores { exact_match, f1, rouge1 }
}

/// An answer whose tokens are its words, with their disagreements.
fn answer(record: usize, text: &str, bits: &[f32], scores: Scores) -> Answer {
    let prompts = [
        ("What is the capital of France?", &["Paris"][..]),
        (
            "Answer the question with words from the text.\n\nIn 1913 Niels Bohr proposed a model of the hydrogen \
             atom, in which the electron moves around the nucleus on fixed circular orbits and takes in or gives off \
             light only when it jumps from one of these to another.\n\nWhen does the electron give off light?",
            &["when it jumps from one orbit to another", "when it jumps"][..],
        ),
        ("Name three primary colours.", &["red, yellow, blue"][..]),
    ];
    let (prompt, references) = prompts.get(record).copied().unwrap_or((NASTY, &[NASTY][..]));
    let mut pieces: Vec<String> = Vec::new();
    for (i, word) in text.split(' ').enumerate() {
        pieces.push(if i == 0 { word.into() } else { format!(" {word}") });
    }
    Answer {
        task: "squad".into(),
        record,
        prompt: prompt.into(),
        references: references.iter().map(|reference| (*reference).into()).collect(),
        text: text.into(),
        tokens: (0..pieces.len() as u32).collect(),
        pieces,
        disagreement_bits: bits.to_vec(),
        scores,
    }
}

pub(in crate::tui) fn module(block: usize, name: &str, damping: Option<f64>) -> ModuleResult {
    ModuleResult {
        block,
        name: format!("model.layers.{block}.{name}"),
        sparsity: 0.5,
        zeros: 165_888,
        weights: 331_776,
        reconstruction_error: 0.0123 * (block + 1) as f64,
        error_basis: if damping.is_some() { ErrorBasis::Hessian } else { ErrorBasis::ColumnNorms },
        damping,
        dead_columns: block * 2,
        seconds: 0.25,
    }
}

fn metrics(perplexity: f64, js: Option<f64>, f1: f64) -> Metrics {
    let estimate = |value| Estimate { value, ci95: [value - 0.1, value + 0.1] };
    let bits =
        |bits: f64| Divergence { corpus: "wikitext2".into(), bits, nats: bits * 0.693, ci95: [bits; 2] };
    Metrics {
        perplexity: vec![Perplexity {
            corpus: "wikitext2".into(),
            value: perplexity,
            ci95: [perplexity - 1.0, perplexity + 1.0],
            standard_error_nats: 0.01,
            windows: 4,
        }],
        js_divergence: js.map(bits).into_iter().collect(),
        tasks: vec![TaskScores {
            name: "squad".into(),
            n: 4,
            exact_match: estimate(f1 / 2.0),
            f1: estimate(f1),
            rouge1: estimate(f1),
        }],
        ..Metrics::default()
    }
}

fn cell(method: Method, sparsity: &str, state: CellState) -> CellResult {
    let calibration = method.needs_calibration().then(|| "data/c4.txt".to_owned());
    let sparsity: Sparsity = sparsity.parse().unwrap();
    CellResult { state, ..CellResult::queued(&CellSpec { method, sparsity, calibration, seed: 7 }) }
}

/// A study in all states at once: two cells done, one at work, one failed, one waiting. Without answers.
pub(in crate::tui) fn board() -> Board {
    let done = |method, f1| CellResult {
        achieved_sparsity: Some(0.500_03),
        metrics: metrics(32.71, Some(0.053), f1),
        seconds: Seconds { load: 0.5, calibrate: 2.0, prune: 3.0, evaluate: 4.0, answer: 5.0 },
        ..cell(method, "0.5", CellState::Done)
    };
    let names = ["self_attn.q_proj", "mlp.down_proj"];
    let both = |block| names.map(|name| module(block, name, None));
    let mut wanda = done(Method::Wanda, 0.5);
    wanda.modules = (0..12).flat_map(both).collect();
    wanda.warnings = vec![
        "model.layers.3.mlp.down_proj: 6 input features were zero in every calibration token".into(),
        "only 8 of 128 calibration windows could be drawn".into(),
    ];
    let mut running = cell(Method::SparseGpt, "0.5", CellState::Running);
    running.modules = vec![module(0, names[0], Some(0.01)), module(0, names[1], Some(0.1))];
    let mut failed = cell(Method::SparseGpt, "2:4", CellState::Failed);
    failed.warnings = vec!["model.layers.0.self_attn.q_proj: damping was raised to 1".into()];
    let why = "model.layers.0.self_attn.q_proj: the Hessian is not positive definite even with damping 1; use more \
               calibration samples";
    Board {
        study: 3,
        spec: Some(spec()),
        model: ModelInfo {
            source: "HuggingFaceTB/SmolLM2-135M".into(),
            architecture: "LlamaForCausalLM".into(),
            parameters: 134_515_008,
            prunable_parameters: 106_168_320,
            blocks: 30,
            vocabulary: 49_152,
            dtype: "BF16".into(),
        },
        environment: Environment {
            version: "0.1.0".into(),
            device: "cpu".into(),
            compute_dtype: "f32".into(),
            threads: 2,
            platform: "linux x86_64".into(),
        },
        base: BaseResult { metrics: metrics(28.5, None, 0.8), seconds: Seconds::default() },
        base_state: CellState::Done,
        cells: vec![
            done(Method::Magnitude, 0.3),
            wanda,
            running,
            failed,
            cell(Method::Wanda, "0.7", CellState::Queued),
        ],
        insight: Insight::default(),
        failures: [(Some(FAILED.to_owned()), why.to_owned())].into(),
        answers: HashMap::new(),
        blocks_done: HashMap::new(),
    }
}

fn base_answers() -> Vec<Answer> {
    vec![
        answer(0, "Paris", &[], scores(1.0, 1.0, 1.0)),
        answer(1, "when it jumps from one orbit to another", &[], scores(1.0, 1.0, 1.0)),
        answer(2, "Red, yellow and blue are the three primary colours.", &[], scores(0.0, 0.5, 0.5)),
        answer(3, "plain", &[], scores(0.0, 0.25, 0.0)),
    ]
}

fn wanda_answers() -> Vec<Answer> {
    let jump = "only when it takes in light from the nucleus and then moves around on fixed circular orbits until it \
                jumps to another of these orbits and gives off what it took in before it had moved around often enough to \
                have been seen on all of the orbits that there are, nearly everywhere";
    let bits: Vec<f32> = (0..jump.split(' ').count()).map(|i| [0.02, 0.3, 0.08, 0.6][i % 4]).collect();
    vec![
        answer(0, "The capital is Lyon", &[0.62, 0.04, 0.001, 0.97], scores(0.0, 0.0, 0.0)),
        answer(1, jump, &bits, scores(0.0, 0.55, 0.48)),
        answer(2, "Red, yellow and blue are the three primary colours.", &[0.01; 9], scores(0.0, 0.5, 0.5)),
        answer(3, NASTY, &vec![0.4; NASTY.split(' ').count()], scores(0.0, 0.5, 0.0)),
    ]
}

/// The study with the answers of the base and of both cells that are done; no disagreement was measured for the first.
pub(in crate::tui) fn inspecting(size: (u16, u16)) -> State {
    let mut state = empty(size);
    let mut board = board();
    let mut unmeasured = wanda_answers();
    for answer in &mut unmeasured {
        answer.disagreement_bits.clear();
        answer.pieces.clear();
    }
    board.answers.insert(None, base_answers());
    board.answers.insert(Some(MAGNITUDE.into()), unmeasured);
    board.answers.insert(Some(WANDA.into()), wanda_answers());
    state.board = Some(board);
    choose(&mut state, WANDA);
    state
}

pub(in crate::tui) fn press(state: &mut State, code: KeyCode) -> Vec<Effect> {
    update(state, Message::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn keys(state: &mut State, keys: &str) -> Vec<Effect> {
    keys.chars().flat_map(|c| press(state, KeyCode::Char(c))).collect()
}

/// The lines of a buffer; a wide character is followed by no blank.
pub(in crate::tui) fn lines(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    let line = |y| {
        let mut line = String::new();
        let mut x = area.left();
        while x < area.right() {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += text::width(symbol).max(1) as u16;
        }
        line.trim_end().to_owned()
    };
    (area.top()..area.bottom()).map(line).collect()
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

fn shown(state: &State) -> (String, String) {
    let board = state.board.as_ref().unwrap();
    let right = rows::right(state).map(|cell| cell.id.clone());
    (board.label(rows::left(state)), board.label(right.as_deref()))
}

fn prompts(state: &State) -> Vec<usize> {
    rows::rows(state).iter().map(|row| row.asked.record).collect()
}

fn chosen(state: &State) -> usize {
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
    state.board = Some(board());
    assert_eq!(shown(&state), ("base".into(), "magnitude 50%".into()));
    choose(&mut state, QUEUED);
    assert_eq!(shown(&state), ("base".into(), "wanda 70% c4".into()));
    reset(&mut state);
    assert_eq!(shown(&state), ("base".into(), "magnitude 50%".into()));
    for cell in &mut state.board.as_mut().unwrap().cells {
        cell.state = if cell.id == RUNNING { CellState::Running } else { CellState::Queued };
    }
    assert_eq!(shown(&state).1, "sparsegpt 50% c4");
}

#[test]
fn o_puts_the_largest_disagreement_first_and_selects_it() {
    let mut state = inspecting((80, 24));
    keys(&mut state, "jj");
    assert_eq!((prompts(&state), chosen(&state)), (vec![0, 1, 2, 3], 2));
    keys(&mut state, "o");
    assert_eq!((prompts(&state), chosen(&state)), (vec![0, 3, 1, 2], 0));
    // Where it was not measured, the loss of F1 counts.
    keys(&mut state, "h");
    assert_eq!(shown(&state).1, "magnitude 50%");
    assert_eq!(prompts(&state), [0, 1, 2, 3]);
    state.board.as_mut().unwrap().answers.get_mut(&Some(MAGNITUDE.into())).unwrap()[0].scores.f1 = 0.9;
    assert_eq!(prompts(&state), [1, 0, 2, 3]);
    keys(&mut state, "o");
    assert_eq!(prompts(&state), [0, 1, 2, 3]);
}

#[test]
fn the_selected_prompt_stays_selected_when_the_cell_changes_and_answers_come_in() {
    let mut state = inspecting((80, 24));
    keys(&mut state, "jl");
    assert_eq!(chosen(&state), 1);
    state.live.study = Some(3);
    let early = Answer { record: 0, ..answer(0, "x", &[], Scores::default()) };
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
    state.board = Some(board());
    assert_eq!(wanted(&mut state), [load(None), load(Some(MAGNITUDE))]);
    assert_eq!(wanted(&mut state), []);
    // The cell that is at work may have answers of an earlier run; the waiting one has none.
    assert_eq!(keys(&mut state, "l"), [load(Some(WANDA))]);
    assert_eq!(keys(&mut state, "l"), [load(Some(RUNNING))]);
    assert_eq!(keys(&mut state, "l"), [load(Some(FAILED))]);
    assert_eq!(keys(&mut state, "l"), []);
    assert_eq!(keys(&mut state, "hhhhllll"), []);
    // Another study is another matter.
    reset(&mut state);
    state.board.as_mut().unwrap().study = 4;
    assert_eq!(wanted(&mut state).len(), 2);
}

#[test]
fn modules_need_no_answers() {
    let mut state = empty((80, 24));
    state.board = Some(board());
    state.inspect.modules = true;
    assert_eq!(wanted(&mut state), []);
    assert_eq!(keys(&mut state, "m"), [load(None), load(Some(MAGNITUDE))]);
}

#[test]
fn a_cell_that_becomes_done_is_read_again_unless_all_its_answers_were_heard() {
    let mut state = inspecting((80, 24));
    state.live.study = Some(3);
    state.live.engine = EngineState::Running;
    assert_eq!(keys(&mut state, "l"), [load(Some(RUNNING))]);
    let cell = || Some(RUNNING.to_owned());
    let say = |state: &mut State, event| update(state, Message::Engine(event));
    let done = || Event::Cell { cell: cell(), state: CellState::Done };
    let all = wanda_answers();
    // An answer that is given while the earlier ones are read is not lost.
    say(&mut state, Event::Answer { cell: cell(), answer: all[1].clone() });
    let read = Outcome::Answers { study: 3, cell: cell(), answers: vec![all[0].clone()] };
    update(&mut state, Message::Done(read));
    assert_eq!(state.board.as_ref().unwrap().answers[&cell()].len(), 2);
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
    let look =
        |state: &mut State| update(state, Message::Done(Outcome::Study(Box::new(board()), Purpose::Refresh)));
    assert_eq!(look(&mut state), [load(Some(RUNNING))]);
    state.screen = Screen::Compare;
    assert_eq!(look(&mut state), []);
}

#[test]
fn the_list_names_the_task_where_there_are_several() {
    let mut state = inspecting((80, 24));
    assert!(!picture(&state).lines().nth(2).unwrap().contains("squad"));
    let board = state.board.as_mut().unwrap();
    let other = Answer { task: "alpaca".into(), ..answer(0, "Paris", &[], Scores::default()) };
    board.answers.get_mut(&None).unwrap().push(other);
    let text = picture(&state);
    let tasks: Vec<&str> =
        text.lines().skip(2).take(4).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(tasks, ["alpaca", "squad", "squad", "squad"], "{text}");
}

#[test]
fn without_a_study_keys_say_what_is_missing() {
    let mut state = empty((80, 24));
    assert_eq!(keys(&mut state, "hlbomwjk"), []);
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
    let colours: Vec<_> =
        buffer.content.iter().filter(|c| c.style().fg != Some(ratatui::style::Color::Reset)).collect();
    assert!(colours.is_empty(), "{colours:?}");
}

#[test]
fn ascii_draws_nothing_else() {
    let mut state = inspecting((160, 48));
    state.theme = theme(ColorMode::Ansi16, true);
    let mut board = board();
    for (cell, answers) in &state.board.as_ref().unwrap().answers {
        board.answers.insert(cell.clone(), answers[..3].to_vec());
    }
    state.board = Some(board);
    for keys_of in ["", "l", "lm", "llm", "o"] {
        let mut state = state.clone();
        keys(&mut state, keys_of);
        let text = picture(&state);
        assert!(text.is_ascii(), "{text}");
    }
}

#[test]
fn hostile_text_is_shown_escaped_and_breaks_no_frame() {
    for size in [(80, 24), (160, 48), (61, 20)] {
        let mut state = inspecting(size);
        let board = state.board.as_mut().unwrap();
        board.failures.insert(Some(FAILED.into()), NASTY.into());
        board.cells[2].warnings.push(NASTY.into());
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
    state.board = Some(Board { cells: Vec::new(), ..board() });
    assert!(picture(&state).contains("no cells yet"));
    state.board = Some(board());
    assert!(picture(&state).contains("No answers of base are stored"));
    wanted(&mut state);
    assert!(picture(&state).contains("Reading the answers of base"));
    for (cell, words) in [
        (RUNNING, "sparsegpt 50% c4 is being worked on"),
        (QUEUED, "wanda 70% c4 waits for its turn"),
        (FAILED, "Hessian is not positive"),
    ] {
        choose(&mut state, cell);
        assert!(picture(&state).contains(words), "{}", picture(&state));
    }
    state.board.as_mut().unwrap().cells[0].state = CellState::Cancelled;
    choose(&mut state, MAGNITUDE);
    assert!(picture(&state).contains("was stopped before it answered"));
    state.board.as_mut().unwrap().failures.clear();
    choose(&mut state, FAILED);
    assert!(picture(&state).contains("damping was raised to 1"));
    state.board.as_mut().unwrap().spec.as_mut().unwrap().evaluation.tasks.clear();
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
        failed.board = Some(board());
        choose(&mut failed, FAILED);
        snapshot("failed", &failed);
        let mut ascii = state.clone();
        ascii.theme = theme(ColorMode::None, true);
        snapshot("ascii", &ascii);
        keys(&mut state, "m");
        snapshot("warnings-modules", &state);
    }
}

const ACTIONS: [Action; 14] = [
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
    Action::ByDisagreement,
    Action::ShowModules,
    Action::NextPane,
    Action::Pin,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_keys_leave_what_can_be_drawn_at_any_size_and_only_there(
        what in 0..3_usize,
        actions in proptest::collection::vec(0..ACTIONS.len(), 0..20),
        size in (1..200_u16, 1..60_u16),
        room in (0..180_u16, 0..50_u16),
        text in any::<String>(),
    ) {
        let mut state = match what {
            0 => empty(size),
            1 => inspecting(size),
            _ => {
                let mut state = empty(size);
                state.board = Some(board());
                state
            }
        };
        if let Some(board) = &mut state.board {
            let own = answer(1, &text, &vec![0.3; text.split(' ').count()], Scores::default());
            board.answers.insert(Some(QUEUED.into()), vec![Answer { prompt: text.clone(), ..own }]);
            board.cells[4].warnings.push(text.clone());
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
