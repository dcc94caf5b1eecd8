//! How far base and cell disagree at every token of the cell's answers: both next-token distributions where the token
//! was chosen, the base reading what the cell wrote.
//!
//! The cell's hidden states at its tokens were seen when it answered. The base reads prompt and answer once more, block
//! by block, a group of batches at a time, so that one of its blocks is in memory and every block is loaded once a
//! group. What the base's blocks made of the prompts is on disk from when the base answered them itself
//! (`store::checkpoint::answers`), so that only answers go through; where it is not, the prompts go through again.

use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::assignment::Assignment;
use super::costs::KEPT_AT_MOST;
use super::evaluate::Heads;
use super::place::Place;
use super::prompts::PreparedTask;
use super::study::Study;
use crate::error::{Error, Result};
use crate::model::{Batch, Block, BlockCache, RopeTables, Sequence, head};
use crate::scores::positions::measure;
use crate::store::checkpoint::answers::{prompts_path, read_rows, write_rows};

/// At most this share of the free disk goes to them.
const SHARE_OF_DISK: u64 = 10;

/// A batch of answers to compare with the base.
pub(super) struct Asked {
    /// Records of the task that were asked together.
    pub records: Range<usize>,
    /// What was said to each.
    pub tokens: Vec<Vec<u32>>,
    /// The hidden states that the tokens were chosen from; `None` where nothing was said.
    pub states: Vec<Option<Tensor>>,
}

/// Whether the base's keys and values of the prompts are worth their place on the disk.
pub(super) fn keeps_prompts(study: &Study, base: &Path) -> bool {
    let needed = study.sizes.prompt_rows_bytes();
    let free = crate::sysinfo::disk_available(base).unwrap_or(0);
    study.spec.evaluation.disagreement && needed <= KEPT_AT_MOST.min(free / SHARE_OF_DISK)
}

/// Keeps what the base's blocks made of the prompts of a batch.
pub(super) fn keep_prompts(
    study: &Study,
    assignment: &Assignment,
    task: usize,
    records: &Range<usize>,
    caches: &[BlockCache],
) -> Result<()> {
    let lengths = study.tasks[task].prompt_lengths(records);
    for (block, cache) in caches.iter().enumerate() {
        keep(&assignment.base_folder, task, records.start, block, cache, &lengths)?;
    }
    Ok(())
}

fn keep(
    dir: &Path,
    task: usize,
    first: usize,
    block: usize,
    cache: &BlockCache,
    lengths: &[usize],
) -> Result<()> {
    if lengths.iter().all(|length| *length == 0) {
        return Ok(());
    }
    let [keys, values] = cache.taken(lengths)?;
    write_rows(
        &prompts_path(dir, task, first, block),
        &[("keys".to_owned(), keys), ("values".to_owned(), values)],
    )
}

/// The disagreement in bits at every token of every answer of a group of batches; the base's files are in `dir`. `check` is asked before each batch
/// goes through a block.
///
/// # Errors
/// What `check` says; a tensor operation that fails.
pub(super) fn disagreements(
    study: &Study,
    place: &Place,
    dir: &Path,
    task: usize,
    group: &[Asked],
    heads: &Heads,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let base = match base_states(study, place, dir, task, group, true, check)? {
        Some(states) => states,
        // What was kept is damaged: as if it were not there.
        None => base_states(study, place, dir, task, group, false, check)?
            .ok_or_else(|| Error::failure("the base cannot read the prompts"))?,
    };
    group.iter().zip(base).map(|(asked, base)| compare(place, asked, &base, heads, check)).collect()
}

/// A batch on its way through the base.
struct Reading<'a> {
    asked: &'a Asked,
    /// Tokens of each prompt; 0 where it was not asked.
    lengths: Vec<usize>,
    capacity: usize,
    /// Answers' tokens, each behind the token before it: the last of the prompt, then the answer but for its last.
    batch: Batch,
    states: Tensor,
    /// The prompts on their way, where their keys and values were not kept.
    prompts: Option<(Batch, Tensor)>,
}

/// The base's final hidden states at the tokens of every batch, `[tokens, hidden]`, answer after answer. `None` when
/// what was kept of the prompts cannot be used.
fn base_states(
    study: &Study,
    place: &Place,
    dir: &Path,
    task: usize,
    group: &[Asked],
    use_kept: bool,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Option<Vec<Tensor>>> {
    let blocks = study.folder.config.blocks;
    let mut readings = Vec::new();
    for asked in group {
        let first = asked.records.start;
        let kept = use_kept && (0..blocks).all(|block| prompts_path(dir, task, first, block).exists());
        readings.push(reading(study, &study.tasks[task], asked, kept)?);
    }
    let longest = readings.iter().map(|r| r.capacity).max().unwrap_or(0);
    let ropes = study.folder.config.rope_tables(longest);
    let worth_keeping = keeps_prompts(study, dir);
    for index in 0..blocks {
        let block = study.load_block(index, &place.device)?;
        for reading in &mut readings {
            let first = reading.asked.records.start;
            let sequences = reading.lengths.len();
            let cache = block.cache(sequences, reading.capacity, study.dtype, &place.device)?;
            if let Some((batch, states)) = &mut reading.prompts {
                *states = through(study, place, &block, states, batch, (&ropes, &cache), check)?;
                if worth_keeping {
                    keep(dir, task, first, index, &cache, &reading.lengths)?;
                }
            } else if reading.batch.rows() > 0 {
                let Some([keys, values]) = kept(&prompts_path(dir, task, first, index))? else {
                    return Ok(None);
                };
                if cache.put_back(&reading.lengths, &[keys, values]).is_err() {
                    return Ok(None);
                }
            }
            reading.states =
                through(study, place, &block, &reading.states, &reading.batch, (&ropes, &cache), check)?;
        }
    }
    Ok(Some(readings.into_iter().map(|r| r.states).collect()))
}

fn reading<'a>(study: &Study, task: &PreparedTask, asked: &'a Asked, kept: bool) -> Result<Reading<'a>> {
    let lengths = task.prompt_lengths(&asked.records);
    let prompts = &task.prompts[asked.records.clone()];
    let (mut ids, mut sequences) = (Vec::new(), Vec::new());
    for (slot, (prompt, tokens)) in prompts.iter().zip(&asked.tokens).enumerate() {
        if let (Some(last), Some((_, before))) = (prompt.last(), tokens.split_last()) {
            ids.push(*last);
            ids.extend_from_slice(before);
            sequences.push(Sequence { slot, past: prompt.len() - 1, new: tokens.len() });
        }
    }
    let embed =
        |ids: &[u32], batch: &Batch| head::embed(&study.folder, ids, batch, study.dtype, &Device::Cpu);
    let whole = || -> Result<_> {
        let asked = prompts.iter().zip(&lengths).enumerate().filter(|(_, (_, length))| **length > 0);
        let ids: Vec<u32> = asked.clone().flat_map(|(_, (prompt, _))| prompt.iter().copied()).collect();
        let sequences = asked.map(|(slot, (_, length))| Sequence { slot, past: 0, new: *length });
        let batch = Batch::new(sequences.collect());
        let states = embed(&ids, &batch)?;
        Ok((batch, states))
    };
    let capacity = lengths.iter().zip(&asked.tokens).map(|(length, tokens)| length + tokens.len());
    let batch = Batch::new(sequences);
    let states =
        if ids.is_empty() { Tensor::zeros((0, 0), study.dtype, &Device::Cpu)? } else { embed(&ids, &batch)? };
    Ok(Reading {
        asked,
        capacity: capacity.max().unwrap_or(0),
        batch,
        states,
        prompts: if kept || ids.is_empty() { None } else { Some(whole()?) },
        lengths,
    })
}

/// Hidden states through a block, from the host to the host. Nothing comes of nothing.
fn through(
    study: &Study,
    place: &Place,
    block: &Block,
    states: &Tensor,
    batch: &Batch,
    (ropes, cache): (&RopeTables, &BlockCache),
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Tensor> {
    if batch.rows() == 0 {
        return Ok(states.clone());
    }
    let (states, most) = (states.to_device(&place.device)?, study.spec.compute.batch_tokens);
    let y = block.forward_in_pieces(&states, batch, ropes, cache, most, check)?;
    Ok(y.to_device(&Device::Cpu)?)
}

/// Keys and values that were kept of a batch; `None` where the file is missing or damaged.
fn kept(path: &Path) -> Result<Option<[Tensor; 2]>> {
    let Some(rows) = read_rows(path)? else { return Ok(None) };
    let mut rows = rows.into_iter();
    match (rows.next(), rows.next()) {
        (Some((keys, first)), Some((values, second))) if keys == "keys" && values == "values" => {
            Ok(Some([first, second]))
        }
        _ => Ok(None),
    }
}

/// The head over the cell's and the base's states of a batch, a chunk of tokens at a time.
fn compare(
    place: &Place,
    asked: &Asked,
    base: &Tensor,
    heads: &Heads,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Vec<f32>>> {
    let states: Vec<Tensor> = asked.states.iter().flatten().cloned().collect();
    let mut bits = Vec::new();
    if !states.is_empty() {
        let cell = Tensor::cat(&states, 0)?;
        let count = cell.dim(0)?;
        let chunk = super::evaluate::chunk(place.device.is_cpu(), heads.vocabulary()?);
        for start in (0..count).step_by(chunk) {
            check()?;
            let rows = chunk.min(count - start);
            let parts = [cell.narrow(0, start, rows)?, base.narrow(0, start, rows)?];
            let logits = heads.logits(&parts, &place.device)?;
            let positions = measure(&logits, true, &vec![None; rows])?;
            // Rounding may leave the range by a little; what is no number stays none.
            bits.extend(positions.iter().map(|p| (p.js / std::f64::consts::LN_2).clamp(0.0, 1.0) as f32));
        }
    }
    let mut bits = bits.into_iter();
    Ok(asked.tokens.iter().map(|tokens| bits.by_ref().take(tokens.len()).collect()).collect())
}
