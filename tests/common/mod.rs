//! What several test programs share: where data lies, and a client of the engine that waits for the end.

#![allow(dead_code, reason = "every test program uses its own part")]

#[cfg(unix)]
pub mod places;
pub mod skip;
pub mod synthetic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use secateur::device::choose_device;
use secateur::engine::{Command, Engine, EngineOptions, Event, RunOptions};
use secateur::results::StudyResult;
use secateur::study::{
    CalibrationSpec, CellSpec, ComputeSpec, EvaluationSpec, PruneSpec, Sampling, ScoredPositions, ShotsSpec,
    StudySpec,
};
use tempfile::TempDir;

pub use synthetic::Synthetic;

/// What the tests compute on: `SECATEUR_TEST_DEVICE`, as `--device` takes it, else the CPU. In `f32` in either case.
pub fn device_name() -> String {
    std::env::var("SECATEUR_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}

/// The same, opened.
pub fn device() -> Device {
    choose_device(&device_name()).unwrap()
}

/// What a GPU's libraries are found by.
pub fn gpu_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars().filter(|(name, _)| name.starts_with("LD_") || name.starts_with("CUDA_"))
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
            score: ScoredPositions::All,
            tasks: Vec::new(),
            task_limit: None,
            shots: ShotsSpec::default(),
            max_new_tokens: 8,
            prompt: None,
            disagreement: true,
        },
        prune: PruneSpec::default(),
        compute: ComputeSpec {
            device: device_name(),
            dtype: "f32".into(),
            batch_tokens: 2048,
            batch_prompts: 16,
        },
        seed: 0,
        fields: BTreeMap::new(),
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

/// A folder with a small random model, texts and a task file; removed in the end.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// Writes `model/`, `calibration.txt`, `corpus.txt` (different ones) and `tasks.jsonl` (eight records).
    pub fn new(model: &Synthetic) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        model.write(&place.path("model")).unwrap();
        place.write("calibration.txt", prose(6000, 1));
        place.write("corpus.txt", prose(6000, 2));
        let record = |n: u64| {
            let (instruction, output) = (prose(20 + 7 * n as usize, 10 + n), prose(12, 20 + n));
            serde_json::json!({ "instruction": instruction, "input": "", "output": output }).to_string()
        };
        place.write("tasks.jsonl", (0..8).map(record).collect::<Vec<_>>().join("\n"));
        place
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A study of its model on its texts, windows of 32 tokens.
    pub fn spec(&self, cells: Vec<CellSpec>) -> StudySpec {
        study(&self.path("model"), &self.path("calibration.txt"), &self.path("corpus.txt"), 32, cells)
    }

    /// A cell, calibrated on its text where the method looks at data.
    pub fn cell(&self, method: &str, sparsity: &str) -> CellSpec {
        let set = self.path("calibration.txt").display().to_string();
        CellSpec {
            recipe: format!("{method}@{sparsity}").parse().unwrap(),
            calibration: secateur::methods::find(method).unwrap().needs_calibration().then_some(set),
            seed: 0,
        }
    }

    /// The program in this folder, with a home of its own and no variables of the machine's but those that a GPU's
    /// libraries are found by.
    pub fn program(&self, line: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_secateur"));
        command.args(line).current_dir(self.folder.path()).env_clear().stdin(std::process::Stdio::null());
        command.env("HOME", self.path("home")).env("HF_HOME", self.path("hub"));
        command.envs(gpu_variables());
        command
    }
}

/// At least `length` bytes of made-up words; the same seed gives the same ones.
pub fn prose(length: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut text = String::new();
    while text.len() < length {
        for _ in 0..=next(4) {
            text.push("bcdfgklmnprstvz".as_bytes()[next(15) as usize] as char);
            text.push("aeiou".as_bytes()[next(5) as usize] as char);
        }
        text.push_str(if next(9) == 0 { ". " } else { " " });
    }
    text
}
