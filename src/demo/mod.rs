//! The built-in study: a small model of the project's own with the data to prune and measure it, inside the program.
//!
//! `assets/demo/MODEL_CARD.md` says where the model comes from, [`world`] writes what it reads.

pub mod world;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::places;
use crate::error::{Error, Result};

/// One file of the built-in study.
struct Asset {
    /// Its path below the study's folder.
    path: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal),+ $(,)?) => {
        &[$(Asset { path: $path, bytes: include_bytes!(concat!("../../assets/demo/", $path)) }),+]
    };
}

/// All of them.
const ASSETS: &[Asset] = assets![
    "study.toml",
    "quick.toml",
    "model/config.json",
    "model/generation_config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "data/held_out.txt",
    "data/stories.txt",
    "data/dialogues.jsonl",
    "data/questions.jsonl",
    "data/tellings.jsonl",
];

/// Settings of the built-in study, the whole or a part that takes half a minute: a file in a folder that has all that the
/// study reads. It is unpacked into the cache folder where it is not there yet.
///
/// # Errors
/// A cache folder that cannot be written.
pub fn settings_file(quick: bool) -> Result<PathBuf> {
    let cache = places::cache_folder().unwrap_or_else(std::env::temp_dir).join("secateur");
    let folder = unpack(&cache)?;
    Ok(folder.join(if quick { "quick.toml" } else { "study.toml" }))
}

/// The folder in `cache` that holds the study's files; its name says what is in them, so that two versions of the
/// program never share one.
///
/// # Errors
/// A folder that cannot be written.
pub fn unpack(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(format!("demo-{:016x}", digest()));
    if is_whole(&folder) {
        return Ok(folder);
    }
    fs::create_dir_all(cache).map_err(|e| Error::io("cannot make", cache, e))?;
    let new = tempfile::Builder::new()
        .prefix(".demo-")
        .tempdir_in(cache)
        .map_err(|e| Error::io("cannot write to", cache, e))?;
    for asset in ASSETS {
        let path = new.path().join(asset.path);
        let written =
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, asset.bytes));
        written.map_err(|e| Error::io("cannot write", &path, e))?;
    }
    // What stands there is damaged; of two programs that unpack at once, either may be the first.
    if folder.exists() && !is_whole(&folder) {
        fs::remove_dir_all(&folder).map_err(|e| Error::io("cannot replace", &folder, e))?;
    }
    match fs::rename(new.path(), &folder) {
        Err(_) if is_whole(&folder) => Ok(folder),
        Err(e) => Err(Error::io("cannot make", &folder, e)),
        Ok(()) => {
            // The folder has its name now; nothing is left to clean up.
            let _ = new.keep();
            Ok(folder)
        }
    }
}

/// Whether this is the path of the built-in study's model, of this version of the program or another.
pub(crate) fn is_model(source: &str) -> bool {
    let mut names = Path::new(source).iter().rev().filter_map(|name| name.to_str());
    let digest = |name: &str| {
        name.strip_prefix("demo-").is_some_and(|d| d.len() == 16 && d.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    names.next() == Some("model") && names.next().is_some_and(digest) && names.next() == Some("secateur")
}

/// Whether every file is there as it should be.
fn is_whole(folder: &Path) -> bool {
    let same = |asset: &Asset| -> io::Result<bool> {
        let path = folder.join(asset.path);
        Ok(fs::metadata(&path)?.len() == asset.bytes.len() as u64 && fs::read(&path)? == asset.bytes)
    };
    ASSETS.iter().all(|asset| same(asset).unwrap_or(false))
}

/// A hash (FNV-1a) of all files and their names.
fn digest() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for asset in ASSETS {
        for byte in asset.path.bytes().chain([0]).chain(asset.bytes.iter().copied()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_model_is_told_from_others() {
        let model = settings_file(false).unwrap().with_file_name("model");
        assert!(is_model(&model.to_string_lossy()), "{}", model.display());
        for other in [
            "",
            "model",
            "HuggingFaceTB/SmolLM2-135M",
            "/x/secateur/demo-12/model",
            "/x/demo-0123456789abcdef/model",
        ] {
            assert!(!is_model(other), "{other}");
        }
    }

    #[test]
    fn files_are_unpacked_once_and_damage_is_mended() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack(cache.path()).unwrap();
        assert!(is_whole(&folder));
        let written = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let config = folder.join("model/config.json");
        let first = written(&config);
        assert_eq!(unpack(cache.path()).unwrap(), folder);
        assert_eq!(written(&config), first, "left alone while it is whole");

        fs::write(&config, "{").unwrap();
        fs::remove_file(folder.join("data/stories.txt")).unwrap();
        assert_eq!(unpack(cache.path()).unwrap(), folder);
        assert!(is_whole(&folder));
        let left: Vec<_> = fs::read_dir(cache.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing half done stays behind");
    }
}
