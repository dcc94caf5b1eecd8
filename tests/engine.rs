//! The engine as its clients see it: commands in, events out.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Place, Synthetic};
use secateur::Error;
use secateur::engine::{Command, Engine, EngineOptions, Event, Phase, RunOptions, plan};
use secateur::results::{CellResult, CellState, Metrics, ModelInfo, StudyResult};
use secateur::scores::records;
use secateur::store::Store;
use secateur::study::{CellSpec, StudySpec};

const BLOCKS: usize = 4;
/// Nothing here takes nearly as long.
const PATIENCE: Duration = Duration::from_mins(2);

fn place() -> Place {
    Place::new(&Synthetic { hidden: 128, intermediate: 256, blocks: BLOCKS, ..Synthetic::default() })
}

/// Blocks of a model that takes its time.
const MANY: usize = 8;

fn slow_place() -> Place {
    Place::new(&Synthetic { hidden: 256, intermediate: 512, blocks: MANY, ..Synthetic::default() })
}

/// A client that looks at every event, samples of the machine apart.
struct Client {
    engine: Engine,
}

impl Client {
    fn new(place: &Place) -> Self {
        Self { engine: common::engine(&place.path("studies.db")) }
    }

    fn start(place: &Place, spec: StudySpec) -> Self {
        Self::start_with(place, spec, RunOptions::default())
    }

    fn start_with(place: &Place, spec: StudySpec, options: RunOptions) -> Self {
        let client = Self::new(place);
        client.send(Command::Start(Box::new(spec), options));
        client
    }

    fn send(&self, command: Command) {
        self.engine.commands.blocking_send(command).unwrap();
    }

    /// The next event within `patience`; `Ok(None)` when the engine is gone, `Err` when nothing came.
    fn next_within(&mut self, patience: Duration) -> Result<Option<Event>, ()> {
        let started = Instant::now();
        loop {
            match self.engine.events.try_recv() {
                Ok(Event::Resources { .. }) => {}
                Ok(event) => return Ok(Some(event)),
                Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => return Ok(None),
                Err(_) if started.elapsed() > patience => return Err(()),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Events up to and with the first that is wanted.
    fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut seen = Vec::new();
        loop {
            let event = self.next_within(PATIENCE).expect("an event in time");
            let event = event.unwrap_or_else(|| panic!("the engine ended after {:?}", seen.last()));
            seen.push(event);
            if wanted(&seen[seen.len() - 1]) {
                return seen;
            }
        }
    }

    /// Events to the result, and the result.
    fn finish(&mut self) -> (Vec<Event>, StudyResult) {
        let mut events = self.until(|e| matches!(e, Event::Finished { .. } | Event::Failed { .. }));
        match events.pop() {
            Some(Event::Finished { result }) => (events, *result),
            other => panic!("{other:?}"),
        }
    }

    /// Events until the engine is gone.
    fn rest(&mut self) -> Vec<Event> {
        let mut seen = Vec::new();
        while let Some(event) = self.next_within(PATIENCE).expect("an event in time") {
            seen.push(event);
        }
        seen
    }
}

fn is_state(event: &Event, id: &str, wanted: CellState) -> bool {
    matches!(event, Event::Cell { cell: Some(cell), state } if cell == id && *state == wanted)
}

fn is_module(event: &Event, id: &str) -> bool {
    matches!(event, Event::Module { cell, .. } if cell == id)
}

fn is_checkpoint(event: &Event, id: &str) -> bool {
    matches!(event, Event::Checkpoint { cell, .. } if cell == id)
}

/// Why a cell failed, if that is what an event tells.
fn failure<'a>(event: &'a Event, id: &str) -> Option<&'a str> {
    match event {
        Event::CellFailed { cell: Some(cell), message } if cell == id => Some(message),
        _ => None,
    }
}

/// The cells in the order in which they began.
fn order(events: &[Event]) -> Vec<String> {
    let began = |e: &Event| match e {
        Event::Cell { cell: Some(cell), state: CellState::Running } => Some(cell.clone()),
        _ => None,
    };
    events.iter().filter_map(began).collect()
}

fn found<'a>(result: &'a StudyResult, spec: &CellSpec) -> &'a CellResult {
    result.cells.iter().find(|c| c.id == spec.id()).unwrap_or_else(|| panic!("no {}", spec.id()))
}

/// The result of a study in a store of its own.
fn run(spec: StudySpec) -> StudyResult {
    let store = tempfile::tempdir().unwrap();
    common::run(&store.path().join("s.db"), spec, RunOptions::default()).0
}

/// Whose event it is, if anybody's.
fn owner(event: &Event) -> Option<&str> {
    match event {
        Event::Cell { cell, .. }
        | Event::Metrics { cell, .. }
        | Event::Answer { cell, .. }
        | Event::CellDone { cell, .. } => Some(cell.as_deref().unwrap_or("base")),
        Event::Module { cell, .. } | Event::Checkpoint { cell, .. } => Some(cell),
        _ => None,
    }
}

#[test]
fn events_come_in_the_order_in_which_things_happen() {
    let place = place();
    let mut spec = place.spec(vec![place.cell("sparsegpt", "0.5"), place.cell("magnitude", "2:4")]);
    spec.evaluation.tasks = vec![place.path("tasks.jsonl").display().to_string()];
    let ids: Vec<String> = spec.cells.iter().map(CellSpec::id).collect();
    let mut client = Client::start(&place, spec);
    let (events, result) = client.finish();

    let plan = events.iter().position(|e| matches!(e, Event::Plan { .. })).unwrap();
    let before = |e: &Event| {
        matches!(
            e,
            Event::Phase { cell: None, phase: Phase::Load }
                | Event::Calibration { .. }
                | Event::Contamination { .. }
                | Event::Warning { .. }
        )
    };
    assert!(events[..plan].iter().all(before), "{events:?}");
    let Event::Plan { study: 1, cells, estimate, model, .. } = &events[plan] else { panic!() };
    assert_eq!(cells.iter().map(|c| c.id.clone()).collect::<Vec<_>>(), ids);
    assert!(cells.iter().all(|c| c.state == CellState::Queued && c.blocks_done == 0));
    assert!(estimate.host_bytes > 1 << 20 && estimate.disk_bytes > 0 && estimate.seconds > 0.0);
    assert_eq!((model.blocks, &result.model), (BLOCKS, &**model));

    // Base, then cell after cell, none mixed with another.
    let owners: Vec<&str> = events.iter().filter_map(owner).collect();
    let mut turns = owners.clone();
    turns.dedup();
    assert_eq!(turns, ["base", &ids[0], &ids[1]]);

    for cell in turns {
        let own: Vec<&Event> = events.iter().filter(|e| owner(e) == Some(cell)).collect();
        assert!(matches!(own[0], Event::Cell { state: CellState::Running, .. }));
        let [.., metrics, done, state] = &own[..] else { panic!() };
        assert!(matches!(metrics, Event::Metrics { metrics, .. } if records(metrics) == 8), "{metrics:?}");
        assert!(matches!(done, Event::CellDone { .. }), "{done:?}");
        assert!(matches!(state, Event::Cell { state: CellState::Done, .. }), "{state:?}");
        let answers = own.iter().filter(|e| matches!(e, Event::Answer { .. })).count();
        assert_eq!(answers, 8);
        // Perplexity is told before the first answer.
        let first = own.iter().position(|e| matches!(e, Event::Answer { .. })).unwrap();
        assert!(matches!(own[first - 1], Event::Metrics { .. }));
        if cell == "base" {
            continue;
        }
        let mut modules = Vec::new();
        let mut safe = 0;
        for event in &own {
            match event {
                Event::Module { module, .. } => modules.push(module.name.clone()),
                // A block goes to the disk while the next one is computed.
                Event::Checkpoint { block, .. } => {
                    assert_eq!(*block, safe);
                    safe += 1;
                    assert!(
                        (safe..=safe + 1).contains(&(modules.len() / ModelInfo::llama_modules().len())),
                        "{cell}, {modules:?}"
                    );
                }
                _ => {}
            }
        }
        let paths = ModelInfo::llama_modules();
        let names = |b| paths.iter().map(move |path| format!("model.layers.{b}.{path}"));
        let expected: Vec<String> = (0..BLOCKS).flat_map(names).collect();
        assert_eq!((modules, safe), (expected, BLOCKS));
    }
    let told = events.iter().filter(|e| matches!(e, Event::RankCorrelations { .. })).count();
    assert_eq!(told, 2, "one a cell");
    assert!(client.next_within(Duration::from_millis(200)).is_err(), "nothing after the result");

    // What was told is what is reported and what the store holds.
    let store = Store::open_read_only(&place.path("studies.db")).unwrap();
    assert_eq!(store.study(1).unwrap().cells, as_stored(&result));
    assert_eq!(store.answers(1, Some(&ids[1])).unwrap().len(), 8);
    let told: Vec<&Metrics> = events
        .iter()
        .filter_map(|e| match e {
            Event::Metrics { cell: Some(cell), metrics } if *cell == ids[1] => Some(metrics),
            _ => None,
        })
        .collect();
    assert_eq!(*told.last().unwrap(), &result.cells[1].metrics);
}

/// The cells as a store keeps them: what the whole model takes is worked out for a report.
fn as_stored(result: &StudyResult) -> Vec<CellResult> {
    result.cells.iter().cloned().map(|cell| CellResult { whole_model: None, ..cell }).collect()
}

#[test]
fn cells_can_be_added_while_another_runs_and_after_the_end() {
    let place = place();
    let cells = [place.cell("wanda", "0.5"), place.cell("magnitude", "0.3")];
    let (early, late) = (place.cell("magnitude", "1:4"), place.cell("sparsegpt", "0.4"));
    let mut client = Client::start(&place, place.spec(vec![cells[0].clone()]));
    // Not even planned yet.
    client.send(Command::AddCell(early.clone()));
    client.until(|e| is_module(e, &cells[0].id()));
    client.send(Command::AddCell(cells[1].clone()));
    client.send(Command::AddCell(cells[1].clone()));
    client.send(Command::AddCell(cells[0].clone()));
    let (events, result) = client.finish();
    assert_eq!(order(&events), [early.id(), cells[1].id()]);
    assert!(result.cells.iter().all(|c| c.state == CellState::Done));
    assert_eq!(result.cells.len(), 3);

    client.send(Command::AddCell(late.clone()));
    let (events, result) = client.finish();
    assert_eq!(order(&events), [late.id()]);
    assert_eq!(found(&result, &late).state, CellState::Done);
    assert_eq!(result.cells.len(), 4);

    // A cell that is done is not done again.
    client.send(Command::AddCell(late.clone()));
    let (events, again) = client.finish();
    assert!(order(&events).is_empty() && events.iter().any(|e| is_state(e, &late.id(), CellState::Done)));
    assert_eq!(again, result);
}

#[test]
fn waiting_and_running_cells_can_be_cancelled_and_taken_up_again() {
    let place = slow_place();
    let cells = [place.cell("sparsegpt", "0.5"), place.cell("magnitude", "0.5"), place.cell("wanda", "0.5")];
    let mut client = Client::start(&place, place.spec(cells.to_vec()));
    client.until(|e| is_checkpoint(e, &cells[0].id()));
    client.send(Command::CancelCell(cells[1].id()));
    client.until(|e| is_state(e, &cells[1].id(), CellState::Cancelled));
    client.send(Command::CancelCell(cells[0].id()));
    let events = client.until(|e| is_state(e, &cells[0].id(), CellState::Cancelled));
    let modules = events.iter().filter(|e| is_module(e, &cells[0].id())).count();
    assert!(modules <= 7, "{modules} modules after the wish to cancel");
    let (events, result) = client.finish();
    assert!(!events.iter().any(|e| is_module(e, &cells[0].id())));
    assert_eq!(order(&events), [cells[2].id()]);
    let states: Vec<CellState> = result.cells.iter().map(|c| c.state).collect();
    assert_eq!(states, [CellState::Cancelled, CellState::Cancelled, CellState::Done]);
    let store = Store::open_read_only(&place.path("studies.db")).unwrap();
    assert_eq!(store.study(1).unwrap().cells, as_stored(&result));

    client.send(Command::AddCell(cells[0].clone()));
    let (events, result) = client.finish();
    let first = events.iter().find(|e| is_module(e, &cells[0].id()));
    assert!(matches!(first, Some(Event::Module { module, .. }) if module.block > 0), "{first:?}");
    let whole = run(place.spec(vec![cells[0].clone()]));
    assert_eq!(found(&result, &cells[0]).metrics, whole.cells[0].metrics);
}

#[test]
fn waiting_cells_run_in_the_order_that_was_asked_for_last() {
    let place = place();
    let cells: Vec<CellSpec> =
        ["0.1", "0.2", "0.3", "0.4"].iter().map(|s| place.cell("magnitude", s)).collect();
    let mut client = Client::start(&place, place.spec(cells.clone()));
    client.until(|e| matches!(e, Event::Cell { cell: None, state: CellState::Running }));
    client.send(Command::Reorder(vec![cells[3].id(), "unknown".into(), cells[2].id()]));
    let (events, result) = client.finish();
    assert_eq!(order(&events), [3, 2, 0, 1].map(|i: usize| cells[i].id()));
    let grid: Vec<&str> = result.cells.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(grid, cells.iter().map(CellSpec::id).collect::<Vec<_>>(), "reported in the order of the grid");
}

#[test]
fn nothing_is_computed_while_paused() {
    let place = slow_place();
    let cell = place.cell("sparsegpt", "0.5");
    let mut client = Client::start(&place, place.spec(vec![cell.clone()]));
    client.until(|e| is_module(e, &cell.id()));
    client.send(Command::Pause);
    // What was on its way.
    while client.next_within(Duration::from_millis(300)).is_ok() {}
    let before = client.engine.progress.borrow().clone();
    assert!(before.paused, "{before:?}");
    assert!(client.next_within(Duration::from_millis(500)).is_err());
    assert_eq!(*client.engine.progress.borrow(), before);
    client.send(Command::Unpause);
    let (_, result) = client.finish();
    assert_eq!(result.cells[0].state, CellState::Done);
    assert!(!client.engine.progress.borrow().paused);
    let whole = run(place.spec(vec![cell]));
    assert_eq!(result.cells[0].metrics, whole.cells[0].metrics);
}

/// The checkpoints on disk of a cell of study 1.
fn blocks_on_disk(place: &Place, cell: &CellSpec) -> usize {
    let store = Store::open_read_only(&place.path("studies.db")).unwrap();
    secateur::store::checkpoint::blocks_done(&store.folder(1, Some(&cell.id()))).unwrap()
}

/// Asserts that an engine stopped between blocks, and that another goes on from there to the result of a whole run.
fn assert_resumable(place: &Place, cell: &CellSpec, before: &[Event], after: &[Event]) {
    assert_eq!(after.last(), Some(&Event::Stopped { resumable: Some(1) }));
    let safe = before.iter().chain(after).filter(|e| is_checkpoint(e, &cell.id())).count();
    assert!(safe >= 1 && safe == blocks_on_disk(place, cell));

    let mut client = Client::new(place);
    client.send(Command::Resume(1, RunOptions::default()));
    let (events, result) = client.finish();
    let plan = events.iter().find_map(|e| match e {
        Event::Plan { cells, .. } => Some(cells),
        _ => None,
    });
    assert_eq!(plan.unwrap()[0].blocks_done, safe);
    assert_eq!(events.iter().filter(|e| is_checkpoint(e, &cell.id())).count(), MANY - safe);
    let whole = run(place.spec(vec![cell.clone()]));
    assert_eq!(result.cells[0].metrics, whole.cells[0].metrics);
}

#[test]
fn a_cell_that_was_added_is_not_lost_when_the_engine_stops_before_its_turn() {
    let place = slow_place();
    let (cell, added) = (place.cell("sparsegpt", "0.5"), place.cell("wanda", "0.3"));
    let mut client = Client::start(&place, place.spec(vec![cell.clone()]));
    client.until(|e| is_checkpoint(e, &cell.id()));
    client.send(Command::AddCell(added.clone()));
    client.send(Command::Shutdown { after_block: true });
    client.rest();
    let store = Store::open_read_only(&place.path("studies.db")).unwrap();
    let states: Vec<_> = store.study(1).unwrap().cells.into_iter().map(|c| (c.id, c.state)).collect();
    assert!(states.contains(&(added.id(), CellState::Queued)), "{states:?}");
}

#[test]
fn an_added_cell_that_does_not_fit_is_refused_while_others_run() {
    let place = slow_place();
    let cell = place.cell("sparsegpt", "0.5");
    let mut client = Client::start(&place, place.spec(vec![cell.clone()]));
    client.until(|e| is_module(e, &cell.id()));
    let unfit = CellSpec { recipe: "experts@50%".parse().unwrap(), ..cell.clone() };
    client.send(Command::AddCell(unfit.clone()));
    let events = client.until(|e| failure(e, &unfit.id()).is_some());
    let message = failure(events.last().unwrap(), &unfit.id()).unwrap();
    assert!(message.starts_with("experts removes"), "the cell is named beside it: {message}");
    assert!(!events.iter().any(|e| is_state(e, &cell.id(), CellState::Done)), "it is told at once");
    let (_, result) = client.finish();
    assert_eq!(result.cells.len(), 1);
}

#[test]
fn a_shutdown_after_the_block_leaves_a_whole_checkpoint() {
    let place = slow_place();
    let cell = place.cell("sparsegpt", "0.5");
    let mut client = Client::start(&place, place.spec(vec![cell.clone()]));
    let before = client.until(|e| is_checkpoint(e, &cell.id()));
    client.send(Command::Shutdown { after_block: true });
    let after = client.rest();
    let work = after.iter().rfind(|e| is_module(e, &cell.id()) || is_checkpoint(e, &cell.id()));
    assert!(work.is_none_or(|e| is_checkpoint(e, &cell.id())), "a block was begun and not ended");
    assert_resumable(&place, &cell, &before, &after);
}

#[test]
fn the_time_of_a_base_adds_up_over_runs() {
    let place = slow_place();
    let spec = place.spec(vec![place.cell("magnitude", "0.5")]);
    let mut client = Client::start(&place, spec.clone());
    client.until(|e| matches!(e, Event::Phase { cell: None, phase: Phase::Evaluate }));
    client.send(Command::Shutdown { after_block: true });
    client.rest();
    let store = Store::open_read_only(&place.path("studies.db")).unwrap();
    let record = store.study(1).unwrap();
    assert_eq!(record.base_state, CellState::Cancelled);
    let before = record.base.seconds;
    assert!(before.load > 0.0 && before.evaluate > 0.0, "{before:?}");
    let resume = RunOptions { resume: true, ..RunOptions::default() };
    let (_, result) = Client::start_with(&place, spec, resume).finish();
    let after = result.base.seconds;
    assert!(after.load > before.load && after.evaluate > before.evaluate, "{before:?} {after:?}");
}

#[test]
fn a_shutdown_at_once_keeps_what_is_whole() {
    let place = slow_place();
    let cell = place.cell("sparsegpt", "0.5");
    let mut client = Client::start(&place, place.spec(vec![cell.clone()]));
    let mut before = client.until(|e| is_checkpoint(e, &cell.id()));
    before.extend(client.until(|e| is_module(e, &cell.id())));
    client.send(Command::Shutdown { after_block: false });
    let after = client.rest();
    assert_resumable(&place, &cell, &before, &after);
}

#[test]
fn an_engine_whose_client_is_gone_shuts_down_after_the_block() {
    let place = slow_place();
    let cell = place.cell("sparsegpt", "0.5");
    let mut client = Client::start(&place, place.spec(vec![cell.clone()]));
    let before = client.until(|e| is_checkpoint(e, &cell.id()));
    let Engine { commands, mut events, .. } = client.engine;
    drop(commands);
    let mut after = Vec::new();
    while let Some(event) = events.blocking_recv() {
        if !matches!(event, Event::Resources { .. }) {
            after.push(event);
        }
    }
    assert_resumable(&place, &cell, &before, &after);
}

#[test]
fn an_idle_engine_ends_with_nothing_to_resume() {
    let place = place();
    let mut client = Client::new(&place);
    client.send(Command::Shutdown { after_block: true });
    assert_eq!(client.rest(), [Event::Stopped { resumable: None }]);

    let mut client = Client::start(&place, place.spec(vec![place.cell("magnitude", "0.5")]));
    client.finish();
    client.send(Command::Shutdown { after_block: false });
    assert_eq!(client.rest(), [Event::Stopped { resumable: None }]);
}

#[test]
fn a_cell_that_fails_does_not_end_the_study() {
    let place = place();
    let cells = [place.cell("magnitude", "0.5"), place.cell("wanda", "0.5")];
    let options = RunOptions { save_models: Some(place.path("saved")), ..RunOptions::default() };
    let mut client = Client::start_with(&place, place.spec(cells.to_vec()), options);
    client.until(|e| matches!(e, Event::Cell { cell: None, state: CellState::Running }));
    // Somebody puts something where the first model is to go.
    place.write(&format!("saved/{}/notes.txt", cells[0].id()), "mine");
    let odd = place.cell("magnitude", "3:7");
    client.send(Command::AddCell(odd.clone()));
    let mut other = place.cell("wanda", "0.5");
    other.calibration =
        Some(place.write("other/calibration.txt", common::prose(4000, 9)).display().to_string());
    client.send(Command::AddCell(other.clone()));
    let (events, result) = client.finish();

    let why =
        |cell: &CellSpec| -> Vec<&str> { events.iter().filter_map(|e| failure(e, &cell.id())).collect() };
    assert!(
        matches!(why(&cells[0])[..], [m] if m.contains("could not be saved") && m.contains(&cells[0].id()))
    );
    assert!(
        matches!(why(&odd)[..], [m] if m.contains("3:7") && m.contains("128 columns")),
        "{:?}",
        why(&odd)
    );
    assert!(matches!(why(&other)[..], [m] if m.contains("other/calibration.txt")), "{:?}", why(&other));
    assert_eq!(std::fs::read_dir(place.path("saved").join(cells[0].id())).unwrap().count(), 1);
    assert!(place.path("saved").join(cells[1].id()).join("sparsity.json").exists());
    assert_eq!(result.cells.len(), 2);
    assert!(result.cells.iter().all(|c| c.state == CellState::Done));
}

#[test]
fn a_study_that_cannot_start_is_the_users_mistake_and_another_can_follow() {
    let place = place();
    let good = place.spec(vec![place.cell("magnitude", "0.5")]);
    let mut client = Client::new(&place);
    let wrong = [
        (StudySpec { model: place.path("nothing").display().to_string(), ..good.clone() }, "nothing"),
        (StudySpec { seq_len: 1024, ..good.clone() }, "512"),
        (place.spec(vec![place.cell("wanda", "3:7")]), "3:7"),
        (place.spec(vec![CellSpec { calibration: None, ..place.cell("wanda", "0.5") }]), "calibration"),
    ];
    for (spec, part) in wrong {
        client.send(Command::Start(Box::new(spec), RunOptions::default()));
        let events = client.until(|e| matches!(e, Event::Failed { .. }));
        let Some(Event::Failed { message, exit_code: 2, .. }) = events.last() else { panic!("{events:?}") };
        assert!(message.contains(part) && message.lines().count() == 1, "{message}");
        assert!(!events.iter().any(|e| matches!(e, Event::Plan { .. })));
    }
    client.send(Command::Resume(7, RunOptions::default()));
    let events = client.until(|e| matches!(e, Event::Failed { .. }));
    assert!(
        matches!(events.last(), Some(Event::Failed { message, exit_code: 2, .. }) if message.contains("study 7"))
    );

    client.send(Command::Start(Box::new(good), RunOptions::default()));
    assert_eq!(client.finish().1.cells[0].state, CellState::Done);
}

#[test]
fn the_same_files_elsewhere_are_the_same_study_and_changed_ones_are_not() {
    let (here, there) = (place(), place());
    let store = here.path("studies.db");
    let resume = RunOptions { resume: true, ..RunOptions::default() };
    let (first, _) = common::run(&store, here.spec(vec![here.cell("wanda", "0.5")]), RunOptions::default());

    let cells = ["wanda", "sparsegpt"].map(|method| there.cell(method, "0.5"));
    let (second, events) = common::run(&store, there.spec(cells.to_vec()), resume.clone());
    assert_eq!((second.study, second.cells.len()), (first.study, 2));
    assert_eq!(second.cells[0].metrics, first.cells[0].metrics);
    assert!(!events.iter().any(|e| is_module(e, &cells[0].id())), "it was done");
    assert!(events.iter().any(|e| is_module(e, &cells[1].id())));

    there.write("corpus.txt", common::prose(6000, 3));
    let (third, events) = common::run(&store, there.spec(cells.to_vec()), resume);
    assert_ne!(third.study, first.study);
    let told = |e: &Event| {
        matches!(e, Event::Warning { message, .. }
            if message.contains("nothing to resume in this store, since a corpus is not what it was when study 1"))
    };
    assert!(events.iter().any(told), "{events:?}");
    let mut client = Client::new(&here);
    client.send(Command::Resume(first.study, RunOptions::default()));
    let events = client.until(|e| matches!(e, Event::Failed { .. }));
    let Some(Event::Failed { message, exit_code: 2, .. }) = events.last() else { panic!("{events:?}") };
    assert!(message.contains("a corpus is not what it was"), "{message}");
}

/// What the engine says where it cannot resume a study.
fn refusal(place: &Place, study: i64) -> String {
    let mut client = Client::new(place);
    client.send(Command::Resume(study, RunOptions::default()));
    let events = client.until(|e| matches!(e, Event::Failed { .. }));
    let Some(Event::Failed { message, exit_code: 2, .. }) = events.last() else { panic!("{events:?}") };
    message.clone()
}

#[test]
fn a_study_is_not_resumed_where_answers_would_end_elsewhere_or_in_another_precision() {
    let place = place();
    let store = place.path("studies.db");
    let mut spec = place.spec(vec![place.cell("wanda", "0.5")]);
    spec.evaluation.tasks = vec![place.path("tasks.jsonl").display().to_string()];
    let (first, _) = common::run(&store, spec, RunOptions::default());
    let generation = place.path("model/generation_config.json");
    let before = fs::read(&generation).ok();
    fs::write(&generation, r#"{"eos_token_id": [77]}"#).unwrap();
    let message = refusal(&place, first.study);
    assert!(message.contains("a task is not what it was"), "{message}");
    match before {
        Some(before) => fs::write(&generation, before).unwrap(),
        None => fs::remove_file(&generation).unwrap(),
    }

    let database = rusqlite::Connection::open(&store).unwrap();
    let change = "UPDATE studies SET environment = json_set(environment, '$.compute_dtype', 'bf16')";
    assert_eq!(database.execute(change, []).unwrap(), 1);
    drop(database);
    let message = refusal(&place, first.study);
    assert!(message.contains("computes in bf16") && message.contains("would in f32"), "{message}");
}

#[test]
fn a_second_engine_on_a_store_is_told() {
    let place = place();
    let spec = place.spec(vec![place.cell("sparsegpt", "0.5")]);
    let mut first = Client::start(&place, spec.clone());
    first.until(|e| matches!(e, Event::Plan { .. }));
    first.send(Command::Pause);
    let mut second = Client::start(&place, spec);
    let events = second.until(|e| matches!(e, Event::Failed { .. }));
    let [Event::Failed { message, exit_code: 2, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(message.contains("studies.db") && message.contains("in use"), "{message}");
    first.send(Command::Unpause);
    assert_eq!(first.finish().1.cells[0].state, CellState::Done);
}

#[test]
fn a_plan_tells_what_a_study_needs_and_leaves_nothing_behind() {
    let place = place();
    let options = EngineOptions { store: place.path("studies.db"), threads: Some(1), offline: true };
    let spec = place.spec(vec![place.cell("wanda", "0.5")]);
    let plan = plan(spec.clone(), &RunOptions::default(), &options).unwrap();
    assert!(plan.cells.len() == 1 && plan.estimate.seconds > 0.0 && plan.estimate.host_bytes > 0);
    assert!(!place.path("studies.db").exists());
    let without = |change: fn(&mut StudySpec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        secateur::engine::plan(spec, &RunOptions::default(), &options).unwrap_err()
    };
    assert_eq!(without(|spec| spec.seq_len = 1 << 20).flag(), Some("seq-len"));
    assert_eq!(without(|spec| spec.evaluation.corpora = vec!["no.txt".into()]).flag(), Some("corpus"));
    assert_eq!(without(|spec| spec.calibration.samples = usize::MAX).flag(), Some("calibration-samples"));
    assert_eq!(without(|spec| spec.compute.device = "cuda:99".into()).flag(), Some("device"));
    assert_eq!(without(|spec| spec.model = "./offline-llama".into()).flag(), Some("model"));
    let missing = without(|spec| spec.model = "some-org/some-model".into());
    assert!(matches!(missing, Error::Offline(_)), "{missing:?}");
}
