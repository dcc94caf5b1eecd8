//! A study that has been understood: model, data and device are there, and the store knows it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use tokenizers::Tokenizer;

use super::Reporter;
use super::costs::Sizes;
use super::evaluate::Corpus;
use super::event::{Estimate, Event, Phase, PlannedCell, RunOptions};
use super::files::LazyHub;
use super::gpu::Gpu;
use super::prompts::PreparedTask;
use super::speed;
use super::stream::HiddenStates;
use crate::data::{self, FieldNames};
use crate::device;
use crate::error::{Error, Result};
use crate::interrupt::interruptible;
use crate::methods::{Profile, Stage};
use crate::model::{ModelFolder, ModuleId, PromptFormat, RopeTables, load_tokenizer};
use crate::results::{BaseResult, CellResult, CellState, Environment, ModelInfo};
use crate::store::Store;
use crate::study::{CellSpec, Level, Parameters, StudySpec, short_name};
use crate::sysinfo;

pub(super) struct CalibrationSet {
    windows: Vec<Vec<u32>>,
    /// What a person should know of every cell that is calibrated on it.
    warnings: Vec<String>,
    /// Whether records were read by names that the user gave.
    names_used: bool,
}

/// Everything a study needs while it runs.
pub(super) struct Session {
    pub spec: StudySpec,
    pub options: RunOptions,
    pub folder: ModelFolder,
    pub info: ModelInfo,
    pub environment: Environment,
    pub device: Device,
    pub dtype: DType,
    pub tokenizer: Arc<Tokenizer>,
    pub ropes: RopeTables,
    /// The modules of every block that are pruned.
    pub modules: Vec<Vec<ModuleId>>,
    pub corpora: Vec<Corpus>,
    pub tasks: Vec<PreparedTask>,
    pub profile: Option<Profile>,
    pub sizes: Sizes,
    pub store: Store,
    /// Number of the study in the store.
    pub study: i64,
    pub base: BaseResult,
    pub base_state: CellState,
    /// The base's final hidden states, once they are there.
    pub base_states: Option<HiddenStates>,
    pub cells: Vec<CellResult>,
    hub: LazyHub,
    calibration: HashMap<(String, u64), CalibrationSet>,
}

/// What is understood of a study before the store is asked.
pub(super) struct StudyDraft {
    spec: StudySpec,
    folder: ModelFolder,
    info: ModelInfo,
    environment: Environment,
    device: Device,
    dtype: DType,
    tokenizer: Arc<Tokenizer>,
    modules: Vec<Vec<ModuleId>>,
    corpora: Vec<Corpus>,
    tasks: Vec<PreparedTask>,
    profile: Option<Profile>,
    /// The recipes of the cells, understood.
    stages: Vec<Stage>,
    sizes: Sizes,
    hub: LazyHub,
    calibration: HashMap<(String, u64), CalibrationSet>,
    /// The device's GPU, where it tells what it does.
    gpu: Option<Gpu>,
    /// Operations per second, measured.
    pub speed: f64,
}

impl StudyDraft {
    /// Finds model and data, checks that the study can work, and measures the machine.
    ///
    /// # Errors
    /// [`Error::Mistake`] for everything that a user can put right, before any hours are spent.
    pub fn new(spec: StudySpec, offline: bool, reporter: &mut Reporter) -> Result<Self> {
        let device = device::choose_device(&spec.compute.device).map_err(|e| e.at("device"))?;
        let dtype = device::choose_dtype(&spec.compute.dtype, &device).map_err(|e| e.at("dtype"))?;
        let mut hub = LazyHub::new(offline);
        let root = hub.model(&spec.model, reporter).map_err(|e| e.at("model"))?;
        reporter.phase(None, Phase::Load, 0, "files");
        let folder = ModelFolder::open(&root).map_err(|e| e.at("model"))?;
        for warning in &folder.config.warnings {
            reporter.warn(None, warning.clone());
        }
        let blocks = check_study(&spec, &folder)?;
        let modules = folder.config.select_modules(&spec.prune.modules).map_err(|e| e.at("modules"))?;
        let profile = spec.prune.profile.as_deref().map(|p| Profile::read(p, folder.config.blocks));
        let profile = profile.transpose().map_err(|e| e.at("profile"))?;
        let parameters = spec.prune.parameters();
        let check = |cell| check_cell(cell, &folder, &modules, profile.as_ref(), &parameters);
        let stages = spec.cells.iter().map(check).collect::<Result<Vec<_>>>()?;
        let path = folder.tokenizer.clone();
        let tokenizer = Arc::new(interruptible(&mut || reporter.boundary(), move |_| load_tokenizer(&path))?);
        let mut draft = Self {
            info: folder.info(&spec.model),
            environment: environment(&device, dtype),
            sizes: Sizes {
                config: folder.config.clone(),
                seq_len: spec.seq_len,
                calibration_windows: spec.calibration.samples,
                evaluation_windows: 0,
                prompts: 0,
                prompt_tokens: 0,
                answer_tokens: 0,
                longest_text: 0,
                disagreement: spec.evaluation.disagreement,
                batch_tokens: spec.compute.batch_tokens,
                batch_prompts: spec.compute.batch_prompts,
                modules: modules.clone(),
                blocks,
                compute_bytes: dtype.size_in_bytes(),
                disk_bytes: folder.dtype().size_in_bytes(),
                on_host: device.is_cpu(),
                states_on_device: device.is_cpu(),
                host_slower: 1.0,
            },
            gpu: Gpu::of(&device),
            speed: 0.0,
            corpora: Vec::new(),
            tasks: Vec::new(),
            calibration: HashMap::new(),
            spec,
            folder,
            device,
            dtype,
            tokenizer,
            modules,
            profile,
            stages,
            hub,
        };
        draft.load_data(reporter)?;
        let shape = (draft.sizes.config.hidden_size, draft.sizes.widest_output());
        draft.speed = speed::measured(&draft.device, draft.dtype, shape)?;
        if !draft.device.is_cpu() {
            draft.sizes.host_slower = draft.speed / speed::measured(&Device::Cpu, DType::F32, shape)?;
            draft.place_states();
        }
        Ok(draft)
    }

    fn load_data(&mut self, reporter: &mut Reporter) -> Result<()> {
        let evaluation = &self.spec.evaluation;
        let fields = FieldNames::new(&self.spec.fields).map_err(|e| e.at("fields"))?;
        let mut names_used = false;
        for source in &evaluation.corpora {
            let (source, tokenizer, fields) = (source.clone(), self.tokenizer.clone(), fields.clone());
            let (seq_len, most) = (self.spec.seq_len, evaluation.max_windows);
            let corpus = self.hub.read(reporter, move |files| {
                let text = data::load_text(&source, &fields, files)?;
                let windows = data::evaluation_windows(&text, &tokenizer, seq_len, most)?;
                Ok((text.warning(), text.names_used, Corpus { name: text.name, windows }))
            });
            let (warning, used, corpus) = corpus.map_err(|e| e.at("corpus"))?;
            names_used |= used;
            if let Some(message) = warning {
                reporter.warn(None, message);
            }
            self.sizes.evaluation_windows += corpus.windows.len();
            self.corpora.push(corpus);
        }
        let format = PromptFormat::for_model(&self.folder, evaluation.prompt.as_deref())
            .map_err(|e| e.at("prompt"))?;
        for source in &evaluation.tasks {
            let (source, format, tokenizer) = (source.clone(), format.clone(), self.tokenizer.clone());
            let fields = fields.clone();
            let (limit, longest) = (evaluation.task_limit, evaluation.max_new_tokens);
            let positions = self.folder.config.max_positions;
            let task = self.hub.read(reporter, move |files| {
                let task = data::load_task(&source, limit, &fields, files)?;
                let (warning, used) = (task.warning(), task.names_used);
                let task = PreparedTask::new(task, &format, &tokenizer, positions, longest, &mut || {
                    files.abandoned.check()
                });
                Ok((warning, used, task?))
            });
            let (warning, used, task) = task.map_err(|e| e.at("tasks"))?;
            names_used |= used;
            if let Some(message) = warning {
                reporter.warn(None, message);
            }
            for message in task.cut_short(positions, evaluation.max_new_tokens) {
                reporter.warn(None, message);
            }
            self.sizes.prompts += task.prompts.len();
            for (prompt, limit) in task.prompts.iter().zip(&task.limits).filter(|(_, limit)| **limit > 0) {
                self.sizes.prompt_tokens += prompt.len();
                self.sizes.answer_tokens += limit;
                self.sizes.longest_text = self.sizes.longest_text.max(prompt.len() + limit);
            }
            self.tasks.push(task);
        }
        let sets: Vec<(String, u64)> =
            self.spec.cells.iter().filter_map(|c| c.calibration.clone().map(|set| (set, c.seed))).collect();
        for (set, seed) in sets {
            if !self.calibration.contains_key(&(set.clone(), seed)) {
                let found = calibration(&self.spec, &self.tokenizer, &mut self.hub, &set, seed, reporter)
                    .map_err(|e| e.at("calibration"))?;
                names_used |= found.names_used;
                self.calibration.insert((set, seed), found);
            }
        }
        fields.check_used(names_used).map_err(|e| e.at("fields"))
    }

    /// Lets hidden states stay on the device where it has room for them, with half of its free memory to spare: moving
    /// them takes as long as the blocks do.
    fn place_states(&mut self) {
        let Some(free) = self.gpu.as_ref().and_then(Gpu::sample).map(|gpu| gpu.free) else { return };
        self.sizes.states_on_device = true;
        self.sizes.states_on_device = self.sizes.memory(&self.stages).device_bytes <= free / 2;
    }

    /// What the study needs, beside what this machine has.
    pub fn estimate(&self, store: &Path) -> Estimate {
        let amounts = self.stages.iter().flat_map(|stage| self.sizes.cell(stage, 0, 0));
        let work: f64 = self.sizes.base(0).into_iter().chain(amounts).map(|(_, amount)| amount).sum();
        Estimate {
            host_available: sysinfo::host_memory().available + sysinfo::process_memory().resident,
            device_available: self.gpu.as_ref().and_then(Gpu::sample).map(|gpu| gpu.free),
            disk_available: sysinfo::disk_available(store).unwrap_or(0),
            seconds: work / self.speed,
            ..self.sizes.memory(&self.stages)
        }
    }

    /// The plan of a study that is not in the store.
    pub fn planned(&self) -> Vec<PlannedCell> {
        let fresh = |spec: &CellSpec| PlannedCell {
            id: spec.id(),
            spec: spec.clone(),
            state: CellState::Queued,
            blocks_done: 0,
        };
        self.spec.cells.iter().map(fresh).collect()
    }

    /// The model, for a plan.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The machine, for a plan.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Enters the study into the store, or takes it up again: `known` is its number there.
    pub fn begin(self, store: Store, known: Option<i64>, options: RunOptions) -> Result<Session> {
        let ropes = self.folder.config.rope_tables(self.spec.seq_len);
        let (study, base, base_state, mut cells) = if let Some(study) = known {
            let record = store.study(study)?;
            (study, record.base, record.base_state, record.cells)
        } else {
            let study = store.create_study(&self.spec, &self.info, &self.environment)?;
            (study, BaseResult::default(), CellState::Queued, Vec::new())
        };
        let mut spec = self.spec;
        for cell in &spec.cells {
            if !cells.iter().any(|c| c.id == cell.id()) {
                cells.push(CellResult::queued(cell));
            }
        }
        store.hold(study)?;
        spec.cells = cells.iter().map(|cell| cell.spec.clone()).collect();
        store.put_spec(study, &spec)?;
        for (position, cell) in cells.iter().enumerate() {
            store.put_cell(study, position, cell)?;
        }
        Ok(Session {
            spec,
            options,
            folder: self.folder,
            info: self.info,
            environment: self.environment,
            device: self.device,
            dtype: self.dtype,
            tokenizer: self.tokenizer,
            ropes,
            modules: self.modules,
            corpora: self.corpora,
            tasks: self.tasks,
            profile: self.profile,
            sizes: self.sizes,
            store,
            study,
            base,
            base_state,
            base_states: None,
            cells,
            hub: self.hub,
            calibration: self.calibration,
        })
    }
}

impl Session {
    /// Where hidden states are between blocks.
    pub fn home(&self) -> &Device {
        if self.sizes.states_on_device { &self.device } else { &Device::Cpu }
    }

    /// The cells that are not done, in order.
    pub fn unfinished(&self) -> Vec<CellSpec> {
        self.cells.iter().filter(|c| c.state != CellState::Done).map(|cell| cell.spec.clone()).collect()
    }

    /// Folder of a cell's checkpoints, or of the base's.
    pub fn checkpoints(&self, cell: Option<&str>) -> PathBuf {
        self.store.folder(self.study, cell)
    }

    /// All evaluation windows, corpus after corpus.
    pub fn evaluation_windows(&self) -> Vec<Vec<u32>> {
        self.corpora.iter().flat_map(|c| c.windows.iter().cloned()).collect()
    }

    /// The calibration windows of a set, loaded when first asked for.
    pub fn calibration_windows(
        &mut self,
        set: &str,
        seed: u64,
        reporter: &mut Reporter,
    ) -> Result<Vec<Vec<u32>>> {
        let key = (set.to_string(), seed);
        if !self.calibration.contains_key(&key) {
            let found = calibration(&self.spec, &self.tokenizer, &mut self.hub, set, seed, reporter)?;
            self.calibration.insert(key.clone(), found);
        }
        Ok(self.calibration[&key].windows.clone())
    }

    /// What a person should know of a calibration set that was loaded.
    pub fn calibration_warnings(&self, set: &str, seed: u64) -> &[String] {
        self.calibration.get(&(set.to_string(), seed)).map_or(&[], |set| &set.warnings)
    }

    /// Place of a cell in the study; one that is new is added at the end.
    pub fn position(&mut self, spec: &CellSpec) -> Result<usize> {
        let id = spec.id();
        if let Some(at) = self.cells.iter().position(|c| c.id == id) {
            let known = &self.cells[at];
            if known.spec.calibration == spec.calibration {
                return Ok(at);
            }
            return Err(Error::mistake(format!(
                "cell `{id}` is in the study already, calibrated on {}; accepted beside it is a set whose file name \
                 differs, not {}",
                known.spec.calibration.as_deref().unwrap_or("nothing"),
                spec.calibration.as_deref().unwrap_or("nothing")
            )));
        }
        let parameters = self.spec.prune.parameters();
        check_cell(spec, &self.folder, &self.modules, self.profile.as_ref(), &parameters)?;
        self.cells.push(CellResult::queued(spec));
        self.spec.cells.push(spec.clone());
        self.store.put_spec(self.study, &self.spec)?;
        Ok(self.cells.len() - 1)
    }

    /// What a cell's recipe asks for.
    pub fn stage(&self, cell: &CellSpec) -> Result<Stage> {
        Stage::of(&cell.recipe, &self.spec.prune.parameters())
    }

    pub fn block_level(&self, block: usize, level: Level) -> Result<Level> {
        self.profile.as_ref().map_or(Ok(level), |p| p.at(block, level))
    }
}

fn calibration(
    spec: &StudySpec,
    tokenizer: &Arc<Tokenizer>,
    hub: &mut LazyHub,
    set: &str,
    seed: u64,
    reporter: &mut Reporter,
) -> Result<CalibrationSet> {
    let (source, tokenizer, seq_len) = (set.to_string(), tokenizer.clone(), spec.seq_len);
    let (samples, sampling) = (spec.calibration.samples, spec.calibration.sampling);
    let fields = FieldNames::new(&spec.fields)?;
    let (text, names_used, drawn) = hub.read(reporter, move |files| {
        let text = data::load_text(&source, &fields, files)?;
        let drawn = data::calibration_windows(&text, &tokenizer, samples, seq_len, sampling, seed)?;
        Ok((text.warning(), text.names_used, drawn))
    })?;
    let (set, coverage) = (short_name(set), drawn.coverage);
    let thin = coverage.warning().map(|message| format!("calibration set {set}: {message}"));
    reporter.event(Event::Calibration { set, seed, coverage });
    let warnings: Vec<String> = text.into_iter().chain(thin).collect();
    for message in &warnings {
        reporter.warn(None, message.clone());
    }
    Ok(CalibrationSet { windows: drawn.windows, warnings, names_used })
}

/// What can be wrong with a study as a whole; returns the range of blocks to prune.
fn check_study(spec: &StudySpec, folder: &ModelFolder) -> Result<(usize, usize)> {
    let config = &folder.config;
    if spec.seq_len > config.max_positions {
        return Err(Error::mistake(format!(
            "seq_len {}: {} was made for up to {} tokens; choose a shorter window",
            spec.seq_len, spec.model, config.max_positions
        ))
        .at("seq-len"));
    }
    if spec.seq_len < 2 {
        return Err(Error::mistake("seq_len: a window needs at least 2 tokens to predict one from another")
            .at("seq-len"));
    }
    match spec.prune.blocks {
        Some((first, end)) if first >= end || end > config.blocks => Err(Error::mistake(format!(
            "blocks {first}..{end}: {} has blocks 0..{}; give a range a..b with a < b within it",
            spec.model, config.blocks
        ))
        .at("blocks")),
        Some(range) => Ok(range),
        None => Ok((0, config.blocks)),
    }
}

/// Understands a cell's recipe, and checks what can be wrong with it, given the model.
fn check_cell(
    cell: &CellSpec,
    folder: &ModelFolder,
    modules: &[Vec<ModuleId>],
    profile: Option<&Profile>,
    parameters: &Parameters,
) -> Result<Stage> {
    let stage = Stage::of(&cell.recipe, parameters)?;
    for (layout, chosen) in folder.config.layouts().zip(modules) {
        for module in chosen.iter().map(|id| layout.module(*id)) {
            stage.check(module.shape.1, module.short_name())?;
        }
    }
    if let Some(profile) = profile {
        for block in 0..folder.config.blocks {
            profile.at(block, stage.level)?;
        }
    }
    if stage.method.needs_calibration() && cell.calibration.is_none() {
        return Err(Error::mistake(format!(
            "{}: {} looks at data and needs a calibration set (--calibration)",
            cell.label(),
            stage.method.name()
        ))
        .at("calibration"));
    }
    Ok(stage)
}

fn environment(device: &Device, dtype: DType) -> Environment {
    Environment {
        version: env!("CARGO_PKG_VERSION").into(),
        device: device::device_name(device),
        compute_dtype: dtype.as_str().into(),
        threads: rayon::current_num_threads(),
        platform: sysinfo::platform(),
    }
}
