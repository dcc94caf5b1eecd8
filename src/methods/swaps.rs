//! Swaps (SparseSwaps, arXiv 2512.10922): a mask becomes better while weights that stay take turns with weights that go.
//!
//! With the Gram matrix `G = Σ x xᵀ` of the inputs and `p` the pruned part of a row, the row's output is off by `pᵀGp`.
//! Pruning `u` and restoring `v` changes that by
//! `2 w_u c_u + w_u² G_uu − 2 w_v c_v + w_v² G_vv − 2 w_u w_v G_uv` with `c = Gp`. The best pair of a row is exchanged,
//! again and again, until none lowers the error. A row keeps its number of zeros, and so does a group of an N:M pattern.

use rayon::prelude::*;

use super::{Arguments, InputStatistics, Parameter, ParameterKind, Statistics};
use crate::error::{Error, Result};
use crate::kernels::simd;
use crate::study::Sparsity;

/// Whether a mask is refined.
pub(super) const SWAPS: Parameter = Parameter {
    name: "swaps",
    about: "whether weights that go are exchanged for weights that stay, while that lowers the error of a row's output",
    kind: ParameterKind::Choice(&["no", "yes"]),
};

/// Name of the detail that tells how often weights were exchanged.
pub(super) const SWAPS_DETAIL: &str = "swaps";

/// Rows between two looks at whether to stop.
const ROWS: usize = 256;

/// Numbers that are compared side by side.
const LANES: usize = 8;

/// Pulls for which the least return of a pruned weight is known, each half of the one before.
const PULLS: usize = 8;

/// A pair has to lower a row's first error by this share of it: less is rounding, and would never end.
const LEAST_SHARE: f64 = 1e-12;

/// Whether arguments ask for a better mask.
pub(super) fn is_asked(arguments: &Arguments) -> bool {
    arguments.text(&SWAPS) == "yes"
}

/// Floating-point operations for a matrix `[rows, columns]`, about: a row is gone through once for each of some weights
/// of every exchange, of which there are a few in a hundred columns.
pub(super) fn operations(rows: usize, columns: usize) -> f64 {
    4.0 * rows as f64 * (columns as f64).powi(2)
}

/// Improves the mask of a matrix `[rows, columns]` that was `before`; returns how often weights were exchanged.
///
/// # Errors
/// [`Error::Failure`] where `inputs` has no Gram matrix on the host, [`Error::Cancelled`] when `stop` says so.
pub(super) fn refine(
    before: &[f32],
    weights: &mut [f32],
    inputs: &mut InputStatistics,
    sparsity: Sparsity,
    stop: &dyn Fn() -> bool,
) -> Result<usize> {
    let InputStatistics { statistics: Statistics::Gram(gram), width: columns, .. } = inputs else {
        return Err(Error::failure("a mask was to be refined without products of its inputs"));
    };
    mirror(gram, *columns);
    let span = match sparsity {
        Sparsity::Fraction(_) => *columns,
        Sparsity::SemiStructured { group, .. } => group,
    };
    let gram = Gram { values: gram, columns: *columns };
    let reach = PairReach::of(gram);
    let mut swaps = 0;
    for (before, weights) in before.chunks(ROWS * gram.columns).zip(weights.chunks_mut(ROWS * gram.columns)) {
        if stop() {
            return Err(Error::Cancelled);
        }
        let rows = before.par_chunks(gram.columns).zip(weights.par_chunks_mut(gram.columns));
        swaps +=
            rows.map(|(before, weights)| refine_row(before, weights, (gram, &reach), span)).sum::<usize>();
    }
    Ok(swaps)
}

/// Copies the lower triangle of a square matrix over the upper one.
fn mirror(square: &mut [f32], columns: usize) {
    for i in 0..columns {
        for j in 0..i {
            square[j * columns + i] = square[i * columns + j];
        }
    }
}

/// `Σ x xᵀ`, both triangles.
#[derive(Debug, Clone, Copy)]
struct Gram<'a, T> {
    values: &'a [T],
    columns: usize,
}

impl<'a, T: Copy + Into<f64>> Gram<'a, T> {
    fn row(self, at: usize) -> &'a [T] {
        &self.values[at * self.columns..][..self.columns]
    }

    fn diagonal(self, at: usize) -> f64 {
        self.values[at * self.columns + at].into()
    }
}

/// How far inputs go together, which bounds what a pair can win.
#[derive(Debug)]
struct PairReach {
    /// `√G_vv`
    roots: Vec<f64>,
    /// The largest `|G_uv| / √G_vv` of all other columns `v`.
    reach: Vec<f64>,
}

impl PairReach {
    fn of<T: Copy + Into<f64> + Sync>(gram: Gram<'_, T>) -> Self {
        let roots: Vec<f64> = (0..gram.columns).map(|at| gram.diagonal(at).max(0.0).sqrt()).collect();
        let farthest = |u: usize| {
            let others =
                gram.row(u).iter().zip(&roots).enumerate().filter(|(v, (_, root))| *v != u && **root > 0.0);
            let reach = others.map(|(_, (&g, root))| g.into().abs() / root).fold(0.0, f64::max);
            // What rounding could hide.
            reach * (1.0 + 1e-9)
        };
        let reach = (0..gram.columns).into_par_iter().map(farthest).collect();
        Self { roots, reach }
    }
}

fn refine_row(
    before: &[f32],
    weights: &mut [f32],
    (gram, reach): (Gram<'_, f32>, &PairReach),
    span: usize,
) -> usize {
    let numbers = before.iter().map(|&w| f64::from(w)).collect();
    let mut row = MaskedRow::new(numbers, weights.iter().map(|w| *w == 0.0).collect(), gram, reach);
    let enough = -LEAST_SHARE * row.error();
    let mut swaps = 0;
    // Every exchange lowers the error, so none comes twice; the bound is for numbers that are none.
    while swaps < 100 * before.len() {
        let spans = (0..before.len()).step_by(span);
        let pairs = spans.filter_map(|start| row.best_pair(start, (start + span).min(before.len()), enough));
        let Some(pair) = pairs.min_by(|a, b| a.change.total_cmp(&b.change)) else { break };
        row.apply(pair);
        swaps += 1;
    }
    for ((weight, &before), &pruned) in weights.iter_mut().zip(before).zip(&row.pruned) {
        *weight = if pruned { 0.0 } else { before };
    }
    swaps
}

/// A weight that goes and one that comes back, and what that does to the row's error.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Exchange {
    out: usize,
    back: usize,
    change: f64,
}

/// An output row while its mask changes.
struct MaskedRow<'a, T> {
    gram: Gram<'a, T>,
    reach: &'a PairReach,
    weights: Vec<f64>,
    /// Weights that are zero by themselves are pruned and never come back: nothing is won by them.
    pruned: Vec<bool>,
    /// `c = Gp`.
    products: Vec<f64>,
    /// What restoring a pruned weight adds to the error, alone; infinite for all others.
    back: Vec<f64>,
    /// The pruned part of the row, 0 elsewhere.
    lost: Vec<f64>,
}

impl<'a, T: Copy + Into<f64>> MaskedRow<'a, T> {
    fn new(weights: Vec<f64>, pruned: Vec<bool>, gram: Gram<'a, T>, reach: &'a PairReach) -> Self {
        let n = weights.len();
        let mut row = Self {
            gram,
            reach,
            weights,
            pruned,
            products: vec![0.0; n],
            back: vec![f64::INFINITY; n],
            lost: vec![0.0; n],
        };
        for at in 0..n {
            if row.pruned[at] && row.weights[at] != 0.0 {
                row.add(at, 1.0);
            }
        }
        row.renew();
        row
    }

    /// `pᵀGp`.
    fn error(&self) -> f64 {
        self.lost.iter().zip(&self.products).map(|(p, c)| p * c).sum()
    }

    /// Adds a weight to the pruned part, or takes it away with `sign` −1.
    fn add(&mut self, at: usize, sign: f64) {
        let (weight, row) = (sign * self.weights[at], self.gram.row(at));
        let products = &mut self.products;
        simd(
            #[inline(always)]
            || {
                for (product, &g) in products.iter_mut().zip(row) {
                    *product += weight * g.into();
                }
            },
        );
    }

    /// Brings what depends on mask and products up to date.
    fn renew(&mut self) {
        for at in 0..self.weights.len() {
            let weight = self.weights[at];
            let is_lost = self.pruned[at] && weight != 0.0;
            self.lost[at] = if is_lost { weight } else { 0.0 };
            self.back[at] = if is_lost {
                weight * (weight * self.gram.diagonal(at) - 2.0 * self.products[at])
            } else {
                f64::INFINITY
            };
        }
    }

    fn apply(&mut self, pair: Exchange) {
        self.add(pair.out, 1.0);
        self.add(pair.back, -1.0);
        self.pruned[pair.out] = true;
        self.pruned[pair.back] = false;
        self.renew();
    }

    /// The pair of columns `start..end` that lowers the error most, if one lowers it below `enough`.
    fn best_pair(&self, start: usize, end: usize, enough: f64) -> Option<Exchange> {
        let (back, lost) = (&self.back[start..end], &self.lost[start..end]);
        let pull = |at: usize| 2.0 * self.weights[at].abs() * self.reach.reach[at];
        let strongest = (start..end).filter(|&at| !self.pruned[at]).map(pull).fold(0.0, f64::max);
        let least = least_returns(strongest, back, lost, &self.reach.roots[start..end]);
        let out = |at: usize| {
            self.weights[at] * (self.weights[at] * self.gram.diagonal(at) + 2.0 * self.products[at])
        };
        // No pair of a weight is better than this.
        let bound = |at: usize| {
            let pull = pull(at);
            let (_, least) = least.iter().rfind(|(known, _)| *known >= pull).unwrap_or(&least[0]);
            (out(at) + least, at)
        };
        let mut candidates: Vec<(f64, usize)> = (start..end)
            .filter(|&at| !self.pruned[at])
            .map(bound)
            .filter(|(best, _)| *best < enough)
            .collect();
        candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut found: Option<(usize, f64)> = None;
        for (bound, at) in candidates {
            let best = found.map_or(enough, |(_, change)| change);
            if bound >= best {
                break;
            }
            let (out, twice, row) = (out(at), 2.0 * self.weights[at], &self.gram.row(at)[start..end]);
            let change = simd(
                #[inline(always)]
                || least_change(out, twice, back, lost, row),
            );
            if change < best {
                found = Some((at, change));
            }
        }
        let (at, change) = found?;
        let gram = &self.gram.row(at)[start..end];
        let place = (0..back.len()).find(|&v| {
            change_of_pair(out(at), 2.0 * self.weights[at], back[v], lost[v], gram[v]) <= change
        })?;
        Some(Exchange { out: at, back: start + place, change })
    }
}

/// The least that a pruned weight `v` adds when it comes back and the other weight of its pair pulls: `back_v − pull · |w_v| √G_vv`,
/// for some pulls from the strongest down. What a pair wins by going together is no more than its pull.
fn least_returns(strongest: f64, back: &[f64], lost: &[f64], roots: &[f64]) -> [(f64, f64); PULLS] {
    let mut pull = 2.0 * strongest;
    [(); PULLS].map(|()| {
        pull /= 2.0;
        let least = simd(
            #[inline(always)]
            || least_return(pull, back, lost, roots),
        );
        (pull, least)
    })
}

/// `min_v back_v − pull · |w_v| √G_vv`, in lanes.
#[inline(always)]
fn least_return(pull: f64, back: &[f64], lost: &[f64], roots: &[f64]) -> f64 {
    let of = |back: f64, lost: f64, root: f64| back - pull * lost.abs() * root;
    let mut least = [f64::INFINITY; LANES];
    let (backs, losts, all) = (back.chunks_exact(LANES), lost.chunks_exact(LANES), roots.chunks_exact(LANES));
    let rest = backs.remainder().iter().zip(losts.remainder()).zip(all.remainder());
    let rest = rest.map(|((&back, &lost), &root)| of(back, lost, root)).fold(f64::INFINITY, f64::min);
    for ((back, lost), root) in backs.zip(losts).zip(all) {
        for lane in 0..LANES {
            let value = of(back[lane], lost[lane], root[lane]);
            if value < least[lane] {
                least[lane] = value;
            }
        }
    }
    least.into_iter().fold(rest, f64::min)
}

#[inline(always)]
fn change_of_pair(out: f64, twice: f64, back: f64, lost: f64, gram: impl Into<f64>) -> f64 {
    out + back - twice * lost * gram.into()
}

/// The least change of all pairs with one weight that goes; in lanes, so that it is fast.
#[inline(always)]
fn least_change<T: Copy + Into<f64>>(out: f64, twice: f64, back: &[f64], lost: &[f64], gram: &[T]) -> f64 {
    let mut least = [f64::INFINITY; LANES];
    let (backs, losts, grams) =
        (back.chunks_exact(LANES), lost.chunks_exact(LANES), gram.chunks_exact(LANES));
    let rest = backs.remainder().iter().zip(losts.remainder()).zip(grams.remainder());
    let rest = rest.map(|((&back, &lost), &gram)| change_of_pair(out, twice, back, lost, gram));
    let rest = rest.fold(f64::INFINITY, f64::min);
    for ((back, lost), gram) in backs.zip(losts).zip(grams) {
        for lane in 0..LANES {
            let change = change_of_pair(out, twice, back[lane], lost[lane], gram[lane]);
            if change < least[lane] {
                least[lane] = change;
            }
        }
    }
    least.into_iter().fold(rest, f64::min)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "exact values are meant")]

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::skip::shared;

    /// `pᵀGp` from the definition.
    fn error(before: &[f32], after: &[f32], gram: Gram<'_, f32>) -> f64 {
        let lost: Vec<f64> = before.iter().zip(after).map(|(b, a)| f64::from(b - a)).collect();
        let row = |i: usize| lost.iter().zip(gram.row(i)).map(|(p, &g)| p * f64::from(g)).sum::<f64>();
        lost.iter().enumerate().map(|(i, p)| p * row(i)).sum()
    }

    /// `Σ x xᵀ` of a few inputs.
    fn gram(inputs: &[Vec<f32>], columns: usize) -> Vec<f32> {
        let sum = |i: usize, j: usize| inputs.iter().map(|x| x[i] * x[j]).sum();
        (0..columns * columns).map(|at| sum(at / columns, at % columns)).collect()
    }

    fn inputs(columns: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
        prop::collection::vec(prop::collection::vec(-3f32..3.0, columns), 1..20)
    }

    proptest! {
        #[test]
        fn every_pair_is_what_brute_force_finds_and_the_error_only_falls(
            weights in prop::collection::vec(prop_oneof![-2f32..2.0, Just(0.0)], 8),
            mask in prop::collection::vec(any::<bool>(), 8),
            inputs in inputs(8),
            span in prop_oneof![Just(4usize), Just(8)],
        ) {
            let values = gram(&inputs, 8);
            let gram = Gram { values: &values, columns: 8 };
            let mut after: Vec<f32> = weights.iter().zip(&mask).map(|(w, keep)| if *keep { *w } else { 0.0 }).collect();
            let first = error(&weights, &after, gram);
            let close = 1e-5 * (1.0 + first);
            let numbers = weights.iter().map(|w| f64::from(*w)).collect();
            let reach = PairReach::of(gram);
            let row = MaskedRow::new(numbers, after.iter().map(|w| *w == 0.0).collect(), gram, &reach);
            let enough = -LEAST_SHARE * row.error();
            for start in (0..8).step_by(span) {
                let mut best = 0.0f64;
                for out in start..start + span {
                    for back in start..start + span {
                        if after[out] == 0.0 || after[back] != 0.0 || weights[back] == 0.0 {
                            continue;
                        }
                        let mut changed = after.clone();
                        (changed[out], changed[back]) = (0.0, weights[back]);
                        best = best.min(error(&weights, &changed, gram) - first);
                    }
                }
                let found = row.best_pair(start, start + span, enough).map_or(0.0, |pair| pair.change);
                prop_assert!((found - best).abs() <= close, "{found} for {best}");
            }
            let zeros = |row: &[f32]| -> Vec<usize> {
                row.chunks(span).map(|part| part.iter().filter(|w| **w == 0.0).count()).collect()
            };
            let (counts, swaps) = (zeros(&after), refine_row(&weights, &mut after, (gram, &reach), span));
            prop_assert_eq!(zeros(&after), counts, "every row or group keeps its number");
            let last = error(&weights, &after, gram);
            prop_assert!(last <= first + close && (swaps > 0 || last == first), "{first} to {last}");
            prop_assert!(after.iter().zip(&weights).all(|(a, w)| *a == 0.0 || a == w), "no weight changes");
        }
    }

    fn numbers(value: &Value) -> Vec<f64> {
        let rows = value.as_array().unwrap().iter();
        rows.flat_map(|row| match row {
            Value::Array(row) => row.iter().map(|v| v.as_f64().unwrap()).collect(),
            number => vec![number.as_f64().unwrap()],
        })
        .collect()
    }

    #[test]
    fn small_matrices_agree_with_brute_force_swap_by_swap() {
        let Some(results) = shared("golden/structure/results.json") else { return };
        let results: Value = serde_json::from_slice(&std::fs::read(results).unwrap()).unwrap();
        for case in results["swaps"]["small"].as_array().unwrap() {
            let (weights, values) = (numbers(&case["weights"]), numbers(&case["gram"]));
            let keep = numbers(&case["initial_keep"]);
            let gram = Gram { values: &values, columns: 12 };
            let reach = PairReach::of(gram);
            let span = case["groups"].as_u64().map_or(12, |group| group as usize);
            let swaps = case["swaps"].as_array().unwrap();
            for (at, weights) in weights.chunks(12).enumerate() {
                let pruned = keep[at * 12..][..12].iter().map(|keep| *keep == 0.0).collect();
                let mut row = MaskedRow::new(weights.to_vec(), pruned, gram, &reach);
                let enough = -LEAST_SHARE * row.error();
                // Gram matrices and results have nine digits, and much cancels.
                let rounding = 1e-8 * row.error();
                for swap in swaps.iter().filter(|swap| swap["row"] == at) {
                    let spans = (0..12).step_by(span);
                    let pairs = spans.filter_map(|start| row.best_pair(start, start + span, enough));
                    let pair = pairs.min_by(|a, b| a.change.total_cmp(&b.change)).unwrap();
                    let exchanged = (Some(pair.out as u64), Some(pair.back as u64));
                    assert_eq!((swap["out"].as_u64(), swap["in"].as_u64()), exchanged);
                    row.apply(pair);
                    for (name, got) in [("delta", pair.change), ("row_error_after", row.error())] {
                        let want = swap[name].as_f64().unwrap();
                        assert!((got - want).abs() <= rounding, "{name}: {got} for {want}");
                    }
                }
                let mut spans = (0..12).step_by(span);
                assert_eq!(spans.find_map(|start| row.best_pair(start, start + span, enough)), None);
            }
        }
    }
}
