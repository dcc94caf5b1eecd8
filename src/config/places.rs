//! The folders that a desktop keeps settings, data and caches in (XDG).

use std::env;
use std::path::PathBuf;

pub(crate) use crate::paths::home;

/// The variable's folder where it is absolute (the XDG rule), else the one below the home folder.
fn folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| home().map(|home| home.join(below_home)))
}

/// Where this program's settings are: `$XDG_CONFIG_HOME/secateur`.
pub(crate) fn config_folder() -> Option<PathBuf> {
    folder("XDG_CONFIG_HOME", ".config").map(|f| f.join("secateur"))
}

/// Where this program's results are: `$XDG_DATA_HOME/secateur`.
pub(crate) fn data_folder() -> Option<PathBuf> {
    folder("XDG_DATA_HOME", ".local/share").map(|f| f.join("secateur"))
}

/// Where programs keep caches: `$XDG_CACHE_HOME`.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    folder("XDG_CACHE_HOME", ".cache")
}
