//! Models and data sets from the Hugging Face hub, through the cache that all Hugging Face tools share.
//!
//! Files are asked for piece by piece: what an interrupted download has on disk is kept, and the next attempt resumes
//! there. Files are put into the cache's
//! `snapshots` folder, where every Hugging Face tool looks first, and the branch's `refs` entry is written last: it
//! never points to a model that is not whole.

pub(crate) mod folders;
mod remote;
mod repo;
mod settings;
mod watcher;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::weights::{INDEX_FILE, SINGLE_FILE};
use remote::{Remote, RepoKind, Server};
use repo::{Located, Repo, shards};
pub use settings::HubSettings;
pub use watcher::{Download, DownloadWatcher};

/// Where the hub is unless somebody names another.
const USUAL_ENDPOINT: &str = "https://huggingface.co";
/// What a model cannot do without, besides its weights.
const NEEDED_FILES: [&str; 2] = ["config.json", "tokenizer.json"];
/// What is fetched of a model where it is there.
const WELCOME_FILES: [&str; 8] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// The hub and its cache.
#[derive(Debug, Clone)]
pub struct Hub {
    server: Server,
    cache: PathBuf,
    settings: HubSettings,
}

/// Whether a text that is no folder can be a hub id, `organisation/name`.
pub(crate) fn looks_like_hub_id(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// The path of a model that is a folder or can be nothing else; `None` for a hub id.
pub(crate) fn local_model(source: &str) -> Option<PathBuf> {
    let path = Path::new(source);
    (path.exists() || !looks_like_hub_id(source)).then(|| path.to_path_buf())
}

/// The folder of a model: a path as it is, a hub id from the cache or the network.
///
/// # Errors
/// As [`Hub::model`].
pub(crate) fn model_folder(source: &str, offline: bool) -> Result<PathBuf> {
    match local_model(source) {
        Some(path) => Ok(path),
        None => Hub::new(offline)?.model(source, &mut |_| ()),
    }
}

impl Hub {
    /// The hub that the environment names.
    ///
    /// # Errors
    /// [`Error::Mistake`] when `HF_ENDPOINT` is not an address.
    pub fn new(offline: bool) -> Result<Self> {
        Self::with(HubSettings::from_env(offline))
    }

    /// The hub that the settings name.
    ///
    /// # Errors
    /// [`Error::Mistake`] when the endpoint is not an address.
    pub fn with(settings: HubSettings) -> Result<Self> {
        let variable = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.trim().is_empty());
        let endpoint = settings.endpoint.clone().or(variable);
        let endpoint = endpoint.as_deref().map_or(USUAL_ENDPOINT, str::trim);
        let token = settings.token.clone().or_else(folders::token);
        let server = Server::new(endpoint, token).ok_or_else(|| {
            Error::mistake(format!(
                "HF_ENDPOINT: found `{endpoint}`; accepted is an address such as {USUAL_ENDPOINT}"
            ))
        })?;
        let cache = settings.cache.clone().unwrap_or_else(folders::cache);
        Ok(Self { server, cache, settings })
    }

    /// The folder of the cache.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The folder of a model, downloaded where the cache does not have it: configuration, tokenizer and safetensors
    /// weights, nothing else of the repository. Without a network, what the cache has is used.
    ///
    /// # Errors
    /// [`Error::Mistake`] when there is no such model, access is refused, it has no safetensors, or there is neither a
    /// network nor a copy in the cache; [`Error::Failure`] when the download breaks off; [`Error::Io`] when the cache
    /// cannot be written; what `watcher` says.
    pub fn model(&self, id: &str, watcher: &mut dyn DownloadWatcher) -> Result<PathBuf> {
        let repo = self.repo(RepoKind::Model, id);
        let cached = repo.cached().filter(|folder| missing_file(folder).is_none());
        let listing = match repo.find(cached, "", watcher)? {
            Located::InCache(folder) => return Ok(folder),
            Located::OnHub(listing) => listing,
        };
        if let Some(file) = NEEDED_FILES.iter().find(|file| !listing.files.contains_key(**file)) {
            return Err(repo.wrong(&format!("has no {file}: accepted are models in the Hugging Face layout")));
        }
        let wanted = NEEDED_FILES.iter().chain(&WELCOME_FILES);
        for file in wanted.filter(|file| listing.files.contains_key(**file)) {
            repo.fetch(&listing, file, watcher)?;
        }
        for file in repo.weights(&listing, watcher)? {
            repo.fetch(&listing, &file, watcher)?;
        }
        repo.finish(&listing)
    }

    /// A file of a data set, downloaded where the cache does not have it.
    ///
    /// # Errors
    /// As [`Self::model`].
    pub fn dataset_file(&self, repo: &str, file: &str, watcher: &mut dyn DownloadWatcher) -> Result<PathBuf> {
        let repo = self.repo(RepoKind::Dataset, repo);
        let cached = repo.cached().map(|folder| folder.join(file)).filter(|path| path.is_file());
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let listing = match repo.find(cached, folder, watcher)? {
            Located::InCache(path) => return Ok(path),
            Located::OnHub(listing) => listing,
        };
        if !listing.files.contains_key(file) {
            return Err(repo.wrong(&format!("has no file {file}")));
        }
        repo.fetch(&listing, file, watcher)?;
        Ok(repo.finish(&listing)?.join(file))
    }

    fn repo(&self, kind: RepoKind, id: &str) -> Repo<'_> {
        let folder = self.cache.join(format!("{}--{}", kind.plural(), id.replace('/', "--")));
        let remote = Remote { server: self.server.clone(), kind, id: id.to_owned() };
        Repo { remote, settings: &self.settings, cache: &self.cache, folder }
    }
}

/// The first file of a cached model that is missing.
fn missing_file(folder: &Path) -> Option<String> {
    let absent = |file: &String| !folder.join(file).is_file();
    let weights = if folder.join(SINGLE_FILE).is_file() {
        vec![SINGLE_FILE.to_string()]
    } else {
        shards(&folder.join(INDEX_FILE)).unwrap_or_else(|| vec![INDEX_FILE.to_string()])
    };
    NEEDED_FILES.into_iter().map(String::from).chain(weights).find(absent)
}

#[cfg(test)]
mod tests {
    use super::looks_like_hub_id;

    #[test]
    fn hub_ids_are_told_from_paths() {
        for id in ["meta-llama/Llama-2-7b-hf", "HuggingFaceTB/SmolLM2-135M", "a/b", "_x/y.z"] {
            assert!(looks_like_hub_id(id), "{id}");
        }
        for path in
            ["gpt2", "./model", "../model", "/models/x", "a/b/c", "a/", "/b", "~/x", "a b/c", "", "a/.."]
        {
            assert!(!looks_like_hub_id(path), "{path}");
        }
    }
}
