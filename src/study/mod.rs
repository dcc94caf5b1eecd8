//! What a user asks for: studies, cells, recipes. Plain data without any I/O.

mod contamination;
mod content;
mod level;
mod mixture;
mod names;
mod recipe;
mod scored;
mod shots;

pub use contamination::{Contamination, MeasuredAs};
pub(crate) use contamination::{
    RUN_TOKENS, contaminated_share, contamination_note, contamination_warning, contamination_warnings,
};
pub use content::StudyContent;
pub use level::{FormatName, Level, Sparsity, parse_bits, parse_format};
pub(crate) use mixture::SetMixture;
#[cfg(test)]
pub(crate) use names::NAMED_TEXTS;
pub(crate) use names::{file_name, short_name};
pub(crate) use recipe::Recipe;
pub use recipe::{Parameters, Step};
pub use scored::ScoredPositions;
pub use shots::ShotsSpec;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// One compressed variant of the base model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "AnyCellSpec")]
pub struct CellSpec {
    /// What is done to the base.
    pub recipe: Recipe,
    /// The calibration set (a name or a path as the user gave it, or several as [`SetMixture`] reads them); `None` for
    /// recipes without data.
    pub calibration: Option<String>,
    /// Seed of the calibration sampling.
    pub seed: u64,
}

/// A cell as any version wrote it: up to 0.1 it had a method and a sparsity.
#[derive(Deserialize)]
#[serde(untagged)]
enum AnyCellSpec {
    Recipe { recipe: Recipe, calibration: Option<String>, seed: u64 },
    Method { method: String, sparsity: Sparsity, calibration: Option<String>, seed: u64 },
}

impl From<AnyCellSpec> for CellSpec {
    fn from(cell: AnyCellSpec) -> Self {
        match cell {
            AnyCellSpec::Recipe { recipe, calibration, seed } => Self { recipe, calibration, seed },
            AnyCellSpec::Method { method, sparsity, calibration, seed } => {
                let step = Step { method, level: sparsity.into(), parameters: Parameters::new() };
                Self { recipe: step.into(), calibration, seed }
            }
        }
    }
}

impl CellSpec {
    /// A name that is unique within a study and safe as a file name: `wanda-0.5-c4_sample-s0`.
    pub fn id(&self) -> String {
        let recipe = self.recipe.slug();
        match &self.calibration {
            None => recipe,
            Some(set) => format!("{recipe}-{}-s{}", file_name(set), self.seed),
        }
    }

    /// The name people read: `wanda 50% c4_sample`.
    pub fn label(&self) -> String {
        let recipe = self.recipe.label();
        match &self.calibration {
            None => recipe,
            Some(set) => format!("{recipe} {}", short_name(set)),
        }
    }
}

/// How calibration windows are drawn from a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// As the references do: random documents longer than a window at a random offset; or random windows of one text.
    #[default]
    Random,
    /// Consecutive windows from the start of the text.
    Head,
}

impl Sampling {
    /// The names of all of them.
    pub const NAMES: [&str; 2] = [Self::Random.name(), Self::Head.name()];

    /// The name used on the command line, in files and on screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Head => "head",
        }
    }
}

impl FromStr for Sampling {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Random, Self::Head].into_iter().find(|sampling| sampling.name() == text).ok_or_else(|| {
            Error::mistake(format!("unknown sampling `{text}`: accepted are {}", Self::NAMES.join(", ")))
        })
    }
}

/// Which token windows the activation statistics come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationSpec {
    /// Data sets: names that resolve on the hub, files, or several of these as [`SetMixture`] reads them.
    pub sets: Vec<String>,
    /// Windows drawn from each of the sets.
    pub samples: usize,
    /// How they are drawn.
    pub sampling: Sampling,
}

/// What base and cells are measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationSpec {
    /// Texts for perplexity and divergence.
    pub corpora: Vec<String>,
    /// At most so many windows of each text.
    pub max_windows: Option<usize>,
    /// Which positions of a window count. Not written where all do: so it was before there was a choice.
    #[serde(default, skip_serializing_if = "ScoredPositions::is_all")]
    pub score: ScoredPositions,
    /// Task files.
    pub tasks: Vec<String>,
    /// At most so many records of each task file.
    pub task_limit: Option<usize>,
    /// Examples before questions with choices. Not written where there are none: so it was before there could be some.
    #[serde(default, skip_serializing_if = "ShotsSpec::is_unset")]
    pub shots: ShotsSpec,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
    /// A prompt template of the study's own, with `{instruction}` and `{input}`; overrides the model's.
    pub prompt: Option<String>,
    /// Whether to measure how far base and cell disagree at each token of the cell's answers.
    #[serde(default = "yes")]
    pub disagreement: bool,
}

/// Studies of before that choice are resumed as new ones are.
fn yes() -> bool {
    true
}

/// The pattern of all modules, whatever they are called.
pub(crate) const ALL_MODULES: &str = "*";

/// How the methods are to work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PruneSpec {
    /// Which modules are pruned: names, paths or patterns of the model's layout, such as `q_proj` and `mlp.*`.
    pub modules: Vec<String>,
    /// First and one past the last block that is pruned; `None` is all of them.
    pub blocks: Option<(usize, usize)>,
    /// SparseGPT: share of the Hessian's mean diagonal that is added to its diagonal.
    pub damping: f64,
    /// SparseGPT: columns solved together.
    pub block_size: usize,
    /// One factor per block by which a cell's fraction is multiplied (a file of numbers).
    pub profile: Option<PathBuf>,
}

impl PruneSpec {
    /// The study's values of methods' parameters, for the steps that do not give them.
    pub fn parameters(&self) -> Parameters {
        let named = [("damping", self.damping.to_string()), ("block_size", self.block_size.to_string())];
        named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Default for PruneSpec {
    fn default() -> Self {
        Self {
            modules: vec![ALL_MODULES.to_owned()],
            blocks: None,
            damping: 0.01,
            block_size: 128,
            profile: None,
        }
    }
}

/// Where tensors live and what they are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeSpec {
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// `auto`, `f32`, `bf16` or `f16`.
    pub dtype: String,
    /// Tokens that go through a block at once; limits the memory for activations.
    pub batch_tokens: usize,
    /// Prompts answered together.
    pub batch_prompts: usize,
}

/// A study: one base model, one set of evaluation data, a list of cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudySpec {
    /// Folder or hub id, as the user gave it.
    pub model: String,
    /// The grid, already multiplied out.
    pub cells: Vec<CellSpec>,
    /// Length of calibration and evaluation windows, in tokens.
    pub seq_len: usize,
    /// Calibration data.
    pub calibration: CalibrationSpec,
    /// Evaluation data.
    pub evaluation: EvaluationSpec,
    /// Choices of the methods.
    pub prune: PruneSpec,
    /// Device and precision.
    pub compute: ComputeSpec,
    /// Seed of every random choice.
    pub seed: u64,
    /// Names that the data's files have for fields: `instruction` is `q`. Empty unless given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_the_first_version_are_read() {
        let old = r#"{"method":"sparsegpt","sparsity":"2:4","calibration":"x/c4.txt","seed":7}"#;
        let cell: CellSpec = serde_json::from_str(old).unwrap();
        assert_eq!((cell.id().as_str(), cell.label().as_str()), ("sparsegpt-2of4-c4-s7", "sparsegpt 2:4 c4"));
        let written = serde_json::to_string(&cell).unwrap();
        assert_eq!(written, r#"{"recipe":"sparsegpt@2:4","calibration":"x/c4.txt","seed":7}"#);
        assert_eq!(serde_json::from_str::<CellSpec>(&written).unwrap(), cell);
    }

    #[test]
    fn a_cell_of_several_sets_has_an_id_that_is_a_file_name() {
        let calibration = Some("x/c4.txt*3+alpaca".into());
        let cell = CellSpec { recipe: "wanda@50%".parse().unwrap(), calibration, seed: 7 };
        assert_eq!(
            (cell.id().as_str(), cell.label().as_str()),
            ("wanda-0.5-c4x3+alpaca-s7", "wanda 50% c4*3+alpaca")
        );
        assert_eq!(StudyContent::calibration_key("c4*3+alpaca", 7), "c4x3+alpaca-s7");
    }
}
