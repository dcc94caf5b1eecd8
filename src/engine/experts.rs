//! Experts of a block that are too large to be held all at the same time.

use std::ops::Range;

use candle_core::{DType, Device};

use crate::error::Result;
use crate::methods::Needs;
use crate::model::ops::with_elements;
use crate::model::{BlockLayout, ModuleId, WeightReader};
use crate::store::checkpoint::Stored;

/// Most bytes of a block's experts that are held, however much is free: reading them for every batch costs little where
/// they are so large.
const MOST_HELD: usize = 4 << 30;

/// Most bytes of a block's experts, or of their statistics, that are held with so much free memory; where that is not
/// known, [`MOST_HELD`].
pub(super) fn most_held(free: Option<u64>) -> usize {
    // Beside them are their packed form, the states, and what a method works with.
    free.map_or(MOST_HELD, |free| usize::try_from(free / 3).unwrap_or(MOST_HELD).min(MOST_HELD))
}

/// Whether all experts of a block are held, if each of their weights takes so many bytes, and at most `most` may be held.
/// Else they are read one after the other.
pub(super) fn are_held(layout: &BlockLayout, bytes: usize, most: usize) -> bool {
    let experts = layout.modules().filter(|(_, module)| module.expert.is_some());
    let elements: usize = experts.map(|(_, module)| module.elements()).sum();
    elements.saturating_mul(bytes) <= most
}

/// The modules in groups whose statistics are collected together: all of them, unless these take more than `most` bytes.
/// Then there are several groups of experts, each as large as may be. An expert is never divided.
pub(super) fn grouped(
    layout: &BlockLayout,
    modules: &[ModuleId],
    needs: Needs,
    most: usize,
) -> Vec<Range<usize>> {
    let expert = |at: usize| layout.module(modules[at]).expert.map(|expert| expert.index);
    let (mut groups, mut start, mut taken, mut at) = (Vec::new(), 0, 0, 0);
    while at < modules.len() {
        let end = (at..modules.len()).find(|next| expert(*next) != expert(at)).unwrap_or(modules.len());
        let bytes = statistics_bytes(layout, &modules[at..end], needs);
        if at > start && taken + bytes > most {
            groups.push(start..at);
            (start, taken) = (at, 0);
        }
        (taken, at) = (taken + bytes, end);
    }
    groups.push(start..modules.len());
    groups
}

fn statistics_bytes(layout: &BlockLayout, modules: &[ModuleId], needs: Needs) -> usize {
    if needs != Needs::Hessian {
        return 0;
    }
    let mut sites: Vec<_> =
        modules.iter().map(|id| (layout.module(*id).site, layout.module(*id).shape.1)).collect();
    sites.dedup();
    sites.iter().map(|(_, width)| width * width * size_of::<f32>()).sum()
}

/// Reads a module as it was compressed: `source` reads it as it was before.
pub(super) fn compressed_reader(
    source: WeightReader,
    stored: Stored,
    dtype: DType,
    device: Device,
) -> WeightReader {
    std::sync::Arc::new(move || {
        let weights = || -> Result<Vec<f32>> {
            with_elements(&source()?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?, <[f32]>::to_vec)
        };
        Ok(stored.weights(weights)?.to_device(&device)?.to_dtype(dtype)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arch::{mixtral::Mixtral, qwen3::Qwen3};
    use crate::model::{ModelFolder, Synthetic};

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "a list of one group is meant")]
    fn experts_are_grouped_by_what_their_hessians_take_and_dense_blocks_never() {
        let groups = |model: Synthetic, needs, most| {
            let dir = tempfile::tempdir().unwrap();
            model.write(dir.path()).unwrap();
            let config = ModelFolder::open(dir.path()).unwrap().config;
            let modules = config.select_modules(&["*".into()]).unwrap();
            grouped(config.layout(0), &modules[0], needs, most)
        };
        let mixtral = || Synthetic::tiny(&Mixtral);
        // Two inputs of 64 features for attention, and for each expert one of 64 and one of 128.
        let (attention, expert) = (4 * 2 * 64 * 64, 4 * (64 * 64 + 128 * 128));
        assert_eq!(groups(mixtral(), Needs::Hessian, attention + 4 * expert), [0..16]);
        assert_eq!(groups(mixtral(), Needs::Hessian, attention + expert), [0..7, 7..10, 10..13, 13..16]);
        assert_eq!(groups(mixtral(), Needs::Hessian, 0), [0..4, 4..7, 7..10, 10..13, 13..16]);
        assert_eq!(groups(mixtral(), Needs::ColumnNorms, 0), [0..16]);
        assert_eq!(groups(Synthetic::tiny(&Qwen3), Needs::Hessian, 0), [0..7]);
    }

    #[test]
    fn a_third_of_what_is_free_is_held_at_most() {
        assert_eq!(
            [most_held(Some(9 << 30)), most_held(Some(90 << 30)), most_held(None)],
            [3 << 30, 4 << 30, 4 << 30]
        );
    }
}
