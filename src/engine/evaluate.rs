//! From final hidden states to perplexity and divergences.

use candle_core::{Device, Tensor};

use super::stream::HiddenStates;
use crate::error::Result;
use crate::model::{Activations, LmHead};
use crate::results::Metrics;
use crate::scores::positions::measure;
use crate::scores::{Window, measure_corpus};
use crate::store::checkpoint::positions::TextPositions;
use crate::study::ScoredPositions;

/// Positions whose logits live at the same time on the host, the base's and the cell's: few, for caches.
const HOST_ROWS: usize = 128;
/// Logits of a chunk on a device, which needs much to do at a time.
const DEVICE_LOGITS: usize = 1 << 25;

/// Positions whose logits live at the same time, the base's and the cell's.
pub(super) fn chunk(on_host: bool, vocabulary: usize) -> usize {
    if on_host { HOST_ROWS } else { (DEVICE_LOGITS / vocabulary.max(1)).max(HOST_ROWS) }
}

/// One text, cut into windows.
#[derive(Debug, Clone)]
pub(super) struct Corpus {
    pub name: String,
    pub windows: Vec<Vec<u32>>,
}

/// The head of a cell, and that of the base where it is another.
pub(super) struct Heads {
    own: LmHead,
    base: Option<LmHead>,
}

impl Heads {
    /// The head of a cell, and the base's where that is another.
    pub fn new(own: LmHead, base: Option<LmHead>) -> Self {
        Self { own, base }
    }

    pub fn vocabulary(&self) -> Result<usize> {
        self.own.vocabulary()
    }

    /// Logits of rows of the cell and, where there are two parts, of as many of the base below them.
    pub fn logits(&self, parts: &[Tensor], device: &Device) -> Result<Activations> {
        let (Some(base_head), [own, base]) = (&self.base, parts) else {
            return self.own.logits_of(&Activations::stack(parts, device)?);
        };
        let own = self.own.logits(&own.to_device(device)?.contiguous()?)?;
        let base = base_head.logits(&base.to_device(device)?.contiguous()?)?;
        Activations::stack(&[own, base], device)
    }
}

/// Measures final states on every corpus; the windows of `states` are those of the corpora, one after the other.
/// What compares with the base is measured where there are states of the base. What the positions that count showed is
/// returned besides, corpus after corpus.
///
/// `progress` hears the number of windows done and may end the work.
pub(super) fn evaluate(
    heads: &Heads,
    device: &Device,
    (corpora, scored): (&[Corpus], ScoredPositions),
    states: &HiddenStates,
    base: Option<&HiddenStates>,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<(Metrics, Vec<TextPositions>)> {
    let mut metrics = Metrics::default();
    let mut positions = Vec::new();
    let mut index = 0;
    for corpus in corpora {
        let mut windows = Vec::with_capacity(corpus.windows.len());
        for tokens in &corpus.windows {
            let base = base.map(|b| b.sequence(index)).transpose()?;
            let states = states.sequence(index)?;
            windows.push(window(heads, device, (tokens, scored), &states, base.as_ref())?);
            index += 1;
            progress(index)?;
        }
        metrics.values.extend(measure_corpus(&corpus.name, &windows, base.is_some()));
        positions.push(TextPositions::new(&corpus.name, &windows, base.is_some()));
    }
    Ok((metrics, positions))
}

/// One window: the logits of the positions that count are computed a chunk at a time, for cell and base together.
pub(super) fn window(
    heads: &Heads,
    device: &Device,
    (tokens, scored): (&[u32], ScoredPositions),
    states: &Tensor,
    base: Option<&Tensor>,
) -> Result<Window> {
    let counted = scored.of(tokens.len());
    let mut positions = Vec::with_capacity(counted.len());
    // As many rows of logits live without the base's as with them.
    let chunk = chunk(device.is_cpu(), heads.vocabulary()?) * if base.is_some() { 1 } else { 2 };
    for start in counted.clone().step_by(chunk) {
        let count = chunk.min(counted.end - start);
        let rows = |x: &Tensor| x.narrow(0, start, count);
        let targets: Vec<Option<u32>> = (start + 1..=start + count).map(|i| tokens.get(i).copied()).collect();
        let mut parts = vec![rows(states)?];
        if let Some(base) = base {
            parts.push(rows(base)?);
        }
        let logits = heads.logits(&parts, device)?;
        positions.extend(measure(&logits, base.is_some(), &targets)?);
    }
    // Of all positions only the window's last has no next token.
    let targets = counted.end.min(tokens.len().saturating_sub(1)).saturating_sub(counted.start);
    Ok(Window::new(positions, targets))
}
