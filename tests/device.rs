//! The methods on a device, beside the same on the host: on the CPU, where they are composed of operations on tensors, or
//! where `SECATEUR_TEST_DEVICE` says.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use secateur::Error;
use secateur::kernels::codes::Codes;
use secateur::methods::{
    CompressionOutcome, DeviceMatrix, Encoded, Family, InputStatistics, METHODS, Matrix, Needs, Procedure,
    Stage, Statistics,
};
use secateur::study::{Parameters, Sparsity};

const HALF: Sparsity = Sparsity::Fraction(0.5);
const SPARSITIES: [Sparsity; 8] = [
    HALF,
    Sparsity::Fraction(0.2),
    Sparsity::Fraction(0.87),
    Sparsity::SemiStructured { zeros: 2, group: 4 },
    Sparsity::SemiStructured { zeros: 4, group: 8 },
    Sparsity::SemiStructured { zeros: 1, group: 5 },
    Sparsity::SemiStructured { zeros: 3, group: 4 },
    Sparsity::SemiStructured { zeros: 9, group: 20 },
];

fn test_device() -> Device {
    let name = std::env::var("SECATEUR_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    secateur::device::choose_device(&name).unwrap()
}

fn never() -> bool {
    false
}

struct Random(rand_chacha::ChaCha8Rng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(rand_chacha::ChaCha8Rng::seed_from_u64(seed))
    }

    /// Nearly normal.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.0.random_range(-0.5f64..0.5)).sum()
    }

    fn weights(&mut self, rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|_| self.normal() as f32 * 0.05).collect()
    }

    /// As weights that were rounded to a few bits: full of ties.
    fn coarse_weights(&mut self, rows: usize, columns: usize) -> Vec<f32> {
        self.weights(rows, columns).into_iter().map(|w| (w * 100.0).round() / 100.0).collect()
    }

    /// `Σ x xᵀ` of inputs whose features have the given sizes, both triangles.
    fn gram(&mut self, tokens: usize, sizes: &[f64]) -> Vec<f32> {
        let n = sizes.len();
        let mut gram = vec![0f64; n * n];
        for _ in 0..tokens {
            let shared = self.normal();
            let x: Vec<f64> = sizes.iter().map(|size| size * (self.normal() + 0.4 * shared)).collect();
            for (row, a) in gram.chunks_mut(n).zip(&x) {
                for (sum, b) in row.iter_mut().zip(&x) {
                    *sum += a * b;
                }
            }
        }
        gram.into_iter().map(|v| v as f32).collect()
    }

    /// Fewer tokens than features, and features of very different sizes, as in a language model.
    fn hard_gram(&mut self, columns: usize) -> Vec<f32> {
        let sizes: Vec<f64> = (0..columns).map(|_| (1.5 * self.normal()).exp()).collect();
        self.gram(columns * 2 / 3, &sizes)
    }
}

fn tensor(values: &[f32], columns: usize) -> Tensor {
    Tensor::from_slice(values, (values.len() / columns, columns), &test_device()).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn on_host(
    stage: &Stage,
    weights: &[f32],
    columns: usize,
    inputs: Option<&mut InputStatistics>,
) -> Result<(Vec<f32>, CompressionOutcome), Error> {
    let mut compressed = weights.to_vec();
    let matrix = Matrix::new(&mut compressed, columns);
    let outcome = stage.method.run(matrix, inputs, stage.level, &stage.arguments, &never)?;
    Ok((compressed, outcome))
}

fn on_device(
    stage: &Stage,
    weights: &Tensor,
    inputs: Option<&mut InputStatistics>,
    stop: &dyn Fn() -> bool,
) -> Result<(Tensor, CompressionOutcome), Error> {
    let method = stage.method.on_device(stage.level).unwrap();
    method.run_on_device(DeviceMatrix::new(weights), inputs, stage.level, &stage.arguments, stop)
}

fn assert_same_outcome(case: &str, device: &CompressionOutcome, host: &CompressionOutcome, tolerance: f64) {
    assert!((device.error - host.error).abs() <= tolerance * host.error, "{case}: {device:?}, {host:?}");
    assert_eq!(
        (device.basis, &device.details, device.dead_columns),
        (host.basis, &host.details, host.dead_columns),
        "{case}"
    );
}

/// Every method that keeps the weights that stay, with what it may be told.
fn masking_stages(sparsity: Sparsity) -> Vec<Stage> {
    let masks = METHODS.iter().copied();
    let masks = masks.filter(|method| method.family() == Family::Prune && !method.updates_weights());
    let mut stages: Vec<Stage> = masks
        .map(|method| Stage { method, level: sparsity.into(), arguments: method.default_arguments() })
        .collect();
    stages.push(
        Stage::of(&format!("ria@{sparsity},compare=row,a=1").parse().unwrap(), &Parameters::new()).unwrap(),
    );
    stages
}

#[test]
fn masks_are_those_of_the_host() {
    let mut random = Random::new(1);
    for (rows, columns) in [(1, 40), (33, 160), (20, 2000)] {
        for even in [false, true] {
            // Without different norms the ties of the weights stay ties.
            let sums: Vec<f64> =
                (0..columns).map(|j| if even { 4.0 } else { f64::from(j as u32 % 7) * 3.3 }).collect();
            for weights in [random.weights(rows, columns), random.coarse_weights(rows, columns)] {
                for sparsity in SPARSITIES.into_iter().chain([Sparsity::Fraction(0.0)]) {
                    for stage in masking_stages(sparsity) {
                        let norms =
                            || InputStatistics::new(Statistics::ColumnNorms(sums.clone()), columns, 3);
                        let inputs = || (stage.method.needs() != Needs::Nothing).then(norms);
                        let case = format!("{:?} at {sparsity} of {rows} x {columns}", stage.method);
                        let (host, expected) = on_host(&stage, &weights, columns, inputs().as_mut()).unwrap();
                        let (pruned, outcome) =
                            on_device(&stage, &tensor(&weights, columns), inputs().as_mut(), &never).unwrap();
                        assert_eq!(values(&pruned), host, "{case}");
                        assert_same_outcome(&case, &outcome, &expected, 1e-9);
                    }
                }
            }
        }
    }
}

fn sparsegpt(sparsity: Sparsity, block_size: usize) -> Stage {
    let recipe = format!("sparsegpt@{sparsity},block_size={block_size}").parse().unwrap();
    Stage::of(&recipe, &Parameters::new()).unwrap()
}

/// An input's Hessian for both.
struct Inputs {
    gram: Vec<f32>,
    columns: usize,
    sequences: usize,
}

impl Inputs {
    fn host(&self) -> InputStatistics {
        InputStatistics::new(Statistics::Gram(self.gram.clone()), self.columns, self.sequences)
    }

    fn device(&self) -> InputStatistics {
        let gram = Statistics::DeviceGram(tensor(&self.gram, self.columns));
        InputStatistics::new(gram, self.columns, self.sequences)
    }
}

/// Prunes a matrix with both solvers, compares what does not hang on near ties, and returns in how many entries the
/// masks differ.
fn differing_entries(inputs: &Inputs, weights: &[f32], sparsity: Sparsity, block_size: usize) -> usize {
    let columns = inputs.columns;
    let case = format!("{sparsity} of {columns} columns in blocks of {block_size}");
    let stage = sparsegpt(sparsity, block_size);
    let (host, expected) = on_host(&stage, weights, columns, Some(&mut inputs.host())).unwrap();
    let (pruned, outcome) =
        on_device(&stage, &tensor(weights, columns), Some(&mut inputs.device()), &never).unwrap();
    assert_same_outcome(&case, &outcome, &expected, 1e-3);
    let pruned = values(&pruned);
    let mut differing = 0;
    let (mut apart, mut size) = (0.0, 0.0);
    for (got, want) in pruned.chunks(columns).zip(host.chunks(columns)) {
        let differ = got.iter().zip(want).filter(|(got, want)| (**got == 0.0) != (**want == 0.0)).count();
        differing += differ;
        // One entry that fell the other way changes all that follows in its row.
        if differ == 0 {
            apart += got.iter().zip(want).map(|(g, w)| f64::from(g - w).powi(2)).sum::<f64>();
            size += want.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
        }
    }
    assert!(apart.sqrt() <= 1e-4 * size.sqrt(), "{case}: weights {} apart", (apart / size).sqrt());
    differing
}

#[test]
fn sparsegpt_solves_as_the_host_does() {
    let mut random = Random::new(3);
    for columns in [160, 320] {
        let sizes: Vec<f64> = (0..columns).map(|_| random.0.random_range(0.5..2.0)).collect();
        let inputs = Inputs { gram: random.gram(6 * columns, &sizes), columns, sequences: 5 };
        let weights = random.weights(40, columns);
        for sparsity in SPARSITIES {
            for block_size in [128, 7, 1000] {
                let differing = differing_entries(&inputs, &weights, sparsity, block_size);
                assert_eq!(differing, 0, "{sparsity} of {columns} columns in blocks of {block_size}");
            }
        }
    }
}

#[test]
fn on_hard_inputs_only_near_ties_fall_the_other_way() {
    let mut random = Random::new(4);
    for columns in [200, 400] {
        let inputs = Inputs { gram: random.hard_gram(columns), columns, sequences: 5 };
        let weights = random.weights(64, columns);
        for sparsity in SPARSITIES {
            if matches!(sparsity, Sparsity::SemiStructured { group, .. } if columns % group != 0) {
                continue;
            }
            let differing = differing_entries(&inputs, &weights, sparsity, 128);
            assert!(differing * 1000 <= weights.len(), "{sparsity}: {differing} of {}", weights.len());
        }
    }
}

#[test]
fn features_that_are_always_zero_lose_their_weights() {
    let mut random = Random::new(5);
    let mut sizes = vec![1.0; 160];
    for dead in [0, 17, 18, 129, 159] {
        sizes[dead] = 0.0;
    }
    let inputs = Inputs { gram: random.gram(500, &sizes), columns: 160, sequences: 5 };
    let weights = random.weights(32, 160);
    for sparsity in [HALF, Sparsity::SemiStructured { zeros: 2, group: 4 }] {
        assert_eq!(differing_entries(&inputs, &weights, sparsity, 128), 0);
        let stage = sparsegpt(sparsity, 128);
        let (pruned, outcome) =
            on_device(&stage, &tensor(&weights, 160), Some(&mut inputs.device()), &never).unwrap();
        assert_eq!(outcome.dead_columns, 5);
        for row in values(&pruned).chunks(160) {
            assert!(row.iter().zip(&sizes).all(|(w, size)| *size > 0.0 || *w == 0.0));
        }
    }
}

#[test]
fn damping_is_raised_as_on_the_host_and_broken_activations_are_named() {
    let n = 100;
    // Ones on the diagonal, and one pair that hangs together more than it may.
    let with_pair = |pair: f32| {
        let mut gram = vec![0f32; n * n];
        for i in 0..n {
            gram[i * n + i] = 1.0;
        }
        (gram[80 * n + 3], gram[3 * n + 80]) = (pair, pair);
        Inputs { gram, columns: n, sequences: 2 }
    };
    let weights = Random::new(6).weights(8, n);
    let stage = sparsegpt(HALF, 128);
    let solve = |inputs: &Inputs| {
        on_device(&stage, &tensor(&weights, n), Some(&mut inputs.device()), &never)
            .map(|(_, outcome)| outcome)
    };
    for (pair, damping) in [(0.5, 0.01), (1.05, 0.1), (1.5, 1.0)] {
        let inputs = with_pair(pair);
        let (_, expected) = on_host(&stage, &weights, n, Some(&mut inputs.host())).unwrap();
        assert!((expected.details["damping"] - damping).abs() < 1e-12);
        assert_same_outcome(&format!("{pair}"), &solve(&inputs).unwrap(), &expected, 1e-3);
    }
    let message = solve(&with_pair(5.0)).unwrap_err().to_string();
    assert!(message.contains("not positive definite even with damping 1"), "{message}");
    let mut broken = with_pair(0.5);
    broken.gram[7 * n + 7] = f32::NAN;
    let message = solve(&broken).unwrap_err().to_string();
    assert!(message.contains("NaN or infinite"), "{message}");
}

#[test]
fn modules_that_share_an_input_share_its_factor_and_stopping_stops() {
    let mut random = Random::new(7);
    let inputs = Inputs { gram: random.hard_gram(160), columns: 160, sequences: 5 };
    let mut shared = inputs.device();
    let stage = sparsegpt(HALF, 128);
    for rows in [8, 24] {
        let weights = tensor(&random.weights(rows, 160), 160);
        let (alone, _) = on_device(&stage, &weights, Some(&mut inputs.device()), &never).unwrap();
        let (beside, _) = on_device(&stage, &weights, Some(&mut shared), &never).unwrap();
        assert_eq!(values(&beside), values(&alone));
    }
    let weights = tensor(&random.weights(8, 160), 160);
    let result = on_device(&stage, &weights, Some(&mut shared), &|| true);
    assert!(matches!(result, Err(Error::Cancelled)));
    let nothing = sparsegpt(Sparsity::Fraction(0.0), 128);
    let (same, outcome) = on_device(&nothing, &weights, Some(&mut shared), &never).unwrap();
    assert_eq!((values(&same), outcome.error), (values(&weights), 0.0));
}

#[test]
fn levels_that_do_not_fit_are_refused_or_left_to_the_host() {
    let weights = tensor(&[1.0; 20], 10);
    let groups_of_seven = Sparsity::SemiStructured { zeros: 3, group: 7 };
    let groups_of_a_hundred = Sparsity::SemiStructured { zeros: 30, group: 100 };
    for &method in METHODS.iter().filter(|method| method.family() == Family::Prune) {
        let statistics = match method.needs() {
            Needs::Hessian => Statistics::DeviceGram(tensor(&[1.0; 100], 10)),
            _ => Statistics::ColumnNorms(vec![1.0; 10]),
        };
        let mut inputs = InputStatistics::new(statistics, 10, 1);
        let stage = Stage { method, level: groups_of_seven.into(), arguments: method.default_arguments() };
        let error = on_device(&stage, &weights, Some(&mut inputs), &never).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("3:7") && error.to_string().contains("10 columns"), "{error}");
        assert!(method.on_device(groups_of_a_hundred.into()).is_none(), "{method:?}");
    }
}

fn procedure(recipe: &str) -> Procedure {
    Procedure::of(&recipe.parse().unwrap(), &Parameters::new()).unwrap()
}

/// What a recipe makes of a matrix on the host and on a device.
fn both(
    recipe: &str,
    weights: &[f32],
    columns: usize,
    dtype: DType,
    inputs: Option<&Inputs>,
) -> [(Vec<f32>, CompressionOutcome); 2] {
    let procedure = procedure(recipe);
    assert!(procedure.works_on_device(), "{recipe}");
    let mut compressed = weights.to_vec();
    let matrix = Matrix { dtype, ..Matrix::new(&mut compressed, columns) };
    let mut of_host = inputs.map(Inputs::host);
    let outcome = procedure.run(matrix, of_host.as_mut(), &never).unwrap();
    let lying = tensor(weights, columns);
    let matrix = DeviceMatrix { dtype, ..DeviceMatrix::new(&lying) };
    let mut of_device = inputs.map(Inputs::device);
    let (found, of_it) = procedure.run_on_device(matrix, of_device.as_mut(), &never).unwrap();
    [(compressed, outcome), (values(&found), of_it)]
}

fn codes_of(outcome: &CompressionOutcome) -> &Codes {
    let Some(Encoded::Codes(codes)) = &outcome.encoded else { panic!("no codes: {outcome:?}") };
    codes
}

#[test]
fn rounding_to_nearest_gives_the_hosts_codes() {
    let mut random = Random::new(8);
    for weights in [random.weights(9, 256), random.coarse_weights(9, 256), vec![0.0; 9 * 256]] {
        for recipe in [
            "rtn@4bit",
            "rtn@8bit,sym",
            "rtn@3bit,group=row",
            "rtn@2bit,sym,group=32",
            "magnitude@50%+rtn@4bit",
            "magnitude@2:4+rtn@4bit,group=128",
        ] {
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                let [(host, expected), (device, found)] = both(recipe, &weights, 256, dtype, None);
                let case = format!("{recipe} in {dtype:?}");
                assert_eq!(codes_of(&found), codes_of(&expected), "{case}");
                assert_eq!(device, host, "{case}");
                assert_same_outcome(&case, &found, &expected, 1e-9);
            }
        }
    }
}

/// Recipes that put weights on a grid while they are solved, or behind a step that pruned.
const SOLVED_RECIPES: [&str; 12] = [
    "gptq@4bit",
    "gptq@3bit,sym",
    "gptq@2bit,group=row",
    "gptq@4bit,group=32,block_size=7",
    "gptq@4bit,group=128,block_size=300",
    "gptq@4bit,act_order",
    "gptq@4bit,act_order,group=row",
    "sparsegpt@50%+gptq@4bit",
    "sparsegpt@2:4+gptq@4bit,group=row",
    "sparsegpt@30%+gptq@8bit,act_order,block_size=50",
    "wanda@50%+gptq@4bit",
    "magnitude@2:4+gptq@4bit,sym",
];

/// How many codes of a recipe differ; whatever does not hang on near ties is compared here.
fn differing_codes(recipe: &str, weights: &[f32], inputs: &Inputs, dtype: DType) -> usize {
    let columns = inputs.columns;
    let [(host, expected), (device, found)] = both(recipe, weights, columns, dtype, Some(inputs));
    assert_same_outcome(recipe, &found, &expected, 1e-2);
    let (codes, expected) = (codes_of(&found), codes_of(&expected));
    assert_eq!((codes.shape, codes.grid), (expected.shape, expected.grid), "{recipe}");
    assert_eq!(codes.values(), device, "{recipe}: the codes stand for the weights");
    let (mut differing, mut apart, mut size) = (0, 0.0, 0.0);
    let (codes, expected) = (codes.codes(), expected.codes());
    let rows = codes.chunks(columns).zip(expected.chunks(columns));
    for (row, (codes, expected)) in rows.enumerate() {
        let differ = codes.iter().zip(expected).filter(|(a, b)| a != b).count();
        differing += differ;
        // One weight that went to the other neighbour changes all that follows in its row.
        if differ == 0 {
            let of = row * columns..(row + 1) * columns;
            for (got, want) in device[of.clone()].iter().zip(&host[of]) {
                apart += f64::from(got - want).powi(2);
                size += f64::from(*want).powi(2);
            }
        }
    }
    assert!(apart.sqrt() <= 1e-4 * size.sqrt(), "{recipe}: weights {} apart", (apart / size).sqrt());
    differing
}

#[test]
fn weights_are_solved_onto_a_grid_as_on_the_host() {
    let mut random = Random::new(9);
    let mut sizes: Vec<f64> = (0..256).map(|_| random.0.random_range(0.5..2.0)).collect();
    // Some features are always zero, and features of one size keep their order.
    for dead in [0, 77, 255] {
        sizes[dead] = 0.0;
    }
    let inputs = Inputs { gram: random.gram(1500, &sizes), columns: 256, sequences: 5 };
    let weights = random.weights(24, 256);
    for recipe in SOLVED_RECIPES {
        for dtype in [DType::F32, DType::BF16] {
            let differing = differing_codes(recipe, &weights, &inputs, dtype);
            assert!(differing * 200 <= weights.len(), "{recipe}: {differing} of {}", weights.len());
        }
    }
}

#[test]
fn on_hard_inputs_few_codes_go_to_the_other_neighbour() {
    let mut random = Random::new(10);
    let inputs = Inputs { gram: random.hard_gram(256), columns: 256, sequences: 5 };
    let weights = random.weights(24, 256);
    for recipe in SOLVED_RECIPES {
        let differing = differing_codes(recipe, &weights, &inputs, DType::F32);
        assert!(differing * 50 <= weights.len(), "{recipe}: {differing} of {}", weights.len());
    }
}

#[test]
fn what_a_step_made_zero_stays_zero() {
    let mut random = Random::new(11);
    let inputs = Inputs { gram: random.hard_gram(128), columns: 128, sequences: 5 };
    let weights = random.weights(16, 128);
    for recipe in ["magnitude@2:4+gptq@4bit", "sparsegpt@2:4+gptq@4bit", "sparsegpt@2:4+rtn@4bit"] {
        let [_, (device, _)] = both(recipe, &weights, 128, DType::F32, Some(&inputs));
        let groups = device.chunks(4);
        assert!(groups.clone().all(|group| group.iter().filter(|w| **w == 0.0).count() >= 2), "{recipe}");
    }
}

#[test]
fn recipes_of_which_a_step_has_no_form_for_a_device_are_left_to_the_host() {
    for (recipe, works) in [
        ("kquant@q4_k_m", false),
        ("wanda@30:100", false),
        ("sparsegpt@30:100+gptq@4bit", false),
        ("wanda@50%+rtn@4bit", true),
        ("sparsegpt@50%+gptq@4bit", true),
    ] {
        assert_eq!(procedure(recipe).works_on_device(), works, "{recipe}");
    }
    let stop = || true;
    let inputs = Inputs { gram: Random::new(12).hard_gram(64), columns: 64, sequences: 5 };
    let weights = tensor(&[1.0; 128], 64);
    for recipe in ["gptq@4bit", "sparsegpt@50%+gptq@4bit"] {
        let matrix = DeviceMatrix::new(&weights);
        let result = procedure(recipe).run_on_device(matrix, Some(&mut inputs.device()), &stop);
        assert!(matches!(result, Err(Error::Cancelled)), "{recipe}");
    }
}

#[test]
fn statistics_move_to_the_host() {
    let mut inputs = InputStatistics::new(Statistics::DeviceGram(tensor(&[1.0, 2.0, 2.0, 5.0], 2)), 2, 1);
    assert!(inputs.gram().is_none());
    assert_eq!(inputs.input_norms_squared().unwrap(), [1.0, 5.0]);
    inputs.move_to_host().unwrap();
    assert_eq!(inputs.gram().unwrap(), [1.0, 2.0, 2.0, 5.0]);
    assert!(inputs.device_gram().is_none());
}
