//! Wanda's selection in a small and a large matrix. Throughput is in weights.

mod common;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use secateur::methods::{InputStatistics, Matrix, Method, Statistics, Wanda};
use secateur::study::Sparsity;

fn wanda(c: &mut Criterion) {
    let mut group = c.benchmark_group("wanda");
    for (rows, columns) in [(1536, 576), (4096, 11_008)] {
        let weights = common::random(rows * columns, 0.1);
        let sums = common::random(columns, 1.0).into_iter().map(|v| f64::from(v.abs())).collect();
        let mut statistics = InputStatistics::new(Statistics::ColumnNorms(sums), columns, 8);
        let arguments = Wanda.default_arguments();
        group.throughput(Throughput::Elements(weights.len() as u64));
        for sparsity in [Sparsity::Fraction(0.5), Sparsity::SemiStructured { zeros: 2, group: 4 }] {
            group.bench_function(format!("{rows}x{columns}/{sparsity}"), |b| {
                b.iter_batched_ref(
                    || weights.clone(),
                    |weights| {
                        let matrix = Matrix::new(weights, columns);
                        Wanda
                            .run(matrix, Some(&mut statistics), sparsity.into(), &arguments, &|| false)
                            .expect("norms that fit")
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = common::quick(); targets = wanda }
criterion_main!(benches);
