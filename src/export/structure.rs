//! How many heads and neurons a recipe removes from every block, and the smaller model that a cell's checkpoints describe.

use std::borrow::Cow;
use std::path::Path;

use super::model::cell_model;
use crate::error::{Error, Result};
use crate::methods::{BlockWeights, Procedure, WidthCounts, least_common_multiple};
use crate::model::narrow::{NarrowConfig, UnitCounts, narrowed};
use crate::model::{BlockLayout, ModelFolder};
use crate::store::{checkpoint, width};
use crate::study::Level;

/// How many units a recipe removes from every block of a model; `None` where it makes no block narrower.
///
/// # Errors
/// [`Error::Mistake`] where blocks differ or have no such units, none would go, or more than can.
pub(crate) fn unit_counts(folder: &ModelFolder, procedure: &Procedure) -> Result<Option<UnitCounts>> {
    let Some((stage, removal)) = procedure.narrowing() else { return Ok(None) };
    let Level::Share(share) = stage.level else {
        return Err(Error::failure("a method that makes blocks narrower needs a share"));
    };
    let config = &folder.config;
    let name = stage.method.name();
    let refused = |why: &str| {
        Error::mistake(format!(
            "{name}: the blocks of a {} cannot be made narrower: {why}; accepted are other methods, such as depth \
             (--methods depth)",
            config.architecture
        ))
    };
    let layout = config.layout(0);
    let widths = config.widths(0);
    let mlp = widths.mlp.as_ref().map_err(|why| refused(why))?;
    let all: usize = config.layouts().map(BlockLayout::elements).sum();
    let of_attention =
        |block: usize| config.widths(block).attention.ok().map(|part| (part.units, part.features));
    let of_mlp = |block: usize| config.widths(block).mlp.ok().map(|part| part.units);
    if (0..config.blocks).any(|block| of_mlp(block) != of_mlp(0)) {
        return Err(refused("they differ in their MLPs"));
    }
    // Where heads differ from block to block, one number cannot describe what is left.
    let alike = (0..config.blocks).all(|block| of_attention(block) == of_attention(0));
    let attention = widths.attention.as_ref().ok().filter(|_| alike);
    let weights = BlockWeights {
        all: all / config.blocks.max(1),
        groups: attention.map(|part| part.units),
        group: attention.map_or(0, |part| part.weights_per_unit(layout)),
        neurons: mlp.units,
        neuron: mlp.weights_per_unit(layout),
        multiple: least_common_multiple(removal.multiple(&stage.arguments), procedure.column_multiple()),
    };
    let counts = removal.counts(share, &weights, &stage.arguments);
    let WidthCounts { groups, neurons } = counts.map_err(|e| Error::mistake(format!("{name}: {e}")))?;
    Ok(Some(UnitCounts { groups, neurons }))
}

/// The configuration of the model whose blocks a recipe has made narrower; `None` where it makes none narrower.
///
/// # Errors
/// As [`unit_counts`], and where a configuration of the family cannot say it.
pub(crate) fn narrow_config(folder: &ModelFolder, procedure: &Procedure) -> Result<Option<NarrowConfig>> {
    let counts = unit_counts(folder, procedure)?;
    counts.map(|counts| NarrowConfig::of(folder, counts)).transpose()
}

/// The model of a cell's checkpoints: without the blocks, heads and neurons that it has removed, with its embedding and head
/// as the recipe has them.
///
/// # Errors
/// [`Error::Mistake`] as [`cell_model`]; checkpoints that cannot be read, or are not there.
pub fn stored_model<'a>(
    folder: &'a ModelFolder,
    procedure: &Procedure,
    checkpoints: &Path,
) -> Result<Cow<'a, ModelFolder>> {
    let removed = checkpoint::removed::removed_parts(checkpoints, folder.config.blocks)?;
    if procedure.narrowing().is_none() {
        return cell_model(folder, procedure, &removed);
    }
    let chosen = width::read(checkpoints)?.ok_or_else(|| {
        Error::failure(format!("the checkpoint {} is missing or damaged", width::path(checkpoints).display()))
    })?;
    let narrow = narrowed(folder, &chosen)?;
    Ok(Cow::Owned(cell_model(&narrow, procedure, &removed)?.into_owned()))
}
