//! Models and data sets from the Hugging Face hub, through the cache that all Hugging Face tools share.
//!
//! The client is hf-hub's. It fetches a file whole or not at all, so files are asked for here piece by piece: what an
//! interrupted download has on disk is kept, and the next attempt goes on from there. Files are put into the cache's
//! `snapshots` folder, where every Hugging Face tool looks first, and the branch's `refs` entry is written last: it
//! never points to a model that is not whole.

pub mod folders;
mod repo;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{HFClient, HFClientSync, HFError, HFRepositorySync, split_id};

use crate::error::{Error, Result};
use crate::model::weights::{INDEX_FILE, SINGLE_FILE};
use repo::{Branch, Found, Repo, shards};

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

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The file, as the repository names it.
    pub file: String,
    /// Bytes of it on disk or on the way.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Whoever waits for the hub: hears of downloads, and says whether to go on with them. A function that hears of downloads
/// always goes on.
pub trait DownloadWatcher {
    /// More of a file is there.
    fn downloaded(&mut self, download: Download);

    /// Asked many times a second while the hub is waited for; an error ends that.
    ///
    /// # Errors
    /// [`Error::Cancelled`] to end the download. What is on disk by then is kept.
    fn go_on(&mut self) -> Result<()>;
}

impl<F: FnMut(Download)> DownloadWatcher for F {
    fn downloaded(&mut self, download: Download) {
        self(download);
    }

    fn go_on(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Where the hub is and how it is used. Fields that are `None` come from the environment, as for every Hugging Face
/// tool.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Address of the hub; else `HF_ENDPOINT`, else huggingface.co.
    pub endpoint: Option<String>,
    /// Token of the user; else `HF_TOKEN`, else what `hf auth login` left.
    pub token: Option<String>,
    /// Folder of the cache; else `HF_HUB_CACHE`, else `hub` below `HF_HOME`, else the one below the home folder.
    pub cache: Option<PathBuf>,
    /// Never ask the network.
    pub offline: bool,
    /// Bytes asked for at once; an interruption loses at most so many.
    pub piece_bytes: u64,
    /// How often a piece is asked for again when the connection breaks.
    pub retries: usize,
    /// How long to wait before asking again; doubles each time.
    pub retry_delay: Duration,
}

impl HubSettings {
    /// Settings from the environment; offline when asked for or when `HF_HUB_OFFLINE` says so.
    pub fn from_env(offline: bool) -> Self {
        let switch = std::env::var("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_lowercase();
        Self {
            endpoint: None,
            // The client takes what these variables say literally.
            token: folders::stored_token(),
            cache: Some(folders::cache()),
            offline: offline || matches!(switch.as_str(), "1" | "true" | "yes" | "on"),
            piece_bytes: 32 << 20,
            retries: 4,
            retry_delay: Duration::from_millis(500),
        }
    }
}

/// The hub and its cache.
#[derive(Debug, Clone)]
pub struct Hub {
    client: HFClientSync,
    endpoint: String,
    cache: PathBuf,
    settings: HubSettings,
}

/// Whether a text that is no folder can be a hub id, `organisation/name`.
pub fn looks_like_hub_id(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
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
        let mut builder = HFClient::builder()
            .retry_max_attempts(settings.retries)
            .retry_base_delay(settings.retry_delay / 2);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(token) = &settings.token {
            builder = builder.token(token);
        }
        if let Some(cache) = &settings.cache {
            builder = builder.cache_dir(cache);
        }
        let client = builder.build().map_err(|e| match e {
            HFError::Url(e) => {
                Error::mistake(format!("HF_ENDPOINT is not an address ({e}): accepted is https://…"))
            }
            other => Error::failure(format!("cannot set up the hub's client: {other}")),
        })?;
        let (endpoint, cache) = (client.endpoint().to_string(), client.cache_dir().to_path_buf());
        let client = HFClientSync::from_inner(client)
            .map_err(|e| Error::failure(format!("cannot set up the hub's client: {e}")))?;
        Ok(Self { client, endpoint, cache, settings })
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
        let (owner, name) = split_id(id);
        let repo = self.repo(self.client.model(owner, name), id, "model");
        let cached = repo.cached().filter(|folder| missing_file(folder).is_none());
        let listing = match repo.find(cached, "", watcher)? {
            Found::InCache(folder) => return Ok(folder),
            Found::OnHub(listing) => listing,
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
        let (owner, name) = split_id(repo);
        let repo = self.repo(self.client.dataset(owner, name), repo, "data set");
        let cached = repo.cached().map(|folder| folder.join(file)).filter(|path| path.is_file());
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let listing = match repo.find(cached, folder, watcher)? {
            Found::InCache(path) => return Ok(path),
            Found::OnHub(listing) => listing,
        };
        if !listing.files.contains_key(file) {
            return Err(repo.wrong(&format!("has no file {file}")));
        }
        repo.fetch(&listing, file, watcher)?;
        Ok(repo.finish(&listing)?.join(file))
    }

    fn repo<T: Branch>(&self, remote: HFRepositorySync<T>, id: &str, kind: &'static str) -> Repo<'_, T> {
        let folder = format!("{}--{}", remote.repo_type().plural(), id.replace('/', "--"));
        Repo { hub: self, remote, id: id.to_string(), kind, folder: self.cache.join(folder) }
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
