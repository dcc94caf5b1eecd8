//! The client against a made-up engine.

use std::sync::{Arc, Mutex};

use super::*;
use crate::engine::{Phase, Plan, PlannedCell, ResourceEstimate};
use crate::results::{
    self, BaseResult, CellResult, Environment, Footprint, Metrics, ModelInfo, REPORT_VERSION,
    RankCorrelations, Seconds, SourceBits,
};
use crate::scores::{JS_DIVERGENCE, PERPLEXITY, Summary};
use crate::study::{CellSpec, Sparsity, Step};

/// A writer that can be read while it is being written, and whose reader may go.
#[derive(Clone, Default)]
struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    broken: bool,
}

impl Pipe {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine's side of the channels, and the person's.
struct Engine {
    inbox: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    progress: watch::Sender<Progress>,
    interrupts: mpsc::Sender<()>,
}

impl Engine {
    async fn send(&self, event: Event) {
        let _ = self.events.send(event).await;
    }

    /// The `after_block` of the next command, which must be a shutdown.
    async fn shutdown(&mut self) -> bool {
        match self.inbox.recv().await {
            Some(Command::Shutdown { after_block }) => after_block,
            other => panic!("{other:?}"),
        }
    }
}

struct Said {
    outcome: Result<RunOutcome>,
    out: String,
    err: String,
}

fn look(format: OutputFormat) -> Look {
    Look {
        format,
        live: false,
        interval: Duration::from_millis(1),
        resume: "secateur run --resume --model m".into(),
    }
}

/// Follows a made-up engine whose story is `script`.
fn follow<F>(look: Look, out: &Pipe, script: impl FnOnce(Engine) -> F) -> Said
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (commands, inbox) = mpsc::channel(8);
    let (events, mut outbox) = mpsc::channel(8);
    let (progress, mut latest) = watch::channel(Progress::default());
    let (interrupts, mut requests) = mpsc::channel(8);
    let engine = Engine { inbox, events, progress, interrupts };
    let err = Pipe::default();
    let render = |result: &StudyResult| format!("table of {} cells\u{1b}[2J", result.cells.len());
    let mut client = Client::new(look, render, out.clone(), err.clone());
    let ends = Ends { commands: &commands, events: &mut outbox, progress: &mut latest };
    let outcome = runtime.block_on(async {
        let start = Command::Resume(7, crate::engine::RunOptions::default());
        let (outcome, ()) = tokio::join!(client.follow(ends, start, &mut requests), async {
            let mut engine = engine;
            assert!(matches!(engine.inbox.recv().await, Some(Command::Resume(7, _))));
            script(engine).await;
        });
        outcome
    });
    Said { outcome, out: out.text(), err: err.text() }
}

fn spec() -> CellSpec {
    CellSpec {
        recipe: Step::new("wanda", Sparsity::Fraction(0.5)).into(),
        calibration: Some("c4".into()),
        seed: 0,
    }
}

fn model() -> ModelInfo {
    ModelInfo {
        source: "m".into(),
        architecture: "LlamaForCausalLM".into(),
        parameters: 134_515_008,
        prunable_parameters: 106_168_320,
        modules: ModelInfo::llama_modules(),
        blocks: 30,
        vocabulary: 49_152,
        dtype: "BF16".into(),
        source_bits: Some(SourceBits { all: 16 * 134_515_008, untouched: 16 * 28_346_688 }),
    }
}

fn planned(study: i64) -> Event {
    let cell = PlannedCell { id: spec().id(), spec: spec(), state: CellState::Queued, blocks_done: 12 };
    Event::Plan {
        study,
        model: Box::new(model()),
        environment: Environment {
            device: "cpu".into(),
            compute_dtype: "f32".into(),
            threads: 2,
            ..Default::default()
        },
        cells: vec![cell],
        estimate: ResourceEstimate {
            host_bytes: 430_000_000,
            host_available: 3_000_000_000,
            disk_bytes: 120_000_000,
            seconds: 250.0,
            ..ResourceEstimate::default()
        },
    }
}

fn finished(state: CellState) -> Event {
    let cell = CellResult { state, ..CellResult::queued(&spec()) };
    Event::Finished {
        result: Box::new(StudyResult {
            version: REPORT_VERSION,
            study: 7,
            model: model(),
            environment: Environment::default(),
            base: BaseResult::default(),
            cells: vec![cell],
            rank_correlations: RankCorrelations::default(),
            contamination: Vec::new(),
        }),
    }
}

#[test]
fn a_run_tells_its_plan_phases_and_figures_and_ends_with_the_table() {
    let said = follow(look(OutputFormat::Table), &Pipe::default(), |engine| async move {
        engine.send(planned(7)).await;
        let cell = Some(spec().id());
        for phase in [Phase::Load, Phase::Prune, Phase::Load, Phase::Prune] {
            engine.send(Event::Phase { cell: cell.clone(), phase }).await;
        }
        engine.send(Event::Warning { cell: cell.clone(), message: "odd \u{1b}[31mtext\n".into() }).await;
        let found = |value, ci95, detail| Summary {
            estimate: results::Estimate { value, ci95 },
            details: vec![detail],
        };
        let values = vec![
            PERPLEXITY.measurement("wikitext2", 32, found(32.7, [31.0, 34.0], 0.02)),
            JS_DIVERGENCE.measurement("wikitext2", 32, found(0.053, [0.05, 0.06], 0.037)),
        ];
        let metrics = Metrics { values };
        engine.send(Event::Metrics { cell: cell.clone(), metrics }).await;
        let seconds = Seconds { prune: 60.0, evaluate: 30.0, ..Seconds::default() };
        let footprint = Footprint { weights: 4, zeros: 2, ..Footprint::default() };
        engine.send(Event::CellDone { cell, seconds, footprint: Some(footprint) }).await;
        engine.send(finished(CellState::Done)).await;
    });
    assert_eq!(said.outcome.unwrap(), RunOutcome::Done);
    assert_eq!(said.out, "table of 1 cells\\x1b[2J\n");
    let expected = "\
study 7: m (LlamaForCausalLM, 134.5M parameters, 30 blocks, BF16), base and 1 cell on cpu in f32 with 2 threads
needs 430.0 MB of memory (3.0 GB free), 120.0 MB of disk, about 4 min 10 s
wanda 50% c4: loading
wanda 50% c4: compressing
warning: wanda 50% c4: odd \\x1b[31mtext\\n
wanda 50% c4 (1 of 1): done in 1 min 30 s, 50.00% zeros, perplexity 32.700 (wikitext2), JS 0.0530 bits
";
    assert_eq!(said.err, expected);
}

#[test]
fn json_is_one_object_and_jsonl_is_every_event() {
    let story = |engine: Engine| async move {
        engine.send(planned(7)).await;
        engine.send(finished(CellState::Done)).await;
    };
    let said = follow(look(OutputFormat::Json), &Pipe::default(), story);
    let result: StudyResult = serde_json::from_str(&said.out).unwrap();
    assert_eq!((result.study, result.cells.len()), (7, 1));

    let said = follow(look(OutputFormat::Jsonl), &Pipe::default(), story);
    let kinds: Vec<String> = said
        .out
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds, ["plan", "finished"]);
}

#[test]
fn a_plan_says_what_is_done_and_where_the_rest_begins() {
    let Event::Plan { model, environment, cells, estimate, .. } = planned(7) else { unreachable!() };
    let text = lines::plan(&Plan {
        base_done: false,
        model: *model,
        environment,
        cells,
        estimate,
        warnings: Vec::new(),
        scripts: Vec::new(),
    });
    assert!(text.contains("wanda 50% c4  to do from block 12 of 30"), "{text}");
    assert!(text.ends_with("nothing was run"), "{text}");
}

#[test]
fn interrupts_ask_for_the_block_then_at_once_and_say_how_to_resume() {
    let said = follow(look(OutputFormat::Table), &Pipe::default(), |mut engine| async move {
        engine.send(planned(7)).await;
        engine.interrupts.send(()).await.unwrap();
        assert!(engine.shutdown().await);
        engine.interrupts.send(()).await.unwrap();
        assert!(!engine.shutdown().await);
        engine.send(Event::Cell { cell: Some(spec().id()), state: CellState::Cancelled }).await;
        engine.send(Event::Stopped { resumable: Some(7) }).await;
    });
    assert!(!said.err.contains("cancelled"), "{}", said.err);
    let outcome = said.outcome.unwrap();
    assert_eq!((outcome, outcome.exit_code()), (RunOutcome::Interrupted, 130));
    assert!(said.out.is_empty());
    assert!(said.err.contains("stopping after the current block"), "{}", said.err);
    assert!(
        said.err.ends_with("interrupted; resume with: secateur run --resume --model m\n"),
        "{}",
        said.err
    );
}

#[test]
fn a_third_interrupt_does_not_wait_for_the_engine() {
    let said = follow(look(OutputFormat::Table), &Pipe::default(), |engine| async move {
        engine.send(planned(7)).await;
        for _ in 0..3 {
            engine.interrupts.send(()).await.unwrap();
        }
        // The engine neither answers nor goes, until long after.
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(engine);
    });
    assert_eq!(said.outcome.unwrap(), RunOutcome::Abandoned);
}

#[test]
fn failures_keep_their_exit_code_and_dead_engines_are_one() {
    let said = follow(look(OutputFormat::Table), &Pipe::default(), |engine| async move {
        engine.send(Event::Failed { message: "no such folder: m".into(), exit_code: 2, setting: None }).await;
    });
    let error = said.outcome.unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().as_str()), (2, "no such folder: m"));
    assert!(said.err.is_empty());

    let said = follow(look(OutputFormat::Table), &Pipe::default(), |engine| async move {
        engine.send(planned(7)).await;
        engine.send(Event::Failed { message: "the disk is full".into(), exit_code: 1, setting: None }).await;
    });
    assert_eq!(said.outcome.unwrap_err().exit_code(), 1);
    assert!(said.err.contains("resume with: secateur run --resume"), "{}", said.err);

    let said = follow(look(OutputFormat::Table), &Pipe::default(), |engine| async move {
        drop(engine);
    });
    assert_eq!(said.outcome.unwrap_err().exit_code(), 1);
}

#[test]
fn a_failed_cell_is_an_error_after_the_result() {
    let said = follow(look(OutputFormat::Table), &Pipe::default(), |engine| async move {
        engine.send(finished(CellState::Failed)).await;
    });
    assert!(said.out.starts_with("table of 1"));
    assert_eq!(said.outcome.unwrap_err().to_string(), "1 of 1 cells failed; the lines above say why");
}

#[test]
fn a_done_cell_that_could_not_be_saved_is_an_error_after_the_result() {
    let said = follow(look(OutputFormat::Table), &Pipe::default(), |engine| async move {
        let message = "the disk is full".into();
        engine.send(Event::CellFailed { cell: Some(spec().id()), message }).await;
        engine.send(finished(CellState::Done)).await;
    });
    assert!(said.out.starts_with("table of 1") && said.err.contains("the disk is full"));
    assert_eq!(said.outcome.unwrap_err().exit_code(), 1);
}

#[test]
fn a_reader_that_has_gone_ends_the_run_quietly() {
    let broken = Pipe { broken: true, ..Pipe::default() };
    let said = follow(look(OutputFormat::Jsonl), &broken, |mut engine| async move {
        engine.send(planned(7)).await;
        assert!(!engine.shutdown().await);
        engine.send(Event::Stopped { resumable: Some(7) }).await;
    });
    assert_eq!(said.outcome.unwrap(), RunOutcome::Done);
    assert!(said.err.is_empty(), "{}", said.err);

    let said = follow(look(OutputFormat::Json), &broken, |engine| async move {
        engine.send(finished(CellState::Done)).await;
    });
    assert_eq!(said.outcome.unwrap(), RunOutcome::Done);
}

#[test]
fn a_terminal_gets_one_line_that_is_drawn_over_and_wiped() {
    let progress = Progress {
        phase: Some(Phase::Evaluate),
        done: 12,
        total: 30,
        unit: "blocks",
        study: 0.42,
        tokens_per_second: 1234.0,
        eta_seconds: Some(190.0),
        ..Progress::default()
    };
    let line = "[ 42%] base: evaluating 12/30 blocks, 1234 tokens/s, 3 min 10 s left";
    for live in [true, false] {
        let progress = progress.clone();
        let said =
            follow(Look { live, ..look(OutputFormat::Table) }, &Pipe::default(), |engine| async move {
                engine.progress.send(progress).unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
                engine.send(finished(CellState::Done)).await;
            });
        let expected = if live { format!("\r{line}\x1b[K\r\x1b[K") } else { format!("{line}\n") };
        assert_eq!(said.err, expected);
    }
}
