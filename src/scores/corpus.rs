//! What the windows of a corpus say of a model.

use super::registry::SCORES;
use super::score::Measure;
use super::window::Window;
use crate::results::Measurement;

/// Every score that is measured on corpora; those that compare with the base only where it was `compared` with.
pub(crate) fn measure_corpus(name: &str, windows: &[Window], compared: bool) -> Vec<Measurement> {
    let mut found = Vec::new();
    for score in SCORES {
        if let Measure::Windows(measure) = score.measure
            && (compared || !score.compares())
        {
            found.push(score.measurement(name, windows.len(), measure(windows)));
        }
    }
    found
}
