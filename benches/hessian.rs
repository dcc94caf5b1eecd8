//! Adding 2048 tokens to a Hessian. Throughput is in floating-point operations of the triangle that is computed.

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secateur::kernels::matmul::gram_lower;

fn hessian(c: &mut Criterion) {
    const TOKENS: usize = 2048;
    let mut group = c.benchmark_group("hessian");
    for width in [1536, 4096] {
        let x = common::random(TOKENS * width, 1.0);
        let mut gram = vec![0f32; width * width];
        group.throughput(Throughput::Elements((TOKENS * width * (width + 1)) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{TOKENS}x{width}")), |b| {
            b.iter(|| gram_lower(&mut gram, &x, width));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::quick(); targets = hessian }
criterion_main!(benches);
