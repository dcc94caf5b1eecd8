//! Which weights of a row can be part of its best pair, without a look at all pairs.
//!
//! What a pair wins by its inputs going together is at most a product of two numbers, one of each weight. So, of the
//! weights of one side with the change `a_j` that each makes alone and its number `s_j`, a weight of the other side with the
//! number `p` finds at best `L(p) = min_j (a_j − p s_j)`. `L` is a minimum of lines, so it is concave and lies above the
//! chords between any of its points: a few chords say for every `p` what cannot be undercut.

/// Numbers that are compared side by side.
const LANES: usize = 8;

/// Lanes that do not wait for each other: a minimum takes several cycles.
const LONG: usize = 4 * LANES;

/// Points of `L` that are computed: 0, and from the largest number down.
const POINTS: usize = 4;

/// Each point's number as a share of the next larger one's.
const STEP: f64 = 0.3;

/// Lines `start + slope · p`, of which the lowest is a bound of `L` below the largest `p`.
pub(super) type Chords = [(f64, f64); POINTS - 1];

/// The chords of `L` for `0 ≤ p ≤ largest`.
#[inline(always)]
pub(super) fn chords(largest: f64, alone: &[f64], sizes: &[f64]) -> Chords {
    let mut points = [0.0; POINTS];
    let mut next = largest;
    for point in points[1..].iter_mut().rev() {
        *point = next;
        next *= STEP;
    }
    let values = least_returns(&points, alone, sizes);
    let mut chords = [(0.0, 0.0); POINTS - 1];
    for (at, chord) in chords.iter_mut().enumerate() {
        let wide = points[at + 1] - points[at];
        let slope = if wide > 0.0 { (values[at + 1] - values[at]) / wide } else { 0.0 };
        *chord = (values[at] - slope * points[at], slope);
    }
    chords
}

/// `min_j (a_j − p s_j)` for each of some `p`.
#[inline(always)]
fn least_returns(points: &[f64; POINTS], alone: &[f64], sizes: &[f64]) -> [f64; POINTS] {
    let mut least = [[f64::INFINITY; LANES]; POINTS];
    let ((alone, last_alone), (sizes, last_sizes)) = (alone.as_chunks::<LANES>(), sizes.as_chunks::<LANES>());
    for (alone, sizes) in alone.iter().zip(sizes) {
        for (least, point) in least.iter_mut().zip(points) {
            for lane in 0..LANES {
                least[lane] = lower(alone[lane] - point * sizes[lane], least[lane]);
            }
        }
    }
    let mut found = [0.0; POINTS];
    for ((found, least), point) in found.iter_mut().zip(least).zip(points) {
        let rest = last_alone.iter().zip(last_sizes).map(|(alone, size)| alone - point * size);
        *found = rest.chain(least).fold(f64::INFINITY, lower);
    }
    found
}

/// Of every weight of the other side, what none of its pairs undercuts.
#[inline(always)]
pub(super) fn bound(bounds: &mut [f64], alone: &[f64], numbers: &[f64], chords: &Chords) {
    for ((bound, alone), number) in bounds.iter_mut().zip(alone).zip(numbers) {
        let mut least = f64::INFINITY;
        for (start, slope) in chords {
            least = lower(start + slope * number, least);
        }
        *bound = alone + least;
    }
}

/// Puts the places of all bounds below a number into the first entries of a list of as many entries; returns how many.
#[inline(always)]
pub(super) fn list_below(bounds: &[f64], below: f64, list: &mut [u32]) -> usize {
    let mut count = 0;
    for (start, bounds) in (0..).step_by(2 * LANES).zip(bounds.chunks(2 * LANES)) {
        let mut is_any = false;
        for bound in bounds {
            is_any |= *bound < below;
        }
        if is_any {
            for (at, bound) in (start..).zip(bounds) {
                // Written in any case: whether to do so could not be foreseen.
                list[count] = at;
                count += usize::from(*bound < below);
            }
        }
    }
    count
}

/// The least of some values and its place, of equals the first; `None` where none is below a number.
#[inline(always)]
pub(super) fn least(count: usize, below: f64, value: impl Fn(usize) -> f64) -> Option<(f64, usize)> {
    let mut lanes = [f64::INFINITY; LONG];
    let whole = count / LONG * LONG;
    for start in (0..whole).step_by(LONG) {
        for (lane, least) in lanes.iter_mut().enumerate() {
            *least = lower(value(start + lane), *least);
        }
    }
    let rest = (whole..count).map(&value);
    let least = rest.chain(lanes).fold(f64::INFINITY, lower);
    if least >= below {
        return None;
    }
    for start in (0..count).step_by(LONG) {
        let end = (start + LONG).min(count);
        let mut is_here = false;
        for at in start..end {
            is_here |= value(at) <= least;
        }
        if is_here {
            return (start..end).find(|&at| value(at) <= least).map(|at| (least, at));
        }
    }
    None
}

/// As processors compare; `f64::min` minds what is no number.
#[inline(always)]
fn lower(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
