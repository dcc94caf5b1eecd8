//! Surveys of calibration sets, beside the base of their study: once made, every cell and every later run reads them.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::atomic::write_atomically;
use crate::error::{Error, Result};
use crate::methods::Survey;

const PREFIX: &str = "survey-";
const SUFFIX: &str = ".json";

/// Where the survey of a calibration set lies; `key` is the set's within the study.
pub(crate) fn path(base_folder: &Path, key: &str) -> PathBuf {
    base_folder.join(format!("{PREFIX}{key}{SUFFIX}"))
}

/// The survey that an earlier run made of a model of so many blocks; `None` where there is none, or it is damaged.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read(path: &Path, blocks: usize) -> Result<Option<Survey>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("cannot read", path, e)),
    };
    let survey = serde_json::from_slice::<Survey>(&bytes).ok();
    Ok(survey.filter(|survey| [survey.blocks(), survey.angles.len()] == [blocks; 2]))
}

/// Keeps a survey.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write(path: &Path, survey: &Survey) -> Result<()> {
    let json = serde_json::to_vec(survey)
        .map_err(|e| Error::failure(format!("cannot make {}: {e}", path.display())))?;
    write_atomically(path, |file| file.write_all(&json))
}

/// All surveys of a model of so many blocks, with the keys of their calibration sets, in the order of these.
///
/// # Errors
/// A folder or a file that cannot be read.
pub(crate) fn all(base_folder: &Path, blocks: usize) -> Result<Vec<(String, Survey)>> {
    let keys = keys(base_folder)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let survey = read(&path(base_folder, &key), blocks)?;
        found.extend(survey.map(|survey| (key, survey)));
    }
    Ok(found)
}

/// The calibration sets that have a survey.
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn keys(base_folder: &Path) -> Result<Vec<String>> {
    let cannot = |e| Error::io("cannot read", base_folder, e);
    let mut keys = Vec::new();
    match fs::read_dir(base_folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(cannot)? {
                let name = entry.map_err(cannot)?.file_name().to_string_lossy().into_owned();
                let key = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
                keys.extend(key.map(str::to_owned));
            }
        }
    }
    keys.sort_unstable();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::SiteFigures;

    #[test]
    fn a_survey_is_read_back_as_it_was_and_a_damaged_one_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path(), "c4-s0");
        assert_eq!(read(&file, 2).unwrap(), None);
        let site = SiteFigures { module: "o".into(), mean: vec![1.0 / 7.0], variance: vec![1e-30] };
        let survey = Survey {
            windows: 3,
            influence: vec![0.1 + 0.2, 1.0 / 3.0],
            angles: vec![vec![0.25, 1e-9], vec![0.5]],
            experts: vec![vec![0.125, 1e-7], Vec::new()],
            outlier_ratio: vec![1.25, 1.0 / 3.0],
            sites: vec![vec![site], Vec::new()],
        };
        write(&file, &survey).unwrap();
        assert_eq!(read(&file, 2).unwrap(), Some(survey.clone()));
        std::fs::write(dir.path().join("positions.safetensors"), "something else").unwrap();
        assert_eq!(all(dir.path(), 2).unwrap(), [("c4-s0".to_owned(), survey)]);
        assert_eq!(read(&file, 3).unwrap(), None, "of another model");
        // As version 0.3 wrote it.
        fs::write(&file, r#"{"windows":1,"influence":[0.5],"angles":[[0.25]]}"#).unwrap();
        assert_eq!(read(&file, 1).unwrap().unwrap().site(0, "o"), None);
        write(&file, &Survey { influence: vec![0.5], angles: vec![vec![0.25]], ..Survey::default() })
            .unwrap();
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(read(&file, 1).unwrap(), None);
    }
}
