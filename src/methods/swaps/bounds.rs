//! Which weights of a row can be part of its best pair, without a look at all pairs.
//!
//! What a pair wins by its inputs going together is at most a product of two numbers, one of each weight. So, of the
//! weights of one side with the change `a_j` that each makes alone and its number `s_j`, a weight of the other side with the
//! number `p` finds at best `L(p) = min_j (a_j − p s_j)`. `L` is a minimum of lines, so it is concave and lies above the
//! chords between any of its points: a few chords say for every `p` what cannot be undercut.

/// Numbers that are compared side by side.
pub(super) const LANES: usize = 8;

/// Groups of lanes that do not wait for each other: a minimum takes several cycles.
const GROUPS: usize = 4;

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
        *found = rest.fold(least_of(least), lower);
    }
    found
}

/// What chords say of a number.
#[inline(always)]
pub(super) fn value_at(chords: &Chords, number: f64) -> f64 {
    chords.iter().fold(f64::INFINITY, |least, (start, slope)| lower(start + slope * number, least))
}

/// Of every weight of the other side, what none of its pairs undercuts.
#[inline(always)]
pub(super) fn bound(bounds: &mut [f64], alone: &[f64], numbers: &[f64], chords: &Chords) {
    for ((bound, alone), number) in bounds.iter_mut().zip(alone).zip(numbers) {
        *bound = alone + value_at(chords, *number);
    }
}

/// Puts the places of all bounds below a number into the first entries of a list of as many entries; returns how many.
#[inline(always)]
pub(super) fn list_below(bounds: &[f64], below: f64, list: &mut [u32]) -> usize {
    let mut count = 0;
    let (eights, last) = bounds.as_chunks::<LANES>();
    for (start, bounds) in (0u32..).step_by(LANES).zip(eights) {
        let mut found = 0u32;
        for (lane, bound) in bounds.iter().enumerate() {
            found |= u32::from(*bound < below) << lane;
        }
        while found != 0 {
            list[count] = start + found.trailing_zeros();
            count += 1;
            found &= found - 1;
        }
    }
    let start = (eights.len() * LANES) as u32;
    for (at, bound) in (start..).zip(last) {
        if *bound < below {
            list[count] = at;
            count += 1;
        }
    }
    count
}

/// Numbers of which the least is looked for: eight side by side, and those that are left.
pub(super) trait Numbers {
    fn len(&self) -> usize;
    fn eight(&self, at: usize) -> [f64; LANES];
    fn one(&self, at: usize) -> f64;
}

impl Numbers for &[f64] {
    #[inline(always)]
    fn len(&self) -> usize {
        <[f64]>::len(self)
    }

    #[inline(always)]
    fn eight(&self, at: usize) -> [f64; LANES] {
        self.as_chunks().0[at]
    }

    #[inline(always)]
    fn one(&self, at: usize) -> f64 {
        self[at]
    }
}

/// The least of some numbers and its place, of equals the first; `None` where none is below a number.
#[inline(always)]
pub(super) fn least(numbers: &impl Numbers, below: f64) -> Option<(f64, usize)> {
    let (count, eights) = (numbers.len(), numbers.len() / LANES);
    let mut groups = [[f64::INFINITY; LANES]; GROUPS];
    let whole = eights / GROUPS * GROUPS;
    for start in (0..whole).step_by(GROUPS) {
        for (at, group) in groups.iter_mut().enumerate() {
            lower_all(group, numbers.eight(start + at));
        }
    }
    for at in whole..eights {
        lower_all(&mut groups[0], numbers.eight(at));
    }
    let [mut all, rest @ ..] = groups;
    for group in rest {
        lower_all(&mut all, group);
    }
    let least = (eights * LANES..count).map(|at| numbers.one(at)).fold(least_of(all), lower);
    if least >= below {
        return None;
    }
    for at in 0..eights {
        let eight = numbers.eight(at);
        let mut is_here = false;
        for number in eight {
            is_here |= number <= least;
        }
        if is_here {
            return eight.iter().position(|number| *number <= least).map(|lane| (least, at * LANES + lane));
        }
    }
    (eights * LANES..count).find(|at| numbers.one(*at) <= least).map(|at| (least, at))
}

/// The lower of each two.
#[inline(always)]
fn lower_all(group: &mut [f64; LANES], eight: [f64; LANES]) {
    for (least, number) in group.iter_mut().zip(eight) {
        *least = lower(number, *least);
    }
}

/// The least of eight, in three steps.
#[inline(always)]
fn least_of(lanes: [f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    lower(lower(lower(a, e), lower(b, f)), lower(lower(c, g), lower(d, h)))
}

/// As processors compare; `f64::min` minds what is no number.
#[inline(always)]
fn lower(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
