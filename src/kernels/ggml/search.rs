//! Scales, and minima, that put a few values on whole numbers with the least weighted error.
//!
//! The searches are those of ggml's quantisers: a first guess from the range, some tries around it, and for each the best
//! scale by least squares. Sums run in ggml's order, so that ties fall as they do there.

/// Ranges below this are taken for zero.
pub(super) const NOTHING: f32 = 1e-15;
/// Most values that share a scale.
const MOST: usize = 32;

fn nearest(value: f32) -> i32 {
    value.round_ties_even() as i32
}

/// The value of largest magnitude, with its sign.
pub(super) fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &v| if v.abs() > most.abs() { v } else { most })
}

/// `Σ w·x·l` and `Σ w·l²`, whose quotient is the best scale for levels `l`.
#[derive(Clone, Copy, Default)]
struct LeastSquares {
    xl: f32,
    l2: f32,
}

impl LeastSquares {
    fn add(&mut self, weight: f32, value: f32, level: i32) {
        let level = level as f32;
        self.xl += weight * value * level;
        self.l2 += weight * level * level;
    }

    /// Without one value.
    fn without(self, weight: f32, value: f32, level: i32) -> Self {
        let level = level as f32;
        Self { xl: self.xl - weight * value * level, l2: self.l2 - weight * level * level }
    }

    fn scale(self) -> f32 {
        if self.l2 > 0.0 { self.xl / self.l2 } else { 0.0 }
    }

    /// Whether its best scale explains more of the values.
    fn is_better_than(self, other: Self) -> bool {
        self.xl * self.xl * other.l2 > other.xl * other.xl * self.l2
    }
}

/// The scale for levels `−largest … largest − 1`. `levels` become those, from 0 on.
pub(super) fn symmetric(values: &[f32], weights: &[f32], largest: i32, levels: &mut [u8]) -> f32 {
    let extreme = extreme(values);
    if extreme.abs() < NOTHING {
        levels.fill(0);
        return 0.0;
    }
    let level = |inverse: f32, value: f32| nearest(inverse * value).clamp(-largest, largest - 1);
    let fit = |inverse: f32| {
        let mut sums = LeastSquares::default();
        for (&value, &weight) in values.iter().zip(weights) {
            sums.add(weight, value, level(inverse, value));
        }
        sums
    };
    let mut chosen = -(largest as f32) / extreme;
    let sums = fit(chosen);
    let mut scale = sums.scale();
    let mut best = scale * sums.xl;
    for step in (-9..=9).filter(|step| *step != 0) {
        let inverse = -(largest as f32 + 0.1 * step as f32) / extreme;
        let sums = fit(inverse);
        if sums.l2 > 0.0 && sums.xl * sums.xl > best * sums.l2 {
            (chosen, scale) = (inverse, sums.scale());
            best = scale * sums.xl;
        }
    }
    for (l, &value) in levels.iter_mut().zip(values) {
        *l = (level(chosen, value) + largest) as u8;
    }
    scale
}

/// The scale for levels `−largest … largest − 1`, found by moving one level after the other; large values count more.
pub(super) fn symmetric_by_moves(values: &[f32], largest: i32) -> f32 {
    let extreme = extreme(values);
    if extreme.abs() < NOTHING {
        return 0.0;
    }
    let bounded = |level: f32| nearest(level).clamp(-largest, largest - 1);
    let inverse = -(largest as f32) / extreme;
    let mut levels: Vec<i32> = values.iter().map(|value| bounded(inverse * value)).collect();
    let mut sums = LeastSquares::default();
    for (&value, &level) in values.iter().zip(&levels) {
        sums.add(value * value, value, level);
    }
    for _ in 0..5 {
        let mut has_moved = false;
        for (&value, level) in values.iter().zip(&mut levels) {
            let rest = sums.without(value * value, value, *level);
            if rest.xl <= 0.0 {
                continue;
            }
            let new = bounded(value * rest.l2 / rest.xl);
            let mut moved = rest;
            moved.add(value * value, value, new);
            if new != *level && moved.l2 > 0.0 && moved.is_better_than(sums) {
                (*level, sums, has_moved) = (new, moved, true);
            }
        }
        if !has_moved {
            break;
        }
    }
    sums.scale()
}

/// The scale for levels `0 … largest` of values that are not negative, such as scales themselves.
pub(super) fn positive(values: &[f32], weights: &[f32], largest: i32, levels: &mut [u8]) -> f32 {
    let most = values.iter().fold(0f32, |most, &v| most.max(v));
    if most < NOTHING {
        levels.fill(0);
        return 0.0;
    }
    let error = |inverse: f32| {
        let scale = 1.0 / inverse;
        let of = |(&value, &weight): (&f32, &f32)| {
            let difference = value - scale * nearest(inverse * value).min(largest) as f32;
            weight * difference * difference
        };
        values.iter().zip(weights).map(of).sum::<f32>()
    };
    let mut inverse = largest as f32 / most;
    let mut least = error(inverse);
    for step in (-4..=4).filter(|step| *step != 0) {
        let tried = (0.1 * step as f32 + largest as f32) / most;
        let found = error(tried);
        if found < least {
            (inverse, least) = (tried, found);
        }
    }
    let mut sums = LeastSquares::default();
    for ((&value, &weight), level) in values.iter().zip(weights).zip(levels.iter_mut()) {
        let found = nearest(inverse * value).min(largest);
        sums.add(weight, value, found);
        *level = found as u8;
    }
    for _ in 0..5 {
        let mut has_moved = false;
        for ((&value, &weight), level) in values.iter().zip(weights).zip(levels.iter_mut()) {
            let rest = sums.without(weight, value, i32::from(*level));
            if rest.xl <= 0.0 || rest.l2 <= 0.0 {
                continue;
            }
            let new = nearest(value * rest.l2 / rest.xl).min(largest);
            let mut moved = rest;
            moved.add(weight, value, new);
            if new != i32::from(*level) && moved.is_better_than(sums) {
                (*level, sums, has_moved) = (new as u8, moved, true);
            }
        }
        if !has_moved {
            break;
        }
    }
    sums.scale()
}

/// The ranges that [`with_minimum`] tries, in levels beyond the largest: `first`, then `count` more, `step` apart.
#[derive(Clone, Copy)]
pub(super) struct Tries {
    pub first: f32,
    pub step: f32,
    pub count: usize,
    /// Whether errors count by their size. Else by their square.
    pub absolute: bool,
}

/// Scale `s` and `m ≥ 0` for values `s·l − m` with levels `0 … largest`. `levels` become those.
pub(super) fn with_minimum(
    values: &[f32],
    weights: &[f32],
    largest: i32,
    tries: Tries,
    levels: &mut [u8],
) -> (f32, f32) {
    let (mut low, mut high) = (values[0], values[0]);
    let (mut sum_w, mut sum_x) = (weights[0], weights[0] * values[0]);
    for (&value, &weight) in values.iter().zip(weights).skip(1) {
        low = if value < low { value } else { low };
        high = if value > high { value } else { high };
        sum_w += weight;
        sum_x += weight * value;
    }
    low = low.min(0.0);
    if high <= low {
        levels.fill(0);
        return (0.0, -low);
    }
    let round = |inverse: f32, min: f32| {
        let mut rounded = [0f32; MOST];
        for (level, &value) in rounded.iter_mut().zip(values) {
            *level = (inverse * (value - min)).round_ties_even().clamp(0.0, largest as f32);
        }
        rounded
    };
    let error = |rounded: &[f32; MOST], scale: f32, min: f32| {
        let mut error = 0.0;
        for ((&level, &value), &weight) in rounded.iter().zip(values).zip(weights) {
            let difference = scale * level + min - value;
            error += weight * if tries.absolute { difference.abs() } else { difference * difference };
        }
        error
    };
    let first = largest as f32 / (high - low);
    let (mut scale, mut min) = (1.0 / first, low);
    let mut chosen = round(first, low);
    let mut least = error(&chosen, scale, min);
    for step in 0..=tries.count {
        // A better minimum moves where the next tries begin.
        let inverse = (tries.first + tries.step * step as f32 + largest as f32) / (high - min);
        let rounded = round(inverse, min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for ((&level, &value), &weight) in rounded.iter().zip(values).zip(weights) {
            sum_l += weight * level;
            sum_l2 += weight * level * level;
            sum_xl += weight * level * value;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant <= 0.0 {
            continue;
        }
        let mut tried =
            ((sum_w * sum_xl - sum_x * sum_l) / determinant, (sum_l2 * sum_x - sum_l * sum_xl) / determinant);
        if tried.1 > 0.0 {
            tried = (sum_xl / sum_l2, 0.0);
        }
        let found = error(&rounded, tried.0, tried.1);
        if found < least {
            (chosen, least) = (rounded, found);
            (scale, min) = tried;
        }
    }
    for (level, chosen) in levels.iter_mut().zip(chosen) {
        *level = chosen as u8;
    }
    (scale, -min)
}
