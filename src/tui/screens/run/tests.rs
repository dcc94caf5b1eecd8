use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

use crate::engine::{Event, Phase, PlaceActivity, Progress, ResourceSample};
use crate::results::{CellState, Footprint};
use crate::study::StudyContent;
use crate::tui::message::Message;
use crate::tui::screens::inspect::sample::{self, FAILED, QUEUED, RUNNING, WANDA, theme};
use crate::tui::state::{EngineState, Screen, State};
use crate::tui::testing::{text, typed};
use crate::tui::theme::ColorMode;
use crate::tui::update::update;
use crate::tui::view::view;

const SIZES: [(u16, u16); 4] = [(80, 24), (160, 48), (40, 12), (1, 1)];

fn resources(gpu: bool, step: u16) -> ResourceSample {
    ResourceSample {
        cpu_cores: 1.0 + f32::from(step % 4) / 4.0,
        host_cores: 2,
        rss_bytes: 400_000_000 + u64::from(step) * 5_000_000,
        host_used_bytes: 6_000_000_000,
        host_total_bytes: 24_000_000_000,
        gpu: gpu.then(|| f32::from(step % 10) / 10.0),
        gpu_used_bytes: gpu.then(|| 10_000_000_000 + u64::from(step) * 1_000_000_000),
        gpu_total_bytes: gpu.then_some(80_000_000_000),
    }
}

fn empty(size: (u16, u16)) -> State {
    let mut state = sample::empty(size);
    state.screen = Screen::Run;
    state
}

/// A study at work for half a minute: a cell is being pruned, one has failed, one waits.
fn mid_run(size: (u16, u16), gpu: bool) -> State {
    let mut state = empty(size);
    state.study_view = Some(sample::study_view());
    state.engine.study = Some(3);
    state.engine.starting(Duration::ZERO);
    state.engine.state = EngineState::Running;
    state.engine.queue = vec![QUEUED.into()];
    let mut at = |seconds: u64, event: Event| {
        update(&mut state, Message::Tick(Duration::from_secs(seconds)));
        update(&mut state, Message::Engine(event));
    };
    for step in 0..30 {
        at(u64::from(step), Event::Resources { sample: resources(gpu, step) });
    }
    at(31, Event::Cell { cell: Some(FAILED.into()), state: CellState::Running });
    at(32, Event::CellFailed { cell: Some(FAILED.into()), message: "not positive definite".into() });
    at(32, Event::Cell { cell: Some(FAILED.into()), state: CellState::Failed });
    at(33, Event::Cell { cell: Some(RUNNING.into()), state: CellState::Running });
    at(33, Event::Phase { cell: Some(RUNNING.into()), phase: Phase::Prune });
    at(
        34,
        Event::Warning { cell: Some(RUNNING.into()), message: "block 0: damping was raised to 0.1".into() },
    );
    at(35, Event::Checkpoint { cell: RUNNING.into(), block: 0 });
    let progress = Progress {
        cell: Some(RUNNING.into()),
        phase: Some(Phase::Prune),
        done: 1,
        total: 30,
        unit: "blocks",
        study: 0.42,
        tokens_per_second: 5_432.1,
        blocks_per_second: 0.33,
        eta_seconds: Some(95.0),
        paused: false,
    };
    update(&mut state, Message::Progress(progress));
    state
}

#[test]
fn it_looks_as_it_did() {
    for size in SIZES {
        let snapshot = |what: &str, state: &State| {
            insta::assert_snapshot!(format!("{what}-{}x{}", size.0, size.1), text(state, size.0, size.1));
        };
        snapshot("empty", &empty(size));
        let mut state = mid_run(size, false);
        snapshot("mid-run", &state);
        typed(&mut state, "m");
        state.theme = theme(ColorMode::None, true);
        snapshot("ascii", &state);
        snapshot("gpu", &mid_run(size, true));

        let mut surveyed = mid_run(size, false);
        survey(&mut surveyed);
        snapshot("surveyed", &surveyed);
        surveyed.theme = theme(ColorMode::None, true);
        snapshot("surveyed-ascii", &surveyed);

        let mut warned = mid_run(size, false);
        let wanda = warned.study_view.as_ref().and_then(|b| b.cells.iter().position(|c| c.id == WANDA));
        warned.run.chosen = wanda.map(|at| at + 1);
        snapshot("warnings", &warned);

        let mut failed = mid_run(size, false);
        let message = "/data/studies.db: no space left on device".into();
        update(&mut failed, Message::Engine(Event::Failed { message, exit_code: 1, setting: None }));
        snapshot("failed-told", &failed);
        failed.dialogs.clear();
        snapshot("failed", &failed);

        let mut done = mid_run(size, false);
        let study_view = done.study_view.as_mut().unwrap();
        for cell in &mut study_view.cells {
            cell.state = CellState::Done;
        }
        let result = study_view.result();
        update(&mut done, Message::Engine(Event::Finished { result: Box::new(result) }));
        (done.dialogs, done.toast) = (Vec::new(), None);
        snapshot("done", &done);
    }
}

/// The running cell's calibration set is read: the blocks in the middle change least. Two blocks of the cell are gone.
fn survey(state: &mut State) {
    let cell = state.study_view.as_ref().and_then(|found| found.cell(RUNNING)).unwrap();
    let (set, seed) = (cell.spec.calibration.clone().unwrap(), cell.spec.seed);
    let influence = (0..30).map(|block| 0.02 + f64::from(block - 15_i32).abs() / 60.0).collect();
    let calibration = StudyContent::calibration_key(&set, seed);
    update(state, Message::Engine(Event::Surveyed { calibration, influence }));
    for block in [14, 15] {
        let of_block = state.study_view.as_ref().unwrap().model.modules.clone();
        for path in of_block {
            let mut module = sample::module(block, &path, None);
            module.footprint = Footprint::default();
            update(state, Message::Engine(Event::Module { cell: RUNNING.into(), module }));
        }
    }
}

#[test]
fn without_colours_none_is_used() {
    for (columns, rows) in SIZES {
        let mut state = mid_run((columns, rows), true);
        survey(&mut state);
        state.theme = theme(ColorMode::None, false);
        let area = Rect::new(0, 0, columns, rows);
        let mut buffer = Buffer::empty(area);
        view(&state, area, &mut buffer);
        assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }
}

fn at_work(worker: &str, cell: Option<&str>) -> PlaceActivity {
    PlaceActivity {
        worker: worker.into(),
        device: "cpu".into(),
        cell: cell.map(str::to_owned),
        phase: cell.map(|_| Phase::Prune),
        tokens_per_second: 1200,
        since: cell.map(|_| 1_700_000_000),
        absence: None,
    }
}

#[test]
fn workers_are_listed_with_what_they_do_and_how_long_already() {
    for size in SIZES {
        let mut state = mid_run(size, false);
        let mut at = |seconds: u64, places: Vec<PlaceActivity>| {
            update(&mut state, Message::Tick(Duration::from_secs(seconds)));
            update(&mut state, Message::Engine(Event::Places { places }));
        };
        let (one, other) = ("process 11 on forge", "process 12 on forge");
        at(40, vec![at_work(one, Some(RUNNING)), at_work(other, None)]);
        at(100, vec![at_work(one, Some(RUNNING)), at_work(other, Some(WANDA))]);
        update(&mut state, Message::Tick(Duration::from_secs(130)));
        insta::assert_snapshot!(format!("workers-{}x{}", size.0, size.1), text(&state, size.0, size.1));
        let text = text(&state, size.0, size.1);
        if size.0 >= 160 {
            assert!(text.contains("Workers: 2 compute ─"), "{text}");
            assert!(text.contains(one) && text.contains("1 min 30 s") && text.contains("  30 s"), "{text}");
        }
        update(&mut state, Message::Engine(Event::Stopped { resumable: None }));
        assert!(state.engine.workers.is_empty());
    }
}

#[test]
fn workers_that_are_not_there_are_counted_apart_and_say_why() {
    for size in [(80, 24), (160, 48)] {
        let mut state = mid_run(size, false);
        let waiting = PlaceActivity::of_waiting_job("71", "waits (Priority)");
        let gone = PlaceActivity::of_gone("process 12 on forge".into(), WANDA);
        let places =
            vec![at_work("process 11 on forge", Some(RUNNING)), at_work("job 70", None), waiting, gone];
        update(&mut state, Message::Engine(Event::Places { places }));
        let text = text(&state, size.0, size.1);
        assert!(text.contains("Workers: 1 computes, 1 waits, 1 queued, 1 gone"), "{text}");
        if size.0 >= 160 {
            for line in ["job 71", "waits (Priority)", "process 12 on forge", "ended without a word"] {
                assert!(text.contains(line), "{line}: {text}");
            }
        }
    }
}

#[test]
fn a_gpu_has_its_use_and_its_memory() {
    let text = text(&mid_run((160, 48), true), 160, 48);
    assert!(text.contains("gpu") && text.contains("90%"), "{text}");
    assert!(text.contains("vram") && text.contains("39.0 GB of 80.0 GB"), "{text}");
}

#[test]
fn experts_share_a_row_and_a_field_for_each_block() {
    let mut state = mid_run((80, 24), false);
    let study_view = state.study_view.as_mut().unwrap();
    let experts =
        (0..128).flat_map(|e| ["gate", "up", "down"].map(|name| format!("mlp.experts.{e}.{name}_proj")));
    let others = ["self_attn.q_proj", "mlp.shared_expert.up_proj"].map(str::to_owned);
    study_view.model.modules = others.into_iter().chain(experts).collect();
    let cell = study_view.cells.iter_mut().find(|cell| cell.id == RUNNING).unwrap();
    let of_block = |block| study_view.model.modules.iter().map(move |path| sample::module(block, path, None));
    cell.modules = (0..2).flat_map(of_block).collect();
    let mut half = cell.clone();
    // Block 1 is not there yet.
    half.modules.retain(|module| module.block == 0 || !module.name.contains(".experts."));
    let shown = text(&state, 80, 24);
    for (label, fields) in [("q", 2), ("shared up", 2), ("gate x128", 2), ("up x128", 2), ("down x128", 2)] {
        let line = shown
            .lines()
            .find(|line| line.contains(&format!("│{label} ")))
            .unwrap_or_else(|| panic!("{label}: {shown}"));
        let (_, row) = line.split_once(label).unwrap();
        let none_yet = row.matches('·').count();
        assert_eq!(none_yet, study_view_blocks(&state) - fields, "{label}: {shown}");
    }
    let study_view = state.study_view.as_mut().unwrap();
    *study_view.cells.iter_mut().find(|cell| cell.id == RUNNING).unwrap() = half;
    let shown = text(&state, 80, 24);
    let gate = shown.lines().find(|line| line.contains("gate x128")).unwrap();
    assert_eq!(gate.matches('·').count(), study_view_blocks(&state) - 1, "{shown}");
}

fn study_view_blocks(state: &State) -> usize {
    state.study_view.as_ref().unwrap().model.blocks
}
