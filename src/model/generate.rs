//! Greedy answers from a whole model, many prompts at a time, with a cache of keys and values.

use std::borrow::Cow;

use candle_core::{D, DType, Device, Tensor};

use super::batch::{Batch, Sequence};
use super::block::Block;
use super::cache::BlockCache;
use super::folder::ModelFolder;
use super::head::{self, LmHead};
use super::rope::RopeTables;
use crate::error::{Error, Result};

/// A model's answer to a prompt.
#[derive(Debug, Clone, Default)]
pub struct Generation {
    /// Its tokens, without the end token.
    pub tokens: Vec<u32>,
    /// The hidden states that each token was chosen from, as the last block leaves them: `[tokens, hidden]` on the host.
    /// `None` where it is empty.
    pub states: Option<Tensor>,
}

/// New tokens of a step from which on packing a block's weights for that step alone pays.
const PACKED_TOKENS: usize = 512;

/// A whole model on a device, ready to answer.
#[derive(Debug)]
pub struct Generator<'a> {
    folder: Cow<'a, ModelFolder>,
    blocks: Vec<Block>,
    head: LmHead,
    dtype: DType,
    device: Device,
    batch_tokens: usize,
}

impl<'a> Generator<'a> {
    /// A generator of blocks that were loaded (and pruned) already. At most `batch_tokens` tokens go through a block at a
    /// time.
    pub fn new(
        folder: Cow<'a, ModelFolder>,
        blocks: Vec<Block>,
        head: LmHead,
        dtype: DType,
        device: &Device,
        batch_tokens: usize,
    ) -> Self {
        Self { folder, blocks, head, dtype, device: device.clone(), batch_tokens }
    }

    pub(crate) fn head(&self) -> &LmHead {
        &self.head
    }

    /// Continues every prompt greedily until an end token, which is not part of the answer, or as many tokens as
    /// `limits` says of each prompt; a prompt of the limit 0 is not read at all.
    ///
    /// `read` is shown the caches, one a block, when the prompts have gone through all blocks: they hold the keys and
    /// values of the prompts that were read, each in its prompt's place. `go_on` is asked before every step. An error of
    /// either ends the work.
    pub fn answer(
        &self,
        prompts: &[Vec<u32>],
        limits: &[usize],
        read: &mut dyn FnMut(&[BlockCache]) -> Result<()>,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Generation>> {
        let mut answers: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
        let mut states: Vec<Vec<Tensor>> = vec![Vec::new(); prompts.len()];
        // An empty prompt has no row to read a first token from.
        let readable = |i: &usize| !prompts[*i].is_empty() && limits[*i] > 0;
        let mut active: Vec<usize> = (0..prompts.len()).filter(readable).collect();
        if active.is_empty() {
            return Ok(vec![Generation::default(); prompts.len()]);
        }
        let capacity = active.iter().map(|&i| prompts[i].len() + limits[i]).max().unwrap_or(0);
        if let Some(limit) = self.folder.config.length_limit().filter(|limit| capacity > *limit) {
            return Err(Error::mistake(format!(
                "{}: its rotary embedding changes when a text grows beyond {limit} tokens: accepted are prompts and answers \
                 of up to {limit} together",
                self.folder.root.display()
            )));
        }
        let ropes = self.folder.config.rope_tables(capacity);
        let caches = self
            .blocks
            .iter()
            .map(|block| block.cache(prompts.len(), capacity, self.dtype, &self.device))
            .collect::<Result<Vec<_>>>()?;
        let mut tokens: Vec<u32> = active.iter().flat_map(|&i| prompts[i].iter().copied()).collect();
        let mut sequences: Vec<Sequence> =
            active.iter().map(|&i| Sequence { slot: i, past: 0, new: prompts[i].len() }).collect();
        let mut fresh = true;
        while !active.is_empty() {
            go_on()?;
            let (next, rows) = self.step(&tokens, &Batch::new(sequences.clone()), &ropes, &caches, go_on)?;
            if std::mem::take(&mut fresh) {
                read(&caches)?;
            }
            let mut still = Vec::with_capacity(active.len());
            (tokens, sequences) = (Vec::new(), Vec::new());
            for (row, (&slot, token)) in active.iter().zip(next).enumerate() {
                if self.folder.config.eos.contains(&token) {
                    continue;
                }
                answers[slot].push(token);
                states[slot].push(rows.narrow(0, row, 1)?);
                if answers[slot].len() < limits[slot] {
                    still.push(slot);
                    tokens.push(token);
                    let past = prompts[slot].len() + answers[slot].len() - 1;
                    sequences.push(Sequence { slot, past, new: 1 });
                }
            }
            active = still;
        }
        let generation = |(tokens, states): (Vec<u32>, Vec<Tensor>)| {
            let states = if states.is_empty() { None } else { Some(Tensor::cat(&states, 0)?) };
            Ok(Generation { tokens, states })
        };
        answers.into_iter().zip(states).map(generation).collect()
    }

    /// Runs the new tokens of a batch and returns the likeliest next token of every sequence, with the hidden states on
    /// the host that it was chosen from.
    fn step(
        &self,
        tokens: &[u32],
        batch: &Batch,
        ropes: &RopeTables,
        caches: &[BlockCache],
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(Vec<u32>, Tensor)> {
        let mut x = head::embed(&self.folder, tokens, batch, self.dtype, &self.device)?;
        for (block, cache) in self.blocks.iter().zip(caches) {
            let mut packed = None;
            if batch.rows() >= PACKED_TOKENS {
                // Tensors are shared by their copies, and only one block at a time is packed.
                packed.insert(block.clone()).pack()?;
            }
            let block = packed.as_ref().unwrap_or(block);
            x = block.forward_in_pieces(&x, batch, ropes, cache, self.batch_tokens, go_on)?;
        }
        let last = Tensor::from_vec(batch.last_rows(), batch.len(), &self.device)?;
        let rows = x.index_select(&last, 0)?.contiguous()?;
        let logits = self.head.logits(&rows)?;
        Ok((logits.argmax(D::Minus1)?.to_vec1::<u32>()?, rows.to_device(&Device::Cpu)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Synthetic;
    use crate::model::arch::ARCHITECTURES;
    use crate::model::arch::{llama::Llama, qwen2::Qwen2, qwen3::Qwen3};
    use crate::model::architecture::Architecture;

    const LONGEST: usize = 24;
    /// Less than the longest of the prompts.
    const TOGETHER: usize = 13;

    /// A model without end tokens, and the guard of its files.
    fn folder(architecture: &'static dyn Architecture) -> (tempfile::TempDir, ModelFolder) {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::tiny(architecture).write(dir.path()).unwrap();
        let mut folder = ModelFolder::open(dir.path()).unwrap();
        folder.config.eos.clear();
        (dir, folder)
    }

    fn generator(folder: &ModelFolder) -> Generator<'_> {
        let (dtype, device) = (DType::F32, Device::Cpu);
        let load = |i| Block::load(folder, i, dtype, &device).unwrap();
        let blocks = (0..folder.config.blocks).map(load).collect();
        Generator::new(
            Cow::Borrowed(folder),
            blocks,
            LmHead::load(folder, dtype, &device).unwrap(),
            dtype,
            &device,
            TOGETHER,
        )
    }

    fn answers(folder: &ModelFolder, prompts: &[Vec<u32>], longest: usize) -> Vec<Vec<u32>> {
        let limits = vec![longest; prompts.len()];
        let said = generator(folder).answer(prompts, &limits, &mut |_| Ok(()), &mut || Ok(())).unwrap();
        said.into_iter().map(|said| said.tokens).collect()
    }

    /// The likeliest token, again and again, the whole text computed again each time.
    fn without_a_cache(folder: &ModelFolder, prompt: &[u32], longest: usize) -> Vec<u32> {
        let generator = generator(folder);
        let mut text = prompt.to_vec();
        for _ in 0..longest {
            let (batch, ropes) = (Batch::windows(1, text.len()), folder.config.rope_tables(text.len()));
            let mut x = head::embed(folder, &text, &batch, DType::F32, &Device::Cpu).unwrap();
            for block in &generator.blocks {
                x = block.forward(&x, &batch, &ropes, None).unwrap();
            }
            let rows = generator.head.logits(&x).unwrap().to_vec2::<f32>().unwrap();
            let row = rows.last().unwrap();
            let next = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
            if folder.config.eos.contains(&next) {
                break;
            }
            text.push(next);
        }
        text[prompt.len()..].to_vec()
    }

    fn prompts() -> Vec<Vec<u32>> {
        [3usize, 17, 1, 9].map(|n| (0..n).map(|i| (i * 53 + n * 7) as u32 % 258).collect()).to_vec()
    }

    #[test]
    fn answers_are_the_likeliest_tokens_of_a_model_without_a_cache() {
        for &architecture in ARCHITECTURES {
            let (_dir, folder) = folder(architecture);
            let prompts = prompts();
            for (prompt, answer) in prompts.iter().zip(answers(&folder, &prompts, LONGEST)) {
                assert_eq!(answer.len(), LONGEST);
                assert_eq!(answer, without_a_cache(&folder, prompt, LONGEST), "{architecture:?}");
            }
        }
    }

    #[test]
    fn answers_end_before_an_end_token_and_leave_the_others_as_they_are() {
        let (_dir, mut folder) = folder(&Llama);
        let prompts = prompts();
        let endless = answers(&folder, &prompts, LONGEST);
        // Tokens that end the second answer at once and the first in its middle.
        folder.config.eos = vec![endless[1][0], endless[0][LONGEST / 2]];
        let until_end = |answer: &[u32]| -> Vec<u32> {
            answer.iter().copied().take_while(|t| !folder.config.eos.contains(t)).collect()
        };
        let expected: Vec<Vec<u32>> = endless.iter().map(|answer| until_end(answer)).collect();
        assert!(expected[1].is_empty() && expected[0].len() <= LONGEST / 2);
        assert!(expected.iter().any(|answer| answer.len() == LONGEST), "one goes on alone to the end");
        assert_eq!(answers(&folder, &prompts, LONGEST), expected);
        for (prompt, expected) in prompts.iter().zip(expected) {
            assert_eq!(answers(&folder, std::slice::from_ref(prompt), LONGEST), [expected]);
        }
    }

    #[test]
    fn answers_are_no_longer_than_asked_and_prompts_may_be_empty() {
        let (_dir, folder) = folder(&Qwen2);
        let mut prompts = prompts();
        prompts.insert(1, Vec::new());
        let long = answers(&folder, &prompts, LONGEST);
        assert!(long[1].is_empty());
        for longest in [1, 2, 7] {
            let cut: Vec<_> = long.iter().map(|a| a[..longest.min(a.len())].to_vec()).collect();
            assert_eq!(answers(&folder, &prompts, longest), cut);
        }
        assert_eq!(answers(&folder, &prompts, 0), vec![Vec::<u32>::new(); 5]);
        assert_eq!(answers(&folder, &[], LONGEST), Vec::<Vec<u32>>::new());
        assert_eq!(answers(&folder, &[Vec::new()], LONGEST), [Vec::<u32>::new()]);
    }

    #[test]
    fn the_states_of_an_answer_are_those_that_its_tokens_were_chosen_from() {
        let (_dir, folder) = folder(&Llama);
        let generator = generator(&folder);
        let mut prompts = prompts();
        prompts.push(Vec::new());
        let mut read = 0;
        let count = &mut |caches: &[BlockCache]| {
            assert_eq!(caches.len(), folder.config.blocks);
            read += 1;
            Ok(())
        };
        let said = generator.answer(&prompts, &[LONGEST; 5], count, &mut || Ok(())).unwrap();
        assert_eq!(read, 1);
        for said in &said[..prompts.len() - 1] {
            let logits = generator.head.logits(said.states.as_ref().unwrap()).unwrap();
            assert_eq!(logits.argmax(D::Minus1).unwrap().to_vec1::<u32>().unwrap(), said.tokens);
        }
        assert!(said.last().unwrap().states.is_none());
    }

    #[test]
    fn every_prompt_has_a_limit_of_its_own() {
        let (_dir, folder) = folder(&Qwen2);
        let (prompts, limits) = (prompts(), [5, 0, LONGEST, 1]);
        let long = answers(&folder, &prompts, LONGEST);
        let said = generator(&folder).answer(&prompts, &limits, &mut |_| Ok(()), &mut || Ok(())).unwrap();
        for ((said, long), limit) in said.iter().zip(long).zip(limits) {
            assert_eq!(said.tokens, long[..limit]);
        }
    }

    #[test]
    fn work_ends_when_it_may_not_go_on() {
        let (_dir, folder) = folder(&Qwen3);
        let mut asked = 0;
        let result = generator(&folder).answer(&prompts(), &[LONGEST; 4], &mut |_| Ok(()), &mut || {
            asked += 1;
            if asked > 10 { Err(Error::Cancelled) } else { Ok(()) }
        });
        assert!(matches!(result, Err(Error::Cancelled)));
        assert_eq!(asked, 11, "asked no more after the refusal");
    }
}
