//! A linear layer's product with a pruned weight: dense, and without its zeroes. Throughput is in floating-point
//! operations of the dense product, whatever is left out.

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secateur::kernels::matmul;
use secateur::kernels::sparse::{self, Packed};

/// Outputs, inputs and tokens.
const SHAPES: [[usize; 3]; 4] = [[1536, 576, 2048], [576, 1536, 2048], [576, 576, 2048], [4096, 11008, 512]];

/// Zeroes what a fraction takes by chance, or, for `None`, two of every four.
fn prune(w: &mut [f32], fraction: Option<f32>) {
    match fraction {
        Some(fraction) => {
            let chances = common::random(w.len() + 1, 0.5);
            w.iter_mut()
                .zip(chances)
                .filter(|(_, chance)| chance + 0.5 < fraction)
                .for_each(|(w, _)| *w = 0.0);
        }
        None => {
            for group in w.chunks_exact_mut(4) {
                let mut order = [0, 1, 2, 3];
                order.sort_by(|&a, &b| group[a].abs().total_cmp(&group[b].abs()));
                (group[order[0]], group[order[1]]) = (0.0, 0.0);
            }
        }
    }
}

fn sparse_products(c: &mut Criterion) {
    for [outer, inner, tokens] in SHAPES {
        let mut group = c.benchmark_group(format!("sparse/{outer}x{inner}"));
        let (x, dense) = (common::random(tokens * inner, 1.0), common::random(outer * inner, 0.1));
        let mut out = vec![0f32; tokens * outer];
        group.throughput(Throughput::Elements((2 * outer * inner * tokens) as u64));
        group.bench_function("dense", |b| {
            b.iter(|| matmul::linear(&mut out, &x, &dense, inner, false, matmul::parallel()));
        });
        for (name, fraction) in
            [("0", Some(0.0)), ("0.3", Some(0.3)), ("0.5", Some(0.5)), ("0.7", Some(0.7)), ("2:4", None)]
        {
            let mut w = dense.clone();
            prune(&mut w, fraction);
            let packed = Packed::new(&w, inner);
            group.bench_function(BenchmarkId::new("packed", name), |b| {
                b.iter(|| sparse::linear(&mut out, &x, &packed, false));
            });
            if name == "0.5" {
                group.bench_function("packing", |b| b.iter(|| Packed::new(&w, inner)));
            }
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = common::quick(); targets = sparse_products }
criterion_main!(benches);
