//! Cells that are written as they are stored: blocks of ggml as themselves, and codes in ggml's blocks where that loses
//! nothing, four bits as `Q4_0` and eight as `Q8_0`.
//!
//! `Q4_0` and `Q8_0` have blocks of 32 values with one scale in f16, and zero in the middle of the grid. So a symmetric
//! grid whose groups are whole blocks is written code by code, as long as its scales are numbers of f16. Bits, symmetry
//! and groups are in the recipe; the scales show when the matrices are read.

use half::f16;

use super::super::exporter::ExportOptions;
use super::super::model::{Blocks, ExportModel};
use super::layout::{GgufTensor, TensorSource};
use crate::error::{Error, Result};
use crate::kernels::codes::Codes;
use crate::kernels::ggml::{GgmlMixture, GgmlType, MIXTURES};
use crate::methods::{GridChoice, grid_of};
use crate::model::ModelFolder;
use crate::store::checkpoint::Stored;
use crate::study::{FormatName, Level, Recipe};

/// Values of a block of both types.
const BLOCK: usize = 32;

/// The mixture whose name says what a file of codes or blocks mostly holds; `None` where types were asked for, and for
/// models without either.
pub(super) fn mixture(model: &ExportModel<'_>, options: &ExportOptions) -> Option<GgmlMixture> {
    if let Some(format) = format_of(model.cell.map(|cell| &cell.result.spec.recipe)) {
        return format.parse().ok();
    }
    let kind = kind_of(model, options)?;
    MIXTURES.iter().copied().find(|mixture| mixture.main_type() == kind)
}

/// The format that a recipe writes weights in.
fn format_of(recipe: Option<&Recipe>) -> Option<FormatName> {
    recipe?.steps().find_map(|step| match step.level {
        Level::Format(name) => Some(name),
        _ => None,
    })
}

fn kind_of(model: &ExportModel<'_>, options: &ExportOptions) -> Option<GgmlType> {
    let grid = model.cell.and_then(|cell| grid_of(&cell.result.spec.recipe));
    grid.filter(|_| options.quantize.is_none()).and_then(kind)
}

/// The type that holds the codes of a grid.
fn kind(grid: GridChoice) -> Option<GgmlType> {
    match grid.bits {
        4 => Some(GgmlType::Q4_0),
        8 => Some(GgmlType::Q8_0),
        _ => None,
    }
}

/// Why the codes of a recipe cannot be written as they are; `None` where nothing is in the way, and where types were asked
/// for.
pub(super) fn refuses(
    folder: &ModelFolder,
    recipe: Option<&Recipe>,
    options: &ExportOptions,
) -> Option<String> {
    if let (Some(format), Some(asked)) = (format_of(recipe), options.quantize) {
        return Some(format!(
            "it is written as the {format} that it is, and --quantize (--save-quantized for a study) asks for {asked}"
        ));
    }
    let grid = recipe.and_then(grid_of).filter(|_| options.quantize.is_none())?;
    let GridChoice { bits, group, symmetric } = grid;
    let mut columns = folder.config.layouts().flat_map(|layout| layout.modules().map(|(_, m)| m.shape.1));
    let no_blocks = group.is_none() && columns.all(|columns| !columns.is_multiple_of(BLOCK));
    let why = if kind(grid).is_none() {
        format!("no type of ggml holds codes of {bits} bits as they are, only those of 4 and 8")
    } else if !symmetric {
        "in the types of ggml that hold codes as they are, zero lies in the middle of the grid (sym)"
            .to_owned()
    } else if group.is_some_and(|group| !group.is_multiple_of(BLOCK)) || no_blocks {
        format!("ggml's blocks have {BLOCK} columns, and the groups are not whole blocks")
    } else if folder.dtype() == candle_core::DType::F32 {
        "the scales are F32, as the model's files are, and ggml's types hold scales of F16".to_owned()
    } else {
        return None;
    };
    Some(format!("{why}; {}", alternatives()))
}

fn alternatives() -> &'static str {
    "--quantize f16 (--save-quantized f16 for a study) writes what the codes stand for, --as compressed-tensors the codes, \
     and cells of 4 or 8 bits with sym,group=32 of a model in BF16 or F16 can be written as codes"
}

/// Gives the matrices that have codes or blocks the type that holds these.
///
/// # Errors
/// A checkpoint that is damaged or of another model.
pub(super) fn choose(
    model: &ExportModel<'_>,
    options: &ExportOptions,
    tensors: &mut [GgufTensor],
) -> Result<()> {
    if mixture(model, options).is_none() {
        return Ok(());
    }
    let of_codes = kind_of(model, options);
    let mut blocks = Blocks::new(model);
    for tensor in tensors {
        let TensorSource::Modules { block, modules, as_stored, .. } = &mut tensor.content else { continue };
        let mut kinds = Vec::with_capacity(modules.len());
        for module in modules.iter() {
            kinds.push(match blocks.stored(*block, *module)? {
                Some(Stored::Codes(_)) => of_codes,
                Some(Stored::Blocks(blocks)) => Some(blocks.kind),
                _ => None,
            });
        }
        if kinds.iter().any(|kind| *kind != kinds[0]) {
            return Err(Error::mistake(format!(
                "{} cannot be written as it is stored: some of its experts are quantised and others not; {}",
                tensor.entry.name,
                alternatives()
            )));
        }
        if let Some(kind) = kinds.into_iter().next().flatten() {
            *as_stored = true;
            tensor.entry.kind = kind;
        }
    }
    Ok(())
}

/// Whether a matrix is written as it is stored, in a file that holds codes or blocks.
pub(super) fn is_kept(stored: Option<&Stored>) -> bool {
    matches!(stored, Some(Stored::Codes(_) | Stored::Blocks(_)))
}

/// A matrix as blocks of a type, row after row.
///
/// # Errors
/// [`Error::Mistake`] for a grid that the type does not have, and for a scale that is no number of f16.
pub(super) fn bytes(name: &str, kind: GgmlType, codes: &Codes) -> Result<Vec<u8>> {
    let wrong =
        |why: String| Error::mistake(format!("{name} cannot be written as codes: {why}; {}", alternatives()));
    let ([_, columns], grid) = (codes.shape, codes.grid);
    let bits = if kind == GgmlType::Q4_0 { 4 } else { 8 };
    if grid.bits != bits || !grid.symmetric {
        return Err(wrong(format!("a grid of {} bits does not fit {kind:?}", grid.bits)));
    }
    if !columns.is_multiple_of(BLOCK) || !(grid.group.is_multiple_of(BLOCK) || grid.group >= columns) {
        return Err(wrong(format!("groups of {} columns are not whole blocks of {BLOCK}", grid.group)));
    }
    let (groups, row_blocks) = (grid.groups(columns), columns / BLOCK);
    let unpacked = codes.codes();
    let mut bytes = Vec::with_capacity(unpacked.len() / BLOCK * kind.block_bytes());
    for (index, block) in unpacked.chunks_exact(BLOCK).enumerate() {
        let (row, column) = (index / row_blocks, index % row_blocks * BLOCK);
        let scale = codes.groups[row * groups + column / grid.group].scale;
        let half = f16::from_f32(scale);
        if half.to_f32().to_bits() != scale.to_bits() {
            return Err(wrong(format!("the scale {scale:e} is no number of F16")));
        }
        bytes.extend(half.to_le_bytes());
        if kind == GgmlType::Q4_0 {
            let (low, high) = block.split_at(BLOCK / 2);
            bytes.extend(low.iter().zip(high).map(|(low, high)| low | high << 4));
        } else {
            // From 0 … 255 to whole numbers with a sign.
            bytes.extend(block.iter().map(|code| code.wrapping_sub(128)));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::kernels::codes::{Grid, GroupGrid};
    use crate::kernels::ggml::dequantise;

    fn matrix(bits: u8, rows: usize, columns: usize, group: usize, scales: &[f32]) -> Codes {
        let grid = Grid { bits, group, symmetric: true, scale_dtype: DType::BF16 };
        let largest = (1u32 << bits) - 1;
        let codes: Vec<u8> = (0..rows * columns).map(|i| (i as u32 * 7 % (largest + 1)) as u8).collect();
        let group = |scale: &f32| GroupGrid { scale: *scale, zero: 1 << (bits - 1) };
        Codes::of([rows, columns], grid, &codes, scales.iter().map(group).collect())
    }

    /// The same with other codes.
    fn with_codes(matrix: Codes, code: impl Fn(usize) -> u8) -> Codes {
        let codes: Vec<u8> = (0..matrix.shape[0] * matrix.shape[1]).map(code).collect();
        Codes::of(matrix.shape, matrix.grid, &codes, matrix.groups)
    }

    #[test]
    fn a_block_of_four_bits_has_value_j_in_the_low_half_of_byte_j() {
        // 0, 7, 14, 5 … in the order of columns; the second half of them is in the high halves of the bytes.
        let bytes = bytes("q", GgmlType::Q4_0, &matrix(4, 1, 32, 32, &[0.25])).unwrap();
        let scale = [0x00, 0x34];
        let halves =
            [0x00, 0x77, 0xee, 0x55, 0xcc, 0x33, 0xaa, 0x11, 0x88, 0xff, 0x66, 0xdd, 0x44, 0xbb, 0x22, 0x99];
        assert_eq!(bytes, [&scale[..], &halves].concat());
        let codes = with_codes(matrix(4, 1, 32, 32, &[0.25]), |i| i as u8 / 2);
        let bytes = super::bytes("q", GgmlType::Q4_0, &codes).unwrap();
        let halves =
            [0x80, 0x80, 0x91, 0x91, 0xa2, 0xa2, 0xb3, 0xb3, 0xc4, 0xc4, 0xd5, 0xd5, 0xe6, 0xe6, 0xf7, 0xf7];
        assert_eq!(bytes[2..], halves);
    }

    #[test]
    fn a_block_of_eight_bits_has_whole_numbers_around_zero() {
        let codes = with_codes(matrix(8, 1, 32, 32, &[-2.0]), |i| [0, 127, 128, 255][i % 4]);
        let bytes = bytes("q", GgmlType::Q8_0, &codes).unwrap();
        assert_eq!(bytes[..6], [0x00, 0xc0, 0x80, 0xff, 0x00, 0x7f]);
        assert_eq!(bytes.len(), 34);
    }

    #[test]
    fn every_value_is_that_of_its_code() {
        let scales = [0.5, 0.007_812_5, 3.0, 1.5 / 65_536.0];
        for (bits, kind) in [(4, GgmlType::Q4_0), (8, GgmlType::Q8_0)] {
            for group in [64, 128] {
                let codes = matrix(bits, 2, 128, group, &scales[..2 * 128 / group]);
                let found = dequantise(kind, &bytes("q", kind, &codes).unwrap()).unwrap();
                assert_eq!(found, codes.values(), "{bits} bits, groups of {group}");
            }
        }
    }

    #[test]
    fn what_a_block_cannot_hold_is_refused_with_what_would_do() {
        let said = |codes: &Codes, kind| bytes("blk.0.attn_q.weight", kind, codes).unwrap_err().to_string();
        let whole = matrix(4, 1, 64, 32, &[0.5, 0.5]);
        let mut finer = whole.clone();
        finer.groups[1].scale = 0.1;
        let mut shifted = whole.clone();
        shifted.grid.symmetric = false;
        let narrow = matrix(4, 1, 64, 16, &[0.5; 4]);
        let odd = matrix(4, 1, 40, 40, &[0.5]);
        for (codes, kind, what) in [
            (&finer, GgmlType::Q4_0, "no number of F16"),
            (&shifted, GgmlType::Q4_0, "does not fit"),
            (&whole, GgmlType::Q8_0, "does not fit"),
            (&narrow, GgmlType::Q4_0, "not whole blocks"),
            (&odd, GgmlType::Q4_0, "not whole blocks"),
        ] {
            let message = said(codes, kind);
            for part in ["blk.0.attn_q.weight", what, "--quantize f16", "compressed-tensors", "sym,group=32"]
            {
                assert!(message.contains(part), "{part} is not in: {message}");
            }
        }
    }
}
