//! The calibration sets of a study, each read when it is first asked for.

use std::collections::HashMap;
use std::sync::Arc;

use super::Reporter;
use super::contamination::measure_contamination;
use super::content;
use super::event::Event;
use super::files::LazyHub;
use super::study::Study;
use crate::data::{self, FieldNames, WindowDraw};
use crate::error::{Error, Result};
use crate::human;
use crate::study::{CalibrationSpec, Contamination, StudyContent, contamination_warning, short_name};
use crate::sysinfo::host_memory;

/// Bytes of a token.
const TOKEN_BYTES: u64 = 4;
/// Bytes that a window takes besides: the vector that holds it, and its place while windows are counted.
const WINDOW_BYTES: u64 = 128;

/// The windows of a calibration set.
pub(super) struct CalibrationSet {
    pub windows: Arc<Vec<Vec<u32>>>,
    /// What a person should know of every cell that is calibrated on it.
    pub warnings: Vec<String>,
    /// How much of what is measured they hold.
    pub contamination: Vec<Contamination>,
    /// Whether records were read by names that the user gave.
    pub names_used: bool,
}

/// The sets that were read, by name and seed, and where more come from.
pub(super) struct CalibrationSets {
    pub hub: LazyHub,
    read: HashMap<(String, u64), CalibrationSet>,
}

impl CalibrationSets {
    /// None yet.
    pub fn new(hub: LazyHub) -> Self {
        Self { hub, read: HashMap::new() }
    }

    /// A set's windows as this study draws them.
    ///
    /// # Errors
    /// A set that cannot be read, or is too short.
    pub fn get(
        &mut self,
        (set, seed): (&str, u64),
        study: &Study,
        reporter: &mut Reporter,
    ) -> Result<&CalibrationSet> {
        let key = (set.to_owned(), seed);
        if !self.read.contains_key(&key) {
            let found = read(study, &mut self.hub, set, seed, reporter)?;
            self.read.insert(key.clone(), found);
        }
        Ok(&self.read[&key])
    }

    /// How much of what is measured the sets hold that were read.
    pub fn contamination(&self) -> impl Iterator<Item = &Contamination> {
        let mut sets: Vec<_> = self.read.iter().collect();
        sets.sort_by_key(|(set, _)| *set);
        sets.into_iter().flat_map(|(_, found)| &found.contamination)
    }

    /// Digests of all that were read, by [`StudyContent::calibration_key`].
    pub fn digests(&self) -> impl Iterator<Item = (String, String)> {
        self.read.iter().map(|((set, seed), found)| {
            (StudyContent::calibration_key(set, *seed), content::of_windows(&found.windows))
        })
    }
}

/// Refuses more windows than memory holds even as tokens: what else a study needs is only known once they are drawn.
fn check_room(samples: usize, seq_len: usize, available: u64) -> Result<()> {
    let window = (seq_len as u64).saturating_mul(TOKEN_BYTES).saturating_add(WINDOW_BYTES);
    let needed = window.saturating_mul(samples as u64);
    if needed <= available / 2 {
        return Ok(());
    }
    let message = format!(
        "--calibration-samples: {samples} windows of {seq_len} tokens take {} of memory as tokens alone, and {} are free; \
         accepted are fewer, or shorter ones (--seq-len)",
        human::bytes(needed),
        human::bytes(available)
    );
    Err(Error::mistake(message).at("calibration-samples"))
}

fn read(
    study: &Study,
    hub: &mut LazyHub,
    set: &str,
    seed: u64,
    reporter: &mut Reporter,
) -> Result<CalibrationSet> {
    let spec = &study.spec;
    let (source, tokenizer) = (set.to_string(), study.tokenizer.clone());
    let CalibrationSpec { samples, sampling, .. } = spec.calibration;
    check_room(samples, spec.seq_len, host_memory().available)?;
    let draw = WindowDraw { samples, seq_len: spec.seq_len, sampling, seed };
    let fields = FieldNames::new(&spec.fields)?;
    let drawn =
        hub.read(reporter, move |files| data::draw_set(&source, &fields, &tokenizer, &draw, files))?;
    let set = short_name(set);
    for component in &drawn.components {
        let (set, component, coverage) = (set.clone(), component.name.clone(), component.coverage);
        reporter.event(Event::Calibration { set, component, seed, coverage });
    }
    let warnings: Vec<String> = drawn.warnings(&set).collect();
    for message in &warnings {
        reporter.warn(None, message.clone());
    }
    let contamination =
        measure_contamination(study, (&set, seed), &drawn.windows, &mut || reporter.boundary())?;
    reporter.event(Event::Contamination { set: set.clone(), found: contamination.clone() });
    if let Some(message) = contamination_warning(&contamination, (&set, seed)) {
        reporter.warn(None, message);
    }
    let (windows, names_used) = (Arc::new(drawn.windows), drawn.names_used);
    Ok(CalibrationSet { windows, warnings, contamination, names_used })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_no_memory_holds_are_refused_before_they_are_drawn() {
        assert!(check_room(128, 2048, 1 << 30).is_ok());
        let error = check_room(1_000_000_000, 2048, 1 << 34).unwrap_err();
        assert_eq!(error.flag(), Some("calibration-samples"));
        assert!(error.to_string().contains("1000000000 windows of 2048 tokens take 8.3 TB"), "{error}");
        assert!(check_room(usize::MAX, usize::MAX, 1 << 34).is_err());
    }
}
