//! A study before the store is asked: model and data are found, checked and read.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use tokenizers::Tokenizer;

use super::Reporter;
use super::calibration::CalibrationSets;
use super::choice_requests::PreparedChoices;
use super::content;
use super::costs::Sizes;
use super::dense_model::LOSS_WINDOWS;
use super::evaluate::Corpus;
use super::event::{Phase, PlannedCell, ResourceEstimate};
use super::experts::most_held;
use super::files::LazyHub;
use super::gpu::Gpu;
use super::place::Place;
use super::places::Places;
use super::prompts::PreparedTask;
use super::speed;
use super::study::Study;
use crate::data::{self, FieldNames, Task, TaskRecords};
use crate::device;
use crate::error::{Error, Result};
use crate::interrupt::{GoOn, interruptible};
use crate::kernels::device::start;
use crate::methods::{Procedure, Profile};
use crate::model::{ModelFolder, PromptFormat, Tree, empty_text_token, load_tokenizer};
use crate::results::{CellState, Environment};
use crate::study::{CellSpec, EvaluationSpec, StudyContent, StudySpec};
use crate::sysinfo;

/// A study that can run.
pub(super) struct StudyDraft {
    pub study: Study,
    pub sets: CalibrationSets,
    device: Device,
    /// The device's GPU, where it tells what it does.
    gpu: Option<Gpu>,
    /// The recipes of the cells, understood.
    procedures: Vec<Procedure>,
    /// Operations per second, measured.
    pub speed: f64,
}

impl StudyDraft {
    /// Finds model and data, checks that the study can work, and measures the machine.
    ///
    /// # Errors
    /// [`Error::Mistake`] for everything that a user can put right, before any hours are spent.
    pub fn new(spec: StudySpec, places: &Places, offline: bool, reporter: &mut Reporter) -> Result<Self> {
        let computing = ComputingDevice::of(&spec, places)?;
        let ComputingDevice { device, dtype, .. } = &computing;
        let (device, dtype) = (device.clone(), *dtype);
        let kernels = start::prepare(&device);
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
        let path = folder.tokenizer.clone();
        let tokenizer = Arc::new(interruptible(&mut || reporter.boundary(), move |_| load_tokenizer(&path))?);
        let sizes = Sizes {
            config: folder.config.clone(),
            seq_len: spec.seq_len,
            calibration_windows: spec.calibration.samples,
            evaluation_windows: 0,
            choice_tokens: 0,
            choice_rows: 0,
            prompts: 0,
            prompt_tokens: 0,
            answer_tokens: 0,
            longest_text: 0,
            scored: spec.evaluation.score,
            disagreement: spec.evaluation.disagreement,
            batch_tokens: spec.compute.batch_tokens,
            batch_prompts: spec.compute.batch_prompts,
            modules: modules.clone(),
            blocks,
            compute_bytes: dtype.size_in_bytes(),
            disk_bytes: folder.dtype().size_in_bytes(),
            on_host: device.is_cpu(),
            states_on_device: device.is_cpu(),
            held_experts: usize::MAX,
            host_slower: 1.0,
        };
        let layouts = folder.config.layouts().zip(&modules).take(blocks.1).skip(blocks.0);
        let compressed = layouts.flat_map(|(layout, chosen)| chosen.iter().map(|id| layout.module(*id)));
        let study = Study {
            info: folder.info(&spec.model, compressed),
            environment: environment(computing.name, dtype),
            ropes: folder.config.rope_tables(spec.seq_len),
            corpora: Vec::new(),
            tasks: Vec::new(),
            choices: Vec::new(),
            spec,
            folder,
            dtype,
            tokenizer,
            modules,
            profile,
            sizes,
        };
        let procedures = study.spec.cells.iter().map(|cell| study.check_cell(cell)).collect::<Result<_>>()?;
        let gpu = Gpu::of(&device);
        let sets = CalibrationSets::new(hub);
        let mut draft = Self { study, sets, device, gpu, procedures, speed: 0.0 };
        draft.load_data(reporter)?;
        draft.study.sizes.held_experts = most_held(draft.free_memory());
        let sizes = &draft.study.sizes;
        let shape = (sizes.config.hidden_size, sizes.widest_output());
        interruptible(&mut || reporter.boundary(), move |_| {
            kernels.wait();
            Ok(())
        })?;
        draft.speed = speed::measured(&draft.device, draft.study.dtype, shape)?;
        if !draft.device.is_cpu() {
            draft.study.sizes.host_slower = draft.speed / speed::measured(&Device::Cpu, DType::F32, shape)?;
            draft.place_states();
        }
        Ok(draft)
    }

    fn load_data(&mut self, reporter: &mut Reporter) -> Result<()> {
        let study = &mut self.study;
        let evaluation = &study.spec.evaluation;
        let fields = FieldNames::new(&study.spec.fields).map_err(|e| e.at("fields"))?;
        let mut names_used = false;
        for source in &evaluation.corpora {
            let (source, tokenizer, fields) = (source.clone(), study.tokenizer.clone(), fields.clone());
            let (seq_len, most) = (study.spec.seq_len, evaluation.max_windows);
            let corpus = self.sets.hub.read(reporter, move |files| {
                let text = data::load_text(&source, &fields, files)?;
                let windows = data::evaluation_windows(&text, &tokenizer, seq_len, most)?;
                Ok((text.warning(), text.names_used, Corpus { name: text.name, windows }))
            });
            let (warning, used, corpus) = corpus.map_err(|e| e.at("corpus"))?;
            names_used |= used;
            if let Some(message) = warning {
                reporter.warn(None, message);
            }
            study.sizes.evaluation_windows += corpus.windows.len();
            study.corpora.push(corpus);
        }
        names_used |= self.load_tasks(&fields, reporter)?;
        for cell in &self.study.spec.cells {
            let Some(set) = &cell.calibration else { continue };
            let found = self.sets.get((set, cell.seed), &self.study, reporter);
            names_used |= found.map_err(|e| e.at("calibration"))?.names_used;
        }
        fields.check_used(names_used).map_err(|e| e.at("fields"))
    }

    /// Returns whether records were read by names that the user gave.
    fn load_tasks(&mut self, fields: &FieldNames, reporter: &mut Reporter) -> Result<bool> {
        let study = &mut self.study;
        let evaluation = &study.spec.evaluation;
        evaluation.shots.check(&evaluation.tasks).map_err(|e| e.at("shots-from"))?;
        let format = PromptFormat::for_model(&study.folder, evaluation.prompt.as_deref())
            .map_err(|e| e.at("prompt"))?;
        let start = empty_text_token(&study.folder, &study.tokenizer).map_err(|e| e.at("model"))?;
        let mut names_used = false;
        for source in &evaluation.tasks {
            let (source, format, tokenizer) = (source.clone(), format.clone(), study.tokenizer.clone());
            let (fields, shots, seed) = (fields.clone(), evaluation.shots.clone(), study.spec.seed);
            let (limit, longest) = (evaluation.task_limit, evaluation.max_new_tokens);
            let positions = study.folder.config.max_positions;
            let task = self.sets.hub.read(reporter, move |files| {
                let task = data::load_task(&source, limit, &fields, files)?;
                let task = data::put_examples(task, &source, &shots, seed, &fields, files)
                    .map_err(|e| e.at("shots"))?;
                let (warnings, used) = (task.warnings(), task.names_used);
                let go_on = &mut || files.abandoned.check();
                let task = Prepared::new(task, &format, &tokenizer, (positions, longest, start), go_on)?;
                Ok((warnings, used, task))
            });
            let (warnings, used, task) = task.map_err(|e| e.at("tasks"))?;
            names_used |= used;
            let warnings = warnings.into_iter().chain(task.warnings(positions, evaluation));
            warnings.for_each(|message| reporter.warn(None, message));
            match task {
                Prepared::Questions(task) => {
                    study.sizes.add_prompts(&task.prompts, &task.limits);
                    study.tasks.push(task);
                }
                Prepared::Choices(task) => {
                    study.sizes.choice_tokens +=
                        task.trees.iter().map(|tree| tree.shape().rows()).sum::<usize>();
                    study.sizes.choice_rows += task.scored_rows();
                    study.choices.push(task);
                }
            }
        }
        let lengths = study.choices.iter().flat_map(|task| &task.trees).map(Tree::length);
        let longest = lengths.max().unwrap_or(0);
        if let Some(limit) = study.folder.config.length_limit() {
            check_lengths(study, longest, limit)?;
        }
        if longest > study.spec.seq_len {
            study.ropes = study.folder.config.rope_tables(longest);
        }
        Ok(names_used)
    }

    /// Lets hidden states stay on the device where it has room for them, with half of its free memory to spare: moving
    /// them takes as long as the blocks do.
    fn place_states(&mut self) {
        let Some(free) = self.gpu.as_ref().and_then(Gpu::sample).map(|gpu| gpu.free) else { return };
        self.study.sizes.states_on_device = true;
        self.study.sizes.states_on_device =
            self.study.sizes.memory(&self.procedures).device_bytes <= free / 2;
    }

    /// Bytes that are free where blocks are computed.
    fn free_memory(&self) -> Option<u64> {
        if self.device.is_cpu() {
            return Some(sysinfo::host_memory().available).filter(|free| *free > 0);
        }
        self.gpu.as_ref().and_then(Gpu::sample).map(|gpu| gpu.free)
    }

    /// What the study needs, beside what this machine has.
    pub fn estimate(&self, store: &Path) -> ResourceEstimate {
        let sizes = &self.study.sizes;
        let amounts = self.procedures.iter().flat_map(|procedure| sizes.cell(procedure, 0, 0));
        let trials = self.procedures.iter().flat_map(|procedure| sizes.trials(procedure, LOSS_WINDOWS, 0));
        let surveys = self.surveyed_sets().flat_map(|_| sizes.survey(0));
        let work = sizes.base(0).into_iter().chain(amounts).chain(trials).chain(surveys);
        let work: f64 = work.map(|(_, amount)| amount).sum();
        ResourceEstimate {
            host_available: sysinfo::host_memory().available + sysinfo::process_memory().resident,
            device_available: self.gpu.as_ref().and_then(Gpu::sample).map(|gpu| gpu.free),
            disk_available: sysinfo::disk_available(store).unwrap_or(0),
            seconds: work / self.speed,
            ..sizes.memory(&self.procedures)
        }
    }

    /// The calibration sets that a survey is made of, once each.
    fn surveyed_sets(&self) -> impl Iterator<Item = (&str, u64)> {
        let blocks = self.study.folder.config.blocks;
        let cells = self.study.spec.cells.iter().zip(&self.procedures);
        let surveyed = cells
            .filter(move |(_, procedure)| procedure.reads_survey(blocks) || procedure.allocation().is_some());
        let sets = surveyed.filter_map(|(cell, _)| Some((cell.calibration.as_deref()?, cell.seed)));
        sets.collect::<std::collections::BTreeSet<_>>().into_iter()
    }

    /// The plan of a study that is not in the store.
    pub fn planned(&self) -> Vec<PlannedCell> {
        let fresh = |spec: &CellSpec| PlannedCell {
            id: spec.id(),
            spec: spec.clone(),
            state: CellState::Queued,
            blocks_done: 0,
        };
        self.study.spec.cells.iter().map(fresh).collect()
    }

    /// The device that was chosen, for this study.
    pub fn place(&self) -> Place {
        Place::new(self.device.clone(), &self.study.sizes)
    }

    /// What the files hold that the study reads.
    ///
    /// # Errors
    /// Files that cannot be read; [`Error::Cancelled`] when the study is to end.
    pub fn content(&self, reporter: &mut Reporter) -> Result<StudyContent> {
        let study = &self.study;
        Ok(StudyContent {
            model: content::of_model(&study.folder, &mut || reporter.boundary())?,
            corpora: content::of_corpora(&study.corpora),
            tasks: content::of_tasks(&study.tasks, &study.choices, &study.folder.config),
            profile: study.spec.prune.profile.as_deref().map(content::of_file).transpose()?,
            calibration: self.sets.digests().collect(),
            contamination: self.sets.contamination().cloned().collect(),
        })
    }
}

/// A task file, tokenised.
enum Prepared {
    Questions(PreparedTask),
    Choices(PreparedChoices),
}

impl Prepared {
    /// For a model of so many positions, answers of so many tokens, and what stands for an empty context.
    fn new(
        task: Task,
        format: &PromptFormat,
        tokenizer: &Tokenizer,
        (positions, longest, start): (usize, usize, Option<u32>),
        go_on: &mut GoOn<'_>,
    ) -> Result<Self> {
        Ok(match task.records {
            TaskRecords::Questions(records) => {
                let named = (task.name, records);
                Self::Questions(PreparedTask::new(named, format, tokenizer, positions, longest, go_on)?)
            }
            TaskRecords::Choices(records) => {
                let named = (task.name, records);
                Self::Choices(PreparedChoices::new(named, tokenizer, (positions, start), go_on)?)
            }
        })
    }

    fn warnings(&self, positions: usize, evaluation: &EvaluationSpec) -> Vec<String> {
        match self {
            Self::Questions(task) => {
                let cut = task.cut_short(positions, evaluation.max_new_tokens);
                let without_examples = (evaluation.shots.count > 0).then(|| {
                    format!(
                        "task {}: its questions are answered in words, and get no examples (--shots)",
                        task.name
                    )
                });
                cut.into_iter().chain(task.misjudged()).chain(without_examples).collect()
            }
            Self::Choices(task) => task.warning(positions).into_iter().collect(),
        }
    }
}

/// Refuses texts of several lengths of which some are rotated in another way than others: one table serves all.
fn check_lengths(study: &Study, longest_choice: usize, limit: usize) -> Result<()> {
    let (seq_len, longest_answer) = (study.spec.seq_len, study.sizes.longest_text);
    let longest = longest_choice.max(longest_answer);
    if longest > limit || (longest_choice > 0 && seq_len > limit) {
        return Err(Error::mistake(format!(
            "{}: its rotary embedding changes with the length of a text of more than {limit} tokens, and these tasks would \
             be computed with texts of up to {}: accepted are shorter records, answers (--max-new-tokens) and windows \
             (--seq-len)",
            study.spec.model,
            longest.max(seq_len)
        ))
        .at("tasks"));
    }
    Ok(())
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
    if spec.evaluation.score.of(spec.seq_len).is_empty() {
        return Err(Error::mistake(
            "seq_len: the second half of a window of 2 tokens has no token to predict; it needs at least 3",
        )
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

/// Where a study computes, as far as this process can tell.
struct ComputingDevice {
    /// This process's own: what it estimates with, and computes with unless jobs compute everything.
    device: Device,
    /// How reports call the one that cells are computed on.
    name: String,
    dtype: DType,
}

impl ComputingDevice {
    fn of(spec: &StudySpec, places: &Places) -> Result<Self> {
        let wanted = &spec.compute.device;
        let device = device::choose_device(places.own_device(wanted)).map_err(|e| e.at("device"))?;
        let dtype = &spec.compute.dtype;
        if places.compute_base() {
            let name = places.device_of_jobs(wanted).to_owned();
            let dtype = device::dtype_on(dtype, &name).map_err(|e| e.at("dtype"))?;
            return Ok(Self { device, name, dtype });
        }
        let dtype = device::choose_dtype(dtype, &device).map_err(|e| e.at("dtype"))?;
        Ok(Self { name: device::device_name(&device), device, dtype })
    }
}

fn environment(device: String, dtype: DType) -> Environment {
    Environment {
        version: env!("CARGO_PKG_VERSION").into(),
        device,
        compute_dtype: dtype.as_str().into(),
        threads: rayon::current_num_threads(),
        platform: sysinfo::platform(),
    }
}
