//! What every command needs to know.

use std::path::PathBuf;

use crate::engine::EngineOptions;

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

impl Basics {
    /// What the engine is started with.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions { store: self.store.clone(), threads: self.threads, offline: self.offline }
    }
}
