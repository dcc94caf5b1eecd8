//! The survey: one pass of the dense model over a calibration set.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::Reporter;
use super::costs::Work;
use super::event::Phase;
use super::place::Place;
use super::stream::{HiddenStates, Placement};
use super::study::Study;
use crate::error::Result;
use crate::methods::{Survey, cosine, span_angles};
use crate::model::ops::with_elements;

/// Sends the windows through the dense model, block by block; `cell` is the one that is waiting for it.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled) when it is to end; anything that fails.
pub(super) fn take_survey(
    study: &Study,
    place: &Place,
    windows: &[Vec<u32>],
    cell: Option<&str>,
    reporter: &mut Reporter,
) -> Result<Survey> {
    let (blocks, hidden) = (study.folder.config.blocks, study.folder.config.hidden_size);
    reporter.phase(cell, Phase::Survey, blocks as u64, "blocks");
    let placement = Placement { batch_tokens: study.spec.compute.batch_tokens, home: &place.home };
    let mut states =
        HiddenStates::embed(&study.folder, windows, study.dtype, placement, &mut || reporter.boundary())?;
    let tokens = states.tokens();
    let mut influence = Vec::with_capacity(blocks);
    let mut last = vec![states.last_states(hidden)?];
    for index in 0..blocks {
        reporter.boundary()?;
        let started = reporter.clock();
        let block = study.load_block(index, &place.device)?;
        let loaded = reporter.clock();
        let mut turned = 0.0;
        states.forward_seen(
            &block,
            &study.ropes,
            &place.device,
            &mut || reporter.check(),
            &mut |before, after, _| {
                turned += total_turning(before, after)?;
                Ok(())
            },
        )?;
        influence.push(turned / tokens.max(1) as f64);
        last.push(states.last_states(hidden)?);
        reporter.tracker.did(Work::Block, study.sizes.block(), loaded - started);
        reporter.tracker.did(Work::Forward, study.sizes.forward(tokens), reporter.clock() - loaded);
        reporter.tracker.throughput(tokens as f64, 1.0);
        reporter.tracker.step(index as u64 + 1);
    }
    let angles = span_angles(&last, hidden);
    Ok(Survey { windows: windows.len(), influence, angles })
}

/// The sum over rows of `1 − cos(before, after)`.
fn total_turning(before: &Tensor, after: &Tensor) -> Result<f64> {
    let hidden = before.dims2()?.1;
    let on_host = |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F32);
    let (before, after) = (on_host(before)?, on_host(after)?);
    let rows = |before: &[f32], after: &[f32]| -> Vec<f64> {
        before
            .par_chunks(hidden)
            .zip(after.par_chunks(hidden))
            .map(|(before, after)| 1.0 - cosine(before, after))
            .collect()
    };
    let turned = with_elements(&before, |before| with_elements(&after, |after| rows(before, after)))??;
    // In the order of the rows, so that the sum is the same however many threads there are.
    Ok(turned.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_turn_by_one_less_their_cosine() {
        let before = Tensor::new(&[[1f32, 0.0], [0.0, 2.0], [0.0, 0.0]], &Device::Cpu).unwrap();
        let after = Tensor::new(&[[2f32, 0.0], [3.0, 0.0], [1.0, 0.0]], &Device::Cpu).unwrap();
        assert!((total_turning(&before, &after).unwrap() - 1.5).abs() < 1e-12);
    }
}
