//! Where settings come from, the strongest first: flags and variables, a config file, the table.

use std::path::{Path, PathBuf};

use super::draft::SettingsDraft;
use super::file::ConfigFile;
use super::given::{Given, Means};
use super::setting::Setting;
use super::value::Layer;
use crate::error::Result;

pub(super) struct Layers<'a> {
    given: &'a Given,
    file: Option<ConfigFile>,
}

impl<'a> Layers<'a> {
    /// With the config file that `config` names, or that is found in the usual places.
    pub fn new(config: Option<&Path>, given: &'a Given) -> Result<Self> {
        Ok(Self { given, file: ConfigFile::find(config)? })
    }

    pub fn config_file(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|file| file.path.clone())
    }

    /// Writes what the strongest layer says of these settings into a draft.
    pub fn draft(&self, settings: impl IntoIterator<Item = &'static Setting>) -> Result<SettingsDraft> {
        let mut draft = SettingsDraft::new();
        for setting in settings {
            let (layer, words) = self.find(setting);
            setting.apply(layer, words, &mut draft)?;
        }
        Ok(draft)
    }

    fn find(&self, setting: &'static Setting) -> (Layer, &[String]) {
        match self.given.get(setting) {
            Some((Means::Flag, words)) => return (Layer::Flag, words),
            Some((Means::Variable, words)) => return (Layer::Variable, words),
            None => {}
        }
        match self.file.as_ref().and_then(|file| Some((file, file.get(setting)?))) {
            Some((file, written)) => {
                (Layer::File { path: file.path.clone(), line: written.line }, &written.words)
            }
            None => (Layer::Default, setting.default()),
        }
    }
}
