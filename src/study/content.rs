//! What the files of a study hold, whatever their paths are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CellSpec;
use super::contamination::Contamination;
use super::names::file_name;

/// What a study computes with, as digests. Two studies of the same settings and the same content are the same study,
/// also when the files lie elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StudyContent {
    /// The model's configuration and weights.
    pub model: String,
    /// The windows of every corpus, by its short name, in the order in which they are measured.
    pub corpora: Vec<(String, String)>,
    /// Prompts and accepted answers of every task, by its short name, in the order in which they are asked.
    pub tasks: Vec<(String, String)>,
    /// The sparsity profile.
    pub profile: Option<String>,
    /// The windows of every calibration set, by [`calibration_key`](Self::calibration_key).
    pub calibration: BTreeMap<String, String>,
    /// How much of corpora and tasks these windows hold; nothing of sets that an earlier version read. It follows from
    /// the rest, and does not tell one content from another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contamination: Vec<Contamination>,
}

impl StudyContent {
    /// Under what name the windows of a calibration set are kept; it is how a cell's id ends, so that cells of one id
    /// have one key.
    pub fn calibration_key(set: &str, seed: u64) -> String {
        format!("{}-s{seed}", file_name(set))
    }

    /// What differs from another content, in words; `None` where nothing does. Calibration sets differ where both know
    /// one and it has other windows.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let mut sets = self.calibration.iter();
        let parts = [
            ("the model", self.model == other.model),
            ("a corpus", self.corpora == other.corpora),
            ("a task", self.tasks == other.tasks),
            ("the sparsity profile", self.profile == other.profile),
            ("a calibration set", sets.all(|(key, set)| other.calibration.get(key).is_none_or(|o| o == set))),
        ];
        parts.into_iter().find(|(_, same)| !same).map(|(part, _)| part)
    }

    /// Adds what was found of sets that nothing is known of yet; `false` where there is nothing new.
    pub fn add_contamination(&mut self, found: &[Contamination]) -> bool {
        let set = |one: &Contamination| (one.calibration.clone(), one.seed);
        let known: Vec<(String, u64)> = self.contamination.iter().map(set).collect();
        let before = self.contamination.len();
        self.contamination.extend(found.iter().filter(|one| !known.contains(&set(one))).cloned());
        self.contamination.len() > before
    }

    /// Whether the windows that a cell is calibrated on are known.
    pub fn knows_calibration(&self, cell: &CellSpec) -> bool {
        let key = cell.calibration.as_ref().map(|set| Self::calibration_key(set, cell.seed));
        key.is_none_or(|key| self.calibration.contains_key(&key))
    }
}
