//! From final hidden states to perplexity and divergences.

use candle_core::{Device, Tensor};

use super::stream::HiddenStates;
use crate::error::Result;
use crate::model::{Activations, LmHead};
use crate::results::{Agreement, Divergence, Estimate, Metrics};
use crate::scores::positions::{Position, measure};
use crate::scores::stats;

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
    /// Short name.
    pub name: String,
    /// Token windows.
    pub windows: Vec<Vec<u32>>,
}

/// Means over the positions of one window.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    nll: f64,
    js: f64,
    kl: f64,
    agreement: f64,
}

/// Measures final states on every corpus; the windows of `states` are those of the corpora, one after the other.
/// Divergences are measured where there are states of the base.
///
/// `progress` hears the number of windows done and may end the work.
pub(super) fn evaluate(
    head: &LmHead,
    device: &Device,
    corpora: &[Corpus],
    states: &HiddenStates,
    base: Option<&HiddenStates>,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Metrics> {
    let mut metrics = Metrics::default();
    let mut index = 0;
    for corpus in corpora {
        let mut windows = Vec::with_capacity(corpus.windows.len());
        for tokens in &corpus.windows {
            let base = base.map(|b| b.sequence(index)).transpose()?;
            windows.push(window(head, device, tokens, &states.sequence(index)?, base.as_ref())?);
            index += 1;
            progress(index)?;
        }
        let of = |f: fn(&Window) -> f64| -> Vec<f64> { windows.iter().map(f).collect() };
        metrics.perplexity.push(stats::perplexity(&corpus.name, &of(|w| w.nll)));
        if base.is_some() {
            metrics.js_divergence.push(divergence(&corpus.name, &of(|w| w.js)));
            metrics.kl_divergence.push(divergence(&corpus.name, &of(|w| w.kl)));
            let estimate = stats::mean_with_interval(&of(|w| w.agreement));
            metrics.top1_agreement.push(Agreement { corpus: corpus.name.clone(), estimate });
        }
    }
    Ok(metrics)
}

fn divergence(corpus: &str, nats: &[f64]) -> Divergence {
    let Estimate { value, ci95 } = stats::mean_with_interval(nats);
    let bits = |v: f64| v / std::f64::consts::LN_2;
    Divergence { corpus: corpus.into(), bits: bits(value), nats: value, ci95: ci95.map(|v| bits(v).max(0.0)) }
}

/// One window: its logits are computed a chunk of positions at a time, for cell and base together.
fn window(
    head: &LmHead,
    device: &Device,
    tokens: &[u32],
    states: &Tensor,
    base: Option<&Tensor>,
) -> Result<Window> {
    let mut sum = Window::default();
    // As many rows of logits live without the base's as with them.
    let chunk = chunk(device.is_cpu(), head.vocabulary()?) * if base.is_some() { 1 } else { 2 };
    for start in (0..tokens.len()).step_by(chunk) {
        let count = chunk.min(tokens.len() - start);
        let rows = |x: &Tensor| x.narrow(0, start, count);
        let targets: Vec<Option<u32>> = (start + 1..=start + count).map(|i| tokens.get(i).copied()).collect();
        let mut parts = vec![rows(states)?];
        if let Some(base) = base {
            parts.push(rows(base)?);
        }
        let logits = head.logits_of(&Activations::stack(&parts, device)?)?;
        let positions = measure(&logits, base.is_some(), &targets)?;
        for Position { nll, js, kl, agrees } in positions {
            sum.nll += nll;
            sum.js += js;
            sum.kl += kl;
            sum.agreement += f64::from(u8::from(agrees));
        }
    }
    let n = tokens.len() as f64;
    Ok(Window {
        nll: sum.nll / (n - 1.0).max(1.0),
        js: sum.js / n,
        kl: sum.kl / n,
        agreement: sum.agreement / n,
    })
}
