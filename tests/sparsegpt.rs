//! The `SparseGPT` solver on single matrices, held against the lines of the paper written down plainly in `f64`: two
//! Cholesky factorisations, one column after the other, no blocks of rows, no shortcuts.

use rand::{Rng, SeedableRng};
use secateur::Error;
use secateur::methods::{
    CompressionOutcome, Factor, InputStatistics, Magnitude, Matrix, Method, PreparedInputs, SparseGpt,
    Statistics, Target, solve,
};
use secateur::study::{Parameters, Sparsity};

const HALF: Sparsity = Sparsity::Fraction(0.5);
const TWO_OF_FOUR: Sparsity = Sparsity::SemiStructured { zeros: 2, group: 4 };

/// Nearly normal random numbers.
struct Random(rand_chacha::ChaCha8Rng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(rand_chacha::ChaCha8Rng::seed_from_u64(seed))
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.0.random_range(-0.5f64..0.5)).sum()
    }

    fn weights(&mut self, rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|_| self.normal() as f32 * 0.05).collect()
    }
}

/// Sums over calibration tokens: the lower triangle of `Σ x xᵀ`. What stands above the diagonal is nobody's business,
/// so it is NaN.
#[derive(Clone)]
struct Inputs {
    gram: Vec<f32>,
    columns: usize,
    sequences: usize,
}

impl Inputs {
    /// Inputs of features with the given sizes that share some of what they say.
    fn new(tokens: usize, sizes: &[f64], random: &mut Random) -> Self {
        let columns = sizes.len();
        let mut gram = vec![0f64; columns * columns];
        for _ in 0..tokens {
            let shared = random.normal();
            let x: Vec<f64> = sizes.iter().map(|size| size * (random.normal() + 0.4 * shared)).collect();
            for i in 0..columns {
                for j in 0..=i {
                    gram[i * columns + j] += x[i] * x[j];
                }
            }
        }
        Self::from_lower(&gram, columns, 5)
    }

    /// Many more tokens than features, all features of about one size.
    fn easy(columns: usize, random: &mut Random) -> Self {
        let sizes: Vec<f64> = (0..columns).map(|_| random.0.random_range(0.5..2.0)).collect();
        Self::new(6 * columns, &sizes, random)
    }

    /// Fewer tokens than features, and features of very different sizes, as in a language model.
    fn hard(columns: usize, random: &mut Random) -> Self {
        let sizes: Vec<f64> = (0..columns).map(|_| (1.5 * random.normal()).exp()).collect();
        Self::new(columns * 2 / 3, &sizes, random)
    }

    fn from_lower(gram: &[f64], columns: usize, sequences: usize) -> Self {
        let at = |(i, &v): (usize, &f64)| if i % columns <= i / columns { v as f32 } else { f32::NAN };
        Self { gram: gram.iter().enumerate().map(at).collect(), columns, sequences }
    }

    fn statistics(&self) -> InputStatistics {
        let Self { gram, columns, sequences } = self.clone();
        InputStatistics::new(Statistics::Gram(gram), columns, sequences)
    }

    /// The whole Hessian, dead features set to one, damped.
    fn hessian(&self, damping: f64) -> Vec<Vec<f64>> {
        let n = self.columns;
        let at =
            |i: usize, j: usize| f64::from(self.gram[i.max(j) * n + i.min(j)]) * 2.0 / self.sequences as f64;
        let mut h: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| at(i, j)).collect()).collect();
        for (i, row) in h.iter_mut().enumerate() {
            if row[i] == 0.0 {
                row[i] = 1.0;
            }
        }
        let mean = (0..n).map(|i| h[i][i]).sum::<f64>() / n as f64;
        for (i, row) in h.iter_mut().enumerate() {
            row[i] += damping * mean;
        }
        h
    }

    fn factor(&self, damping: f64) -> Factor {
        Factor::new(&self.gram, self.columns, self.sequences, damping).unwrap()
    }
}

/// The lower Cholesky factor.
fn cholesky(a: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = a.len();
    let mut l = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let rest = a[i][j] - (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
            l[i][j] = if i == j { rest.sqrt() } else { rest / l[j][j] };
        }
    }
    l
}

/// The inverse of `L Lᵀ`; it is symmetric, so its columns are its rows.
fn inverse_from(l: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = l.len();
    let column = |column: usize| {
        let mut x: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i == column))).collect();
        for i in 0..n {
            x[i] = (x[i] - (0..i).map(|k| l[i][k] * x[k]).sum::<f64>()) / l[i][i];
        }
        for i in (0..n).rev() {
            x[i] = (x[i] - (i + 1..n).map(|k| l[k][i] * x[k]).sum::<f64>()) / l[i][i];
        }
        x
    };
    (0..n).map(column).collect()
}

/// `U` with `UᵀU = H⁻¹`, the long way round.
fn upper(h: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let lower = cholesky(&inverse_from(&cholesky(h)));
    let n = h.len();
    (0..n).map(|i| (0..n).map(|j| lower[j][i]).collect()).collect()
}

/// What the paper's lines make of a matrix.
struct Solved {
    weights: Vec<Vec<f64>>,
    gone: Vec<Vec<bool>>,
    loss: f64,
}

fn solve_plainly(weights: &[f32], u: &[Vec<f64>], sparsity: Sparsity, block_size: usize) -> Solved {
    let columns = u.len();
    let mut w: Vec<Vec<f64>> =
        weights.chunks(columns).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect();
    let mut gone = vec![vec![false; columns]; w.len()];
    let score = |w: f64, j: usize| (w / u[j][j]).powi(2);
    let mut loss = 0.0;
    for i in 0..columns {
        match sparsity {
            Sparsity::Fraction(s) if i % block_size == 0 => {
                let block = i..columns.min(i + block_size);
                let mut scores: Vec<f64> =
                    w.iter().flat_map(|row| block.clone().map(|j| score(row[j], j))).collect();
                scores.sort_by(f64::total_cmp);
                let threshold = scores[(scores.len() as f64 * s).floor() as usize];
                for (row, gone) in w.iter().zip(&mut gone) {
                    block.clone().for_each(|j| gone[j] = score(row[j], j) <= threshold);
                }
            }
            Sparsity::SemiStructured { zeros: n, group: m } if i % m == 0 => {
                for (row, gone) in w.iter().zip(&mut gone) {
                    let mut order: Vec<usize> = (i..i + m).collect();
                    order.sort_by(|&a, &b| score(row[a], a).total_cmp(&score(row[b], b)));
                    order[..n].iter().for_each(|&j| gone[j] = true);
                }
            }
            _ => {}
        }
        for (row, gone) in w.iter_mut().zip(&gone) {
            if gone[i] {
                let error = row[i] / u[i][i];
                loss += error * error / 2.0;
                (i..columns).for_each(|j| row[j] -= error * u[i][j]);
                row[i] = 0.0;
            }
        }
    }
    Solved { weights: w, gone, loss }
}

/// `tr(D H Dᵀ)`: the squared error that a difference of weights makes in the output, or the output's own energy.
fn energy(difference: &[f64], h: &[Vec<f64>]) -> f64 {
    let row_energy = |d: &[f64]| -> f64 {
        (0..d.len()).map(|i| d[i] * h[i].iter().zip(d).map(|(h, d)| h * d).sum::<f64>()).sum()
    };
    difference.chunks(h.len()).map(row_energy).sum()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

fn difference(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect()
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * b.abs()
}

fn never() -> bool {
    false
}

fn prune(
    weights: &[f32],
    statistics: &mut InputStatistics,
    sparsity: Sparsity,
) -> Result<(Vec<f32>, CompressionOutcome), Error> {
    let columns = statistics.width;
    let mut pruned = weights.to_vec();
    let matrix = Matrix::new(&mut pruned, columns);
    let outcome =
        SparseGpt.run(matrix, Some(statistics), sparsity.into(), &SparseGpt.default_arguments(), &never)?;
    Ok((pruned, outcome))
}

#[test]
fn the_factor_is_the_upper_cholesky_factor_of_the_inverse() {
    let mut random = Random::new(1);
    for columns in [1, 2, 33, 130, 200] {
        for inputs in [Inputs::easy(columns, &mut random), Inputs::hard(columns.max(3), &mut random)] {
            let n = inputs.columns;
            let (factor, h) = (inputs.factor(0.01), inputs.hessian(0.01));
            assert!((factor.damping - 0.01).abs() < 1e-12 && !factor.dead.contains(&true));
            let u = wide(&factor.upper);
            for (i, want) in upper(&h).iter().enumerate() {
                for j in 0..n {
                    // Relative to the diagonal of its column, which bounds every entry of the column of `U`.
                    let scale = (0..=j).map(|k| u[k * n + j].powi(2)).sum::<f64>().sqrt();
                    assert!((u[i * n + j] - want[j]).abs() < 1e-3 * scale, "{n}: U[{i},{j}]");
                    assert!(i <= j || u[i * n + j] == 0.0);
                }
            }
            // Uᵀ U H = 1.
            let product = |i: usize, j: usize| -> f64 {
                let uh = |k: usize| (k..n).map(|l| u[k * n + l] * h[l][j]).sum::<f64>();
                (0..=i).map(|k| u[k * n + i] * uh(k)).sum()
            };
            for (i, j) in (0..n).flat_map(|i| [(i, i), (i, (i * 7 + 3) % n)]) {
                let scale = (h[j][j] / h[i][i]).sqrt().max(1.0);
                let one = f64::from(u8::from(i == j));
                assert!((product(i, j) - one).abs() < 5e-3 * scale, "{n}: {i},{j}: {}", product(i, j));
            }
        }
    }
}

/// Solves one matrix both ways and returns how many of its masks' entries differ.
fn disagreements(inputs: &Inputs, weights: &[f32], sparsity: Sparsity, block_size: usize) -> usize {
    let columns = inputs.columns;
    let h = inputs.hessian(0.01);
    let want = solve_plainly(weights, &upper(&h), sparsity, block_size);
    let mut got = weights.to_vec();
    let target = &mut Target::zeros(sparsity);
    let loss = solve(&mut got, columns, &inputs.factor(0.01), target, block_size, &never).unwrap();
    let case = format!("{sparsity} of {columns} columns in blocks of {block_size}");

    let mut differing = 0;
    let (mut apart, mut size) = (0.0, 0.0);
    for ((got, want), gone) in got.chunks(columns).zip(&want.weights).zip(&want.gone) {
        let differ = got.iter().zip(gone).filter(|(w, gone)| (**w == 0.0) != **gone).count();
        differing += differ;
        // One entry that fell the other way changes all that follows in its row.
        if differ == 0 {
            apart += got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum::<f64>();
            size += want.iter().map(|w| w * w).sum::<f64>();
        }
    }
    assert!(apart.sqrt() <= 1e-4 * size.sqrt(), "{case}: weights {} apart", (apart / size).sqrt());
    assert!(close(loss, want.loss, 1e-3), "{case}: loss {loss}, by the paper {}", want.loss);
    let error = energy(&difference(&got, weights), &h);
    assert!(close(2.0 * loss, error, 1e-3), "{case}: loss {loss} is not half the output's error {error}");
    differing
}

const SPARSITIES: [Sparsity; 7] = [
    HALF,
    Sparsity::Fraction(0.2),
    Sparsity::Fraction(0.87),
    TWO_OF_FOUR,
    Sparsity::SemiStructured { zeros: 4, group: 8 },
    Sparsity::SemiStructured { zeros: 1, group: 5 },
    Sparsity::SemiStructured { zeros: 3, group: 4 },
];

#[test]
fn masks_and_weights_are_the_papers() {
    let mut random = Random::new(2);
    for columns in [160, 200] {
        let inputs = Inputs::easy(columns, &mut random);
        let weights = random.weights(40, columns);
        for sparsity in SPARSITIES {
            for block_size in [128, 32, 7, 1, columns, 1000] {
                let differing = disagreements(&inputs, &weights, sparsity, block_size);
                assert_eq!(differing, 0, "{sparsity} of {columns} columns in blocks of {block_size}");
            }
        }
    }
}

#[test]
fn on_hard_inputs_only_near_ties_fall_the_other_way() {
    let mut random = Random::new(3);
    let (mut differing, mut all) = (0, 0);
    for _ in 0..3 {
        let inputs = Inputs::hard(200, &mut random);
        let weights = random.weights(64, 200);
        for sparsity in SPARSITIES {
            let ties = disagreements(&inputs, &weights, sparsity, 128);
            assert!(ties * 1000 <= weights.len(), "{sparsity}: {ties} of {}", weights.len());
            (differing, all) = (differing + ties, all + weights.len());
        }
    }
    eprintln!("{differing} of {all} entries of the masks differ from the plain solver's");
}

#[test]
fn blocks_lose_one_more_than_the_share_and_groups_exactly_n() {
    let mut random = Random::new(4);
    let inputs = Inputs::easy(320, &mut random);
    let weights = random.weights(24, 320);
    for fraction in [0.5, 0.3, 0.123] {
        let (pruned, _) = prune(&weights, &mut inputs.statistics(), Sparsity::Fraction(fraction)).unwrap();
        for (first, end) in [(0, 128), (128, 256), (256, 320)] {
            let zeroes: usize =
                pruned.chunks(320).map(|row| row[first..end].iter().filter(|w| **w == 0.0).count()).sum();
            assert_eq!(zeroes, (24.0 * (end - first) as f64 * fraction).floor() as usize + 1);
        }
    }
    for (n, m) in [(2, 4), (4, 8), (1, 2), (7, 10), (0, 4)] {
        let (pruned, _) =
            prune(&weights, &mut inputs.statistics(), Sparsity::SemiStructured { zeros: n, group: m })
                .unwrap();
        assert!(pruned.chunks(m).all(|group| group.iter().filter(|w| **w == 0.0).count() == n), "{n}:{m}");
    }
}

#[test]
fn features_that_are_always_zero_lose_their_weights_and_cost_nothing() {
    let mut random = Random::new(5);
    let mut sizes = vec![1.0; 96];
    for dead in [0, 17, 18, 19, 95] {
        sizes[dead] = 0.0;
    }
    let inputs = Inputs::new(400, &sizes, &mut random);
    let weights = random.weights(32, 96);
    let alive: Vec<f32> =
        weights.iter().enumerate().map(|(i, w)| if sizes[i % 96] == 0.0 { 0.0 } else { *w }).collect();
    let h = inputs.hessian(0.01);
    for sparsity in [HALF, TWO_OF_FOUR] {
        let (pruned, outcome) = prune(&weights, &mut inputs.statistics(), sparsity).unwrap();
        assert_eq!((outcome.dead_columns, outcome.details["damping"]), (5, 0.01));
        for row in pruned.chunks(96) {
            assert!(row.iter().zip(&sizes).all(|(w, size)| *size > 0.0 || *w == 0.0));
        }
        let want = solve_plainly(&alive, &upper(&h), sparsity, 128);
        for (got, gone) in pruned.iter().zip(want.gone.iter().flatten()) {
            assert!(*got == 0.0 || !gone);
        }
        let share = energy(&difference(&pruned, &alive), &h) / energy(&wide(&alive), &h);
        assert!(close(outcome.error, share, 1e-3), "{} {share}", outcome.error);
    }
}

#[test]
fn the_error_is_the_outputs_and_far_below_that_of_pruning_by_magnitude() {
    let mut random = Random::new(6);
    let inputs = Inputs::hard(256, &mut random);
    // More rows than one chunk of the sum over the output's energy.
    let weights = random.weights(300, 256);
    let h = inputs.hessian(0.01);
    let all = energy(&wide(&weights), &h);
    for sparsity in [HALF, TWO_OF_FOUR] {
        let (pruned, outcome) = prune(&weights, &mut inputs.statistics(), sparsity).unwrap();
        let share = energy(&difference(&pruned, &weights), &h) / all;
        assert!(close(outcome.error, share, 1e-3), "{} {share}", outcome.error);
        let mut other = weights.clone();
        let matrix = Matrix::new(&mut other, 256);
        Magnitude.run(matrix, None, sparsity.into(), &Magnitude.default_arguments(), &never).unwrap();
        assert!(2.0 * share < energy(&difference(&other, &weights), &h) / all);
    }
}

#[test]
fn modules_that_share_an_input_share_its_factor() {
    let mut random = Random::new(7);
    let inputs = Inputs::easy(64, &mut random);
    let mut shared = inputs.statistics();
    for rows in [8, 24] {
        let weights = random.weights(rows, 64);
        let alone = prune(&weights, &mut inputs.statistics(), HALF).unwrap();
        assert_eq!(prune(&weights, &mut shared, HALF).unwrap(), alone);
        // It was made for the first module and is not made again.
        shared.prepared::<PreparedInputs>(|_| panic!("a second factor")).unwrap();
    }
}

#[test]
fn nothing_asked_is_nothing_done_and_stopping_stops() {
    let mut random = Random::new(8);
    let inputs = Inputs::easy(64, &mut random);
    let weights = random.weights(8, 64);
    let (pruned, outcome) = prune(&weights, &mut inputs.statistics(), Sparsity::Fraction(0.0)).unwrap();
    assert_eq!((pruned, outcome.error), (weights.clone(), 0.0));
    let mut pruned = weights;
    let matrix = Matrix::new(&mut pruned, 64);
    let result = SparseGpt.run(
        matrix,
        Some(&mut inputs.statistics()),
        HALF.into(),
        &SparseGpt.default_arguments(),
        &|| true,
    );
    assert!(matches!(result, Err(Error::Cancelled)));
    let mut wrong = inputs.statistics();
    let error = prune(&pruned, &mut wrong, Sparsity::SemiStructured { zeros: 3, group: 7 }).unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

/// A matrix of ones on the diagonal whose least eigenvalue is `1 − off`.
fn with_least_eigenvalue(off: f64) -> Inputs {
    let n = 8;
    let mut gram: Vec<f64> = (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
    gram[5 * n + 2] = off;
    Inputs::from_lower(&gram, n, 2)
}

#[test]
fn damping_grows_until_it_does_and_is_reported() {
    let weights = Random::new(9).weights(4, 8);
    for (off, first, needed) in [
        (0.5, 0.01, 0.01),
        (1.05, 0.01, 0.1),
        (1.5, 0.01, 1.0),
        (1.3, 0.05, 0.5),
        (1.9, 0.3, 1.0),
        (1.005, 0.0, 0.01),
    ] {
        let mut pruned = weights.clone();
        let matrix = Matrix::new(&mut pruned, 8);
        let inputs = with_least_eigenvalue(off);
        let study = Parameters::from([("damping".into(), first.to_string())]);
        let arguments = SparseGpt.arguments(&Parameters::new(), &study).unwrap();
        let outcome =
            SparseGpt.run(matrix, Some(&mut inputs.statistics()), HALF.into(), &arguments, &never).unwrap();
        let damping = outcome.details["damping"];
        let warnings = SparseGpt.warnings(&outcome.details, &arguments);
        assert_eq!(!warnings.is_empty(), needed > first, "{warnings:?}");
        assert!(close(damping, needed, 1e-9), "{off} with {first}: {damping}");
        let want = solve_plainly(&weights, &upper(&inputs.hessian(needed)), HALF, 128);
        for (got, want) in pruned.iter().zip(want.weights.iter().flatten()) {
            assert!((f64::from(*got) - want).abs() < 1e-5);
        }
    }
}

#[test]
fn what_no_damping_mends_is_an_error_and_the_weights_stay() {
    let weights = Random::new(10).weights(4, 8);
    let error_of = |inputs: &Inputs| {
        let mut pruned = weights.clone();
        let matrix = Matrix::new(&mut pruned, 8);
        let error = SparseGpt
            .run(matrix, Some(&mut inputs.statistics()), HALF.into(), &SparseGpt.default_arguments(), &never)
            .unwrap_err();
        assert_eq!((error.exit_code(), &pruned), (1, &weights));
        error.to_string()
    };
    let message = error_of(&with_least_eigenvalue(2.5));
    assert!(message.contains("not positive definite even with damping 1"), "{message}");
    for broken in [f32::NAN, f32::INFINITY] {
        // As sums of squares are: the diagonal, and all that the feature is multiplied with.
        let mut inputs = with_least_eigenvalue(0.0);
        for j in 0..=3 {
            inputs.gram[3 * 8 + j] = broken;
        }
        for i in 3..8 {
            inputs.gram[i * 8 + 3] = broken;
        }
        let message = error_of(&inputs);
        assert!(message.contains("not finite"), "{message}");
    }
    let mut inputs = with_least_eigenvalue(0.0);
    inputs.gram[3 * 8 + 1] = f32::NAN;
    error_of(&inputs);
}
