//! Muon (Jordan 2024, kellerjordan.github.io/posts/muon) for the matrices of the blocks: momentum whose singular values are
//! all made about 1, so that a step moves a matrix in every direction and not only in those of its largest gradients. Its
//! rows are then brought to one length in the running mean (`NorMuon`, arXiv 2510.05491), so that every neuron learns as
//! fast as the next; without it neurons of the MLPs faded.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor, Var};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use secateur::{Error, Result};

use super::adamw::Gradients;
use super::ops::read;

/// How fast the momentum forgets.
const MOMENTUM: f32 = 0.95;
/// How fast the mean squares of the rows forget.
const ROW_MEMORY: f32 = 0.95;
/// Newton-Schulz steps, and the coefficients of their odd polynomial: they bring singular values near 1 fast rather than
/// to 1.
const STEPS: usize = 5;
const POLYNOMIAL: (f32, f32, f32) = (3.4445, -4.775, 2.0315);

/// The optimiser's state.
pub struct Muon {
    decay: f32,
    moments: BTreeMap<String, Moments>,
}

/// What is remembered of a matrix.
struct Moments {
    /// `[out, in]`.
    momentum: Vec<f32>,
    /// Mean square of the updates of each row.
    rows: Vec<f32>,
}

impl Muon {
    /// At its beginning; `decay` pulls the matrices to zero.
    pub fn new(decay: f32) -> Self {
        Self { decay, moments: BTreeMap::new() }
    }

    /// Whether a weight is moved by this optimiser: the matrices of the blocks are.
    pub fn takes(name: &str, var: &Var) -> bool {
        name.starts_with("model.layers.") && var.dims().len() == 2
    }

    /// Moves those of the weights that it takes. `gradients` are multiplied by `scale` first.
    pub fn step(
        &mut self,
        weights: &BTreeMap<String, Var>,
        gradients: &Gradients,
        rate: f32,
        scale: f32,
    ) -> Result<()> {
        let mut work = Vec::new();
        for (name, var) in weights.iter().filter(|(name, var)| Self::takes(name, var)) {
            let gradient =
                gradients.get(name).ok_or_else(|| Error::failure(format!("no gradient of `{name}`")))?;
            let rows = var.as_tensor().dim(0)?;
            let fresh = || Moments { momentum: vec![0.0; gradient.len()], rows: vec![0.0; rows] };
            work.push((name, var, gradient, self.moments.remove(name).unwrap_or_else(fresh)));
        }
        let decay = self.decay;
        let moved = work.into_par_iter().with_max_len(1).map(|(name, var, gradient, mut moments)| {
            let (rows, columns) = var.as_tensor().dims2()?;
            let mut ahead = vec![0.0; gradient.len()];
            for ((m, &g), ahead) in moments.momentum.iter_mut().zip(gradient).zip(&mut ahead) {
                let g = g * scale;
                *m += (g - *m) * (1.0 - MOMENTUM);
                *ahead = g + (*m - g) * MOMENTUM;
            }
            let mut update = orthogonal(&ahead, rows, columns);
            even_rows(&mut update, columns, &mut moments.rows);
            let length = (rows as f32 / columns as f32).max(1.0).sqrt();
            let mut values = read(var.as_tensor(), <[f32]>::to_vec)?;
            for (w, u) in values.iter_mut().zip(update) {
                *w -= rate * (length * u + decay * *w);
            }
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
            Ok((name.clone(), moments))
        });
        self.moments.extend(moved.collect::<Result<Vec<_>>>()?);
        Ok(())
    }

    /// The state as tensors, for a checkpoint.
    pub fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        let mut tensors = HashMap::new();
        for (name, moments) in &self.moments {
            tensors.insert(format!("momentum.{name}"), tensor(&moments.momentum)?);
            tensors.insert(format!("rows.{name}"), tensor(&moments.rows)?);
        }
        Ok(tensors)
    }

    /// The state of a checkpoint, for those of the weights that it takes.
    pub fn restore(
        decay: f32,
        weights: &BTreeMap<String, Var>,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self> {
        let values = |name: String| match tensors.get(&name) {
            Some(tensor) => Ok(read(tensor, <[f32]>::to_vec)?),
            None => Err(Error::mistake(format!("the checkpoint lacks `{name}`"))),
        };
        let mut moments = BTreeMap::new();
        for (name, _) in weights.iter().filter(|(name, var)| Self::takes(name, var)) {
            let of = Moments {
                momentum: values(format!("momentum.{name}"))?,
                rows: values(format!("rows.{name}"))?,
            };
            moments.insert(name.clone(), of);
        }
        Ok(Self { decay, moments })
    }
}

/// Divides every row of an update by the root of its mean square, remembered in `squares`; the update's length stays.
pub fn even_rows(update: &mut [f32], columns: usize, squares: &mut [f32]) {
    let length = |update: &[f32]| update.iter().map(|u| u * u).sum::<f32>().sqrt();
    let before = length(update);
    for (row, square) in update.chunks_exact_mut(columns).zip(squares) {
        let now = row.iter().map(|u| u * u).sum::<f32>() / columns as f32;
        *square += (now - *square) * (1.0 - ROW_MEMORY);
        let scale = 1.0 / square.sqrt().max(1e-8);
        for u in row {
            *u *= scale;
        }
    }
    let scale = before / length(update).max(1e-20);
    for u in update {
        *u *= scale;
    }
}

/// A matrix with the singular vectors of this one and singular values near 1.
pub fn orthogonal(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let norm = values.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-20);
    let given = MatRef::from_row_major_slice(values, rows, columns);
    // The Gram matrix of the shorter side is the smaller one.
    let wide = rows <= columns;
    let given = if wide { given } else { given.transpose() };
    let (short, long) = (given.nrows(), given.ncols());
    let mut x = Mat::from_fn(short, long, |i, j| given[(i, j)] / norm);
    let (a, b, c) = POLYNOMIAL;
    let (mut gram, mut next) = (Mat::<f32>::zeros(short, short), Mat::<f32>::zeros(short, long));
    for _ in 0..STEPS {
        matmul(gram.as_mut(), Accum::Replace, x.as_ref(), x.transpose(), 1.0, Par::Seq);
        // `a + b·G + c·G²`, whose product with `x` is the polynomial.
        let mut factor = Mat::from_fn(short, short, |i, j| b * gram[(i, j)] + if i == j { a } else { 0.0 });
        matmul(factor.as_mut(), Accum::Add, gram.as_ref(), gram.as_ref(), c, Par::Seq);
        matmul(next.as_mut(), Accum::Replace, factor.as_ref(), x.as_ref(), 1.0, Par::Seq);
        std::mem::swap(&mut x, &mut next);
    }
    let at = |i: usize, j: usize| if wide { x[(i, j)] } else { x[(j, i)] };
    (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| at(i, j)).collect()
}
