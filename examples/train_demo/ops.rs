//! Differentiable operations of a decoder block: candle records the graph, the loops are the project's kernels.
//!
//! Every operation works on one thread; the trainer keeps all cores busy by giving each its own part of a batch.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail,
};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use secateur::kernels::matmul::{linear as product, rows, rows_mut};
use secateur::kernels::{math, simd};

/// The elements of a contiguous `f32` operand.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        _ => bail!("a contiguous f32 tensor is needed"),
    }
}

/// Lends out the elements of a tensor on the host.
pub fn read<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(f(slice(cpu, layout)?)),
        _ => bail!("a tensor on the host is needed"),
    }
}

fn tensor(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), like.device())
}

/// `x · wᵀ`.
struct Linear;

/// `x · wᵀ`: `x` is `[n, in]`, `w` is `[out, in]`.
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.apply_op2(w, Linear)
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((n, inner), (outer, _)) = (xl.shape().dims2()?, wl.shape().dims2()?);
        let mut out = vec![0f32; n * outer];
        product(&mut out, slice(x, xl)?, slice(w, wl)?, inner, false, Par::Seq);
        Ok((CpuStorage::F32(out), (n, outer).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((n, inner), outer) = (x.dims2()?, w.dim(0)?);
        let (mut dx, mut dw) = (vec![0f32; n * inner], vec![0f32; outer * inner]);
        read(grad, |g| -> Result<()> {
            let g = MatRef::from_row_major_slice(g, n, outer);
            read(w, |w| {
                let w = MatRef::from_row_major_slice(w, outer, inner);
                let out = MatMut::from_row_major_slice_mut(&mut dx, n, inner);
                matmul(out, Accum::Replace, g, w, 1.0, Par::Seq);
            })?;
            read(x, |x| {
                let x = MatRef::from_row_major_slice(x, n, inner);
                let out = MatMut::from_row_major_slice_mut(&mut dw, outer, inner);
                matmul(out, Accum::Replace, g.transpose(), x, 1.0, Par::Seq);
            })
        })??;
        Ok((Some(tensor(dx, x)?), Some(tensor(dw, w)?)))
    }
}

/// Root-mean-square norm over rows, times a weight.
struct RmsNorm {
    eps: f64,
}

/// `x / sqrt(mean(x²) + eps) · w` over every row of `x`.
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op2(w, RmsNorm { eps })
}

impl RmsNorm {
    #[inline(always)]
    fn scale(&self, row: &[f32]) -> f32 {
        (1.0 / (math::sum_of_squares(row) / row.len() as f64 + self.eps).sqrt()) as f32
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (slice(x, xl)?, slice(w, wl)?);
        let mut out = vec![0f32; x.len()];
        simd(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(w.len()).zip(x.chunks_exact(w.len())) {
                    let scale = self.scale(x);
                    for ((o, &x), &w) in out.iter_mut().zip(x).zip(w) {
                        *o = x * scale * w;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(out), xl.shape().clone()))
    }

    /// With `r` the scale of a row and `D` its width: `dx = r·(w∘g) − x·r³/D·⟨x, w∘g⟩`, `dw = Σ rows x·r∘g`.
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = w.elem_count();
        let (mut dx, mut dw) = (vec![0f32; x.elem_count()], vec![0f32; width]);
        read(x, |xs| {
            read(w, |ws| {
                read(grad, |gs| {
                    simd(
                        #[inline(always)]
                        || {
                            let lines = dx.chunks_exact_mut(width).zip(xs.chunks_exact(width));
                            for ((dx, x), g) in lines.zip(gs.chunks_exact(width)) {
                                let r = self.scale(x);
                                let mut dot = 0f32;
                                for ((&x, &w), &g) in x.iter().zip(ws).zip(g) {
                                    dot += x * w * g;
                                }
                                let back = dot * r * r * r / width as f32;
                                for i in 0..width {
                                    dx[i] = r * ws[i] * g[i] - x[i] * back;
                                    dw[i] += x[i] * r * g[i];
                                }
                            }
                        },
                    );
                })
            })
        })???;
        Ok((Some(tensor(dx, x)?), Some(tensor(dw, w)?)))
    }
}

/// `silu(gate) · up`.
struct SiluMul;

/// `silu(gate) · up`, element by element.
pub fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2(up, SiluMul)
}

impl CustomOp2 for SiluMul {
    fn name(&self) -> &'static str {
        "silu-mul"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (slice(a, al)?, slice(b, bl)?);
        let mut out = vec![0f32; gate.len()];
        simd(
            #[inline(always)]
            || {
                for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                    *o = g / (1.0 + math::exp(-g)) * u;
                }
            },
        );
        Ok((CpuStorage::F32(out), al.shape().clone()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (mut da, mut db) = (vec![0f32; a.elem_count()], vec![0f32; b.elem_count()]);
        read(a, |gate| {
            read(b, |up| {
                read(grad, |grad| {
                    simd(
                        #[inline(always)]
                        || {
                            let inputs = gate.iter().zip(up).zip(grad);
                            for ((da, db), ((&g, &u), &d)) in da.iter_mut().zip(&mut db).zip(inputs) {
                                let sigmoid = 1.0 / (1.0 + math::exp(-g));
                                let silu = g * sigmoid;
                                *db = d * silu;
                                *da = d * u * (sigmoid + silu * (1.0 - sigmoid));
                            }
                        },
                    );
                })
            })
        })???;
        Ok((Some(tensor(da, a)?), Some(tensor(db, b)?)))
    }
}

/// Cosines and sines of the rotary embedding, `[positions, dim / 2]`, as the decoder computes them.
#[derive(Debug, Clone)]
pub struct Rotation {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rotation {
    /// For heads of `dim` at up to `positions` places.
    pub fn new(theta: f32, dim: usize, positions: usize) -> Self {
        let half = dim / 2;
        let angles = (0..positions)
            .flat_map(|p| (0..half).map(move |i| p as f32 * (1.0 / theta.powf((2 * i) as f32 / dim as f32))));
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Self { cos, sin, half }
    }

    /// Rotates every head of a row that stands at `position`; `sign` −1 turns back.
    #[inline(always)]
    fn turn(&self, row: &mut [f32], position: usize, sign: f32) {
        let at = position * self.half..(position + 1) * self.half;
        let (cos, sin) = (&self.cos[at.clone()], &self.sin[at]);
        for head in row.chunks_exact_mut(2 * self.half) {
            let (low, high) = head.split_at_mut(self.half);
            for i in 0..self.half {
                let (a, b) = (low[i], high[i]);
                low[i] = a * cos[i] - sign * b * sin[i];
                high[i] = b * cos[i] + sign * a * sin[i];
            }
        }
    }

    /// Rotates all rows of sequences of these lengths.
    fn turn_all(&self, x: &mut [f32], lengths: &[usize], width: usize, sign: f32) {
        simd(
            #[inline(always)]
            || {
                let positions = lengths.iter().flat_map(|&n| 0..n);
                for (row, position) in x.chunks_exact_mut(width).zip(positions) {
                    self.turn(row, position, sign);
                }
            },
        );
    }
}

/// Rotary causal attention of sequences that lie one behind the other.
pub struct Attention<'a> {
    /// Lengths of the sequences.
    pub lengths: &'a [usize],
    /// Heads of queries, keys and values.
    pub heads: usize,
    /// Angles.
    pub rotation: &'a Arc<Rotation>,
}

/// What the operation keeps: its graph outlives the borrow.
struct AttentionOp {
    lengths: Vec<usize>,
    heads: usize,
    rotation: Arc<Rotation>,
}

impl Attention<'_> {
    /// `softmax(q·kᵀ/√dim + causal mask)·v`, all `[rows, heads · dim]`, `q` and `k` not rotated yet.
    pub fn apply(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let op = AttentionOp {
            lengths: self.lengths.to_vec(),
            heads: self.heads,
            rotation: Arc::clone(self.rotation),
        };
        q.apply_op3(k, v, op)
    }
}

impl AttentionOp {
    /// First element and length of every sequence's head.
    fn parts(&self, width: usize) -> Vec<(usize, usize)> {
        let dim = width / self.heads;
        let mut parts = Vec::new();
        let mut row = 0;
        for &n in &self.lengths {
            parts.extend((0..self.heads).map(|head| (row * width + head * dim, n)));
            row += n;
        }
        parts
    }

    fn rotated(&self, x: &[f32], width: usize) -> Vec<f32> {
        let mut x = x.to_vec();
        self.rotation.turn_all(&mut x, &self.lengths, width, 1.0);
        x
    }
}

/// Attention weights of one head of `n` rows, `[n, n]`, zero above the diagonal.
fn attention_weights(out: &mut Vec<f32>, q: MatRef<'_, f32>, k: MatRef<'_, f32>) {
    let (n, dim) = (q.nrows(), q.ncols());
    out.clear();
    out.resize(n * n, 0.0);
    let scale = 1.0 / (dim as f32).sqrt();
    let scores = MatMut::from_row_major_slice_mut(out, n, n);
    matmul(scores, Accum::Replace, q, k.transpose(), scale, Par::Seq);
    simd(
        #[inline(always)]
        || {
            for (i, row) in out.chunks_exact_mut(n).enumerate() {
                let (seen, hidden) = row.split_at_mut(i + 1);
                hidden.fill(0.0);
                let mut max = f32::NEG_INFINITY;
                for &v in &*seen {
                    max = if v > max { v } else { max };
                }
                for v in &mut *seen {
                    *v = math::exp(*v - max);
                }
                let scale = 1.0 / seen.iter().sum::<f32>();
                for v in seen {
                    *v *= scale;
                }
            }
        },
    );
}

impl CustomOp3 for AttentionOp {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, width) = ql.shape().dims2()?;
        let dim = width / self.heads;
        let (q, k, v) =
            (self.rotated(slice(q, ql)?, width), self.rotated(slice(k, kl)?, width), slice(v, vl)?);
        let (mut out, mut weights) = (vec![0f32; q.len()], Vec::new());
        for (at, n) in self.parts(width) {
            attention_weights(&mut weights, rows(&q[at..], n, dim, width), rows(&k[at..], n, dim, width));
            let weights = MatRef::from_row_major_slice(&weights, n, n);
            let out = rows_mut(&mut out[at..], n, dim, width);
            matmul(out, Accum::Replace, weights, rows(&v[at..], n, dim, width), 1.0, Par::Seq);
        }
        Ok((CpuStorage::F32(out), ql.shape().clone()))
    }

    /// With `P` the weights and `s` the scale: `dV = Pᵀ·G`, `dP = G·Vᵀ`, `dS = P∘(dP − rowsum(dP∘P))`,
    /// `dQ = s·dS·K`, `dK = s·dSᵀ·Q`.
    fn bwd(
        &self,
        qt: &Tensor,
        kt: &Tensor,
        vt: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (_, width) = qt.dims2()?;
        let dim = width / self.heads;
        let scale = 1.0 / (dim as f32).sqrt();
        let q = read(qt, |x| self.rotated(x, width))?;
        let k = read(kt, |x| self.rotated(x, width))?;
        let v = read(vt, <[f32]>::to_vec)?;
        let g = read(grad, <[f32]>::to_vec)?;
        let mut grads = [vec![0f32; q.len()], vec![0f32; q.len()], vec![0f32; q.len()]];
        let [dq, dk, dv] = &mut grads;
        let (mut weights, mut back) = (Vec::new(), Vec::new());
        for (at, n) in self.parts(width) {
            let part = |x| rows(x, n, dim, width);
            let (q, k, v, g) = (part(&q[at..]), part(&k[at..]), part(&v[at..]), part(&g[at..]));
            attention_weights(&mut weights, q, k);
            back.clear();
            back.resize(n * n, 0f32);
            let p = MatRef::from_row_major_slice(&weights, n, n);
            matmul(rows_mut(&mut dv[at..], n, dim, width), Accum::Replace, p.transpose(), g, 1.0, Par::Seq);
            let scores = MatMut::from_row_major_slice_mut(&mut back, n, n);
            matmul(scores, Accum::Replace, g, v.transpose(), 1.0, Par::Seq);
            simd(
                #[inline(always)]
                || {
                    for (i, (row, p)) in back.chunks_exact_mut(n).zip(weights.chunks_exact(n)).enumerate() {
                        let (seen, hidden) = row.split_at_mut(i + 1);
                        hidden.fill(0.0);
                        let mut total = 0f32;
                        for (&d, &p) in seen.iter().zip(p) {
                            total += d * p;
                        }
                        for (d, &p) in seen.iter_mut().zip(p) {
                            *d = p * (*d - total);
                        }
                    }
                },
            );
            let ds = MatRef::from_row_major_slice(&back, n, n);
            matmul(rows_mut(&mut dq[at..], n, dim, width), Accum::Replace, ds, k, scale, Par::Seq);
            matmul(
                rows_mut(&mut dk[at..], n, dim, width),
                Accum::Replace,
                ds.transpose(),
                q,
                scale,
                Par::Seq,
            );
        }
        self.rotation.turn_all(dq, &self.lengths, width, -1.0);
        self.rotation.turn_all(dk, &self.lengths, width, -1.0);
        let [dq, dk, dv] = grads;
        Ok((Some(tensor(dq, qt)?), Some(tensor(dk, kt)?), Some(tensor(dv, vt)?)))
    }
}

/// Sum of negative log-likelihoods of the next tokens.
struct CrossEntropy {
    targets: Vec<Option<u32>>,
}

/// `Σ −ln softmax(row)[target]` over the rows of `logits` (`[n, vocabulary]`) that have a target; a scalar.
pub fn cross_entropy(logits: &Tensor, targets: Vec<Option<u32>>) -> Result<Tensor> {
    logits.apply_op1(CrossEntropy { targets })
}

/// The greatest of a row and the sum of exponentials above it.
#[inline(always)]
fn partition(row: &[f32]) -> (f32, f32) {
    let mut max = f32::NEG_INFINITY;
    for &v in row {
        max = if v > max { v } else { max };
    }
    let mut lanes = [0f32; 16];
    let (whole, rest) = row.as_chunks::<16>();
    for chunk in whole {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += math::exp(v - max);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rest) {
        *lane += math::exp(v - max);
    }
    (max, lanes.iter().sum())
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = xl.shape().dims2()?;
        let x = slice(x, xl)?;
        let mut sum = 0f64;
        simd(
            #[inline(always)]
            || {
                for (row, target) in x.chunks_exact(width).zip(&self.targets) {
                    let Some(target) = target else { continue };
                    let (max, total) = partition(row);
                    sum += f64::from(total.ln() + max - row[*target as usize]);
                }
            },
        );
        Ok((CpuStorage::F32(vec![sum as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, width) = x.dims2()?;
        let grad = grad.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        let mut dx = vec![0f32; x.elem_count()];
        read(x, |x| {
            simd(
                #[inline(always)]
                || {
                    let lines = dx.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    for ((dx, row), target) in lines.zip(&self.targets) {
                        let Some(target) = target else { continue };
                        let (max, total) = partition(row);
                        let scale = grad / total;
                        for (d, &v) in dx.iter_mut().zip(row) {
                            *d = scale * math::exp(v - max);
                        }
                        dx[*target as usize] -= grad;
                    }
                },
            );
        })?;
        Ok(Some(tensor(dx, x)?))
    }
}
