//! The built-in study: a small model of the project's own with the data to prune and measure it, inside the program.
//!
//! `assets/demo/MODEL_CARD.md` says where the model comes from; `examples/train_demo` trained it and wrote its texts.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::places;
use crate::error::{Error, Result};
use crate::study::{SetMixture, StudySpec};

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
    "data/choices.jsonl",
];

/// Settings of the built-in study, the whole or a part that takes half a minute: a file in a folder that has all that the
/// study reads. It is unpacked into the cache folder where it is not there yet.
///
/// # Errors
/// A cache folder that cannot be written.
pub fn settings_file(quick: bool) -> Result<PathBuf> {
    let folder = unpack(&cache())?;
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
    split_path(source).is_some_and(|(_, file)| file == Path::new("model"))
}

/// The folder's name and what lies below it, of a path in a folder that [`unpack`] made, here or elsewhere.
fn split_path(source: &str) -> Option<(&str, PathBuf)> {
    let is_folder = |name: &str| {
        name.strip_prefix("demo-").is_some_and(|d| d.len() == 16 && d.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let parts: Vec<&str> = Path::new(source).iter().map(OsStr::to_str).collect::<Option<_>>()?;
    let at = parts.windows(2).rposition(|pair| pair[0] == "secateur" && is_folder(pair[1]))?;
    Some((parts[at + 1], parts[at + 2..].iter().collect()))
}

/// Lets a study that was made of the built-in one read its files where they are now: its cache may have moved, or been
/// another user's. What is no part of the built-in study of this version stays as it is.
///
/// # Errors
/// A cache folder that cannot be written.
pub(crate) fn find_files(spec: &mut StudySpec) -> Result<()> {
    let StudySpec { model, cells, calibration, evaluation, .. } = spec;
    let sets = cells.iter_mut().filter_map(|cell| cell.calibration.as_mut()).chain(&mut calibration.sets);
    let data = evaluation.corpora.iter_mut().chain(&mut evaluation.tasks);
    let data = data.chain(evaluation.shots.sources.values_mut());
    for path in std::iter::once(model).chain(data) {
        *path = find_file(path)?;
    }
    for set in sets {
        // A mistake in a set is for whoever reads it.
        if let Ok(mixture) = SetMixture::parse(set, &|path| Path::new(path).is_file()) {
            *set = mixture.map(find_file)?.to_string();
        }
    }
    Ok(())
}

/// Where a file of the built-in study is now; any other path as it is.
fn find_file(path: &str) -> Result<String> {
    let wanted = format!("demo-{:016x}", digest());
    Ok(match split_path(path) {
        Some((folder, file)) if folder == wanted && !Path::new(path).exists() => {
            unpack(&cache())?.join(file).to_string_lossy().into_owned()
        }
        _ => path.to_owned(),
    })
}

fn cache() -> PathBuf {
    places::cache_folder().unwrap_or_else(std::env::temp_dir).join("secateur")
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
    fn a_study_of_another_home_reads_the_files_of_this_one() {
        let here = settings_file(false).unwrap();
        let folder = here.parent().unwrap();
        let elsewhere = Path::new("/nowhere/secateur/x/secateur").join(folder.file_name().unwrap());
        let path = |file: &str| elsewhere.join(file).display().to_string();
        let mut spec: StudySpec = serde_json::from_str(include_str!("../store/test_spec.json")).unwrap();
        spec.model = path("model");
        spec.evaluation.corpora = vec![path("data/held_out.txt"), "other.txt".into()];
        spec.cells[0].calibration = Some(path("data/stories.txt"));
        spec.calibration.sets =
            vec![format!("{}*3+c4+{}", path("data/stories.txt"), path("data/tellings.jsonl"))];
        find_files(&mut spec).unwrap();
        let path = |file: &str| folder.join(file).display().to_string();
        assert_eq!(spec.model, path("model"));
        assert_eq!(spec.evaluation.corpora, [path("data/held_out.txt"), "other.txt".into()]);
        assert_eq!(spec.cells[0].calibration, Some(path("data/stories.txt")));
        let set = format!("{}*3+c4+{}", path("data/stories.txt"), path("data/tellings.jsonl"));
        assert_eq!(spec.calibration.sets, [set]);

        spec.model = format!("/nowhere/secateur/demo-{:016x}/model", digest() ^ 1);
        let before = spec.clone();
        find_files(&mut spec).unwrap();
        assert_eq!(spec, before, "files of another version are other files");
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
