//! What `config.json` says of a model, checked: its sizes, both of its ends, and the layout of every block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::forward::DecoderBlock;
use super::layout::{BlockLayout, ModuleId};
use super::rope::{RopeTables, RotaryEmbedding};
use super::widths::BlockWidths;
use crate::error::{Error, Result};
use crate::kernels::attention::AttentionShape;
use crate::kernels::ggml::{MatrixKind, MatrixPlace};
use crate::results::ModuleKind;

/// A model of a known architecture.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The family: the name of its class in `transformers`.
    pub architecture: &'static str,
    /// The class in `transformers` of the model that this one is the text part of, where it is one.
    pub inside: Option<&'static str>,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Decoder blocks.
    pub blocks: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Longest context that the model was made for, in tokens.
    pub max_positions: usize,
    /// From token ids to hidden states.
    pub embedding: EmbeddingDef,
    /// From hidden states to logits.
    pub head: HeadDef,
    /// Every kind of rotary embedding that a block uses.
    pub ropes: Vec<RotaryEmbedding>,
    /// Tokens that end an answer, from `config.json` and `generation_config.json`.
    pub eos: Vec<u32>,
    /// Those of them that only `generation_config.json` names.
    pub generation_eos: Vec<u32>,
    /// Token that begins a text.
    pub bos: Option<u32>,
    /// What a person should know of settings that contradict each other.
    pub warnings: Vec<String>,
    /// Why no block can be left out, where that is so.
    pub needs_all_blocks: Option<&'static str>,
    pub(super) plans: BlockPlans,
}

/// How token ids become hidden states.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingDef {
    /// The tensor, `[vocabulary, hidden]`.
    pub tensor: String,
    /// Features of a row: the hidden size, unless there is a projection.
    pub width: usize,
    /// A matrix `[hidden, width]` that every row goes through.
    pub projection: Option<String>,
    /// What every row is multiplied by.
    pub factor: f64,
    /// Learned positions, which are added after that.
    pub positions: Option<PositionsDef>,
    /// What every block gets beside the residual.
    pub block_inputs: Option<BlockInputsDef>,
}

/// Inputs of blocks that come from the tokens and from the embedding, one for each block. They travel with the residual: a
/// row of hidden states has them behind it until their blocks have read them.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockInputsDef {
    /// A table, `[rows, blocks · width]`.
    pub table: String,
    /// Its rows.
    pub rows: usize,
    /// A matrix that the embedding goes through, `[blocks · width, hidden]`.
    pub projection: String,
    /// The weight of the RMS norm of every input that comes of that, `[width]`.
    pub norm: String,
    /// Its epsilon.
    pub norm_eps: f64,
    /// Features of a block's input.
    pub width: usize,
}

/// A table of learned positions.
#[derive(Debug, Clone, PartialEq)]
pub struct PositionsDef {
    /// The tensor, `[rows, hidden]`.
    pub tensor: String,
    /// Its rows.
    pub rows: usize,
    /// The row of the first position.
    pub offset: usize,
}

/// How rows are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x²) + eps) · weight`
    Rms,
    /// The same with one more than the weight.
    RmsPlusOne,
    /// `(x − mean) / sqrt(variance + eps) · weight`, and a bias where there is one.
    Layer {
        /// Whether there is a bias.
        bias: bool,
    },
}

/// How hidden states become logits.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadDef {
    /// The weight of the last norm, `[hidden]`.
    pub norm: String,
    /// Its epsilon.
    pub norm_eps: f64,
    /// What kind of norm it is; `None` is none, and then name and epsilon say nothing.
    pub norm_kind: Option<NormKind>,
    /// A matrix `[width of the embedding, hidden]` that normalised states go through.
    pub projection: Option<String>,
    /// The tensor of a head of its own, `[vocabulary, width of the embedding]`.
    pub tensor: String,
    /// A bias, `[vocabulary]`.
    pub bias: Option<String>,
    /// The head is the embedding.
    pub tied: bool,
    /// What the logits are multiplied by.
    pub factor: f64,
    /// Logits `y` become `cap · tanh(y / cap)` after that.
    pub softcap: Option<f64>,
}

impl HeadDef {
    /// The bias of the last norm, `[hidden]`, where it has one.
    pub(crate) fn norm_bias(&self) -> Option<String> {
        let module = self.norm.strip_suffix("weight").unwrap_or(&self.norm);
        matches!(self.norm_kind, Some(NormKind::Layer { bias: true })).then(|| format!("{module}bias"))
    }
}

/// The blocks of a model, of which some may be left out.
#[derive(Debug, Clone)]
pub(super) struct BlockPlans {
    /// All blocks that the files have.
    all: Arc<[BlockPlan]>,
    /// Numbers of those that are there, where it is not all.
    kept: Option<Arc<[usize]>>,
}

impl BlockPlans {
    /// Number in the files of the block at a place.
    fn number(&self, place: usize) -> usize {
        self.kept.as_ref().map_or(place, |kept| kept[place])
    }

    /// The block at a place.
    pub fn at(&self, place: usize) -> &BlockPlan {
        &self.all[self.number(place)]
    }

    fn len(&self) -> usize {
        self.kept.as_ref().map_or(self.all.len(), |kept| kept.len())
    }

    fn iter(&self) -> impl Iterator<Item = &BlockPlan> {
        (0..self.len()).map(|place| self.at(place))
    }
}

impl FromIterator<BlockPlan> for BlockPlans {
    fn from_iter<I: IntoIterator<Item = BlockPlan>>(plans: I) -> Self {
        Self { all: plans.into_iter().collect(), kept: None }
    }
}

/// One block: what it is made of and how hidden states go through it.
#[derive(Debug, Clone)]
pub(super) struct BlockPlan {
    pub layout: BlockLayout,
    pub decoder: Arc<dyn DecoderBlock>,
}

impl ModelConfig {
    /// What a block is made of.
    ///
    /// # Panics
    /// There is no such block.
    pub fn layout(&self, block: usize) -> &BlockLayout {
        &self.plans.at(block).layout
    }

    /// The number that a block has in the model's files: blocks before it may be left out.
    ///
    /// # Panics
    /// There is no such block.
    pub(crate) fn number_in_files(&self, block: usize) -> usize {
        self.plans.number(block)
    }

    /// How many blocks the model's files have.
    pub(crate) fn blocks_in_files(&self) -> usize {
        self.plans.all.len()
    }

    /// The blocks of the files that are left out, in ascending order.
    pub(crate) fn dropped_blocks(&self) -> Vec<usize> {
        let kept: BTreeSet<usize> = (0..self.blocks).map(|block| self.plans.number(block)).collect();
        (0..self.blocks_in_files()).filter(|number| !kept.contains(number)).collect()
    }

    /// Experts that are left out of the blocks that are there, by the numbers that the files have for both.
    pub(crate) fn dropped_experts(&self) -> BTreeMap<usize, Vec<usize>> {
        let of = |block| (self.plans.number(block), self.layout(block).removed_experts().to_vec());
        (0..self.blocks).map(of).filter(|(_, experts)| !experts.is_empty()).collect()
    }

    /// The same model without some blocks, by their numbers in the files. Those that stay get new numbers, and stay
    /// what they are: with the window and the rotary embedding of their numbers in the files.
    pub(crate) fn without_blocks(&self, removed: &[usize]) -> Self {
        let kept = (0..self.blocks).map(|block| self.plans.number(block));
        let kept: Arc<[usize]> = kept.filter(|number| !removed.contains(number)).collect();
        let plans = BlockPlans { all: self.plans.all.clone(), kept: Some(kept) };
        Self { blocks: plans.len(), plans, ..self.clone() }
    }

    /// The place of the block that has a number in the model's files; `None` where it is left out.
    pub(crate) fn place_of(&self, number: usize) -> Option<usize> {
        (0..self.blocks).find(|block| self.plans.number(*block) == number)
    }

    /// The same model without some experts: a list for every block of the files, of experts by their numbers there.
    pub(crate) fn without_experts(&self, removed: &[Vec<usize>]) -> Self {
        self.with_layouts(|number, layout| {
            layout.without_experts(removed.get(number).map_or(&[][..], Vec::as_slice))
        })
    }

    /// The same model with all experts that the files have.
    pub(super) fn with_all_experts(&self) -> Self {
        self.with_layouts(|_, layout| layout.with_all_experts())
    }

    fn with_layouts(&self, layout: impl Fn(usize, &BlockLayout) -> BlockLayout) -> Self {
        let plan = |(number, plan): (usize, &BlockPlan)| BlockPlan {
            layout: layout(number, &plan.layout),
            decoder: plan.decoder.clone(),
        };
        let all = self.plans.all.iter().enumerate().map(plan).collect();
        Self { plans: BlockPlans { all, kept: self.plans.kept.clone() }, ..self.clone() }
    }

    /// How many experts every block has, and how many of them a token goes through; `None` where a block has none, or
    /// blocks differ.
    pub(crate) fn experts(&self) -> Option<(usize, usize)> {
        let mut counts = self.layouts().map(BlockLayout::experts);
        let first = counts.next()??;
        counts.all(|count| count == Some(first)).then_some(first)
    }

    pub(crate) fn layouts(&self) -> impl Iterator<Item = &BlockLayout> {
        self.plans.iter().map(|plan| &plan.layout)
    }

    /// Bytes of what all blocks keep of so many texts of `tokens` tokens together, where a number takes `element` of them.
    pub(crate) fn kept_bytes(&self, texts: usize, tokens: usize, element: usize) -> usize {
        self.plans.iter().map(|plan| plan.decoder.memory().bytes(texts, tokens, element)).sum()
    }

    /// Features of the widest row of hidden states between two blocks: the residual, and what travels with it.
    pub(crate) fn widest_state(&self) -> usize {
        let inputs = self.embedding.block_inputs.as_ref().map_or(0, |inputs| self.blocks * inputs.width);
        let beside = self.plans.iter().map(|plan| plan.decoder.carried()).max().unwrap_or(0);
        self.hidden_size + inputs.max(beside)
    }

    /// Shape of the heads of a block.
    ///
    /// # Panics
    /// There is no such block.
    pub fn attention(&self, block: usize) -> AttentionShape {
        self.plans.at(block).decoder.attention()
    }

    /// Which parts of a block can be narrower.
    ///
    /// # Panics
    /// There is no such block.
    pub(crate) fn widths(&self, block: usize) -> BlockWidths {
        let BlockPlan { layout, decoder } = self.plans.at(block);
        decoder.widths(layout)
    }

    /// Where a module stands, as far as mixtures of formats care.
    ///
    /// # Panics
    /// There is no such block or module.
    pub(crate) fn matrix_place(&self, block: usize, id: ModuleId) -> MatrixPlace {
        let (module, attention) = (self.layout(block).module(id), self.attention(block));
        MatrixPlace {
            kind: MatrixKind::of_module(&module.name),
            block,
            blocks: self.blocks,
            queries_per_key: attention.query / attention.key.max(1),
            columns: module.shape.1,
        }
    }

    /// Tables of the rotary embeddings for texts of up to so many tokens. Behind [`Self::length_limit`] they are those of
    /// texts that are as long as that.
    pub fn rope_tables(&self, positions: usize) -> RopeTables {
        RopeTables::new(&self.ropes, positions)
    }

    /// Every tensor of the model, with its shape: embedding, blocks, last norm, and the head unless it is tied.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (embedding, head, hidden) = (&self.embedding, &self.head, self.hidden_size);
        let mut tensors = vec![(embedding.tensor.clone(), vec![self.vocabulary, embedding.width])];
        let positions = embedding.positions.iter();
        tensors.extend(positions.map(|table| (table.tensor.clone(), vec![table.rows, hidden])));
        tensors.extend(embedding.projection.iter().map(|name| (name.clone(), vec![hidden, embedding.width])));
        if let Some(inputs) = &embedding.block_inputs {
            let all = self.blocks_in_files() * inputs.width;
            tensors.push((inputs.table.clone(), vec![inputs.rows, all]));
            tensors.push((inputs.projection.clone(), vec![all, hidden]));
            tensors.push((inputs.norm.clone(), vec![inputs.width]));
        }
        tensors.extend(self.layouts().flat_map(BlockLayout::tensors));
        if head.norm_kind.is_some() {
            tensors.push((head.norm.clone(), vec![hidden]));
        }
        tensors.extend(head.norm_bias().map(|name| (name, vec![hidden])));
        tensors.extend(head.projection.iter().map(|name| (name.clone(), vec![embedding.width, hidden])));
        if !head.tied {
            tensors.push((head.tensor.clone(), vec![self.vocabulary, embedding.width]));
        }
        tensors.extend(head.bias.iter().map(|name| (name.clone(), vec![self.vocabulary])));
        tensors
    }

    /// Longest text, in tokens, up to which all texts are rotated alike, where there is such a limit: behind it, the
    /// rotation of every token depends on how long its text is.
    pub(crate) fn length_limit(&self) -> Option<usize> {
        self.ropes.iter().filter_map(|embedding| embedding.rope.length_limit()).min()
    }

    /// The same model inside another one, whose files have other names for its tensors.
    pub(super) fn renamed(mut self, change: &dyn Fn(&mut String)) -> Self {
        let (embedding, head) = (&mut self.embedding, &mut self.head);
        let names = [Some(&mut embedding.tensor), embedding.projection.as_mut()];
        let positions = embedding.positions.as_mut().map(|table| &mut table.tensor);
        let ends = [
            Some(&mut head.norm),
            head.projection.as_mut(),
            Some(&mut head.tensor),
            head.bias.as_mut(),
            positions,
        ];
        let inputs = embedding.block_inputs.iter_mut();
        let inputs = inputs.flat_map(|inputs| [&mut inputs.table, &mut inputs.projection, &mut inputs.norm]);
        for name in names.into_iter().chain(ends).flatten().chain(inputs) {
            change(name);
        }
        // A configuration that was just read is nobody else's.
        if let Some(plans) = Arc::get_mut(&mut self.plans.all) {
            for plan in plans {
                plan.layout.rename(change);
            }
        }
        self
    }

    /// Paths of the modules of all blocks, each once, in the order in which a pass reaches them.
    pub fn module_names(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let names = self.layouts().flat_map(BlockLayout::modules).map(|(_, module)| module.name.clone());
        names.filter(|name| seen.insert(name.clone())).collect()
    }

    /// The modules of every block that one of the patterns means, in the order of the layout: `q_proj`,
    /// `self_attn.q_proj`, `mlp.*`.
    ///
    /// # Errors
    /// [`Error::Mistake`] naming a pattern that means no module of any block, and what there is.
    pub fn select_modules(&self, patterns: &[String]) -> Result<Vec<Vec<ModuleId>>> {
        let means = |layout: &BlockLayout, pattern: &String| {
            layout.modules().any(|(id, _)| layout.matches(id, pattern))
        };
        if let Some(unknown) = patterns.iter().find(|p| !self.layouts().any(|layout| means(layout, p))) {
            let names = self.module_names();
            let kinds = ModuleKind::all(names.iter().map(String::as_str)).into_iter().map(|kind| kind.path);
            return Err(Error::mistake(format!(
                "modules: `{unknown}` is no module of a {}; accepted are {}, and patterns of them such as `*`",
                self.architecture,
                kinds.collect::<Vec<_>>().join(", ")
            )));
        }
        let selected = |layout: &BlockLayout| {
            let meant = |id| patterns.iter().any(|pattern| layout.matches(id, pattern));
            layout.modules().map(|(id, _)| id).filter(|id| meant(*id)).collect()
        };
        Ok(self.layouts().map(selected).collect())
    }
}
