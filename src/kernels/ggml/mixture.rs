//! Which type llama.cpp gives to which matrix.

use std::fmt;
use std::str::FromStr;

use super::kind::GgmlType;
use crate::error::Error;

/// What a matrix is for, as far as mixtures care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatrixKind {
    /// From tokens to hidden states, where the head is a matrix of its own.
    Embedding,
    /// From hidden states to logits; also an embedding that is the head too.
    Head,
    /// The values of attention.
    Value,
    /// Queries, keys and values of attention in one matrix.
    FusedInputs,
    /// What attention writes back.
    AttentionOutput,
    /// What an MLP writes back.
    Down,
    /// Any other matrix of a block.
    Other,
}

impl MatrixKind {
    /// What a module of a block is for, by its path within the block.
    pub fn of_module(path: &str) -> Self {
        match path.rsplit('.').next().unwrap_or(path) {
            "v_proj" => Self::Value,
            "qkv_proj" | "query_key_value" | "c_attn" => Self::FusedInputs,
            "o_proj" | "out_proj" | "dense" => Self::AttentionOutput,
            "c_proj" if path.starts_with("attn.") => Self::AttentionOutput,
            "down_proj" | "fc2" | "dense_4h_to_h" | "c_proj" | "w2" => Self::Down,
            _ => Self::Other,
        }
    }
}

/// Formats of the embedding and the output head; `None` is that of the model's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndTypes {
    /// The embedding's.
    pub embedding: Option<GgmlType>,
    /// The head's; the embedding's too where both are one matrix.
    pub head: Option<GgmlType>,
}

/// Where a matrix stands.
#[derive(Debug, Clone, Copy)]
pub struct MatrixPlace {
    /// What it is for.
    pub kind: MatrixKind,
    /// Its block.
    pub block: usize,
    /// Blocks of the model.
    pub blocks: usize,
    /// Query heads for every key head.
    pub queries_per_key: usize,
    /// Values of a row.
    pub columns: usize,
}

/// What a file is called after: one type for all matrices, or a mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GgmlMixture {
    name: &'static str,
    pub(super) kind: GgmlType,
    /// The number that stands for it in `general.file_type`.
    pub file_type: u32,
    rule: MixtureRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MixtureRule {
    /// One type for everything; the head has it too.
    Plain,
    /// One type for everything but the head, as llama.cpp writes it.
    Uniform,
    Two,
    ThreeMedium,
    Small,
    Medium,
}

/// All of them.
pub const MIXTURES: &[GgmlMixture] = &[
    mixture("f32", GgmlType::F32, 0, MixtureRule::Plain),
    mixture("f16", GgmlType::F16, 1, MixtureRule::Plain),
    mixture("bf16", GgmlType::Bf16, 32, MixtureRule::Plain),
    mixture("q8_0", GgmlType::Q8_0, 7, MixtureRule::Plain),
    mixture("q6_k", GgmlType::Q6K, 18, MixtureRule::Uniform),
    mixture("q5_k_m", GgmlType::Q5K, 17, MixtureRule::Medium),
    mixture("q5_k", GgmlType::Q5K, 16, MixtureRule::Uniform),
    mixture("q5_1", GgmlType::Q5_1, 9, MixtureRule::Uniform),
    mixture("q5_0", GgmlType::Q5_0, 8, MixtureRule::Uniform),
    mixture("q4_k_m", GgmlType::Q4K, 15, MixtureRule::Medium),
    mixture("q4_k_s", GgmlType::Q4K, 14, MixtureRule::Small),
    mixture("q4_k", GgmlType::Q4K, 14, MixtureRule::Uniform),
    mixture("q4_1", GgmlType::Q4_1, 3, MixtureRule::Uniform),
    mixture("q4_0", GgmlType::Q4_0, 2, MixtureRule::Uniform),
    mixture("q3_k_m", GgmlType::Q3K, 12, MixtureRule::ThreeMedium),
    mixture("q3_k", GgmlType::Q3K, 11, MixtureRule::Uniform),
    mixture("q2_k", GgmlType::Q2K, 10, MixtureRule::Two),
];

const fn mixture(name: &'static str, kind: GgmlType, file_type: u32, rule: MixtureRule) -> GgmlMixture {
    GgmlMixture { name, kind, file_type, rule }
}

impl GgmlMixture {
    /// `q4_k_m`
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The one that stores floats in a type.
    pub(crate) fn of_floats(kind: GgmlType) -> Option<Self> {
        MIXTURES.iter().copied().find(|m| m.rule == MixtureRule::Plain && m.kind == kind)
    }

    /// Whether values are stored as floats of at least 16 bits.
    pub fn is_float(self) -> bool {
        matches!(self.kind, GgmlType::F32 | GgmlType::F16 | GgmlType::Bf16)
    }

    /// The type that most matrices get.
    pub fn main_type(self) -> GgmlType {
        self.kind
    }

    /// Whether matrices get types of several kinds, the embedding and the head among them.
    pub fn is_mixed(self) -> bool {
        matches!(self.rule, MixtureRule::ThreeMedium | MixtureRule::Small | MixtureRule::Medium)
    }

    /// All names with commas between.
    pub fn names() -> String {
        MIXTURES.iter().map(|m| m.name).collect::<Vec<_>>().join(", ")
    }

    /// The type of a matrix, where rows fit; llama.cpp's choice of types that get more bits.
    pub fn type_of(self, place: &MatrixPlace) -> GgmlType {
        self.wanted(place).fitting(place.columns)
    }

    fn wanted(self, place: &MatrixPlace) -> GgmlType {
        let &MatrixPlace { kind, block, blocks, queries_per_key, .. } = place;
        let early = block < blocks / 8;
        let more_bits = early || block >= 7 * blocks / 8 || (block - blocks / 8) % 3 == 2;
        match (self.rule, kind) {
            (MixtureRule::Plain, _) => self.kind,
            (MixtureRule::Medium, MatrixKind::FusedInputs) if self.kind == GgmlType::Q4K => GgmlType::Q5K,
            (_, MatrixKind::Head) | (MixtureRule::Medium, MatrixKind::FusedInputs) => GgmlType::Q6K,
            (MixtureRule::Two, MatrixKind::Value) if queries_per_key >= 4 => GgmlType::Q4K,
            (MixtureRule::Two, MatrixKind::Value | MatrixKind::Down | MatrixKind::AttentionOutput) => {
                GgmlType::Q3K
            }
            (MixtureRule::ThreeMedium, MatrixKind::Value) if block < 2 => GgmlType::Q5K,
            (MixtureRule::ThreeMedium, MatrixKind::Down) if block < blocks / 16 => GgmlType::Q5K,
            (
                MixtureRule::ThreeMedium,
                MatrixKind::Value | MatrixKind::FusedInputs | MatrixKind::Down | MatrixKind::AttentionOutput,
            ) => GgmlType::Q4K,
            (MixtureRule::Small, MatrixKind::Value) if block < 4 => GgmlType::Q5K,
            (MixtureRule::Small, MatrixKind::Down) if early => GgmlType::Q5K,
            (MixtureRule::Medium, MatrixKind::Value | MatrixKind::Down) if more_bits => GgmlType::Q6K,
            _ => self.kind,
        }
    }
}

impl fmt::Display for GgmlMixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl FromStr for GgmlMixture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wanted = text.to_ascii_lowercase();
        MIXTURES
            .iter()
            .copied()
            .find(|m| m.name == wanted)
            .ok_or_else(|| Error::mistake(format!("unknown type `{text}`: accepted are {}", Self::names())))
    }
}
