//! A linear layer's product by the project's kernel and by candle. Throughput is in floating-point operations.

mod common;

use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use secateur::kernels::matmul::{linear, parallel};

fn matmul(c: &mut Criterion) {
    const SIZES: [usize; 3] = [2048, 576, 1536];
    let [n, inner, outer] = SIZES;
    let (x, w) = (common::random(n * inner, 1.0), common::random(outer * inner, 0.1));
    let mut group = c.benchmark_group("matmul/2048x576x1536");
    group.throughput(Throughput::Elements(2 * SIZES.iter().product::<usize>() as u64));
    let mut out = vec![0f32; n * outer];
    group.bench_function("kernel", |b| b.iter(|| linear(&mut out, &x, &w, inner, false, parallel())));
    let x = Tensor::from_vec(x, (n, inner), &Device::Cpu).expect("inputs");
    let w = Tensor::from_vec(w, (outer, inner), &Device::Cpu).expect("weights");
    group.bench_function("candle", |b| b.iter(|| x.matmul(&w.t().expect("a view")).expect("a product")));
    group.finish();
}

criterion_group! { name = benches; config = common::quick(); targets = matmul }
criterion_main!(benches);
