//! How much two bags of words have in common.

use std::collections::HashMap;

/// Harmonic mean of precision and recall of two token bags; 0 where they share nothing.
pub(super) fn overlap_f(prediction: &[String], reference: &[String]) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for token in reference {
        *left.entry(token).or_default() += 1;
    }
    let mut shared = 0_usize;
    for token in prediction {
        if let Some(count) = left.get_mut(token.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    if shared == 0 {
        return 0.0;
    }
    let precision = shared as f64 / prediction.len() as f64;
    let recall = shared as f64 / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

/// The best of an answer's scores against each reference; 0 without references.
pub(super) fn best(references: &[String], score: impl Fn(&str) -> f64) -> f64 {
    references.iter().map(|reference| score(reference)).fold(0.0, f64::max)
}
