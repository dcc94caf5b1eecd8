//! Settings: flags and variables over `config.toml` over the defaults of the [table](settings), each checked, each
//! mistake naming where it was made.

mod docs;
mod draft;
mod entry;
mod file;
mod format;
mod found;
mod given;
pub mod places;
mod setting;
mod table;

use std::path::{Path, PathBuf};

pub use docs::{documented_file, markdown};
pub use format::Format;
pub use given::{Given, Means, join_list, split_list};
pub use setting::{FormField, SECTIONS, Setting};
pub use table::{setting, settings};

use draft::Draft;
use file::ConfigFile;
use found::{Found, Place};
use setting::Kind;

use crate::engine::{EngineOptions, RunOptions};
use crate::error::Result;
use crate::study::{CellSpec, StudySpec};

/// What every command needs to know, studies or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basics {
    /// The config file that was read; `None` where there is none.
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

impl Basics {
    /// Reads the config file (`config` names one) and what of it every command needs.
    ///
    /// # Errors
    /// A mistake in a file that cannot be read or understood, or in a value that is not accepted.
    pub fn load(config: Option<&Path>, given: &Given) -> Result<Self> {
        let layers = Layers::new(config, given)?;
        let mut draft = Draft::new();
        for setting in settings().iter().filter(|setting| setting.is_of_machine()) {
            layers.apply(setting, &mut draft)?;
        }
        draft.basics(layers.config_file())
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
    /// A mistake in a config file that cannot be read or understood.
    pub fn name_a_model(config: Option<&Path>, given: &Given) -> Result<bool> {
        let layers = Layers::new(config, given)?;
        let mut draft = Draft::new();
        if let Some(model) = setting("model") {
            layers.apply(model, &mut draft)?;
        }
        Ok(draft.model.is_some())
    }

    /// Puts flags, variables and the config file together (`config` names one) and checks everything. `run` is how the
    /// study is run, as far as that is no setting.
    ///
    /// # Errors
    /// A mistake, for the first thing that is not accepted: it names the flag, variable or line of the file, what was
    /// found and what is accepted.
    pub fn load(config: Option<&Path>, given: &Given, run: RunOptions) -> Result<Self> {
        Self::put_together(config, given, run, None)
    }

    /// The same for a study of these cells, instead of a grid of methods and sparsities.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_cells(config: Option<&Path>, given: &Given, cells: Vec<CellSpec>) -> Result<Self> {
        Self::put_together(config, given, RunOptions::default(), Some(cells))
    }

    fn put_together(
        config: Option<&Path>,
        given: &Given,
        run: RunOptions,
        cells: Option<Vec<CellSpec>>,
    ) -> Result<Self> {
        let layers = Layers::new(config, given)?;
        let mut draft = Draft::new();
        for setting in settings() {
            layers.apply(setting, &mut draft)?;
        }
        let basics = draft.basics(layers.config_file())?;
        let (format, save_models) = (draft.format, draft.save_models.take());
        Ok(Self {
            study: draft.study(&basics, cells)?,
            run: RunOptions { save_models, ..run },
            format,
            basics,
        })
    }
}

impl Setting {
    /// Why a text that was typed into the form cannot be this setting's, as far as the text alone tells.
    pub fn refusal(&'static self, text: &str) -> Option<String> {
        let words = [text.to_owned()];
        let found = Found { value: &words[..], setting: self, place: Place::Flag };
        let refused = match self.kind() {
            Kind::List(_) | Kind::Text(_) => None,
            Kind::Whole { least, most, .. } => found.whole(*least..=*most).err(),
            Kind::Number { .. } => found.number().err(),
            Kind::Switch(_) => found.switch().err(),
        };
        refused.map(|error| error.to_string())
    }
}

/// Where settings come from, the strongest first: flags and variables, a config file, the table.
struct Layers<'a> {
    given: &'a Given,
    file: Option<ConfigFile>,
}

impl<'a> Layers<'a> {
    fn new(config: Option<&Path>, given: &'a Given) -> Result<Self> {
        Ok(Self { given, file: ConfigFile::find(config)? })
    }

    fn config_file(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|file| file.path.clone())
    }

    /// The strongest word on a setting.
    fn find(&self, setting: &'static Setting) -> Found<&[String]> {
        let found = |place, value| Found { value, setting, place };
        if let Some((means, words)) = self.given.get(setting) {
            let place = match means {
                Means::Flag => Place::Flag,
                Means::Variable => Place::Variable,
            };
            return found(place, words);
        }
        if let Some((file, written)) = self.file.as_ref().and_then(|file| Some((file, file.get(setting)?))) {
            return found(Place::File { path: file.path.clone(), line: written.line }, &written.words);
        }
        found(Place::Default, setting.default())
    }

    /// Writes a setting into the draft.
    fn apply(&self, setting: &'static Setting, draft: &mut Draft) -> Result<()> {
        let found = self.find(setting);
        match setting.kind() {
            Kind::List(set) => set(draft, &found.with(found.value.to_vec())),
            Kind::Text(set) => set(draft, &found.with(found.value.concat())),
            Kind::Whole { least, most, set } => set(draft, &found.whole(*least..=*most)?),
            Kind::Number { set, .. } => set(draft, &found.number()?),
            Kind::Switch(set) => set(draft, &found.switch()?),
        }
    }
}
