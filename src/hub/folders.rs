//! The folders that Hugging Face's tools share, as their variables name them: with `~` and other variables in them, and
//! unset where they are empty.

use std::env;
use std::path::PathBuf;

use crate::paths;

/// `HF_HOME`, else `huggingface` in the folder for caches.
pub(crate) fn home() -> PathBuf {
    named("HF_HOME").unwrap_or_else(|| {
        let caches = named("XDG_CACHE_HOME").or_else(|| paths::home().map(|home| home.join(".cache")));
        caches.unwrap_or_else(env::temp_dir).join("huggingface")
    })
}

/// Where models and data sets are: `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `hub` in [`home`].
pub(crate) fn cache() -> PathBuf {
    let named = named("HF_HUB_CACHE").or_else(|| named("HUGGINGFACE_HUB_CACHE"));
    named.unwrap_or_else(|| home().join("hub"))
}

/// Where the user's token is: `HF_TOKEN_PATH`, else `token` in [`home`].
pub(crate) fn token_file() -> PathBuf {
    named("HF_TOKEN_PATH").unwrap_or_else(|| home().join("token"))
}

/// The user's token: `HF_TOKEN`, else what is in [`token_file`] unless the environment forbids to use that unasked.
pub(super) fn token() -> Option<String> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let stored = || match variable("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        Some(_) => None,
        None => std::fs::read_to_string(token_file()).ok(),
    };
    let token = variable("HF_TOKEN").or_else(stored)?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

fn named(variable: &str) -> Option<PathBuf> {
    let path = env::var(variable).ok().filter(|path| !path.is_empty())?;
    Some(paths::expand(&path).into())
}
