//! Muon (Jordan 2024, kellerjordan.github.io/posts/muon) for the matrices of the blocks: momentum whose singular values are
//! all made about 1, so that a step moves a matrix in every direction and not only in those of its largest gradients.

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
/// Newton-Schulz steps, and the coefficients of their odd polynomial: they bring singular values near 1 fast rather than
/// to 1.
const STEPS: usize = 5;
const POLYNOMIAL: (f32, f32, f32) = (3.4445, -4.775, 2.0315);

/// The optimiser's state.
pub struct Muon {
    decay: f32,
    momentum: BTreeMap<String, Vec<f32>>,
}

impl Muon {
    /// At its beginning; `decay` pulls the matrices to zero.
    pub fn new(decay: f32) -> Self {
        Self { decay, momentum: BTreeMap::new() }
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
            let momentum = self.momentum.remove(name).unwrap_or_else(|| vec![0.0; gradient.len()]);
            work.push((name, var, gradient, momentum));
        }
        let decay = self.decay;
        let moved = work.into_par_iter().with_max_len(1).map(|(name, var, gradient, mut momentum)| {
            let (rows, columns) = var.as_tensor().dims2()?;
            let mut ahead = vec![0.0; momentum.len()];
            for ((m, &g), ahead) in momentum.iter_mut().zip(gradient).zip(&mut ahead) {
                let g = g * scale;
                *m += (g - *m) * (1.0 - MOMENTUM);
                *ahead = g + (*m - g) * MOMENTUM;
            }
            let update = orthogonal(&ahead, rows, columns);
            let length = (rows as f32 / columns as f32).max(1.0).sqrt();
            let mut values = read(var.as_tensor(), <[f32]>::to_vec)?;
            for (w, u) in values.iter_mut().zip(update) {
                *w -= rate * (length * u + decay * *w);
            }
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
            Ok((name.clone(), momentum))
        });
        self.momentum.extend(moved.collect::<Result<Vec<_>>>()?);
        Ok(())
    }

    /// The momentum as tensors, for a checkpoint.
    pub fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        let tensor = |(name, m): (&String, &Vec<f32>)| -> Result<(String, Tensor)> {
            Ok((format!("momentum.{name}"), Tensor::from_slice(m, m.len(), &Device::Cpu)?))
        };
        self.momentum.iter().map(tensor).collect()
    }

    /// The state of a checkpoint, for those of the weights that it takes.
    pub fn restore(
        decay: f32,
        weights: &BTreeMap<String, Var>,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Self> {
        let mut momentum = BTreeMap::new();
        for (name, _) in weights.iter().filter(|(name, var)| Self::takes(name, var)) {
            let tensor = tensors
                .get(&format!("momentum.{name}"))
                .ok_or_else(|| Error::mistake(format!("the checkpoint lacks `momentum.{name}`")))?;
            momentum.insert(name.clone(), read(tensor, <[f32]>::to_vec)?);
        }
        Ok(Self { decay, momentum })
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
