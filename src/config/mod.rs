//! Settings: flags and variables over `config.toml` over the built-in defaults, each checked, each mistake naming
//! where it was made.

mod file;
pub mod places;
mod value;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use file::BUILT_IN;
use file::ConfigFile;
use value::{Layers, Sourced};

use crate::cli::{RunArgs, SettingsArgs};
use crate::device;
use crate::engine::{EngineOptions, RunOptions};
use crate::error::{Error, Result};
use crate::study::{
    CalibrationSpec, ComputeSpec, EvaluationSpec, Method, PruneSpec, Sparsity, StudySpec, grid,
};

/// What `secateur run` writes to its standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A table for people, at the end.
    #[default]
    Table,
    /// One JSON object, at the end.
    Json,
    /// One event a line, as they come.
    Jsonl,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "jsonl" => Ok(Self::Jsonl),
            _ => Err(Error::mistake(format!("unknown format `{s}`: accepted are table, json, jsonl"))),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
        })
    }
}

/// What every command needs to know, studies or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basics {
    /// The config file that was read; `None` is the built-in one.
    pub config_file: Option<PathBuf>,
    /// The results database.
    pub store: PathBuf,
    /// Worker threads; `None` is one a core.
    pub threads: Option<usize>,
    /// Never ask the network.
    pub offline: bool,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// `auto`, `f32`, `bf16` or `f16`.
    pub dtype: String,
}

/// Everything that `secateur run` goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is measured and how.
    pub study: StudySpec,
    /// How it is run.
    pub run: RunOptions,
    /// What is written to standard output.
    pub format: Format,
    /// Store, threads, network.
    pub basics: Basics,
}

/// Asks the layers for one setting: the field of the flag, then section and key of the file.
macro_rules! pick {
    ($layers:expr, $field:ident, $section:ident.$key:ident) => {
        $layers.pick(stringify!($field), $layers.args.$field.clone(), stringify!($key), |keys| {
            keys.$section.$key.as_ref()
        })
    };
}

impl Basics {
    /// Reads the config file (`config` names one) and what of it every command needs.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a file that cannot be read or understood, or a value that is not accepted.
    pub fn load(config: Option<&Path>, args: &SettingsArgs) -> Result<Self> {
        Self::from_layers(&layers(config, args)?)
    }

    fn from_layers(layers: &Layers<'_>) -> Result<Self> {
        let store = pick!(layers, store, output.store)?;
        let threads = pick!(layers, threads, compute.threads)?;
        if threads.value > 1024 {
            return Err(threads.refuse(threads.value, "a whole number from 0 (one a core) to 1024"));
        }
        let device: Sourced<String> = pick!(layers, device, compute.device)?;
        let dtype: Sourced<String> = pick!(layers, dtype, compute.dtype)?;
        device::check_device(device.value.trim()).map_err(|e| device.mistake(e))?;
        device::check_dtype(dtype.value.trim(), device.value.trim()).map_err(|e| dtype.mistake(e))?;
        Ok(Self {
            config_file: layers.file.as_ref().and_then(|file| file.path.clone()),
            store: match store.path() {
                Some(path) => path,
                None => default_store()?,
            },
            threads: threads.nonzero(),
            offline: pick!(layers, offline, compute.offline)?.value,
            device: device.value.trim().to_owned(),
            dtype: dtype.value.trim().to_owned(),
        })
    }

    /// What the engine is started with.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions { store: self.store.clone(), threads: self.threads, offline: self.offline }
    }
}

impl Settings {
    /// Whether flags, variables or the config file name a model to study.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a config file that cannot be read or understood.
    pub fn name_a_model(config: Option<&Path>, args: &SettingsArgs) -> Result<bool> {
        let layers = layers(config, args)?;
        let model: Sourced<String> = pick!(layers, model, study.model)?;
        Ok(model.model().is_some())
    }

    /// Puts flags, variables and the config file together (`config` names one) and checks everything.
    ///
    /// # Errors
    /// [`Error::Mistake`], one for the first thing that is not accepted: it names the flag, variable or line of
    /// the file, what was found and what is accepted.
    pub fn load(config: Option<&Path>, args: &RunArgs) -> Result<Self> {
        let layers = layers(config, &args.settings)?;
        let basics = Basics::from_layers(&layers)?;
        let save_models = pick!(layers, save_models, output.save_models)?;
        let format = pick!(layers, format, output.format)?.parse()?;
        Ok(Self {
            study: study(&layers, &basics)?,
            run: RunOptions {
                resume: args.resume,
                dry_run: args.dry_run,
                force: args.force,
                save_models: save_models.path(),
            },
            format,
            basics,
        })
    }
}

fn layers<'a>(config: Option<&Path>, args: &'a SettingsArgs) -> Result<Layers<'a>> {
    Ok(Layers { args, file: ConfigFile::find(config)?, built_in: ConfigFile::built_in()? })
}

fn default_store() -> Result<PathBuf> {
    places::data_folder().map(|folder| folder.join("studies.db")).ok_or_else(|| {
        Error::mistake("no folder for results: neither XDG_DATA_HOME nor HOME is set; --store FILE names one")
    })
}

fn study(layers: &Layers<'_>, basics: &Basics) -> Result<StudySpec> {
    let model: Sourced<String> = pick!(layers, model, study.model)?;
    let Some(model) = model.model() else {
        return Err(Error::mistake(
            "no model: --model (or SECATEUR_MODEL, or `model` in [study] of config.toml) takes a Hugging Face \
             folder or a hub id such as HuggingFaceTB/SmolLM2-135M-Instruct",
        ));
    };
    let methods: Sourced<Vec<String>> = pick!(layers, methods, study.methods)?;
    let sparsity: Sourced<Vec<String>> = pick!(layers, sparsity, study.sparsity)?;
    let seed = pick!(layers, seed, study.seed)?.value;
    let calibration = calibration(layers)?;

    let chosen: Vec<Method> = methods.parse_all()?;
    if chosen.is_empty() {
        return Err(methods.mistake("found nothing; accepted is one or more of magnitude, wanda, sparsegpt"));
    }
    let sparsities: Vec<Sparsity> = sparsity.parse_all()?;
    if sparsities.is_empty() {
        return Err(sparsity.mistake("found nothing; accepted is one or more fractions (0.5) or N:M (2:4)"));
    }
    let hungry = chosen.iter().find(|method| method.needs_calibration());
    if let (Some(method), true) = (hungry, calibration.sets.is_empty()) {
        return Err(Error::mistake(format!(
            "{method} needs a calibration set and none is given: --calibration (or `sets` in [calibration]) takes \
             a name such as c4, or a file"
        )));
    }
    // A set that no cell looks at is not part of the study: it would only be fetched for nothing.
    let sets = if hungry.is_some() { calibration.sets } else { Vec::new() };

    Ok(StudySpec {
        model,
        cells: grid(&chosen, &sparsities, &sets, seed),
        seq_len: pick!(layers, seq_len, study.seq_len)?.at_least(2)?,
        calibration: CalibrationSpec { sets, ..calibration },
        evaluation: evaluation(layers)?,
        prune: prune(layers)?,
        compute: ComputeSpec {
            device: basics.device.clone(),
            dtype: basics.dtype.clone(),
            batch_tokens: pick!(layers, batch_tokens, compute.batch_tokens)?.at_least(1)?,
            batch_prompts: pick!(layers, batch_prompts, compute.batch_prompts)?.at_least(1)?,
        },
        seed,
    })
}

fn calibration(layers: &Layers<'_>) -> Result<CalibrationSpec> {
    Ok(CalibrationSpec {
        sets: pick!(layers, calibration, calibration.sets)?.data_sets()?,
        samples: pick!(layers, calibration_samples, calibration.samples)?.at_least(1)?,
        sampling: pick!(layers, sampling, calibration.sampling)?.parse()?,
    })
}

fn evaluation(layers: &Layers<'_>) -> Result<EvaluationSpec> {
    let corpora = pick!(layers, corpus, evaluation.corpora)?.data_sets()?;
    let tasks = pick!(layers, tasks, evaluation.tasks)?.data_sets()?;
    if corpora.is_empty() && tasks.is_empty() {
        return Err(Error::mistake(
            "nothing to measure: --corpus (a text for perplexity and divergence) and --tasks (a task file) are \
             both empty; give one of them",
        ));
    }
    let prompt: Sourced<String> = pick!(layers, prompt, evaluation.prompt)?;
    if prompt.text().is_some_and(|text| !text.contains("{instruction}")) {
        return Err(prompt.refuse(&prompt.value, "a template with {instruction} in it (and {input})"));
    }
    Ok(EvaluationSpec {
        corpora,
        max_windows: pick!(layers, max_windows, evaluation.max_windows)?.nonzero(),
        tasks,
        task_limit: pick!(layers, task_limit, evaluation.task_limit)?.nonzero(),
        max_new_tokens: pick!(layers, max_new_tokens, evaluation.max_new_tokens)?.at_least(1)?,
        prompt: prompt.text().is_some().then_some(prompt.value),
        disagreement: pick!(layers, disagreement, evaluation.disagreement)?.value,
    })
}

fn prune(layers: &Layers<'_>) -> Result<PruneSpec> {
    let modules: Sourced<Vec<String>> = pick!(layers, modules, prune.modules)?;
    let chosen: Vec<String> = modules.words().into_iter().map(str::to_owned).collect();
    if chosen.is_empty() {
        return Err(modules.mistake(
            "found nothing; accepted are names of the model's modules (q_proj, mlp.*), or * for all of them",
        ));
    }
    let damping: Sourced<f64> = pick!(layers, damping, prune.damping)?;
    if !(damping.value.is_finite() && damping.value > 0.0) {
        return Err(damping.refuse(damping.value, "a number above 0, such as 0.01"));
    }
    Ok(PruneSpec {
        modules: chosen,
        blocks: blocks(&pick!(layers, blocks, prune.blocks)?)?,
        damping: damping.value,
        block_size: pick!(layers, block_size, prune.block_size)?.at_least(1)?,
        profile: pick!(layers, profile, prune.profile)?.path(),
    })
}

/// `a..b` as first and one past the last block; nothing is all of them.
fn blocks(range: &Sourced<String>) -> Result<Option<(usize, usize)>> {
    let Some(text) = range.text() else { return Ok(None) };
    let ends = text.split_once("..").and_then(|(first, end)| {
        let ends: (usize, usize) = (first.trim().parse().ok()?, end.trim().parse().ok()?);
        (ends.0 < ends.1).then_some(ends)
    });
    match ends {
        Some(ends) => Ok(Some(ends)),
        None => Err(range.refuse(text, "a range a..b with a < b: 0..16 is the first sixteen blocks")),
    }
}
