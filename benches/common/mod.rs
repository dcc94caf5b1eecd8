//! What the benches share.

use std::time::Duration;

use criterion::Criterion;
use rand::{Rng, SeedableRng};

/// Few samples and short ones: everything here takes milliseconds to seconds.
pub fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(2500))
}

/// `n` reproducible numbers, evenly spread over `-scale … scale`.
pub fn random(n: usize, scale: f32) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(n as u64);
    (0..n).map(|_| rng.random_range(-scale..scale)).collect()
}
