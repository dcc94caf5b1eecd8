//! Where the hub is and how it is used.

use std::path::PathBuf;
use std::time::Duration;

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
            token: None,
            cache: None,
            offline: offline || matches!(switch.as_str(), "1" | "true" | "yes" | "on"),
            piece_bytes: 32 << 20,
            retries: 4,
            retry_delay: Duration::from_millis(500),
        }
    }
}
