//! From values to the bytes of ggml's blocks, one row at a time, with or without how much each column matters.
//!
//! The layouts are those of `ggml-common.h`, the order of steps that of ggml's quantisers: without importance its
//! `quantize_row_*_ref`, with it the searches behind `llama-quantize --imatrix`.

use half::f16;

use super::kind::GgmlType;
use super::search::{NOTHING, Tries, extreme, positive, symmetric, symmetric_by_moves, with_minimum};

/// Values of a small block.
const SMALL: usize = 32;
/// Values of a super-block.
const SUPER: usize = 256;
/// Most groups of a super-block that have a scale of their own.
const GROUPS: usize = 16;

/// What is tried for a scale and a minimum where importance is known.
const WITH_IMPORTANCE: Tries = Tries { first: -0.9, step: 0.05, count: 36, absolute: false };

/// Quantises a row of whole blocks. `importance` is one positive number a column.
pub(super) fn quantise_row(kind: GgmlType, values: &[f32], importance: Option<&[f32]>, bytes: &mut [u8]) {
    let row = BlockRow { values, importance, spread: mean_square(values) };
    let width = kind.block_values();
    let blocks = bytes.chunks_exact_mut(kind.block_bytes()).enumerate();
    for (bytes, (values, importance)) in blocks.map(|(i, bytes)| (bytes, row.part(i * width, width))) {
        let block = BlockRow { values, importance, spread: row.spread };
        match kind {
            GgmlType::Q8_0 => q8_0(values, bytes),
            GgmlType::Q4_0 => centred(&block, 4, bytes),
            GgmlType::Q5_0 => centred(&block, 5, bytes),
            GgmlType::Q4_1 => ranged(&block, 4, bytes),
            GgmlType::Q5_1 => ranged(&block, 5, bytes),
            GgmlType::Q2K => q2_k(&block, bytes),
            GgmlType::Q3K => q3_k(&block, bytes),
            GgmlType::Q4K => q4_k_or_q5_k(&block, &Q4_K, bytes),
            GgmlType::Q5K => q4_k_or_q5_k(&block, &Q5_K, bytes),
            GgmlType::Q6K => q6_k(&block, bytes),
            // Floats are no blocks, and do not come here.
            GgmlType::F32 | GgmlType::F16 | GgmlType::Bf16 => {}
        }
    }
}

/// Values with what is known of them.
struct BlockRow<'a> {
    values: &'a [f32],
    importance: Option<&'a [f32]>,
    /// Mean square of the whole row.
    spread: f32,
}

impl<'a> BlockRow<'a> {
    /// Values from a place on, and the importance of their columns.
    fn part(&self, from: usize, count: usize) -> (&'a [f32], Option<&'a [f32]>) {
        (&self.values[from..][..count], self.importance.map(|importance| &importance[from..][..count]))
    }
}

fn mean_square(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |sum, v| sum + v * v) / values.len() as f32
}

fn put_f16(bytes: &mut [u8], value: f32) -> f32 {
    let rounded = f16::from_f32(value);
    bytes.copy_from_slice(&rounded.to_le_bytes());
    rounded.to_f32()
}

/// The inverse, or 0 of 0.
fn inverse(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { 1.0 / value }
}

fn level(value: f32, least: i32, most: i32) -> i32 {
    (value.round_ties_even() as i32).clamp(least, most)
}

fn q8_0(values: &[f32], bytes: &mut [u8]) {
    let most = values.iter().fold(0f32, |most, v| most.max(v.abs()));
    let scale = most / 127.0;
    put_f16(&mut bytes[..2], scale);
    let inverse = inverse(scale);
    for (byte, value) in bytes[2..].iter_mut().zip(values) {
        // Halves go away from zero here.
        *byte = (value * inverse).round() as i8 as u8;
    }
}

/// `Q4_0` and `Q5_0`: a scale, and levels around the middle.
fn centred(block: &BlockRow<'_>, bits: u8, bytes: &mut [u8]) {
    let half = 1i32 << (bits - 1);
    let mut levels = [0u8; SMALL];
    let scale = if let Some(importance) = block.importance {
        let weights = weights(block.values, importance, block.spread);
        symmetric(block.values, &weights, half, &mut levels)
    } else {
        let scale = extreme(block.values) / -(half as f32);
        let inverse = inverse(scale);
        for (level, value) in levels.iter_mut().zip(block.values) {
            *level = ((value * inverse + half as f32 + 0.5) as u8).min((2 * half - 1) as u8);
        }
        scale
    };
    put_f16(&mut bytes[..2], scale);
    put_small_levels(&levels, bits, &mut bytes[2..]);
}

/// `Q4_1` and `Q5_1`: a scale and a minimum.
fn ranged(block: &BlockRow<'_>, bits: u8, bytes: &mut [u8]) {
    let largest = (1i32 << bits) - 1;
    let mut levels = [0u8; SMALL];
    let (scale, low) = if let Some(importance) = block.importance {
        let weights = weights(block.values, importance, block.spread);
        let (scale, min) = with_minimum(block.values, &weights, largest, WITH_IMPORTANCE, &mut levels);
        (scale, -min)
    } else {
        let (low, high) = block.values.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
        let scale = (high - low) / largest as f32;
        let inverse = inverse(scale);
        for (level, value) in levels.iter_mut().zip(block.values) {
            *level = (((value - low) * inverse + 0.5) as u8).min(largest as u8);
        }
        (scale, low)
    };
    put_f16(&mut bytes[..2], scale);
    put_f16(&mut bytes[2..4], low);
    put_small_levels(&levels, bits, &mut bytes[4..]);
}

/// The fifth bits, where there are any, then two levels a byte: that of a value, and that of the one 16 behind it.
fn put_small_levels(levels: &[u8; SMALL], bits: u8, bytes: &mut [u8]) {
    let mut rest = bytes;
    if bits == 5 {
        let fifth = levels.iter().enumerate().fold(0u32, |all, (i, l)| all | u32::from(l >> 4) << i);
        let (head, tail) = rest.split_at_mut(4);
        head.copy_from_slice(&fifth.to_le_bytes());
        rest = tail;
    }
    for (i, byte) in rest.iter_mut().enumerate() {
        *byte = (levels[i] & 15) | (levels[i + SMALL / 2] << 4);
    }
}

/// How groups of a super-block get a scale and a minimum each.
struct Affine {
    /// Values of a group.
    group: usize,
    /// The largest level of a value.
    largest: i32,
    /// What is tried where no importance is known.
    tries: Tries,
    /// What an error counts there, by the root mean square of the group and the value.
    weight: fn(f32, f32) -> f32,
    /// What the super-block's mean square is multiplied by where importance is known.
    spread: f32,
    /// The largest level of a scale and of a minimum.
    largest_scale: i32,
}

const Q2_K: Affine = Affine {
    group: 16,
    largest: 3,
    tries: Tries { first: -0.5, step: 0.1, count: 15, absolute: true },
    weight: |_, x| x.abs(),
    spread: 1.0,
    largest_scale: 15,
};

const Q4_K: Affine = Affine {
    group: 32,
    largest: 15,
    tries: Tries { first: -1.0, step: 0.1, count: 20, absolute: false },
    weight: |rms, x| rms + x.abs(),
    spread: 2.0,
    largest_scale: 63,
};

const Q5_K: Affine = Affine {
    group: 32,
    largest: 31,
    tries: Tries { first: -0.5, step: 0.1, count: 15, absolute: false },
    weight: |rms, x| rms + x.abs(),
    spread: 2.0,
    largest_scale: 63,
};

/// Scales and minima of all groups, as levels of one scale and one minimum.
struct GroupScales {
    scale: f32,
    min: f32,
    scales: [u8; GROUPS],
    mins: [u8; GROUPS],
}

impl Affine {
    fn group_scales(&self, block: &BlockRow<'_>) -> GroupScales {
        let count = SUPER / self.group;
        let spread = self.spread * mean_square(block.values);
        let (mut scales, mut mins, mut sums) = ([0f32; GROUPS], [0f32; GROUPS], [0f32; GROUPS]);
        for group in 0..count {
            let (values, importance) = block.part(group * self.group, self.group);
            let weights = if let Some(importance) = importance {
                weights(values, importance, spread)
            } else {
                let rms = mean_square(values).sqrt();
                each(values, |x| (self.weight)(rms, x))
            };
            let weights = &weights[..self.group];
            sums[group] = weights.iter().fold(0.0, |sum, w| sum + w);
            let tries = if importance.is_some() { WITH_IMPORTANCE } else { self.tries };
            (scales[group], mins[group]) =
                with_minimum(values, weights, self.largest, tries, &mut [0; SMALL][..self.group]);
        }
        let mut found = GroupScales { scale: 0.0, min: 0.0, scales: [0; GROUPS], mins: [0; GROUPS] };
        let sums = block.importance.map(|_| &sums[..count]);
        found.scale = self.on_levels(&scales[..count], sums, &mut found.scales);
        found.min = self.on_levels(&mins[..count], sums, &mut found.mins);
        found
    }

    fn on_levels(&self, values: &[f32], weights: Option<&[f32]>, levels: &mut [u8; GROUPS]) -> f32 {
        if let Some(weights) = weights {
            return positive(values, weights, self.largest_scale, levels);
        }
        let most = values.iter().fold(0f32, |most, &v| most.max(v));
        let inverse = if most > 0.0 { self.largest_scale as f32 / most } else { 0.0 };
        for (l, value) in levels.iter_mut().zip(values) {
            *l = level(inverse * value, 0, self.largest_scale) as u8;
        }
        most / self.largest_scale as f32
    }

    /// The levels of all values, given the scales as a reader has them.
    fn levels(&self, block: &BlockRow<'_>, found: &GroupScales, scale: f32, min: f32) -> [u8; SUPER] {
        let mut levels = [0; SUPER];
        let groups = levels.chunks_mut(self.group).zip(block.values.chunks(self.group));
        for (group, (levels, values)) in groups.enumerate() {
            let scale = scale * f32::from(found.scales[group]);
            let min = min * f32::from(found.mins[group]);
            if scale != 0.0 {
                for (l, value) in levels.iter_mut().zip(values) {
                    *l = level((value + min) / scale, 0, self.largest) as u8;
                }
            }
        }
        levels
    }
}

/// What the error of every value counts, at most [`SMALL`]: its column's importance, by `sqrt(spread + x²)`.
fn weights(values: &[f32], importance: &[f32], spread: f32) -> [f32; SMALL] {
    let mut weights = each(values, |x| (spread + x * x).sqrt());
    for (weight, importance) in weights.iter_mut().zip(importance) {
        *weight *= importance;
    }
    weights
}

fn each(values: &[f32], f: impl Fn(f32) -> f32) -> [f32; SMALL] {
    let mut all = [0.0; SMALL];
    for (one, &value) in all.iter_mut().zip(values) {
        *one = f(value);
    }
    all
}

/// 16 bytes of scale and minimum levels, 64 of values, scale, minimum.
fn q2_k(block: &BlockRow<'_>, bytes: &mut [u8]) {
    let found = Q2_K.group_scales(block);
    let scale = put_f16(&mut bytes[80..82], found.scale);
    let min = put_f16(&mut bytes[82..84], found.min);
    for (byte, (scale, min)) in bytes.iter_mut().zip(found.scales.iter().zip(found.mins)) {
        *byte = scale | (min << 4);
    }
    put_pairs_of_bits(&Q2_K.levels(block, &found, scale, min), &mut bytes[16..80]);
}

/// Two bits a value: four bytes apart by 32 values, in halves of 128.
fn put_pairs_of_bits(levels: &[u8; SUPER], bytes: &mut [u8]) {
    for (levels, bytes) in levels.chunks(SUPER / 2).zip(bytes.chunks_mut(32)) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (0..4).fold(0, |byte, part| byte | (levels[i + 32 * part] & 3) << (2 * part));
        }
    }
}

/// Scale, minimum, 12 bytes of 6-bit levels of both, with 5 bits 32 bytes of fifth bits, 128 bytes of the other four.
fn q4_k_or_q5_k(block: &BlockRow<'_>, kind: &Affine, bytes: &mut [u8]) {
    let found = kind.group_scales(block);
    let scale = put_f16(&mut bytes[..2], found.scale);
    let min = put_f16(&mut bytes[2..4], found.min);
    let levels = kind.levels(block, &found, scale, min);
    let (scales, rest) = bytes[4..].split_at_mut(12);
    put_six_bits(&found, scales);
    let (fifth, low) = rest.split_at_mut(rest.len() - SUPER / 2);
    low.fill(0);
    fifth.fill(0);
    for (group, levels) in levels.chunks(SMALL).enumerate() {
        for (i, level) in levels.iter().enumerate() {
            low[SMALL * (group / 2) + i] |= (level & 15) << (4 * (group % 2));
            if let Some(byte) = fifth.get_mut(i) {
                *byte |= (level >> 4) << group;
            }
        }
    }
}

/// The first four scales and minima in a byte each, whose top bits belong to the last four; of these the lower four bits
/// share a byte.
fn put_six_bits(found: &GroupScales, bytes: &mut [u8]) {
    for i in 0..4 {
        let (scale, min) = (found.scales[i + 4], found.mins[i + 4]);
        bytes[i] = found.scales[i] | (scale >> 4) << 6;
        bytes[i + 4] = found.mins[i] | (min >> 4) << 6;
        bytes[i + 8] = (scale & 15) | (min & 15) << 4;
    }
}

/// 32 bytes of third bits, 64 of the lower two, 12 bytes of 6-bit scale levels, scale.
fn q3_k(block: &BlockRow<'_>, bytes: &mut [u8]) {
    const GROUP: usize = SUPER / GROUPS;
    let spread = 2.0 * mean_square(block.values);
    let (mut scales, mut sums, mut scale_levels) = ([0f32; GROUPS], [0f32; GROUPS], [0u8; GROUPS]);
    for group in 0..GROUPS {
        let (values, importance) = block.part(group * GROUP, GROUP);
        scales[group] = match importance {
            Some(importance) => {
                let weights = weights(values, importance, spread);
                sums[group] = weights[..GROUP].iter().fold(0.0, |sum, w| sum + w);
                symmetric(values, &weights[..GROUP], 4, &mut [0; GROUP])
            }
            None => symmetric_by_moves(values, 4),
        };
    }
    let scale = if block.importance.is_some() {
        symmetric(&scales, &sums, 32, &mut scale_levels)
    } else {
        let inverse_scale = -32.0 * inverse(extreme(&scales));
        for (l, scale) in scale_levels.iter_mut().zip(scales) {
            *l = (level(inverse_scale * scale, -32, 31) + 32) as u8;
        }
        inverse(inverse_scale)
    };
    let scale = put_f16(&mut bytes[108..110], scale);
    let mut levels = [4u8; SUPER];
    for (group, (levels, values)) in levels.chunks_mut(GROUP).zip(block.values.chunks(GROUP)).enumerate() {
        let scale = scale * (f32::from(scale_levels[group]) - 32.0);
        if scale != 0.0 {
            for (l, value) in levels.iter_mut().zip(values) {
                *l = (level(value / scale, -4, 3) + 4) as u8;
            }
        }
    }
    let (third, rest) = bytes.split_at_mut(32);
    third.fill(0);
    for (i, level) in levels.iter().enumerate() {
        third[i % 32] |= (level >> 2) << (i / 32);
    }
    put_pairs_of_bits(&levels, &mut rest[..64]);
    let packed = &mut rest[64..76];
    packed.fill(0);
    for (i, l) in scale_levels.iter().enumerate() {
        packed[i % 8] |= (l & 15) << (4 * (i / 8));
        packed[8 + i % 4] |= (l >> 4) << (2 * (i / 4));
    }
}

/// 128 bytes of the lower four bits, 64 of the upper two, 16 scale levels, scale.
fn q6_k(block: &BlockRow<'_>, bytes: &mut [u8]) {
    const GROUP: usize = SUPER / GROUPS;
    let mut scales = [0f32; GROUPS];
    for (group, scale) in scales.iter_mut().enumerate() {
        let (values, importance) = block.part(group * GROUP, GROUP);
        let weights = match importance {
            Some(importance) => each(importance, |w| w),
            None => each(values, |x| x * x),
        };
        *scale = symmetric(values, &weights[..GROUP], 32, &mut [0; GROUP]);
    }
    bytes.fill(0);
    let extreme = extreme(&scales);
    if extreme.abs() < NOTHING {
        return;
    }
    let inverse_scale = -128.0 / extreme;
    let scale = put_f16(&mut bytes[208..210], 1.0 / inverse_scale);
    let mut levels = [32u8; SUPER];
    for (group, (levels, values)) in levels.chunks_mut(GROUP).zip(block.values.chunks(GROUP)).enumerate() {
        let scale_level = level(inverse_scale * scales[group], -128, 127);
        bytes[192 + group] = scale_level as i8 as u8;
        let scale = scale * scale_level as f32;
        if scale != 0.0 {
            for (l, value) in levels.iter_mut().zip(values) {
                *l = (level(value / scale, -32, 31) + 32) as u8;
            }
        }
    }
    for (half, levels) in levels.chunks(SUPER / 2).enumerate() {
        for (i, level) in levels.iter().enumerate() {
            bytes[64 * half + i % 64] |= (level & 15) << (4 * (i / 64));
            bytes[128 + 32 * half + i % 32] |= (level >> 4) << (2 * (i / 32));
        }
    }
}
