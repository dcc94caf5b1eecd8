use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::*;
use crate::engine::{Event, PlannedCell, ResourceEstimate};
use crate::results::{self, CellState, Environment, Metrics, ModelInfo, SourceBits, StudyResult};
use crate::scores::{PERPLEXITY, Summary};
use crate::store::StudySummary;
use crate::study::{CellSpec, Level, Sparsity, Step};
use crate::tui::message::{EffectOutcome, OpenReason};
use crate::tui::palette::{commands, matching};
use crate::tui::state::{Checked, Dialog, Field, StudyView};
use crate::tui::testing::{press, state, text, typed};

fn spec(method: &str, sparsity: f64) -> CellSpec {
    let calibration = (method != "magnitude").then(|| "c4".to_owned());
    CellSpec { recipe: Step::new(method, Sparsity::Fraction(sparsity)).into(), calibration, seed: 0 }
}

fn model() -> ModelInfo {
    ModelInfo {
        source: "models/tiny".into(),
        architecture: "LlamaForCausalLM".into(),
        parameters: 1_200_000,
        prunable_parameters: 1_000_000,
        modules: ModelInfo::llama_modules(),
        blocks: 4,
        vocabulary: 512,
        dtype: "BF16".into(),
        source_bits: Some(SourceBits { all: 16 * 1_200_000, untouched: 16 * 200_000 }),
    }
}

fn plan(cells: &[CellSpec]) -> Event {
    let planned = |spec: &CellSpec| PlannedCell {
        id: spec.id(),
        spec: spec.clone(),
        state: CellState::Queued,
        blocks_done: 0,
    };
    Event::Plan {
        study: 7,
        model: Box::new(model()),
        environment: Environment::default(),
        cells: cells.iter().map(planned).collect(),
        estimate: ResourceEstimate::default(),
    }
}

/// A state with two cells on their way.
fn running() -> State {
    let mut state = state();
    let cells = [spec("magnitude", 0.5), spec("wanda", 0.5)];
    state.engine.state = EngineState::Starting;
    update(&mut state, Message::Engine(plan(&cells)));
    let begins = Event::Cell { cell: Some(cells[0].id()), state: CellState::Running };
    update(&mut state, Message::Engine(begins));
    state
}

#[test]
fn numbers_and_tab_go_from_screen_to_screen() {
    let mut state = state();
    press(&mut state, KeyCode::Char('3'));
    assert_eq!(state.screen, Screen::Compare);
    press(&mut state, KeyCode::Tab);
    assert_eq!(state.screen, Screen::Inspect);
    press(&mut state, KeyCode::BackTab);
    press(&mut state, KeyCode::BackTab);
    assert_eq!(state.screen, Screen::Run);
}

#[test]
fn a_study_that_cannot_work_does_not_start_and_says_why_beside_the_field() {
    let mut state = state();
    state.form.set(Field::SeqLen, "many");
    let effects = press(&mut state, KeyCode::Char('r'));
    assert!(effects.is_empty(), "{effects:?}");
    assert_eq!(state.form.current(), Field::SeqLen);
    let drawn = text(&state, 100, 30);
    assert!(drawn.contains("--seq-len: found `many`; accepted"), "{drawn}");

    state.form.set(Field::SeqLen, "64");
    state.form.focus = crate::tui::state::Focus::Grid;
    // Once takes in the methods that are left out, once more leaves out all.
    press(&mut state, KeyCode::Char('A'));
    press(&mut state, KeyCode::Char('A'));
    press(&mut state, KeyCode::Char('r'));
    assert!(text(&state, 100, 30).contains("no cells selected"));
}

#[test]
fn what_the_engine_refuses_stands_beside_its_field() {
    let mut state = state();
    state.form.set(Field::Corpora, "missing.txt");
    let number = state.form.version;
    let (field, message) = (Field::of_flag("corpus"), "missing.txt: no such file".to_owned());
    update(&mut state, Message::Done(EffectOutcome::Refused { number, field, message }));
    let Check::Refused { field, .. } = &state.form.check else { panic!("{:?}", state.form.check) };
    assert_eq!(*field, Some(Field::Corpora));
    // An answer to an older version says nothing about this one.
    state.form.set(Field::Corpora, "there.txt");
    update(&mut state, Message::Done(EffectOutcome::Refused { number, field: None, message: "old".into() }));
    assert_eq!(state.form.check, Check::Pending);
}

#[test]
fn a_change_is_checked_once_and_the_need_is_shown() {
    let mut state = state();
    let tick = |state: &mut State| update(state, Message::Tick(Duration::from_secs(1)));
    state.form.set(Field::SeqLen, "96");
    let effects = tick(&mut state);
    let [Effect::Check { number, values }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(values.get(Field::SeqLen), "96");
    assert!(tick(&mut state).is_empty());
    let estimate = ResourceEstimate {
        host_bytes: 2_000_000_000,
        host_available: 8_000_000_000,
        seconds: 90.0,
        ..ResourceEstimate::default()
    };
    let plan = Checked { model: model(), device: "cpu in f32".into(), estimate };
    update(&mut state, Message::Done(EffectOutcome::Checked { number: *number, plan: Box::new(plan) }));
    let drawn = text(&state, 120, 40);
    assert!(drawn.contains("about 1 min 30 s") && drawn.contains("2.0 GB of 8.0 GB free"), "{drawn}");
}

#[test]
fn the_grid_is_steered_by_cells_rows_and_columns() {
    let mut state = state();
    let all = state.form.cells().len();
    press(&mut state, KeyCode::Char(' '));
    assert_eq!(state.form.cells().len(), all - 1);
    press(&mut state, KeyCode::Char('x'));
    press(&mut state, KeyCode::Char('x'));
    let columns = state.form.columns().len();
    assert_eq!(state.form.cells().len(), all - columns);
    press(&mut state, KeyCode::Char('x'));
    assert_eq!(state.form.cells().len(), all);
    press(&mut state, KeyCode::Char('+'));
    typed(&mut state, "2:4");
    press(&mut state, KeyCode::Enter);
    let groups = Level::Sparsity(Sparsity::SemiStructured { zeros: 2, group: 4 });
    assert_eq!(state.form.columns().last(), Some(&Some(groups)));
    assert_eq!(state.form.grid.cursor.1, columns);
    press(&mut state, KeyCode::Char('-'));
    assert_eq!(state.form.columns().len(), columns);
}

#[test]
fn a_typed_percentage_may_be_bare_and_nonsense_stays_open() {
    let mut state = state();
    press(&mut state, KeyCode::Char('+'));
    typed(&mut state, "4:2");
    press(&mut state, KeyCode::Enter);
    assert!(text(&state, 100, 30).contains("4:2"), "the dialog stays");
    state.dialogs.clear();
    press(&mut state, KeyCode::Char('+'));
    typed(&mut state, "37.5");
    press(&mut state, KeyCode::Enter);
    assert!(state.form.columns().contains(&Some(Sparsity::Fraction(0.375).into())));
}

#[test]
fn a_recipe_is_typed_with_a_few_letters_and_tab() {
    let mut state = state();
    let cells = state.form.cells().len();
    press(&mut state, KeyCode::Char('+'));
    for (typing, key, comes_to) in [
        ("sp", KeyCode::Tab, "sparsegpt"),
        ("@", KeyCode::Right, "sparsegpt@50%"),
        (",", KeyCode::Tab, "sparsegpt@50%,damping="),
        ("0.02+g", KeyCode::Tab, "sparsegpt@50%,damping=0.02+gptq"),
        ("@4", KeyCode::Tab, "sparsegpt@50%,damping=0.02+gptq@4bit"),
        (",s", KeyCode::Right, "sparsegpt@50%,damping=0.02+gptq@4bit,sym"),
        // Nothing more is proposed.
        ("", KeyCode::Tab, "sparsegpt@50%,damping=0.02+gptq@4bit,sym"),
    ] {
        typed(&mut state, typing);
        press(&mut state, key);
        let Some(Dialog::Level(chooser)) = state.dialogs.last() else { panic!("the dialog stays") };
        assert_eq!(chooser.line.text(), comes_to);
    }
    assert!(text(&state, 80, 24).contains("complete; may go on with ,group= ,act_order ,block_size="));
    press(&mut state, KeyCode::Enter);
    assert!(state.dialogs.is_empty());
    assert_eq!(state.form.cells().len(), cells + 1);
}

#[test]
fn a_recipe_that_is_wrong_says_what_is_accepted_there_and_can_be_put_right() {
    let mut state = state();
    press(&mut state, KeyCode::Char('+'));
    typed(&mut state, "gptq@5bit");
    assert!(text(&state, 80, 24).contains("a level of gptq: 8bit, 4bit, 3bit, 2bit"));
    press(&mut state, KeyCode::Enter);
    assert!(text(&state, 80, 24).contains("accepted after `gptq@` is 8bit, 4bit, 3bit, 2bit"));
    // The arrows go through what was typed, and do not throw it away.
    for key in [KeyCode::Left, KeyCode::Left, KeyCode::Left, KeyCode::Backspace, KeyCode::Char('4')] {
        press(&mut state, key);
    }
    press(&mut state, KeyCode::Enter);
    assert!(state.dialogs.is_empty());
    assert!(state.form.columns().contains(&Some(Level::Bits(4))));

    press(&mut state, KeyCode::Char('+'));
    typed(&mut state, "wan");
    press(&mut state, KeyCode::Enter);
    assert!(text(&state, 80, 24).contains("unknown method `wan`: accepted are magnitude, wanda"));
}

#[test]
fn a_cell_is_added_with_three_keys_while_another_runs() {
    let mut state = running();
    press(&mut state, KeyCode::Char('a'));
    press(&mut state, KeyCode::Right);
    let effects = press(&mut state, KeyCode::Enter);
    let [Effect::Engine(EngineOrder::AddCell(cell))] = effects.as_slice() else { panic!("{effects:?}") };
    let study_view = state.study_view.as_ref().unwrap();
    assert_eq!(study_view.cell(&cell.id()).unwrap().state, CellState::Queued);
    assert_eq!(state.engine.queue.last(), Some(&cell.id()));
}

#[test]
fn metrics_of_a_running_cell_are_on_the_board_as_soon_as_they_exist() {
    let mut state = running();
    let id = spec("magnitude", 0.5).id();
    let perplexity =
        Summary { estimate: results::Estimate { value: 12.5, ci95: [12.0, 13.0] }, details: vec![0.01] };
    let metrics = Metrics { values: vec![PERPLEXITY.measurement("text", 8, perplexity)] };
    update(&mut state, Message::Engine(Event::Metrics { cell: Some(id.clone()), metrics }));
    let cell = state.study_view.as_ref().unwrap().cell(&id).unwrap();
    assert!((cell.metrics.values[0].value - 12.5).abs() < 1e-9);
}

#[test]
fn cells_are_cancelled_and_reordered_where_that_can_be() {
    let mut state = running();
    state.screen = Screen::Run;
    press(&mut state, KeyCode::Char('g'));
    assert!(press(&mut state, KeyCode::Char('x')).is_empty(), "the base stays");
    press(&mut state, KeyCode::Down);
    let effects = press(&mut state, KeyCode::Char('x'));
    assert_eq!(effects, [Effect::Engine(EngineOrder::CancelCell(spec("magnitude", 0.5).id()))]);
    let third = spec("wanda", 0.7);
    state.study_view.as_mut().unwrap().add(&third);
    state.engine.queue.push(third.id());
    press(&mut state, KeyCode::Char('G'));
    let effects = press(&mut state, KeyCode::Char('K'));
    let expected = vec![third.id(), spec("wanda", 0.5).id()];
    assert_eq!(effects, [Effect::Engine(EngineOrder::Reorder(expected))]);
}

#[test]
fn leaving_while_work_runs_asks_and_idle_leaves() {
    let mut idle = state();
    assert_eq!(press(&mut idle, KeyCode::Char('q')), [Effect::Leave(Leave::Now)]);

    let mut state = running();
    assert!(press(&mut state, KeyCode::Char('q')).is_empty());
    assert!(text(&state, 80, 24).contains("stop after this block"));
    let effects = press(&mut state, KeyCode::Char('s'));
    assert_eq!(effects, [Effect::Engine(EngineOrder::Shutdown { after_block: true })]);
    let effects = update(&mut state, Message::Engine(Event::Stopped { resumable: Some(7) }));
    assert_eq!(effects, [Effect::Leave(Leave::Now)]);
}

#[test]
fn control_c_twice_always_leaves() {
    let mut state = running();
    press(&mut state, KeyCode::Char('+'));
    let interrupt = || Message::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(update(&mut state, interrupt()).is_empty());
    assert_eq!(update(&mut state, interrupt()), [Effect::Leave(Leave::Abandon)]);
}

#[test]
fn a_lost_terminal_stops_after_the_block_or_goes_on_where_that_was_asked_for() {
    let mut state = running();
    let effects = update(&mut state, Message::Terminate { hangup: true });
    assert_eq!(effects, [Effect::Engine(EngineOrder::Shutdown { after_block: true })]);
    let mut state = running();
    state.options.keep_running = true;
    let effects = update(&mut state, Message::Terminate { hangup: true });
    assert_eq!(effects, [Effect::Leave(Leave::Headless)]);
}

#[test]
fn a_failure_is_told_with_what_to_do() {
    let mut state = running();
    let failed = Event::Failed { message: "no space left on device".into(), exit_code: 1, setting: None };
    update(&mut state, Message::Engine(failed));
    let drawn = text(&state, 80, 24);
    assert!(drawn.contains("no space left on device") && drawn.contains("resume the study"), "{drawn}");
    assert!(!state.engine.busy());
    let study_view = state.study_view.as_ref().unwrap();
    assert!(study_view.cells.iter().all(|cell| cell.state != CellState::Running), "nothing seems to run");
}

#[test]
fn an_engine_that_is_gone_without_a_word_is_told() {
    let mut state = running();
    update(&mut state, Message::EngineGone);
    assert!(text(&state, 80, 24).contains("The engine has ended"));
}

#[test]
fn a_finished_study_takes_over_the_engines_result() {
    let mut state = running();
    let mut result: StudyResult = state.study_view.as_ref().unwrap().result();
    result.cells[0].state = CellState::Done;
    update(&mut state, Message::Engine(Event::Finished { result: Box::new(result) }));
    assert_eq!(state.study_view.as_ref().unwrap().progress(), (1, 2));
    assert!(!state.engine.busy());
}

#[test]
fn every_command_of_the_palette_can_be_found_by_its_words() {
    for command in commands() {
        assert!(matching(command.name).contains(&command), "{command:?}");
    }
    assert!(matching("no such thing at all").is_empty());
    let mut state = state();
    press(&mut state, KeyCode::Char(':'));
    typed(&mut state, "history");
    press(&mut state, KeyCode::Enter);
    assert_eq!(state.screen, Screen::History);
}

#[test]
fn a_store_that_was_named_opens_its_newest_study_on_compare() {
    let listed = || {
        let summary = |id| StudySummary {
            id,
            created_at: 0,
            model: "models/tiny".into(),
            cells: 2,
            cells_done: 2,
            state: CellState::Done,
        };
        Message::Done(EffectOutcome::Studies(vec![summary(1), summary(2)]))
    };
    let study = || {
        let study_view = StudyView::planned(2, model(), Environment::default(), &[]);
        Message::Done(EffectOutcome::Study(Box::new(study_view), OpenReason::Start))
    };
    let mut named = state();
    named.options.open_newest = true;
    let mut elsewhere = named.clone();
    assert_eq!(update(&mut named, listed()), [Effect::OpenStudy(2, OpenReason::Start)]);
    update(&mut named, study());
    assert_eq!(named.screen, Screen::Compare);
    // Later looks at the store open nothing by themselves.
    named.study_view = None;
    assert_eq!(update(&mut named, listed()), []);
    // Whoever has gone to another screen in the meantime stays there.
    press(&mut elsewhere, KeyCode::Char('5'));
    update(&mut elsewhere, listed());
    update(&mut elsewhere, study());
    assert_eq!((elsewhere.screen, elsewhere.study_view.is_some()), (Screen::History, true));
    // Nobody asked for it.
    assert_eq!(update(&mut state(), listed()), []);
}

#[test]
fn readonly_starts_nothing() {
    let mut state = state();
    state.options.readonly = true;
    assert!(press(&mut state, KeyCode::Char('r')).is_empty());
    assert!(press(&mut state, KeyCode::Char('a')).is_empty());
    assert!(text(&state, 80, 24).contains("read-only"));
}

/// Keys that people press, and some that they press by mistake.
fn any_key() -> impl Strategy<Value = KeyEvent> {
    let code = prop_oneof![
        6 => proptest::sample::select("12345 hjklgGqraApsSexcwWtbvzZ0oO/mKJRd+-?:.50o%é日".chars().collect::<Vec<_>>())
            .prop_map(KeyCode::Char),
        4 => proptest::sample::select(vec![
            KeyCode::Up, KeyCode::Down, KeyCode::Left, KeyCode::Right, KeyCode::Enter, KeyCode::Esc, KeyCode::Tab,
            KeyCode::BackTab, KeyCode::Home, KeyCode::End, KeyCode::PageUp, KeyCode::PageDown, KeyCode::Backspace,
            KeyCode::Delete, KeyCode::F(5),
        ]),
    ];
    (code, any::<bool>()).prop_map(|(code, ctrl)| {
        // Ctrl-C twice leaves, which is tested above.
        let ctrl = ctrl && !matches!(code, KeyCode::Char('c'));
        KeyEvent::new(code, if ctrl { KeyModifiers::CONTROL } else { KeyModifiers::NONE })
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let cells = [spec("magnitude", 0.5), spec("wanda", 0.5), spec("sparsegpt", 0.7)];
    let ids: Vec<Option<String>> = cells.iter().map(|c| Some(c.id())).chain([None]).collect();
    let states =
        [CellState::Queued, CellState::Running, CellState::Done, CellState::Failed, CellState::Cancelled];
    prop_oneof![
        8 => any_key().prop_map(Message::Key),
        1 => Just(Message::Engine(plan(&cells))),
        2 => (proptest::sample::select(ids.clone()), proptest::sample::select(states.to_vec()))
            .prop_map(|(cell, state)| Message::Engine(Event::Cell { cell, state })),
        1 => proptest::sample::select(ids)
            .prop_map(|cell| Message::Engine(Event::CellFailed { cell, message: "\u{1b}[2J no".into() })),
        1 => Just(Message::Engine(Event::Failed { message: "the disk is full".into(), exit_code: 1, setting: None })),
        1 => (0u64..9).prop_map(|s| Message::Tick(Duration::from_secs(s))),
        1 => "\\PC{0,9}".prop_map(Message::Paste),
        1 => (0u16..200, 0u16..60).prop_map(|(c, r)| Message::Resize(c, r)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_keys_and_events_leaves_a_state_that_draws(
        messages in proptest::collection::vec(any_message(), 0..60),
        (columns, rows) in prop_oneof![Just((80u16, 24u16)), (1u16..200, 1u16..60)],
    ) {
        let mut state = state();
        for message in messages {
            update(&mut state, message);
            let area = Rect::new(0, 0, columns, rows);
            let mut buffer = Buffer::empty(area);
            crate::tui::view::view(&state, area, &mut buffer);
            for cell in buffer.content() {
                prop_assert!(!cell.symbol().chars().any(char::is_control));
            }
        }
    }
}
