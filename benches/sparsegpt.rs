//! Both halves of `SparseGPT` on a matrix of 1024 rows and 2816 columns: the factor of the inverse Hessian, and the
//! solver. Throughput is in floating-point operations.

mod common;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use secateur::kernels::matmul::gram_lower;
use secateur::methods::{Factor, Target, solve};
use secateur::study::Sparsity;

const ROWS: usize = 1024;
const COLUMNS: usize = 2816;
const DAMPING: f64 = 0.01;

fn sparsegpt(c: &mut Criterion) {
    let mut gram = vec![0f32; COLUMNS * COLUMNS];
    gram_lower(&mut gram, &common::random(4096 * COLUMNS, 1.0), COLUMNS);
    let weights = common::random(ROWS * COLUMNS, 0.1);
    let new = || Factor::new(&gram, COLUMNS, 8, DAMPING).expect("a positive definite Hessian");
    let factor = new();

    let mut group = c.benchmark_group("sparsegpt");
    // A Cholesky factorisation and a triangular inverse, a third of the cube each.
    group.throughput(Throughput::Elements(2 * (COLUMNS.pow(3) as u64) / 3));
    group.bench_function("factor/2816", |b| b.iter(new));
    // Every column updates all that follow, if all its weights go.
    group.throughput(Throughput::Elements((ROWS * COLUMNS * COLUMNS) as u64));
    for sparsity in [Sparsity::Fraction(0.5), Sparsity::SemiStructured { zeros: 2, group: 4 }] {
        group.bench_function(format!("solve/1024x2816/{sparsity}"), |b| {
            b.iter_batched_ref(
                || weights.clone(),
                |weights| {
                    let target = &mut Target::zeros(sparsity);
                    solve(weights, COLUMNS, &factor, target, 128, &|| false).expect("not stopped")
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::quick(); targets = sparsegpt }
criterion_main!(benches);
