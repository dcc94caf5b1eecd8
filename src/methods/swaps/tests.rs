//! Exchanges compared with brute force, and with sequences that brute force in `f64` found.

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
        let numbers: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
        let pruned: Vec<bool> = after.iter().map(|w| *w == 0.0).collect();
        let reach = PairReach::of(gram);
        let mut row = MaskedRow::new(&numbers, &pruned, gram, &reach);
        let enough = -LEAST_SHARE * row.error();
        prop_assert!((row.error() - first).abs() <= close, "{} for {first}", row.error());
        let mut best = 0.0f64;
        for start in (0..8).step_by(span) {
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
        }
        let found = row.best_pair(span, enough).map_or(0.0, |pair| pair.change);
        prop_assert!((found - best).abs() <= close, "{found} for {best}");
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
            let pruned: Vec<bool> = keep[at * 12..][..12].iter().map(|keep| *keep == 0.0).collect();
            let mut row = MaskedRow::new(weights, &pruned, gram, &reach);
            let enough = -LEAST_SHARE * row.error();
            // Gram matrices and results have nine digits, and much cancels.
            let rounding = 1e-8 * row.error();
            for swap in swaps.iter().filter(|swap| swap["row"] == at) {
                let pair = row.best_pair(span, enough).unwrap();
                let exchanged = (Some(pair.out as u64), Some(pair.back as u64));
                assert_eq!((swap["out"].as_u64(), swap["in"].as_u64()), exchanged);
                row.apply(pair);
                for (name, got) in [("delta", pair.change), ("row_error_after", row.error())] {
                    let want = swap[name].as_f64().unwrap();
                    assert!((got - want).abs() <= rounding, "{name}: {got} for {want}");
                }
            }
            assert_eq!(row.best_pair(span, enough), None);
        }
    }
}

/// Rows that are longer than what is compared side by side, with inputs that go together.
#[test]
fn no_bound_hides_the_best_pair_of_a_long_row() {
    let random = |seed: usize, at: usize| {
        let mixed = (at * 7919 + seed * 104_729 + 13).wrapping_mul(2_654_435_761) % 1_000_003;
        mixed as f32 / 500_001.5 - 1.0
    };
    for (columns, seed) in [(33, 1), (100, 2), (257, 3)] {
        let of_token = |token: usize| -> Vec<f32> {
            let shared = random(seed, token);
            let own =
                |j: usize| random(seed + token + 7, j) * (1.0 + (j % 11) as f32) + shared * (j % 3) as f32;
            (0..columns).map(own).collect()
        };
        let inputs: Vec<_> = (0..40).map(of_token).collect();
        let values = gram(&inputs, columns);
        let gram = Gram { values: &values, columns };
        let weights: Vec<f64> = (0..columns).map(|j| f64::from(random(seed + 99, j))).collect();
        let mut pruned: Vec<bool> = (0..columns).map(|j| random(seed + 5, j) < 0.2).collect();
        let reach = PairReach::of(gram);
        let mut row = MaskedRow::new(&weights, &pruned, gram, &reach);
        let enough = -LEAST_SHARE * row.error();
        let mut swaps = 0;
        loop {
            let product = |of: usize| -> f64 {
                let lost = (0..columns).filter(|j| pruned[*j]);
                lost.map(|j| weights[j] * f64::from(gram.row(of)[j])).sum()
            };
            let alone: Vec<f64> = (0..columns)
                .map(|j| {
                    let sign = if pruned[j] { -2.0 } else { 2.0 };
                    weights[j] * (weights[j] * f64::from(gram.row(j)[j]) + sign * product(j))
                })
                .collect();
            let mut best = 0.0f64;
            for out in (0..columns).filter(|j| !pruned[*j]) {
                for back in (0..columns).filter(|j| pruned[*j]) {
                    let together = 2.0 * weights[out] * weights[back] * f64::from(gram.row(out)[back]);
                    best = best.min(alone[out] + alone[back] - together);
                }
            }
            let found = row.best_pair(columns, enough);
            let change = found.map_or(0.0, |pair| pair.change);
            assert!((change - best).abs() < 1e-9 * (1.0 + row.error()), "{columns}: {change} for {best}");
            let Some(pair) = found else { break };
            (pruned[pair.out], pruned[pair.back]) = (true, false);
            row.apply(pair);
            swaps += 1;
        }
        assert!(swaps > 3, "{swaps}");
    }
}
