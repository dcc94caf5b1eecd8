//! What whoever computes a model finds out, step by step.

use serde::{Deserialize, Serialize};

use crate::results::{Answer, Measurement, Metrics, ModuleResult, Seconds};

/// One thing that was found out of a cell, or of the base. Findings are told in the order in which they were made, and
/// the ledger keeps each before the work goes on. Only a module may wait for the next finding that is kept. As a line of
/// JSON a finding comes back as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub(super) enum Finding {
    /// A person should know this.
    Warning { message: String },
    /// A module was compressed.
    Module { module: ModuleResult },
    /// A block is safe on disk.
    Checkpoint { block: usize },
    /// Where the time went so far, earlier runs included.
    Seconds { seconds: Seconds },
    /// The final states were measured on the corpora.
    Measured {
        metrics: Metrics,
        /// Everything that a person should know of the cell.
        warnings: Vec<String>,
        /// Bits that what is not compressed takes less than in the source.
        saved_at_ends: u64,
        /// Parameters that are gone.
        #[serde(default)]
        removed: u64,
    },
    /// Task records were answered: one batch.
    Answers { answers: Vec<Answer> },
    /// Answers to a task were compared with the base.
    Disagreements { task: String, found: Vec<AnswerDisagreement> },
    /// All tasks were answered and scored.
    Scored { measurements: Vec<Measurement> },
    /// Nothing is left to do.
    Done { peak_rss_bytes: u64 },
}

impl Finding {
    /// Whether whoever continues does not have to find it out again.
    pub fn is_progress(&self) -> bool {
        match self {
            Self::Checkpoint { .. }
            | Self::Answers { .. }
            | Self::Disagreements { .. }
            | Self::Scored { .. }
            | Self::Done { .. } => true,
            Self::Warning { .. } | Self::Module { .. } | Self::Seconds { .. } | Self::Measured { .. } => {
                false
            }
        }
    }
}

/// How far cell and base disagreed on an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AnswerDisagreement {
    /// Record number in the task file, from 0.
    pub record: usize,
    /// JS divergence in bits at each token.
    #[serde(with = "crate::number::list")]
    pub bits: Vec<f32>,
}

/// Where findings go.
///
/// # Errors
/// What could not be kept ends the work.
pub(super) type Findings<'a> = dyn FnMut(Finding) -> crate::Result<()> + 'a;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::NamedNumbers;
    use crate::results::{ErrorBasis, Footprint};

    #[test]
    fn a_finding_comes_back_from_a_line_as_it_was() {
        let module = ModuleResult {
            block: 3,
            name: "model.layers.3.mlp.up_proj".into(),
            footprint: Footprint {
                weights: 8,
                zeros: 4,
                stored_bits: 128,
                packed_bits: 72,
                ..Footprint::default()
            },
            reconstruction_error: f64::NAN,
            error_basis: ErrorBasis::Weights,
            dead_columns: 1,
            details: NamedNumbers::default(),
            seconds: 0.1 + 0.2,
        };
        let found = AnswerDisagreement { record: 7, bits: vec![0.1, f32::NAN, 1.0] };
        let findings = [
            Finding::Warning { message: "a\nb".into() },
            Finding::Module { module },
            Finding::Checkpoint { block: 3 },
            Finding::Seconds { seconds: Seconds { prune: 0.3, ..Seconds::default() } },
            Finding::Measured {
                metrics: Metrics::default(),
                warnings: vec!["odd".into()],
                saved_at_ends: 12,
                removed: 3,
            },
            Finding::Answers { answers: Vec::new() },
            Finding::Disagreements { task: "squad".into(), found: vec![found] },
            Finding::Scored { measurements: Vec::new() },
            Finding::Done { peak_rss_bytes: 1 << 40 },
        ];
        for finding in findings {
            let line = serde_json::to_string(&finding).unwrap();
            assert!(!line.contains('\n'));
            let back: Finding = serde_json::from_str(&line).unwrap();
            // Equal as text, for NaN equals nothing.
            assert_eq!(format!("{back:?}"), format!("{finding:?}"));
        }
    }
}
