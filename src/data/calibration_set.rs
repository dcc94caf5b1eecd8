//! A calibration set as it is named: one text, or several that each give a part of the windows.

use std::path::Path;

use tokenizers::Tokenizer;

use super::calibration::{Coverage, calibration_windows};
use super::field_names::FieldNames;
use super::source::Fetch;
use super::text::load_text;
use crate::error::Result;
use crate::study::{Sampling, SetMixture, short_name};

/// How windows are drawn from every calibration set of a study.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowDraw {
    /// Windows of a set.
    pub samples: usize,
    /// Tokens of each.
    pub seq_len: usize,
    pub sampling: Sampling,
    pub seed: u64,
}

/// What a calibration set gave.
#[derive(Debug, Clone)]
pub(crate) struct DrawnSet {
    /// All windows of the first component, then all of the second, and so on.
    pub windows: Vec<Vec<u32>>,
    pub components: Vec<DrawnComponent>,
    /// Whether records were read by names that the user gave.
    pub names_used: bool,
}

/// What a component of a calibration set gave.
#[derive(Debug, Clone)]
pub(crate) struct DrawnComponent {
    /// Its short name; `None` where the set has no other.
    pub name: Option<String>,
    pub coverage: Coverage,
    /// What a person should know of its file.
    pub omitted: Option<String>,
}

impl DrawnSet {
    /// What a person should know of a set of this short name.
    pub fn warnings<'a>(&'a self, set: &'a str) -> impl Iterator<Item = String> + 'a {
        self.components.iter().flat_map(move |component| {
            let place = component.place(set);
            let thin = component.coverage.warning().map(|message| format!("{place}: {message}"));
            component.omitted.clone().into_iter().chain(thin)
        })
    }
}

impl DrawnComponent {
    /// Where it belongs, in words: `calibration set c4+alpaca, component alpaca`.
    pub fn place(&self, set: &str) -> String {
        describe_place(set, self.name.as_deref())
    }
}

/// The name of a calibration set, or of a component of it, in words.
pub(crate) fn describe_place(set: &str, component: Option<&str>) -> String {
    match component {
        None => format!("calibration set {set}"),
        Some(component) => format!("calibration set {set}, component {component}"),
    }
}

/// Reads a calibration set, which may be several, and draws its windows. Every component is drawn as if it stood alone,
/// with the same seed, and gives its share of the windows ([`SetMixture::shares`]). One text at a time is in memory.
///
/// # Errors
/// A mistake in how the set is written, or of fewer windows than components; otherwise as [`load_text`] and
/// [`calibration_windows`].
pub(crate) fn draw_set(
    set: &str,
    fields: &FieldNames,
    tokenizer: &Tokenizer,
    draw: &WindowDraw,
    fetch: &mut dyn Fetch,
) -> Result<DrawnSet> {
    let &WindowDraw { samples, seq_len, sampling, seed } = draw;
    let mixture = SetMixture::parse(set, &|path| Path::new(path).is_file())?;
    let is_mixed = mixture.components().len() > 1;
    let mut drawn = DrawnSet { windows: Vec::new(), components: Vec::new(), names_used: false };
    for (component, share) in mixture.components().iter().zip(mixture.shares(samples)?) {
        let text = load_text(&component.set, fields, fetch)?;
        let found = calibration_windows(&text, tokenizer, share, seq_len, sampling, seed)?;
        drawn.windows.extend(found.windows);
        drawn.names_used |= text.names_used;
        drawn.components.push(DrawnComponent {
            name: is_mixed.then(|| short_name(&component.set)),
            coverage: found.coverage,
            omitted: text.warning(),
        });
    }
    Ok(drawn)
}
