//! The types themselves: their blocks, sizes and codes.

use candle_core::quantized::GgmlDType;

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as ggml names them")]
pub enum GgmlType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

/// Block formats in which all values of a matrix are of one kind, the largest first.
const BLOCK_TYPES: [GgmlType; 10] = [
    GgmlType::Q8_0,
    GgmlType::Q6K,
    GgmlType::Q5K,
    GgmlType::Q5_1,
    GgmlType::Q5_0,
    GgmlType::Q4K,
    GgmlType::Q4_1,
    GgmlType::Q4_0,
    GgmlType::Q3K,
    GgmlType::Q2K,
];

impl GgmlType {
    /// `q4_k`, `f16`
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
        }
    }

    /// The block format of this name.
    pub fn of_blocks(name: &str) -> Option<Self> {
        BLOCK_TYPES.into_iter().find(|kind| kind.name() == name)
    }

    /// The type of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        let floats = [Self::F32, Self::F16, Self::Bf16];
        floats.into_iter().find(|kind| kind.name() == name).or_else(|| Self::of_blocks(name))
    }

    /// Bits of a value, with what the blocks' scales take.
    pub fn bits_per_value(self) -> f64 {
        8.0 * self.block_bytes() as f64 / self.block_values() as f64
    }

    pub(super) fn dtype(self) -> GgmlDType {
        match self {
            Self::F32 => GgmlDType::F32,
            Self::F16 => GgmlDType::F16,
            Self::Bf16 => GgmlDType::BF16,
            Self::Q4_0 => GgmlDType::Q4_0,
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q5_0 => GgmlDType::Q5_0,
            Self::Q5_1 => GgmlDType::Q5_1,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q2K => GgmlDType::Q2K,
            Self::Q3K => GgmlDType::Q3K,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q5K => GgmlDType::Q5K,
            Self::Q6K => GgmlDType::Q6K,
        }
    }

    /// The number that stands for it in a file.
    pub fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2K => 10,
            Self::Q3K => 11,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// Values of a block.
    pub fn block_values(self) -> usize {
        self.dtype().block_size()
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.dtype().type_size()
    }

    /// Bytes of a row of so many values, which must be whole blocks.
    pub fn row_bytes(self, columns: usize) -> usize {
        columns / self.block_values() * self.block_bytes()
    }

    /// This type, or what llama.cpp takes where rows of so many values are no whole blocks.
    #[must_use]
    pub fn fitting(self, columns: usize) -> Self {
        if columns.is_multiple_of(self.block_values()) {
            return self;
        }
        let other = match self {
            Self::Q2K | Self::Q3K => Self::Q4_0,
            Self::Q4K => Self::Q5_0,
            Self::Q5K => Self::Q5_1,
            Self::Q6K => Self::Q8_0,
            _ => Self::F16,
        };
        other.fitting(columns)
    }
}
