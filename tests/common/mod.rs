//! What several test programs share: where data lies, and a client of the engine that waits for the end.

#![allow(dead_code, reason = "every test program uses its own part")]

use std::path::{Path, PathBuf};

use secateur::engine::{Command, Engine, EngineOptions, Event, RunOptions};
use secateur::results::StudyResult;
use secateur::study::{
    CalibrationSpec, CellSpec, ComputeSpec, EvaluationSpec, PruneSpec, Sampling, StudySpec,
};

/// A file of the shared test data, or `None` with a plain word about what is skipped.
pub fn shared(test: &str, path: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if file.exists() {
        return Some(file);
    }
    eprintln!("SKIPPED {test}: {} is not there", file.display());
    None
}

/// The real model that `../shared/models/smollm2.py` writes, or `None` with a plain word about what is skipped.
pub fn smollm2(test: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    let folder = Path::new(&home).join(".cache/secateur-test-models/smollm2-135m-instruct");
    if folder.join("model.safetensors").exists() {
        return Some(folder);
    }
    eprintln!("SKIPPED {test}: {} is not there; ../shared/models/smollm2.py writes it", folder.display());
    None
}

/// A small study: windows of `seq_len` tokens from one calibration text and one corpus.
pub fn study(
    model: &Path,
    calibration: &Path,
    corpus: &Path,
    seq_len: usize,
    cells: Vec<CellSpec>,
) -> StudySpec {
    StudySpec {
        model: model.display().to_string(),
        cells,
        seq_len,
        calibration: CalibrationSpec {
            sets: vec![calibration.display().to_string()],
            samples: 8,
            sampling: Sampling::Head,
        },
        evaluation: EvaluationSpec {
            corpora: vec![corpus.display().to_string()],
            max_windows: Some(8),
            tasks: Vec::new(),
            task_limit: None,
            max_new_tokens: 8,
            prompt: None,
        },
        prune: PruneSpec::default(),
        compute: ComputeSpec {
            device: "cpu".into(),
            dtype: "f32".into(),
            batch_tokens: 2048,
            batch_prompts: 16,
        },
        seed: 0,
    }
}

/// Starts an engine on a store.
pub fn engine(store: &Path) -> Engine {
    Engine::spawn(EngineOptions { store: store.to_path_buf(), threads: None, offline: true })
}

/// Runs a study to its end and returns what was found out, with every event.
///
/// # Panics
/// When the study fails.
pub fn run(store: &Path, spec: StudySpec, options: RunOptions) -> (StudyResult, Vec<Event>) {
    let mut engine = engine(store);
    engine.commands.blocking_send(Command::Start(Box::new(spec), options)).unwrap();
    let mut events = Vec::new();
    while let Some(event) = engine.events.blocking_recv() {
        match event {
            Event::Finished { result } => {
                let _ = engine.commands.blocking_send(Command::Shutdown { after_block: false });
                engine.join();
                return (*result, events);
            }
            Event::Failed { message, .. } => panic!("the study failed: {message}"),
            Event::CellFailed { cell, message } => panic!("cell {cell:?} failed: {message}"),
            other => events.push(other),
        }
    }
    panic!("the engine ended without a result");
}
