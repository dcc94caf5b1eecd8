//! The methods where the weights lie, beside the same on the host: one matrix of each shape of a block of LLaMA-2-7B.
//!
//! `cargo bench --features cuda --bench device [-- DEVICE [ROUNDS]]`; DEVICE is as `--device` takes it, `auto` unless told.
//! Prints the median of the rounds; on a GPU a round ends when the GPU has done its work.

use std::time::Instant;

use candle_core::{Device, Tensor};
use secateur::methods::{InputStatistics, METHODS, Matrix, Method, Needs, Statistics};
use secateur::study::{Level, Sparsity};

const SPARSITIES: [Sparsity; 2] = [Sparsity::Fraction(0.5), Sparsity::SemiStructured { zeros: 2, group: 4 }];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let device = arguments.next().unwrap_or_else(|| "auto".into());
    let rounds = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(3);
    let device = secateur::device::choose_device(&device).unwrap();
    println!("{:38} {:>10} {:>10} {:>12}", "", "host", "device", "masks differ");
    let shapes: &[(usize, usize)] =
        if device.is_cpu() { &[(512, 512)] } else { &[(4096, 4096), (11008, 4096), (4096, 11008)] };
    for &(rows, columns) in shapes {
        Bench::new(rows, columns, device.clone(), rounds).run();
    }
}

struct Bench {
    shape: String,
    columns: usize,
    weights: Vec<f32>,
    on_device: Tensor,
    gram: Tensor,
    sums: Vec<f64>,
    device: Device,
    rounds: usize,
}

impl Bench {
    fn new(rows: usize, columns: usize, device: Device, rounds: usize) -> Self {
        let on_device = Tensor::randn(0f32, 0.02, (rows, columns), &device).unwrap();
        // Features of different sizes that share some of what they say.
        let sizes = Tensor::randn(0f32, 1.0, (1, columns), &device).unwrap().exp().unwrap();
        let tokens = 2 * columns;
        let shared = Tensor::randn(0f32, 0.4, (tokens, 1), &device).unwrap();
        let x = Tensor::randn(0f32, 1.0, (tokens, columns), &device).unwrap().broadcast_add(&shared).unwrap();
        let x = x.broadcast_mul(&sizes).unwrap();
        let gram = x.t().unwrap().matmul(&x).unwrap();
        let sums =
            x.sqr().unwrap().sum(0).unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect();
        let weights = on_device.flatten_all().unwrap().to_vec1().unwrap();
        Self { shape: format!("{rows} x {columns}"), columns, weights, on_device, gram, sums, device, rounds }
    }

    fn run(&self) {
        for &method in METHODS {
            let (mut host, mut device) = (self.inputs(method, false), self.inputs(method, true));
            if method.needs() == Needs::Hessian {
                // Nothing pruned: what is left is the factor, which all matrices of an input share.
                let nothing = Sparsity::Fraction(0.0).into();
                let what = format!("{}, the factor", method.name());
                let seconds = self.seconds_on_host(method, nothing, &mut host).1;
                let fresh = || self.inputs(method, true);
                let on_device = self.rounds(|| drop(self.on_device(method, nothing, &mut fresh())));
                self.line(&what, seconds, on_device, None);
            }
            for sparsity in SPARSITIES {
                let level = sparsity.into();
                let (expected, seconds) = self.seconds_on_host(method, level, &mut host);
                let found = self.on_device(method, level, &mut device);
                let on_device = self.rounds(|| drop(self.on_device(method, level, &mut device)));
                let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
                let differ =
                    found.iter().zip(&expected).filter(|(a, b)| (**a == 0.0) != (**b == 0.0)).count();
                let what = format!("{} {sparsity}", method.name());
                self.line(&what, seconds, on_device, Some(100.0 * differ as f64 / found.len() as f64));
            }
        }
    }

    fn inputs(&self, method: &dyn Method, on_device: bool) -> InputStatistics {
        let host = || self.gram.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let statistics = match method.needs() {
            Needs::Hessian if on_device => Statistics::DeviceGram(self.gram.clone()),
            Needs::Hessian => Statistics::Gram(host()),
            Needs::ColumnNorms | Needs::Nothing => Statistics::ColumnNorms(self.sums.clone()),
        };
        InputStatistics::new(statistics, self.columns, 1)
    }

    /// Once: the host is slow.
    fn seconds_on_host(
        &self,
        method: &dyn Method,
        level: Level,
        inputs: &mut InputStatistics,
    ) -> (Vec<f32>, f64) {
        let mut weights = self.weights.clone();
        let started = Instant::now();
        let matrix = Matrix::new(&mut weights, self.columns);
        method.run(matrix, Some(inputs), level, &method.default_arguments(), &|| false).unwrap();
        (weights, started.elapsed().as_secs_f64())
    }

    fn on_device(&self, method: &dyn Method, level: Level, inputs: &mut InputStatistics) -> Tensor {
        let form = method.on_device(level).unwrap();
        let arguments = method.default_arguments();
        form.run_on_device(&self.on_device, Some(inputs), level, &arguments, &|| false).unwrap().0
    }

    /// The median of the rounds.
    fn rounds(&self, mut run: impl FnMut()) -> f64 {
        let mut seconds: Vec<f64> = (0..self.rounds)
            .map(|_| {
                self.device.synchronize().unwrap();
                let started = Instant::now();
                run();
                self.device.synchronize().unwrap();
                started.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        seconds[self.rounds / 2]
    }

    fn line(&self, what: &str, host: f64, device: f64, differ: Option<f64>) {
        let differ = differ.map_or_else(String::new, |differ| format!("{differ:.4}%"));
        let what = format!("{what}, {}", self.shape);
        println!("{what:38} {:>8.1}ms {:>8.1}ms {differ:>12}", host * 1e3, device * 1e3);
    }
}
