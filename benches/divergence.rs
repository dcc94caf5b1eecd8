//! JS, KL, top-1 agreement and negative log-likelihood of 64 positions over the vocabularies of `SmolLM2` and Llama 3;
//! beside it the negative log-likelihood alone, which is what perplexity needs. Throughput is in logits of the cell.

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secateur::scores::positions::rows;

fn divergence(c: &mut Criterion) {
    const POSITIONS: usize = 64;
    let mut group = c.benchmark_group("divergence");
    for vocabulary in [49_152, 128_256] {
        let base = common::random(POSITIONS * vocabulary, 8.0);
        let noise = common::random(POSITIONS * vocabulary + 1, 0.5);
        let cell: Vec<f32> = base.iter().zip(noise).map(|(v, noise)| v + noise).collect();
        let targets: Vec<Option<u32>> = (0..POSITIONS as u32).map(|i| Some(i * 700)).collect();
        group.throughput(Throughput::Elements((POSITIONS * vocabulary) as u64));
        for (name, base) in [("all", Some(base.as_slice())), ("likelihood", None)] {
            group.bench_function(BenchmarkId::new(name, format!("{POSITIONS}x{vocabulary}")), |b| {
                b.iter(|| rows(base, &cell, vocabulary, &targets));
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = common::quick(); targets = divergence }
criterion_main!(benches);
