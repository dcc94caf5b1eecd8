//! An output row while its mask changes, and the pair of its weights that is exchanged next.

use rayon::prelude::*;

use super::bounds::{Chords, LANES, Numbers, bound, chords, least, list_below, value_at};
use crate::kernels::simd;

/// Rows of the Gram matrix that are added together.
const TOGETHER: usize = 4;

/// `Σ x xᵀ`, both triangles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gram<'a, T> {
    pub values: &'a [T],
    pub columns: usize,
}

impl<'a, T: Copy + Into<f64>> Gram<'a, T> {
    pub fn row(self, at: usize) -> &'a [T] {
        &self.values[at * self.columns..][..self.columns]
    }

    fn diagonal(self, at: usize) -> f64 {
        self.values[at * self.columns + at].into()
    }
}

/// Columns that go together with a column most, and are looked at one by one. A few stand out in most models.
const NEAR: usize = 16;

/// How far inputs go together, which bounds what a pair can win.
#[derive(Debug)]
pub(super) struct PairReach {
    /// `√G_vv`
    roots: Vec<f64>,
    /// The largest `|G_uv| / √G_vv` of all other columns `v`.
    reach: Vec<f64>,
    /// The largest of all but the nearest columns.
    far_reach: Vec<f64>,
    /// Of every column the nearest ones, and their `G_uv`.
    nearest: Vec<(u32, f64)>,
}

impl PairReach {
    pub fn of<T: Copy + Into<f64> + Sync>(gram: Gram<'_, T>) -> Self {
        let roots: Vec<f64> = (0..gram.columns).map(|at| gram.diagonal(at).max(0.0).sqrt()).collect();
        let near = NEAR.min(gram.columns.saturating_sub(1));
        let of_column = |u: usize| {
            let others = gram.row(u).iter().zip(&roots).enumerate().filter(|(v, _)| *v != u);
            let reach = |(v, (g, root)): (usize, (&T, &f64))| {
                let g: f64 = (*g).into();
                (if *root > 0.0 { g.abs() / root } else { 0.0 }, v as u32, g)
            };
            let mut others: Vec<(f64, u32, f64)> = others.map(reach).collect();
            let farther_first = |a: &(f64, u32, f64), b: &(f64, u32, f64)| b.0.total_cmp(&a.0);
            if near < others.len() {
                others.select_nth_unstable_by(near, farther_first);
            }
            // What rounding could hide.
            let largest = |of: &[(f64, u32, f64)]| of.iter().map(|o| o.0).fold(0.0, f64::max) * (1.0 + 1e-9);
            let (nearest, far) = others.split_at(near);
            let far_reach = largest(far);
            let nearest: Vec<(u32, f64)> = nearest.iter().map(|(_, v, g)| (*v, *g)).collect();
            (largest(&others), far_reach, nearest)
        };
        let found: Vec<_> = (0..gram.columns).into_par_iter().map(of_column).collect();
        Self {
            roots,
            reach: found.iter().map(|of| of.0).collect(),
            far_reach: found.iter().map(|of| of.1).collect(),
            nearest: found.into_iter().flat_map(|of| of.2).collect(),
        }
    }

    /// The nearest columns of one.
    fn nearest(&self, at: usize) -> &[(u32, f64)] {
        let near = self.nearest.len() / self.roots.len().max(1);
        &self.nearest[at * near..][..near]
    }
}

/// A weight that goes and one that comes back, and what that does to the row's error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exchange {
    pub out: usize,
    pub back: usize,
    pub change: f64,
}

/// An output row while its mask changes. A weight that is zero by itself neither goes nor comes back: nothing is won by it.
///
/// The pair of `u`, which goes, and `v`, which comes back, changes the error by `out_u + back_v − 2 w_u w_v G_uv`. The last part
/// is at most `pull_u · size_v`.
#[derive(Debug)]
pub(super) struct MaskedRow<'a, T> {
    gram: Gram<'a, T>,
    reach: &'a PairReach,
    /// `2 w`
    twice: Vec<f64>,
    /// `2 |w_u| · max_v |G_uv| / √G_vv`
    pull: Vec<f64>,
    /// The same without the columns that are nearest to `u`.
    far_pull: Vec<f64>,
    /// `|w_v| √G_vv`
    size: Vec<f64>,
    /// The largest of each.
    largest: (f64, f64),
    /// What pruning a weight adds to the error, alone: `w_u² G_uu + 2 w_u c_u`; infinite for all that do not stay.
    out: Vec<f64>,
    /// What restoring a weight adds to the error, alone: `w_v² G_vv − 2 w_v c_v`; infinite for all that are not pruned.
    back: Vec<f64>,
    shortlist: Shortlist,
}

/// Weights that the best pair can be made of; room that is used again for every pair.
#[derive(Debug)]
struct Shortlist {
    bounds: Vec<f64>,
    out: Vec<u32>,
    back: Vec<u32>,
    /// Of those on a list: what they change alone, and the number by which they pull or are pulled.
    alone: Vec<f64>,
    numbers: Vec<f64>,
    gram: Vec<f64>,
}

impl<'a, T: Copy + Into<f64>> MaskedRow<'a, T> {
    pub fn new(weights: &[f64], pruned: &[bool], gram: Gram<'a, T>, reach: &'a PairReach) -> Self {
        let n = weights.len();
        let products = products(weights, pruned, gram);
        let numbers = |scale: f64, others: &[f64]| -> Vec<f64> {
            weights.iter().zip(others).map(|(weight, other)| scale * weight.abs() * other).collect()
        };
        let (pull, size) = (numbers(2.0, &reach.reach), numbers(1.0, &reach.roots));
        let largest = |numbers: &[f64]| numbers.iter().copied().fold(0.0, f64::max);
        let alone = |sign: f64, of_pruned: bool| -> Vec<f64> {
            let change = |at: usize| {
                if pruned[at] == of_pruned && weights[at] != 0.0 {
                    weights[at] * (weights[at] * gram.diagonal(at) + sign * 2.0 * products[at])
                } else {
                    f64::INFINITY
                }
            };
            (0..n).map(change).collect()
        };
        let shortlist = Shortlist {
            bounds: vec![0.0; n],
            out: vec![0; n],
            back: vec![0; n],
            alone: vec![0.0; n],
            numbers: vec![0.0; n],
            gram: vec![0.0; n],
        };
        Self {
            gram,
            reach,
            far_pull: numbers(2.0, &reach.far_reach),
            twice: weights.iter().map(|weight| 2.0 * weight).collect(),
            largest: (largest(&pull), largest(&size)),
            pull,
            size,
            out: alone(1.0, false),
            back: alone(-1.0, true),
            shortlist,
        }
    }

    /// Whether a weight stays.
    pub fn keeps(&self, at: usize) -> bool {
        self.out[at] < f64::INFINITY
    }

    /// `w² G` of a weight.
    fn energy(&self, at: usize) -> f64 {
        0.25 * self.twice[at] * self.twice[at] * self.gram.diagonal(at)
    }

    /// `pᵀGp`, not below zero.
    pub fn error(&self) -> f64 {
        let pruned = (0..self.back.len()).filter(|&at| self.back[at] < f64::INFINITY);
        pruned.map(|at| (self.energy(at) - self.back[at]) / 2.0).sum::<f64>().max(0.0)
    }

    pub fn apply(&mut self, pair: Exchange) {
        let (gone, come) = (self.gram.row(pair.out), self.gram.row(pair.back));
        let (of_gone, of_come) = (self.twice[pair.out] / 2.0, self.twice[pair.back] / 2.0);
        let Self { out, back, twice, .. } = self;
        simd(
            #[inline(always)]
            || {
                let alone = out.iter_mut().zip(back.iter_mut());
                for (((out, back), twice), (&gone, &come)) in alone.zip(twice).zip(gone.iter().zip(come)) {
                    let step = *twice * (of_gone * gone.into() - of_come * come.into());
                    *out += step;
                    *back -= step;
                }
            },
        );
        // Of one weight, both add up to `2 w² G`.
        self.back[pair.out] = 2.0 * self.energy(pair.out) - self.out[pair.out];
        self.out[pair.out] = f64::INFINITY;
        self.out[pair.back] = 2.0 * self.energy(pair.back) - self.back[pair.back];
        self.back[pair.back] = f64::INFINITY;
    }

    /// The pair that lowers the error most, if one lowers it below `enough`; both of its weights are in one group of `span`
    /// columns.
    pub fn best_pair(&mut self, span: usize, enough: f64) -> Option<Exchange> {
        if span < self.out.len() { self.best_in_groups(span, enough) } else { self.best_in_row(enough) }
    }

    fn best_in_groups(&self, span: usize, enough: f64) -> Option<Exchange> {
        let mut best = Exchange { out: 0, back: 0, change: enough };
        let mut is_found = false;
        for start in (0..self.out.len()).step_by(span) {
            let group = start..(start + span).min(self.out.len());
            let (back, twice) = (&self.back[group.clone()], &self.twice[group.clone()]);
            for out in group.clone().filter(|&out| self.keeps(out)) {
                let (alone, half, gram) =
                    (self.out[out], self.twice[out] / 2.0, &self.gram.row(out)[group.clone()]);
                for (place, ((back, twice), &gram)) in back.iter().zip(twice).zip(gram).enumerate() {
                    let change = alone + (back - half * twice * gram.into());
                    if change < best.change {
                        best = Exchange { out, back: start + place, change };
                        is_found = true;
                    }
                }
            }
        }
        is_found.then_some(best)
    }

    fn best_in_row(&mut self, enough: f64) -> Option<Exchange> {
        let good = self.good_pair(enough);
        let of_back = simd(
            #[inline(always)]
            || chords(self.largest.0, &self.back, &self.size),
        );
        let outs = self.list_outs(&of_back, good.map_or(enough, |pair| pair.change));
        let best = self.near_pair(outs, enough, good);
        let outs = self.drop_near(outs, &of_back, best.map_or(enough, |pair| pair.change));
        self.far_pair(outs, enough, best)
    }

    /// Lists weights that may be pruned in a pair below `most`; returns how many.
    fn list_outs(&mut self, of_back: &Chords, most: f64) -> usize {
        let list = &mut self.shortlist;
        simd(
            #[inline(always)]
            || {
                bound(&mut list.bounds, &self.out, &self.pull, of_back);
                list_below(&list.bounds, most, &mut list.out)
            },
        )
    }

    /// The best pair of one of the listed weights and a column that is near to it, if it is better than `best`.
    fn near_pair(&self, outs: usize, enough: f64, mut best: Option<Exchange>) -> Option<Exchange> {
        for &at in &self.shortlist.out[..outs] {
            let out = at as usize;
            let half = self.twice[out] / 2.0;
            for &(partner, gram) in self.reach.nearest(out) {
                let back = partner as usize;
                let change = self.out[out] + (self.back[back] - half * self.twice[back] * gram);
                if change < best.map_or(enough, |pair| pair.change) {
                    best = Some(Exchange { out, back, change });
                }
            }
        }
        best
    }

    /// Leaves only those on the list that may have a pair below `most` with a column that is not near; returns how many.
    fn drop_near(&mut self, outs: usize, of_back: &Chords, most: f64) -> usize {
        let list = &mut self.shortlist;
        let mut left = 0;
        for place in 0..outs {
            let at = list.out[place];
            let (alone, number) = (self.out[at as usize], self.far_pull[at as usize]);
            if alone + value_at(of_back, number) < most {
                list.out[left] = at;
                (list.alone[left], list.numbers[left]) = (alone, number);
                left += 1;
            }
        }
        left
    }

    /// The best pair of one of the listed weights, if it is better than `best`.
    fn far_pair(&mut self, outs: usize, enough: f64, mut best: Option<Exchange>) -> Option<Exchange> {
        let Self { gram, twice, size, largest, out, back, shortlist: list, .. } = self;
        let most = best.map_or(enough, |pair| pair.change);
        let backs = simd(
            #[inline(always)]
            || {
                let of_out = chords(largest.1, &list.alone[..outs], &list.numbers[..outs]);
                bound(&mut list.bounds, back, size, &of_out);
                list_below(&list.bounds, most, &mut list.back)
            },
        );
        for (place, &at) in list.back[..backs].iter().enumerate() {
            (list.alone[place], list.numbers[place]) = (back[at as usize], twice[at as usize]);
        }
        let (alone, numbers) = (&list.alone[..backs], &list.numbers[..backs]);
        simd(
            #[inline(always)]
            || {
                for &at in &list.out[..outs] {
                    let at = at as usize;
                    let row = gram.row(at);
                    for (gram, &back) in list.gram.iter_mut().zip(&list.back[..backs]) {
                        *gram = row[back as usize].into();
                    }
                    let below = best.map_or(enough, |pair| pair.change) - out[at];
                    let partners = Partners::new(alone, twice[at], numbers, &list.gram);
                    if let Some((change, place)) = least(&partners, below) {
                        let (back, change) = (list.back[place] as usize, out[at] + change);
                        best = Some(Exchange { out: at, back, change });
                    }
                }
            },
        );
        best
    }

    /// A pair that is often the best, or nearly: of the weight that is cheapest to prune, or of the one that is best to
    /// restore.
    fn good_pair(&self, enough: f64) -> Option<Exchange> {
        let cheapest = |alone: &[f64]| {
            simd(
                #[inline(always)]
                || least(&alone, f64::INFINITY),
            )
        };
        let ((of_out, out), (of_back, back)) = (cheapest(&self.out)?, cheapest(&self.back)?);
        let partner = |alone: &[f64], of: usize, below: f64| {
            let partners = Partners::new(alone, self.twice[of], &self.twice, self.gram.row(of));
            simd(
                #[inline(always)]
                || least(&partners, below),
            )
        };
        let first = partner(&self.back, out, enough - of_out);
        let first = first.map(|(change, back)| Exchange { out, back, change: of_out + change });
        let below = first.map_or(enough, |pair| pair.change);
        let second = partner(&self.out, back, below - of_back);
        second.map(|(change, out)| Exchange { out, back, change: of_back + change }).or(first)
    }
}

/// What the partners of a weight add to what it changes alone.
struct Partners<'a, T> {
    /// What each changes alone.
    alone: &'a [f64],
    /// The weight's `w`.
    weight: f64,
    /// `2 w` of each.
    twice: &'a [f64],
    /// `G` of the weight and each.
    gram: &'a [T],
}

impl<'a, T> Partners<'a, T> {
    /// Of as many partners as `alone` has. `weight` is `2 w` of the weight.
    #[inline(always)]
    fn new(alone: &'a [f64], weight: f64, twice: &'a [f64], gram: &'a [T]) -> Self {
        Self { alone, weight: weight / 2.0, twice: &twice[..alone.len()], gram: &gram[..alone.len()] }
    }
}

impl<T: Copy + Into<f64>> Numbers for Partners<'_, T> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.alone.len()
    }

    #[inline(always)]
    fn eight(&self, at: usize) -> [f64; LANES] {
        let mut changes = self.alone.as_chunks::<LANES>().0[at];
        let (twice, gram) = (&self.twice.as_chunks::<LANES>().0[at], &self.gram.as_chunks::<LANES>().0[at]);
        for (change, (twice, &gram)) in changes.iter_mut().zip(twice.iter().zip(gram)) {
            *change -= self.weight * twice * gram.into();
        }
        changes
    }

    #[inline(always)]
    fn one(&self, at: usize) -> f64 {
        self.alone[at] - self.weight * self.twice[at] * self.gram[at].into()
    }
}

/// `c = Gp`, where `p` is the pruned part of a row.
fn products<T: Copy + Into<f64>>(weights: &[f64], pruned: &[bool], gram: Gram<'_, T>) -> Vec<f64> {
    let mut products = vec![0.0; weights.len()];
    let lost: Vec<usize> = (0..weights.len()).filter(|&at| pruned[at] && weights[at] != 0.0).collect();
    let (fours, rest) = lost.as_chunks::<TOGETHER>();
    for four in fours {
        let ([a, b, c, d], scales) = (four.map(|at| gram.row(at)), four.map(|at| weights[at]));
        simd(
            #[inline(always)]
            || {
                let rows = a.iter().zip(b).zip(c.iter().zip(d));
                for (product, ((&a, &b), (&c, &d))) in products.iter_mut().zip(rows) {
                    let (first, second) = (scales[0] * a.into() + scales[1] * b.into(), scales[2] * c.into());
                    *product += first + (second + scales[3] * d.into());
                }
            },
        );
    }
    for &at in rest {
        for (product, &gram) in products.iter_mut().zip(gram.row(at)) {
            *product += weights[at] * gram.into();
        }
    }
    products
}
