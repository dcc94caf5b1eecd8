//! One decoder block: the same code for every architecture of the family, with a hook on every module's input.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::batch::{Batch, BlockCache};
use super::ops::{self, RopeTable, Rows};
use super::{ModelConfig, ModelFolder, Rope, RopeScaling, module_name};
use crate::error::Result;
use crate::kernels::attention::Heads;
use crate::kernels::sparse::Packed;
use crate::study::ModuleKind;

/// A place in the block where one input feeds one or several modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// The normed residual that q, k and v read.
    Attention,
    /// The heads' outputs that o reads.
    Output,
    /// The normed residual that gate and up read.
    Mlp,
    /// The gated activations that down reads.
    Down,
}

impl Site {
    /// All of them, in the order in which a forward pass reaches them.
    pub const ALL: [Self; 4] = [Self::Attention, Self::Output, Self::Mlp, Self::Down];

    /// Where a module reads its input.
    pub fn of(module: ModuleKind) -> Self {
        match module {
            ModuleKind::QProj | ModuleKind::KProj | ModuleKind::VProj => Self::Attention,
            ModuleKind::OProj => Self::Output,
            ModuleKind::GateProj | ModuleKind::UpProj => Self::Mlp,
            ModuleKind::DownProj => Self::Down,
        }
    }
}

/// Is shown every module input that a forward pass reaches.
pub trait Tap {
    /// `x` is `[rows of the batch, in]`.
    fn input(&mut self, site: Site, x: &Rows) -> Result<()>;
}

/// Looks at nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoTap;

impl Tap for NoTap {
    fn input(&mut self, _: Site, _: &Rows) -> Result<()> {
        Ok(())
    }
}

/// Rows from which on packed weights are used: fewer would leave most of a tile of theirs empty.
const PACKED_ROWS: usize = 64;

/// A linear layer.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
    /// The weight once more, without its zeroes.
    packed: Option<Arc<Packed>>,
}

impl Linear {
    /// `x · weightᵀ + bias`, and the residual where there is one.
    fn forward(&self, residual: Option<Rows>, x: &Rows) -> Result<Rows> {
        let bias = self.bias.as_ref();
        match (&self.packed, residual) {
            (Some(packed), residual) if x.len()? >= PACKED_ROWS => {
                ops::linear_packed(residual, x, packed, bias)
            }
            (_, Some(residual)) => ops::linear_add(residual, x, &self.weight, bias),
            (_, None) => ops::linear(x, &self.weight, bias),
        }
    }
}

/// A decoder block on a device.
#[derive(Debug, Clone)]
pub struct Block {
    attention_norm: Tensor,
    mlp_norm: Tensor,
    query_key_norms: Option<(Tensor, Tensor)>,
    modules: [Linear; 7],
    heads: Heads,
    eps: f64,
}

impl Block {
    /// Reads block `index` of a model.
    ///
    /// # Errors
    /// A file that cannot be read, or weights that are no numbers.
    pub fn load(folder: &ModelFolder, index: usize, dtype: DType, device: &Device) -> Result<Self> {
        let config = &folder.config;
        let tensor =
            |name: &str| folder.weights.tensor(&format!("model.layers.{index}.{name}.weight"), dtype, device);
        let module = |kind: ModuleKind| -> Result<Linear> {
            let bias = format!("{}.bias", module_name(index, kind));
            let bias = if config.module_bias(kind) {
                Some(folder.weights.tensor(&bias, dtype, device)?)
            } else {
                None
            };
            Ok(Linear { weight: tensor(kind.path())?, bias, packed: None })
        };
        let [q, k, v, o, gate, up, down] = ModuleKind::ALL;
        Ok(Self {
            attention_norm: tensor("input_layernorm")?,
            mlp_norm: tensor("post_attention_layernorm")?,
            query_key_norms: if config.qk_norm {
                Some((tensor("self_attn.q_norm")?, tensor("self_attn.k_norm")?))
            } else {
                None
            },
            modules: [
                module(q)?,
                module(k)?,
                module(v)?,
                module(o)?,
                module(gate)?,
                module(up)?,
                module(down)?,
            ],
            heads: Heads {
                query: config.heads,
                key: config.kv_heads,
                dim: config.head_dim,
                window: config.sliding_window_for(index),
            },
            eps: config.norm_eps,
        })
    }

    /// A module.
    pub fn module(&self, kind: ModuleKind) -> &Linear {
        &self.modules[kind as usize]
    }

    /// Replaces a module's weight, `[out, in]`.
    pub fn set_weight(&mut self, kind: ModuleKind, weight: Tensor) {
        let module = &mut self.modules[kind as usize];
        module.weight = weight;
        module.packed = None;
    }

    /// Packs the weights that have enough zeroes, so that passes of many tokens leave the zeroes out; only on the host.
    /// Takes up to about as much memory as the weights do.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn pack(&mut self) -> Result<()> {
        for module in &mut self.modules {
            module.packed = ops::pack(&module.weight)?.map(Arc::new);
        }
        Ok(())
    }

    fn linear(&self, kind: ModuleKind, x: &Rows) -> Result<Rows> {
        self.module(kind).forward(None, x)
    }

    fn linear_add(&self, kind: ModuleKind, residual: Rows, x: &Rows) -> Result<Rows> {
        self.module(kind).forward(Some(residual), x)
    }

    /// The block's output for hidden states `x`, `[rows of the batch, hidden]`.
    ///
    /// # Errors
    /// A tensor operation that fails.
    pub fn forward(
        &self,
        x: &Tensor,
        batch: &Batch,
        rope: &RopeTable,
        cache: Option<&BlockCache>,
    ) -> Result<Tensor> {
        let x = Rows::of(x)?;
        let heads = self.attend(&x, batch, rope, cache, None, &mut NoTap)?;
        let Some(heads) = heads else { return x.into_tensor() };
        let middle = self.linear_add(ModuleKind::OProj, x, &heads)?;
        drop(heads);
        let gated = self.gate(&middle, None, &mut NoTap)?;
        let Some(gated) = gated else { return middle.into_tensor() };
        self.linear_add(ModuleKind::DownProj, middle, &gated)?.into_tensor()
    }

    /// [`Self::forward`] with at most `most` rows at a time, for fewer intermediate results in memory. `go_on` is asked
    /// before each.
    ///
    /// # Errors
    /// What `go_on` says; a tensor operation that fails.
    pub fn forward_in_pieces(
        &self,
        x: &Tensor,
        batch: &Batch,
        rope: &RopeTable,
        cache: &BlockCache,
        most: usize,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Tensor> {
        let (mut outputs, mut row) = (Vec::new(), 0);
        for piece in batch.pieces(most) {
            go_on()?;
            let rows = piece.rows();
            outputs.push(self.forward(&x.narrow(0, row, rows)?, &piece, rope, Some(cache))?);
            row += rows;
        }
        Ok(Tensor::cat(&outputs, 0)?)
    }

    /// Runs the block only as far as the inputs of modules are of interest: shows `tap` every input up to `last`, and
    /// computes nothing behind it.
    ///
    /// # Errors
    /// A tensor operation that fails, and what `tap` says.
    pub fn observe(
        &self,
        x: &Tensor,
        batch: &Batch,
        rope: &RopeTable,
        last: Site,
        tap: &mut dyn Tap,
    ) -> Result<()> {
        let x = Rows::of(x)?;
        let Some(heads) = self.attend(&x, batch, rope, None, Some(last), tap)? else { return Ok(()) };
        if last == Site::Output {
            return Ok(());
        }
        let middle = self.linear_add(ModuleKind::OProj, x, &heads)?;
        drop(heads);
        self.gate(&middle, Some(last), tap)?;
        Ok(())
    }

    /// What the heads make of the residual `x`; `None` when `last` was met before them.
    fn attend(
        &self,
        x: &Rows,
        batch: &Batch,
        rope: &RopeTable,
        cache: Option<&BlockCache>,
        last: Option<Site>,
        tap: &mut dyn Tap,
    ) -> Result<Option<Rows>> {
        let normed = ops::rms_norm(x, &self.attention_norm, self.eps)?;
        tap.input(Site::Attention, &normed)?;
        if last == Some(Site::Attention) {
            return Ok(None);
        }
        let mut q = self.linear(ModuleKind::QProj, &normed)?;
        let mut k = self.linear(ModuleKind::KProj, &normed)?;
        let v = self.linear(ModuleKind::VProj, &normed)?;
        drop(normed);
        if let Some((query_norm, key_norm)) = &self.query_key_norms {
            q = ops::rms_norm(&q, query_norm, self.eps)?;
            k = ops::rms_norm(&k, key_norm, self.eps)?;
        }
        let q = ops::rope(&q, rope, batch, self.heads.query)?;
        let k = ops::rope(&k, rope, batch, self.heads.key)?;
        let heads = match cache {
            None => ops::causal_attention(&q, &k, &v, &batch.segments(None), self.heads)?,
            Some(cache) => cache.attend(batch, &q, &k, &v, self.heads)?,
        };
        tap.input(Site::Output, &heads)?;
        Ok(Some(heads))
    }

    /// The gated activations of the MLP for the residual `middle`; `None` when `last` was met before them.
    fn gate(&self, middle: &Rows, last: Option<Site>, tap: &mut dyn Tap) -> Result<Option<Rows>> {
        let normed = ops::rms_norm(middle, &self.mlp_norm, self.eps)?;
        tap.input(Site::Mlp, &normed)?;
        if last == Some(Site::Mlp) {
            return Ok(None);
        }
        let gate = self.linear(ModuleKind::GateProj, &normed)?;
        let up = self.linear(ModuleKind::UpProj, &normed)?;
        let gated = ops::silu_mul(&gate, &up)?;
        tap.input(Site::Down, &gated)?;
        Ok(Some(gated))
    }
}

impl RopeTable {
    /// Tables for the first `positions` positions, angles computed in `f32` as Hugging Face does.
    pub fn new(config: &ModelConfig, positions: usize) -> Self {
        let half = config.head_dim / 2;
        let frequencies = frequencies(&config.rope, config.head_dim);
        let (mut cos, mut sin) = (Vec::with_capacity(positions * half), Vec::with_capacity(positions * half));
        for position in 0..positions {
            for frequency in &frequencies {
                let angle = position as f32 * frequency;
                cos.push(angle.cos());
                sin.push(angle.sin());
            }
        }
        Self::of(cos, sin, half)
    }
}

/// Radians per position of every pair of a head, stretched as the configuration says.
///
/// In `f32` throughout, as Hugging Face computes them: the last bit of a frequency, five hundred positions on, is a
/// hundred times the rounding of anything else, and enough to turn masks of later blocks.
fn frequencies(rope: &Rope, head_dim: usize) -> Vec<f32> {
    let plain = (0..head_dim / 2).map(|i| 1.0 / (rope.theta as f32).powf((2 * i) as f32 / head_dim as f32));
    let stretched = plain.map(|frequency| match rope.scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor as f32,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            let context = original_max_position_embeddings as f64;
            let (factor, low, high) = (factor as f32, low_freq_factor as f32, high_freq_factor as f32);
            let wavelength = 2.0 * std::f32::consts::PI / frequency;
            if f64::from(wavelength) < context / high_freq_factor {
                frequency
            } else if f64::from(wavelength) > context / low_freq_factor {
                frequency / factor
            } else {
                let blend = (context as f32 / wavelength - low) / (high - low);
                (1.0 - blend) * frequency / factor + blend * frequency
            }
        }
    });
    stretched.collect()
}
