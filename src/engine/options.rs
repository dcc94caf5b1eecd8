//! What an engine is started with.

use std::path::PathBuf;

/// What an engine needs to know before any study.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The results database; checkpoints go into the folder beside it.
    pub store: PathBuf,
    /// Worker threads; `None` is one a core.
    pub threads: Option<usize>,
    /// Never ask the network, use what the cache has.
    pub offline: bool,
}
