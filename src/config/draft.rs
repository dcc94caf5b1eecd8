//! What the settings are written into one by one, and what they come to together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::basics::Basics;
use super::computing_places::PlacesName;
use super::format::OutputFormat;
use super::places;
use super::value::SettingValue;
use crate::device;
use crate::engine::{Places, SlurmChoice};
use crate::error::{Error, Result};
use crate::export::ExportFormat;
use crate::kernels::ggml::GgmlMixture;
use crate::methods::{self, Family, GridLevels, METHODS, Method, MethodName, grid};
use crate::study::{
    CalibrationSpec, CellSpec, ComputeSpec, EvaluationSpec, FormatName, Level, PruneSpec, Recipe, Sampling,
    ScoredPositions, ShotsSpec, Sparsity, StudySpec,
};

/// The settings so far. Every field is written by an entry of the table.
#[derive(Debug)]
pub(super) struct SettingsDraft {
    pub model: Option<String>,
    pub methods: Vec<MethodName>,
    pub sparsities: Vec<Sparsity>,
    pub bits: Vec<u8>,
    pub group_sizes: Vec<String>,
    pub formats: Vec<FormatName>,
    pub structure: Vec<Level>,
    pub recipes: Vec<Recipe>,
    /// How strong the word was that methods or sparsities were given with, and that of the recipes.
    pub grid_strength: u8,
    pub recipes_strength: u8,
    pub seq_len: usize,
    pub seed: u64,
    pub calibration: CalibrationSpec,
    pub evaluation: EvaluationSpec,
    pub fields: BTreeMap<String, String>,
    pub prune: PruneSpec,
    pub device: String,
    /// With its place: whether it is accepted depends on the device.
    pub dtype: Option<SettingValue<String>>,
    pub threads: Option<usize>,
    pub workers: usize,
    pub devices: Vec<String>,
    pub places: PlacesName,
    pub jobs: usize,
    pub slurm: String,
    pub batch_tokens: usize,
    pub batch_prompts: usize,
    pub offline: bool,
    pub store: Option<PathBuf>,
    pub save_models: Option<PathBuf>,
    pub save_as: ExportFormat,
    pub save_quantized: Option<GgmlMixture>,
    pub format: OutputFormat,
}

impl SettingsDraft {
    pub fn new() -> Self {
        let calibration = CalibrationSpec { sets: Vec::new(), samples: 0, sampling: Sampling::default() };
        let evaluation = EvaluationSpec {
            corpora: Vec::new(),
            max_windows: None,
            score: ScoredPositions::default(),
            tasks: Vec::new(),
            task_limit: None,
            shots: ShotsSpec::default(),
            max_new_tokens: 0,
            prompt: None,
            disagreement: false,
        };
        Self {
            model: None,
            methods: Vec::new(),
            sparsities: Vec::new(),
            bits: Vec::new(),
            group_sizes: Vec::new(),
            formats: Vec::new(),
            structure: Vec::new(),
            recipes: Vec::new(),
            grid_strength: 0,
            recipes_strength: 0,
            seq_len: 0,
            seed: 0,
            calibration,
            evaluation,
            fields: BTreeMap::new(),
            prune: PruneSpec::default(),
            device: String::new(),
            dtype: None,
            threads: None,
            workers: 1,
            devices: Vec::new(),
            places: PlacesName::default(),
            jobs: 0,
            slurm: String::new(),
            batch_tokens: 0,
            batch_prompts: 0,
            offline: false,
            store: None,
            save_models: None,
            save_as: ExportFormat::default(),
            save_quantized: None,
            format: OutputFormat::default(),
        }
    }

    /// Who computes the cells.
    pub fn places(&mut self) -> Result<Places> {
        let options = std::mem::take(&mut self.slurm);
        let asks_for_slurm = self.places == PlacesName::Slurm || self.jobs > 0 || !options.trim().is_empty();
        let slurm = asks_for_slurm.then_some(SlurmChoice { jobs: self.jobs.max(1), options });
        Places::of(self.workers, std::mem::take(&mut self.devices), slurm)
    }

    /// What every command needs to know; `config_file` is the one that was read.
    pub fn basics(&self, config_file: Option<PathBuf>) -> Result<Basics> {
        let mut dtype = String::new();
        if let Some(found) = &self.dtype {
            found.text().unwrap_or_default().clone_into(&mut dtype);
            device::check_dtype(&dtype, &self.device).map_err(|e| found.mistake(e))?;
        }
        Ok(Basics {
            config_file,
            store: self.store.clone().map_or_else(default_store, Ok)?,
            threads: self.threads,
            offline: self.offline,
            device: self.device.clone(),
            dtype,
        })
    }

    /// The study; `cells` replace the grid of methods and sparsities.
    pub fn study(self, basics: &Basics, cells: Option<Vec<CellSpec>>) -> Result<StudySpec> {
        if self.model.is_some() && self.evaluation.corpora.is_empty() && self.evaluation.tasks.is_empty() {
            return Err(Error::mistake(
                "nothing to measure: --corpus (a text for perplexity and divergence) and --tasks (a task file) \
                 are both empty; give one of them",
            ));
        }
        let cells = cells.map_or_else(|| self.cells(), Ok)?;
        let Some(model) = self.model else {
            return Err(Error::mistake(
                "no model: --model (or SECATEUR_MODEL, or `model` in [study] of config.toml) takes a Hugging \
                 Face folder or a hub id such as HuggingFaceTB/SmolLM2-135M-Instruct",
            ));
        };
        // A set that no cell looks at is not part of the study: it would only be fetched for nothing.
        let needed = cells.iter().any(|cell| cell.calibration.is_some());
        let sets = if needed { self.calibration.sets } else { Vec::new() };
        Ok(StudySpec {
            model,
            cells,
            seq_len: self.seq_len,
            calibration: CalibrationSpec { sets, ..self.calibration },
            evaluation: self.evaluation,
            prune: self.prune,
            compute: ComputeSpec {
                device: basics.device.clone(),
                dtype: basics.dtype.clone(),
                batch_tokens: self.batch_tokens,
                batch_prompts: self.batch_prompts,
            },
            seed: self.seed,
            fields: self.fields,
        })
    }

    /// The recipes of the grid. Levels of a family of which no method is named are those of all its methods that
    /// suit every model.
    fn grid(&self) -> Vec<Recipe> {
        let mut methods: Vec<&dyn Method> = self.methods.iter().map(|MethodName(method)| *method).collect();
        let asked = [
            (Family::Quantise, !(self.bits.is_empty() && self.group_sizes.is_empty())),
            (Family::Format, !self.formats.is_empty()),
            (Family::Structure, !self.structure.is_empty()),
        ];
        for (family, _) in asked.into_iter().filter(|(_, asked)| *asked) {
            if methods.iter().all(|method| method.family() != family) {
                // Of what was not named, only that runs on every model, and to which a level says something.
                let takes = |method: &dyn Method| {
                    family != Family::Structure || self.structure.iter().any(|level| method.takes(*level))
                };
                let usual = |method: &&dyn Method| {
                    method.family() == family && method.suits_every_model() && takes(*method)
                };
                methods.extend(METHODS.iter().copied().filter(usual));
            }
        }
        let names: Vec<&str> = methods.iter().map(|method| method.name()).collect();
        let mut levels = GridLevels {
            sparsities: self.sparsities.clone(),
            bits: self.bits.clone(),
            group_sizes: self.group_sizes.clone(),
            formats: self.formats.clone(),
            structure: self.structure.clone(),
        };
        levels.fill_up();
        methods::recipes(&names, &levels)
    }

    /// The cells of the grid and of the recipes.
    fn cells(&self) -> Result<Vec<CellSpec>> {
        let mut recipes = Vec::new();
        if self.recipes.is_empty() || self.grid_strength >= self.recipes_strength {
            recipes = self.grid();
        }
        if self.recipes_strength >= self.grid_strength {
            recipes.extend_from_slice(&self.recipes);
        }
        self.cells_of(&recipes)
    }

    /// The cells of these recipes.
    pub fn cells_of(&self, recipes: &[Recipe]) -> Result<Vec<CellSpec>> {
        let sets = &self.calibration.sets;
        match recipes.iter().find(|recipe| methods::needs_calibration(recipe)) {
            Some(recipe) if sets.is_empty() => Err(Error::mistake(format!(
                "{} needs a calibration set and none is given: --calibration (or `sets` in [calibration]) takes a \
                 name such as c4, or a file",
                recipe.method()
            ))),
            _ => Ok(grid(recipes, sets, self.seed)),
        }
    }
}

fn default_store() -> Result<PathBuf> {
    places::data_folder().map(|folder| folder.join("studies.db")).ok_or_else(|| {
        Error::mistake("no folder for results: neither XDG_DATA_HOME nor HOME is set; --store FILE names one")
    })
}
