//! What a study will cost: floating-point work, memory, disk. Pure arithmetic over sizes.

use super::event::ResourceEstimate;
use super::experts::are_held;
use crate::kernels::attention::AttentionShape;
use crate::kernels::sparse;
use crate::methods::{Bound, Needs, Procedure};
use crate::model::ops::DEVICE_QUERIES;
use crate::model::{BlockLayout, ModelConfig, ModuleDef, ModuleId};
use crate::study::ScoredPositions;

/// Host memory that a GPU's libraries take.
const DRIVER: usize = 800 << 20;

/// Most bytes that the keys and values of a study's prompts may take on disk.
pub(super) const KEPT_AT_MOST: u64 = 2 << 30;

/// A kind of work, each with a speed of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Work {
    /// Forward passes through blocks.
    Forward,
    /// Collecting Hessians.
    Collect,
    /// Choosing weights by their scores, which memory bounds.
    Select,
    /// Choosing and updating weights by a Hessian, which arithmetic bounds.
    Solve,
    /// Output head and divergences.
    Head,
    Answer,
    /// Comparing answers with the base.
    Compare,
    /// What a block takes beside: reading its weights, writing checkpoint and states.
    Block,
}

impl Work {
    pub const ALL: [Self; 8] = [
        Self::Forward,
        Self::Collect,
        Self::Select,
        Self::Solve,
        Self::Head,
        Self::Answer,
        Self::Compare,
        Self::Block,
    ];

    /// Compressing a module. What limits the speed does not depend on the module's size.
    pub fn compressing(procedure: &Procedure) -> Self {
        match procedure.cost(1, 1).bound {
            Bound::Memory => Self::Select,
            Bound::Arithmetic => Self::Solve,
        }
    }
}

/// Sizes that costs depend on.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub config: ModelConfig,
    /// Tokens of a window.
    pub seq_len: usize,
    /// Calibration windows of a set.
    pub calibration_windows: usize,
    /// Evaluation windows over all corpora.
    pub evaluation_windows: usize,
    /// Tokens of all questions with choices, and how many of them logits are looked at of.
    pub choice_tokens: usize,
    pub choice_rows: usize,
    /// Which of their positions go through the head.
    pub scored: ScoredPositions,
    /// Task prompts, and their tokens in all.
    pub prompts: usize,
    pub prompt_tokens: usize,
    /// Tokens of all answers if each is as long as it may be, and of the longest prompt with such an answer.
    pub answer_tokens: usize,
    pub longest_text: usize,
    /// Whether answers are compared with the base.
    pub disagreement: bool,
    pub batch_tokens: usize,
    pub batch_prompts: usize,
    /// The modules of every block that are pruned.
    pub modules: Vec<Vec<ModuleId>>,
    /// First and one past the last block that is pruned.
    pub blocks: (usize, usize),
    /// Bytes of an element on the compute device, and on disk.
    pub compute_bytes: usize,
    pub disk_bytes: usize,
    /// Whether the device is the host.
    pub on_host: bool,
    /// Whether hidden states stay where the blocks are, and do not come back to the host after each.
    pub states_on_device: bool,
    /// Most bytes of a block's experts, or of their statistics, that are held at the same time.
    pub held_experts: usize,
    /// How much slower than the device the host is, where weights are chosen.
    pub host_slower: f64,
}

/// Floating-point operations by kind of work.
pub(super) type Amounts = Vec<(Work, f64)>;

impl Sizes {
    /// Mean over the blocks of what `f` says of one.
    fn mean_block(&self, f: impl Fn(usize, &BlockLayout) -> f64) -> f64 {
        let blocks = self.config.layouts().enumerate();
        blocks.map(|(block, layout)| f(block, layout)).sum::<f64>() / self.config.blocks as f64
    }

    /// Largest over the blocks of what `f` says of one.
    fn largest_block(&self, f: impl Fn(&BlockLayout) -> usize) -> usize {
        self.config.layouts().map(f).max().unwrap_or(0)
    }

    /// The same of the heads.
    fn largest_heads(&self, f: impl Fn(AttentionShape) -> usize) -> usize {
        (0..self.config.blocks).map(|block| f(self.config.attention(block))).max().unwrap_or(0)
    }

    /// Mean over the blocks of what `f` says of the modules of one that are pruned.
    fn mean_pruned(&self, f: impl Fn(&ModuleDef) -> f64) -> f64 {
        self.mean_block(|block, layout| self.modules[block].iter().map(|id| f(layout.module(*id))).sum())
    }

    /// Parameters of a block's modules, in the mean.
    fn block_parameters(&self) -> f64 {
        self.mean_block(|_, layout| layout.elements() as f64)
    }

    /// Those of them that a token is multiplied with.
    fn parameters_per_token(&self) -> f64 {
        self.mean_block(|_, layout| layout.elements_per_token())
    }

    /// Whether all experts of a block are held. Else they are read one after the other.
    pub fn holds_experts(&self, layout: &BlockLayout) -> bool {
        are_held(layout, self.compute_bytes, self.held_experts)
    }

    /// Weights of a block that are in memory.
    fn held_elements(&self, layout: &BlockLayout) -> usize {
        if self.holds_experts(layout) {
            return layout.elements();
        }
        let modules = layout.modules().map(|(_, module)| module);
        let (experts, others): (Vec<_>, Vec<_>) = modules.partition(|module| module.expert.is_some());
        let largest = experts.iter().map(|module| module.elements()).max().unwrap_or(0);
        // Two of an expert's layers are called together. What became of all experts is held until it is on the disk: at
        // most new values in the precision of the files.
        let compressed = experts.iter().map(|module| module.elements()).sum::<usize>() * self.disk_bytes;
        others.iter().map(|module| module.elements()).sum::<usize>()
            + 2 * largest
            + compressed / self.compute_bytes
    }

    /// Bytes of the Hessians of a block's inputs that are held at the same time.
    fn held_hessians(&self, layout: &BlockLayout) -> usize {
        let all: usize = layout.sites().map(|(_, width)| width * width * 4).sum();
        let has_experts = layout.modules().any(|(_, module)| module.expert.is_some());
        if has_experts { all.min(self.held_experts) } else { all }
    }

    pub fn widest_output(&self) -> usize {
        self.largest_block(|layout| layout.modules().map(|(_, m)| m.shape.0).max().unwrap_or(0))
    }

    /// Tokens of all prompts, and of the answers to them, grow by those of another task.
    pub fn add_prompts(&mut self, prompts: &[Vec<u32>], limits: &[usize]) {
        self.prompts += prompts.len();
        for (prompt, limit) in prompts.iter().zip(limits).filter(|(_, limit)| **limit > 0) {
            self.prompt_tokens += prompt.len();
            self.answer_tokens += limit;
            self.longest_text = self.longest_text.max(prompt.len() + limit);
        }
    }

    /// Tokens that are measured on: of windows and of questions with choices.
    pub fn evaluation_tokens(&self) -> usize {
        self.evaluation_windows * self.seq_len + self.choice_tokens
    }

    fn calibration_tokens(&self) -> usize {
        self.calibration_windows * self.seq_len
    }

    /// One block's forward pass over so many tokens.
    pub fn forward(&self, tokens: usize) -> f64 {
        let tokens = tokens as f64;
        let attention = self.mean_block(|block, _| {
            let heads = self.config.attention(block);
            2.0 * self.seq_len as f64 * (heads.query * heads.dim) as f64
        });
        tokens * (2.0 * self.parameters_per_token() + attention)
    }

    /// The same through a pruned block, in operations of a dense one that take as long.
    pub fn pruned_forward(&self, tokens: usize, procedure: &Procedure) -> f64 {
        let pruned = self.mean_pruned(|module| 2.0 * module.elements_per_token());
        let saved = if self.on_host { 1.0 - sparse::relative_time(procedure.zeros()) } else { 0.0 };
        (self.forward(tokens) - tokens as f64 * pruned * saved) * (1.0 - procedure.narrowed_share())
    }

    /// One block's dense pass: all but the last product.
    pub fn observe(&self) -> f64 {
        let tokens = self.calibration_tokens();
        let last = |layout: &BlockLayout| {
            layout.modules().last().map_or(0.0, |(_, module)| module.elements_per_token())
        };
        self.forward(tokens) - tokens as f64 * 2.0 * self.mean_block(|_, layout| last(layout))
    }

    /// Collecting one block's Hessians.
    pub fn collect(&self) -> f64 {
        let per_token = |layout: &BlockLayout| {
            let mut last = None;
            // The modules of one input stand together.
            let inputs =
                layout.modules().filter(|(_, module)| last.replace(module.site) != Some(module.site));
            inputs.map(|(_, module)| (module.shape.1 as f64).powi(2) * module.token_share()).sum::<f64>()
        };
        self.calibration_tokens() as f64 * self.mean_block(|_, layout| per_token(layout))
    }

    /// Pruning one block's modules, which the host does: in operations of the device that take as long.
    pub fn prune(&self, procedure: &Procedure) -> f64 {
        let operations = |module: &ModuleDef| procedure.cost(module.shape.0, module.shape.1).operations;
        self.mean_pruned(operations) * self.host_slower * (1.0 - procedure.narrowed_share())
    }

    /// Head over all evaluation windows, for `models` models.
    pub fn head(&self, models: usize) -> f64 {
        self.head_rows(self.scored_positions() * models)
    }

    /// Head over what is looked at of questions with choices.
    pub fn choice_head(&self) -> f64 {
        self.head_rows(self.choice_rows)
    }

    fn head_rows(&self, rows: usize) -> f64 {
        rows as f64 * 2.0 * self.config.vocabulary as f64 * (self.config.hidden_size + 40) as f64
    }

    /// Evaluation positions that are scored.
    fn scored_positions(&self) -> usize {
        self.evaluation_windows * self.scored.of(self.seq_len).len()
    }

    pub fn answers(&self) -> f64 {
        // Single-token steps are bound by reading the weights, not by arithmetic: a factor of four.
        let tokens = self.prompt_tokens as f64 + 4.0 * self.answer_tokens as f64;
        tokens * 2.0 * self.parameters_per_token() * self.config.blocks as f64
            + (self.prompts + self.answer_tokens) as f64
                * 2.0
                * (self.config.vocabulary * self.config.hidden_size) as f64
    }

    /// Holding all answers against the base, if they are half as long as they may be.
    pub fn compare(&self) -> f64 {
        if !self.disagreement {
            return 0.0;
        }
        let tokens = 0.5 * self.answer_tokens as f64;
        let blocks = 2.0 * self.parameters_per_token() * self.config.blocks as f64;
        tokens * (blocks + 4.0 * (self.config.vocabulary * self.config.hidden_size) as f64)
    }

    /// What one block takes beside forward passes and pruning.
    pub fn block(&self) -> f64 {
        100.0 * self.block_parameters()
    }

    /// Bytes of the keys and values that all prompts leave in all blocks.
    pub fn prompt_rows_bytes(&self) -> u64 {
        self.config.kept_bytes(self.prompts, self.prompt_tokens, self.compute_bytes) as u64
    }

    /// What is left of the base's measurement when its states are those after `first` blocks.
    pub fn base(&self, first: usize) -> Amounts {
        let blocks = self.config.blocks.saturating_sub(first) as f64;
        vec![
            (Work::Forward, self.forward(self.evaluation_tokens()) * blocks),
            (Work::Block, self.block() * blocks),
            (Work::Head, self.head(1) + self.choice_head()),
            (Work::Answer, self.answers()),
        ]
    }

    /// What is left of one cell when its states are those after `first` blocks and `pruned` blocks are pruned.
    pub fn cell(&self, procedure: &Procedure, first: usize, pruned: usize) -> Amounts {
        let kept = self.kept_share(procedure);
        let blocks = self.config.blocks.saturating_sub(first) as f64 * kept;
        let to_prune = self.blocks.1.saturating_sub(self.blocks.0.max(pruned)) as f64 * kept;
        // Passes of `tokens` through the blocks from `first` to `end`, pruned or not.
        let passes = |tokens: usize, end: usize| {
            let pruned = end.min(self.blocks.1).saturating_sub(first.max(self.blocks.0));
            let dense = end.saturating_sub(first).saturating_sub(pruned);
            kept * (self.forward(tokens) * dense as f64
                + self.pruned_forward(tokens, procedure) * pruned as f64)
        };
        let mut forward = passes(self.evaluation_tokens(), self.config.blocks);
        let mut amounts = Vec::new();
        if procedure.needs() != Needs::Nothing {
            let calibrated = self.blocks.1.saturating_sub(1);
            forward += passes(self.calibration_tokens(), calibrated) + self.observe() * to_prune;
        }
        if procedure.needs() == Needs::Hessian {
            amounts.push((Work::Collect, self.collect() * to_prune));
        }
        amounts.push((Work::Forward, forward));
        amounts.push((Work::Block, self.block() * blocks));
        let compressed = self.prune(procedure) * to_prune * self.kept_weights(procedure);
        amounts.push((Work::compressing(procedure), compressed));
        amounts.push((Work::Head, self.head(2) + self.choice_head()));
        amounts.push((Work::Answer, self.answers() * kept * (1.0 - procedure.narrowed_share())));
        amounts.push((Work::Compare, self.compare()));
        amounts
    }

    /// The share of the blocks that a cell keeps.
    fn kept_share(&self, procedure: &Procedure) -> f64 {
        let blocks = self.config.blocks;
        let removed = procedure.blocks_removed(blocks).unwrap_or(0);
        1.0 - removed as f64 / blocks as f64
    }

    /// The share of the weights of a block that stays where a cell removes experts. A token goes through as many as before.
    fn kept_weights(&self, procedure: &Procedure) -> f64 {
        let Some((experts, _)) = self.config.experts() else { return 1.0 };
        let removed = procedure.experts_removed(self.config.experts()).unwrap_or(0) as f64 / experts as f64;
        let of_experts = |layout: &BlockLayout| {
            let experts = layout.modules().filter(|(_, module)| module.expert.is_some());
            experts.map(|(_, module)| module.elements()).sum::<usize>() as f64
        };
        1.0 - removed * self.mean_block(|_, layout| of_experts(layout)) / self.block_parameters()
    }

    /// The survey of one calibration set, of which some blocks are done.
    pub fn survey(&self, done: usize) -> Amounts {
        let blocks = self.config.blocks.saturating_sub(done) as f64;
        vec![
            (Work::Forward, self.forward(self.calibration_tokens()) * blocks),
            (Work::Block, self.block() * blocks),
        ]
    }

    /// What a cell tries before it has chosen the blocks that it leaves out: `windows` windows through half of the blocks,
    /// and through the head. Some trials are done.
    pub fn trials(&self, procedure: &Procedure, windows: usize, done: usize) -> Amounts {
        let blocks = self.config.blocks;
        let Some((stage, removal)) = procedure.removal() else { return Vec::new() };
        let removed = procedure.blocks_removed(blocks).unwrap_or(0);
        let trials = removal.trials(blocks, removed, &stage.arguments).saturating_sub(done) as f64;
        let tokens = windows.min(self.calibration_windows) * self.seq_len;
        vec![
            (Work::Forward, trials * self.forward(tokens) * blocks as f64 / 2.0),
            (Work::Head, trials * self.head_rows(tokens)),
        ]
    }

    /// Peak memory of host and device, and bytes on disk, for a study of these cells. Seconds are left at 0.
    pub fn memory(&self, cells: &[Procedure]) -> ResourceEstimate {
        let c = &self.config;
        let (host_element, device_element) = (4usize, self.compute_bytes);
        let states = |tokens: usize| tokens * c.widest_state() * self.compute_bytes;
        let block = self.largest_block(|layout| self.held_elements(layout));
        let all_blocks: usize = c.layouts().map(BlockLayout::elements).sum();
        let held_blocks: usize = c.layouts().map(|layout| self.held_elements(layout)).sum();
        let largest =
            self.largest_block(|layout| layout.modules().map(|(_, m)| m.elements()).max().unwrap_or(0));
        let calibrated = cells.iter().any(|procedure| procedure.looks_at_data().is_some());
        let hessians = cells.iter().any(|procedure| procedure.needs() == Needs::Hessian);
        // Evaluation states, the base's, calibration states, and one stream's copy while it is replaced or written.
        let mut kept = states(self.evaluation_tokens()) * if cells.is_empty() { 1 } else { 2 };
        if calibrated {
            kept += states(self.calibration_tokens());
        }
        let tokens = self.evaluation_tokens().max(if calibrated { self.calibration_tokens() } else { 0 });
        let rows = self.batch_tokens.min(tokens).max(self.seq_len);
        let of_rows = |rows: usize| rows * (3 * self.widest_output() + 6 * c.widest_state()) * device_element;
        // On a device the scores of some queries of every head, as they come, in `f32`, masked and as weights.
        let queries = rows / self.seq_len * self.seq_len.min(DEVICE_QUERIES);
        let scores = 3 * self.largest_heads(|heads| heads.query) * queries * self.seq_len * 4;
        let activations = of_rows(rows) + if self.on_host { 0 } else { scores };
        let square = |w: usize| w * w * host_element;
        let statistics = if hessians {
            // The Hessians of all inputs, and the solver's three copies of the largest.
            self.largest_block(|layout| self.held_hessians(layout))
                + 3 * self.largest_block(|l| l.sites().map(|(_, width)| square(width)).max().unwrap_or(0))
        } else {
            0
        };
        // A block's weights once more without their zeroes, with a byte for every column of four that has one; after the
        // block is pruned, so beside no statistics.
        let packed = cells.iter().map(Procedure::zeros).filter(|s| sparse::relative_time(*s) < 1.0);
        let packed = packed.map(|s| block as f64 * (4.0 * (1.0 - s) + 0.25)).fold(0.0, f64::max) as usize;
        let packed = if self.on_host { packed } else { 0 };
        let pruning =
            (if cells.is_empty() { 0 } else { 3 * largest * host_element } + statistics).max(packed);
        // On a device divergences are put together from whole matrices.
        let logits =
            super::evaluate::chunk(self.on_host, c.vocabulary) * c.vocabulary * device_element.max(4);
        let differs = |procedure: &Procedure| {
            let ends = procedure.end_types(c.embedding.width, c.blocks, c.head.tied);
            ends.is_ok_and(|ends| ends.head.is_some())
        };
        // A cell with a head of its own is compared with the base's.
        let heads = 1 + usize::from(cells.iter().any(differs));
        let head = heads * c.vocabulary * c.hidden_size * device_element
            + logits * if self.on_host { 4 } else { 12 };
        let answering = if self.prompts == 0 {
            0
        } else {
            let texts = self.batch_prompts.min(self.prompts);
            let together = texts * self.longest_text;
            let cache = c.kept_bytes(texts, together, device_element);
            // Beside the model that answered: a block of the base, with keys and values of one batch.
            let base = if self.disagreement { block * device_element + cache / c.blocks } else { 0 };
            (held_blocks + c.vocabulary * c.hidden_size) * device_element
                + cache
                + of_rows(self.batch_tokens.min(together))
                + base.max(packed)
        };
        let program = 60 << 20;
        // On a device the next block is read while one is computed, and new values of the one before are written.
        let solved = cells.iter().any(Procedure::updates_weights);
        let blocks = if self.on_host { 1 } else { 2 + usize::from(solved) };
        let passing = (blocks * block * device_element + activations + pruning).max(head);
        // While a model answers, the base's states of the windows are left.
        let windows = states(self.evaluation_windows * self.seq_len);
        let working = (kept + passing).max(windows + answering);
        let (host, device) = match (self.on_host, self.states_on_device) {
            (true, _) => (working + program, 0),
            // They come to the host a batch at a time, to be saved.
            (false, true) => (pruning + program + DRIVER, working),
            (false, false) => (kept + pruning + program + DRIVER, passing.max(answering)),
        };
        let mut disk = states(self.evaluation_tokens());
        // What every position showed: one value of the base, three of each cell.
        disk += 4 * self.scored_positions() * (1 + 3 * cells.len());
        if self.disagreement && !cells.is_empty() {
            disk += usize::try_from(self.prompt_rows_bytes().min(KEPT_AT_MOST)).unwrap_or(usize::MAX);
        }
        for procedure in cells {
            let of_all = match procedure.bits() {
                // Scales and zeros of groups of 32 take this much more at most.
                Some(bits) => (all_blocks as f64 * (bits + 2.0) / 8.0) as usize,
                None if procedure.updates_weights() => all_blocks * self.disk_bytes,
                None if procedure.stages().is_empty() => 0,
                None => all_blocks / 8,
            };
            disk += (of_all as f64 * self.kept_share(procedure) * self.kept_weights(procedure)) as usize;
        }
        if !cells.is_empty() {
            disk += states(self.evaluation_tokens())
                + if calibrated { states(self.calibration_tokens()) } else { 0 };
        }
        ResourceEstimate {
            host_bytes: host as u64,
            device_bytes: device as u64,
            disk_bytes: disk as u64,
            ..ResourceEstimate::default()
        }
    }
}
