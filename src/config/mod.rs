//! Settings: flags and variables over `config.toml` over the defaults of the [table](settings), each checked, each
//! mistake naming where it was made.

mod basics;
mod computing_places;
mod docs;
mod draft;
mod entry;
mod file;
mod format;
mod given;
mod layers;
mod list;
pub(crate) mod places;
mod setting;
mod table;
mod value;

use std::path::Path;

pub use basics::Basics;
pub use docs::{documented_file, markdown};
pub use format::OutputFormat;
pub use given::{Given, Means};
pub(crate) use list::split_list;
pub(crate) use setting::FormField;
pub use setting::Setting;
pub use table::{setting, settings};

use layers::Layers;

use crate::engine::RunOptions;
use crate::error::{Error, Result};
use crate::export::ExportOptions;
use crate::study::{CellSpec, Recipe, StudySpec};

/// Everything that `secateur run` goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is measured and how.
    pub study: StudySpec,
    /// How it is run.
    pub run: RunOptions,
    /// What is written to standard output.
    pub format: OutputFormat,
    /// Store, threads, network.
    pub basics: Basics,
}

/// Which cells a study has.
enum CellChoice {
    /// Those that the settings say.
    Grid,
    Cells(Vec<CellSpec>),
    Recipe(Recipe),
}

impl Basics {
    /// Reads the config file (`config` names one) and what of it every command needs.
    ///
    /// # Errors
    /// A mistake in a file that cannot be read or understood, or in a value that is not accepted.
    pub fn load(config: Option<&Path>, given: &Given) -> Result<Self> {
        let layers = Layers::new(config, given)?;
        let draft = layers.draft(settings().iter().filter(|setting| setting.is_of_machine()))?;
        draft.basics(layers.config_file())
    }
}

impl Settings {
    /// Whether flags, variables or the config file name a model to study.
    ///
    /// # Errors
    /// A mistake in a config file that cannot be read or understood.
    pub fn name_a_model(config: Option<&Path>, given: &Given) -> Result<bool> {
        let layers = Layers::new(config, given)?;
        Ok(layers.draft(setting("model"))?.model.is_some())
    }

    /// Puts flags, variables and the config file together (`config` names one) and checks everything. `run` is how the
    /// study is run, as far as that is no setting.
    ///
    /// # Errors
    /// A mistake, for the first thing that is not accepted: it names the flag, variable or line of the file, what was
    /// found and what is accepted.
    pub fn load(config: Option<&Path>, given: &Given, run: RunOptions) -> Result<Self> {
        Self::put_together(config, given, run, CellChoice::Grid)
    }

    /// Refuses flags that say how models are saved where none are. A config file may say so for later.
    ///
    /// # Errors
    /// A mistake that names the flag.
    pub fn check_save_flags(&self, given: &Given) -> Result<()> {
        let mut flags = ["save-as", "save-quantized"].into_iter().filter_map(setting);
        let typed = |setting: &'static Setting| match given.get(setting)? {
            (Means::Flag, words) => words.first().map(|word| (setting.flag(), word)),
            (Means::Variable, _) => None,
        };
        match flags.find_map(typed) {
            Some((flag, word)) if self.run.save_models.is_none() => Err(Error::mistake(format!(
                "--{flag} {word} says how models are saved, and --save-models is missing: accepted is a folder there, \
                 below which every finished cell is saved"
            ))),
            _ => Ok(()),
        }
    }

    /// The same for a study of these cells, instead of a grid of methods and sparsities.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_cells(config: Option<&Path>, given: &Given, cells: Vec<CellSpec>) -> Result<Self> {
        Self::put_together(config, given, RunOptions::default(), CellChoice::Cells(cells))
    }

    /// The same for a study of one recipe, with every calibration set where it looks at data.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn of_recipe(
        config: Option<&Path>,
        given: &Given,
        run: RunOptions,
        recipe: Recipe,
    ) -> Result<Self> {
        Self::put_together(config, given, run, CellChoice::Recipe(recipe))
    }

    #[allow(clippy::needless_pass_by_value, reason = "its parts are moved into the settings")]
    fn put_together(
        config: Option<&Path>,
        given: &Given,
        run: RunOptions,
        choice: CellChoice,
    ) -> Result<Self> {
        let layers = Layers::new(config, given)?;
        let mut draft = layers.draft(settings())?;
        let basics = draft.basics(layers.config_file())?;
        let (format, save_models, save_as) = (draft.format, draft.save_models.take(), draft.save_as);
        let save_options = ExportOptions { quantize: draft.save_quantized };
        let places = draft.places()?;
        let cells = match choice {
            CellChoice::Grid => None,
            CellChoice::Cells(cells) => Some(cells),
            CellChoice::Recipe(recipe) => Some(draft.cells_of(&[recipe])?),
        };
        Ok(Self {
            study: draft.study(&basics, cells)?,
            run: RunOptions { save_models, save_as, save_options, places, ..run },
            format,
            basics,
        })
    }
}
