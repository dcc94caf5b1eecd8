//! Surveys of calibration sets, beside the base of their study: once made, every cell and every later run reads them.
//!
//! Until a survey is whole, two other files lie in its place: what was found of the blocks so far, and the hidden states
//! behind some of them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::Device;

use super::atomic::remove_file;
use super::checkpoint::{States, read_states};
use super::json::{read_json, write_json};
use crate::error::{Error, Result};
use crate::methods::{BlockFigures, Survey};

const PREFIX: &str = "survey-";
const SUFFIX: &str = ".json";

/// Of files with what is known before the survey is whole: other names, so that they do not count as surveys.
const UNFINISHED: &str = "unfinished-";

/// Where the survey of a calibration set lies; `key` is the set's within the study.
pub(crate) fn path(base_folder: &Path, key: &str) -> PathBuf {
    base_folder.join(format!("{PREFIX}{key}{SUFFIX}"))
}

/// The survey that an earlier run made of a model of so many blocks; `None` where there is none, or it is damaged.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read(path: &Path, blocks: usize) -> Result<Option<Survey>> {
    let survey = read_json::<Survey>(path)?;
    Ok(survey.filter(|survey| [survey.blocks(), survey.angles.len()] == [blocks; 2]))
}

/// Keeps a survey.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write(path: &Path, survey: &Survey) -> Result<()> {
    write_json(path, survey)
}

/// What is known of a survey that an earlier run did not finish: the figures of the first blocks, and the states that it
/// goes on with. `None` where there are none, or they are damaged.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read_unfinished(survey: &Path) -> Result<Option<(Vec<BlockFigures>, States)>> {
    // In this order: figures are written before the states that belong to them, perhaps just now by another process.
    let Some((blocks, states)) = read_states(&unfinished_states(survey), &Device::Cpu)? else {
        return Ok(None);
    };
    let figures = read_json::<Vec<BlockFigures>>(&unfinished_figures(survey))?;
    let known = figures.filter(|figures| figures.len() >= blocks);
    Ok(known.map(|mut figures| {
        figures.truncate(blocks);
        (figures, states)
    }))
}

/// Keeps the figures of the first blocks of a survey that is not finished.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write_unfinished_figures(survey: &Path, figures: &[BlockFigures]) -> Result<()> {
    write_json(&unfinished_figures(survey), &figures)
}

/// Where the states of a survey lie that is not finished.
pub(crate) fn unfinished_states(survey: &Path) -> PathBuf {
    survey.with_file_name(format!("{UNFINISHED}{}.safetensors", stem(survey)))
}

/// Removes what is not needed any more once a survey is whole.
///
/// # Errors
/// A file that is there and cannot be removed.
pub(crate) fn remove_unfinished(survey: &Path) -> Result<()> {
    // In this order: states without figures count as nothing.
    remove_file(&unfinished_figures(survey))?;
    remove_file(&unfinished_states(survey))
}

fn unfinished_figures(survey: &Path) -> PathBuf {
    survey.with_file_name(format!("{UNFINISHED}{}{SUFFIX}", stem(survey)))
}

fn stem(survey: &Path) -> String {
    let name = survey.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // A key may have dots of its own.
    name.strip_suffix(SUFFIX).map(str::to_owned).unwrap_or(name)
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
    use candle_core::Tensor;

    use super::super::checkpoint::write_states;
    use super::*;
    use crate::methods::SiteFigures;

    #[test]
    fn an_unfinished_survey_is_as_far_as_its_states_and_is_no_survey() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path(), "c4-v1.5-s0");
        let block = |block: usize| BlockFigures {
            block,
            influence: 1.0 / 3.0,
            experts: vec![0.1],
            outlier_ratio: 1e-30,
            errors: vec![0.1 + 0.2],
            sites: Vec::new(),
        };
        let states =
            |value: f32| [("windows.00000".to_owned(), Tensor::new(&[[value]], &Device::Cpu).unwrap())];
        assert!(read_unfinished(&file).unwrap().is_none());
        write_states(&unfinished_states(&file), 2, &states(0.5), &|| true).unwrap();
        assert!(read_unfinished(&file).unwrap().is_none(), "states alone are not enough");
        write_unfinished_figures(&file, &[block(0)]).unwrap();
        assert!(
            read_unfinished(&file).unwrap().is_none(),
            "figures that are behind the states are not enough"
        );
        let figures = [block(0), block(3), block(4)];
        write_unfinished_figures(&file, &figures).unwrap();
        let (found, states) = read_unfinished(&file).unwrap().unwrap();
        assert_eq!((&found[..], states.len()), (&figures[..2], 1));
        assert!(keys(dir.path()).unwrap().is_empty());
        remove_unfinished(&file).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        remove_unfinished(&file).unwrap();
    }

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
            errors: vec![vec![1e-3, 1.0], vec![0.7, 1.0]],
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
