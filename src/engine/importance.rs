//! What the modules of the dense model read, summed over token windows: Wanda's sums of every block, without pruning.

use candle_core::{DType, Device};

use super::collector::Collector;
use super::experts::{are_held, most_held};
use super::stream::{HiddenStates, Placement};
use crate::error::{Error, Result};
use crate::export::BlockSums;
use crate::methods::{Needs, Statistics};
use crate::model::{Block, ExpertWeights, InputSite, ModelFolder};
use crate::sysinfo::host_memory;

/// The sum over all tokens of the square of every feature, for every input of every block. One block is in memory at a
/// time, in `f32` on the host, or less where its experts take too much; and `batch_tokens` tokens go through it together. `told` hears of every block before it is
/// read and of every batch before it goes through; what it says ends the work.
///
/// # Errors
/// A tensor that cannot be read; what `told` says.
pub(crate) fn sums_of_squares(
    folder: &ModelFolder,
    windows: &[Vec<u32>],
    batch_tokens: usize,
    told: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<BlockSums>> {
    let (dtype, device) = (DType::F32, Device::Cpu);
    let placement = Placement { batch_tokens, home: &device };
    let mut states = HiddenStates::embed(folder, windows, dtype, placement, &mut || told(0))?;
    let ropes = folder.config.rope_tables(windows.iter().map(Vec::len).max().unwrap_or(0));
    let most = most_held(Some(host_memory().available).filter(|free| *free > 0));
    let mut all = Vec::with_capacity(folder.config.blocks);
    for index in 0..folder.config.blocks {
        told(index)?;
        let held = are_held(folder.config.layout(index), dtype.size_in_bytes(), most);
        let experts = if held { ExpertWeights::Held } else { ExpertWeights::ReadWhenNeeded };
        let block = Block::load_with(folder, index, dtype, &device, experts)?;
        let sites: Vec<InputSite> = block.layout().sites().map(|(site, _)| site).collect();
        let mut collector = Collector::new(Needs::ColumnNorms);
        states.observe(&block, &ropes, &device, &sites, &mut collector, &mut || told(index))?;
        let sums =
            collector.finish(block.layout(), &sites, &device)?.into_iter().map(|(site, inputs)| match inputs
                .statistics
            {
                Statistics::ColumnNorms(sums) => Ok((site, sums)),
                _ => Err(Error::failure("sums were asked for and something else was collected")),
            });
        all.push(sums.collect::<Result<_>>()?);
        if index + 1 < folder.config.blocks {
            states.forward(&block, &ropes, &device, &mut || told(index))?;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::head::embed;
    use crate::model::{Batch, Synthetic};

    #[test]
    fn the_first_sums_are_those_of_the_normed_embedding() {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::default().write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let windows: Vec<Vec<u32>> =
            (0..3).map(|w| (0..20).map(|i| (i * 37 + w * 11) % 258).collect()).collect();
        let found = sums_of_squares(&folder, &windows, 25, &mut |_| Ok(())).unwrap();
        assert_eq!(found.len(), folder.config.blocks);
        assert!(found.iter().all(|sites| sites.len() == 4), "q, k and v; o; gate and up; down");
        // An RMS norm divides by the root of the mean square, and multiplies with its gains.
        let batch = Batch::windows(3, 20);
        let rows = embed(&folder, &windows.concat(), &batch, DType::F32, &Device::Cpu).unwrap();
        let gains = folder
            .weights
            .tensor("model.layers.0.input_layernorm.weight", DType::F32, &Device::Cpu)
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let mut wanted = vec![0.0; folder.config.hidden_size];
        for row in rows.to_vec2::<f32>().unwrap() {
            let squares: Vec<f64> = row.iter().map(|v| f64::from(*v).powi(2)).collect();
            let mean = squares.iter().sum::<f64>() / squares.len() as f64 + folder.config.head.norm_eps;
            for ((sum, square), gain) in wanted.iter_mut().zip(squares).zip(&gains) {
                *sum += square / mean * f64::from(*gain).powi(2);
            }
        }
        for (sum, wanted) in found[0][0].1.iter().zip(wanted) {
            assert!((sum - wanted).abs() < 1e-4 * wanted, "{sum} {wanted}");
        }
    }

    #[test]
    fn it_ends_where_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::default().write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let mut told = |block| if block == 1 { Err(Error::Cancelled) } else { Ok(()) };
        let ended = sums_of_squares(&folder, &[vec![1, 2, 3]], 100, &mut told);
        assert!(matches!(ended, Err(Error::Cancelled)));
    }
}
