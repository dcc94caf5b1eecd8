//! The methods where the weights lie, beside the same on the host: one matrix of each shape of a block of LLaMA-2-7B.
//!
//! `cargo bench --features cuda --bench device [-- DEVICE [ROUNDS]]`; DEVICE is as `--device` takes it, `auto` unless told.
//! Prints the median of the rounds, alone and as the second matrix of an input; on a GPU a round ends when the GPU has done
//! its work. Besides, how many entries of the masks differ, and the distance of the matrices by the size of the host's.

use std::time::Instant;

use candle_core::{Device, Tensor};
use secateur::methods::{DeviceMatrix, InputStatistics, Matrix, Procedure, Statistics};
use secateur::study::Parameters;

/// `sparsegpt@0%` prunes nothing: what is left is the factor, which all matrices of an input share.
const RECIPES: [&str; 12] = [
    "magnitude@50%",
    "magnitude@2:4",
    "wanda@50%",
    "wanda@2:4",
    "ria@50%",
    "rtn@4bit",
    "sparsegpt@0%",
    "sparsegpt@50%",
    "sparsegpt@2:4",
    "gptq@4bit",
    "gptq@4bit,act_order",
    "sparsegpt@50%+gptq@4bit",
];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let device = arguments.next().unwrap_or_else(|| "auto".into());
    let rounds = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(3);
    let device = secateur::device::choose_device(&device).unwrap();
    println!(
        "{:42} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "milliseconds", "host", "device", "as 2nd", "masks, %", "apart"
    );
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
    device: Device,
    rounds: usize,
}

impl Bench {
    fn new(rows: usize, columns: usize, device: Device, rounds: usize) -> Self {
        let on_device = Tensor::randn(0f32, 0.02, (rows, columns), &device).unwrap();
        let weights = on_device.flatten_all().unwrap().to_vec1().unwrap();
        // Features of different sizes that share some of what they say.
        let sizes = Tensor::randn(0f32, 1.0, (1, columns), &device).unwrap().exp().unwrap();
        let tokens = 2 * columns;
        let shared = Tensor::randn(0f32, 0.4, (tokens, 1), &device).unwrap();
        let x = Tensor::randn(0f32, 1.0, (tokens, columns), &device).unwrap().broadcast_add(&shared).unwrap();
        let x = x.broadcast_mul(&sizes).unwrap();
        let gram = x.t().unwrap().matmul(&x).unwrap();
        Self { shape: format!("{rows} x {columns}"), columns, weights, on_device, gram, device, rounds }
    }

    fn run(&self) {
        for recipe in RECIPES {
            let procedure = Procedure::of(&recipe.parse().unwrap(), &Parameters::new()).unwrap();
            let (expected, host) = self.on_host(&procedure);
            let found = self.on_device(&procedure, &mut self.inputs(true)).flatten_all().unwrap();
            let found: Vec<f32> = found.to_vec1().unwrap();
            let alone = self.rounds(|| drop(self.on_device(&procedure, &mut self.inputs(true))));
            let mut shared = self.inputs(true);
            drop(self.on_device(&procedure, &mut shared));
            let beside = self.rounds(|| drop(self.on_device(&procedure, &mut shared)));
            let pairs = found.iter().zip(&expected);
            let masks = pairs.clone().filter(|(a, b)| (**a == 0.0) != (**b == 0.0)).count();
            let apart: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let size: f64 = expected.iter().map(|w| f64::from(*w).powi(2)).sum();
            println!(
                "{:42} {:>9.1} {:>9.1} {:>9.1} {:>9.4} {:>9.1e}",
                format!("{recipe}, {}", self.shape),
                host * 1e3,
                alone * 1e3,
                beside * 1e3,
                100.0 * masks as f64 / found.len() as f64,
                (apart / size).sqrt()
            );
        }
    }

    fn inputs(&self, on_device: bool) -> InputStatistics {
        let gram = if on_device {
            Statistics::DeviceGram(self.gram.clone())
        } else {
            Statistics::Gram(self.gram.flatten_all().unwrap().to_vec1().unwrap())
        };
        InputStatistics::new(gram, self.columns, 1)
    }

    /// Once: the host is slow.
    fn on_host(&self, procedure: &Procedure) -> (Vec<f32>, f64) {
        let (mut weights, mut inputs) = (self.weights.clone(), self.inputs(false));
        let started = Instant::now();
        let matrix = Matrix::new(&mut weights, self.columns);
        procedure.run(matrix, Some(&mut inputs), &|| false).unwrap();
        (weights, started.elapsed().as_secs_f64())
    }

    fn on_device(&self, procedure: &Procedure, inputs: &mut InputStatistics) -> Tensor {
        let matrix = DeviceMatrix::new(&self.on_device);
        procedure.run_on_device(matrix, Some(inputs), &|| false).unwrap().0
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
}
