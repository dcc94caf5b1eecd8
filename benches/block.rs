//! A forward pass of one decoder block. Throughput is in floating-point operations of its matrix products.

mod common;

#[path = "../tests/common/synthetic.rs"]
mod synthetic;

use candle_core::{DType, Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secateur::model::{Batch, Block, ModelFolder};
use synthetic::Synthetic;

/// A block of `SmolLM2`-135M.
fn smollm2() -> Synthetic {
    Synthetic {
        hidden: 576,
        intermediate: 1536,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        blocks: 1,
        ..Synthetic::default()
    }
}

/// A block of Llama-2-7B.
fn llama2_7b() -> Synthetic {
    let vocabulary = Synthetic::default().vocabulary;
    Synthetic { blocks: 1, vocabulary, tied: true, sharded: None, ..Synthetic::llama2_7b() }
}

fn block(c: &mut Criterion) {
    let mut group = c.benchmark_group("block");
    for (name, shape, windows, length) in [("smollm2", smollm2(), 4, 512), ("llama2-7b", llama2_7b(), 1, 128)]
    {
        let dir = tempfile::tempdir().expect("a temporary folder");
        shape.write(dir.path()).expect("a synthetic model");
        let folder = ModelFolder::open(dir.path()).expect("the model just written");
        let block = Block::load(&folder, 0, DType::F32, &Device::Cpu).expect("its block");
        let (batch, ropes) = (Batch::windows(windows, length), folder.config.rope_tables(length));
        let x = common::random(batch.rows() * shape.hidden, 1.0);
        let x = Tensor::from_vec(x, (batch.rows(), shape.hidden), &Device::Cpu).expect("hidden states");
        let weights = folder.config.layout(0).elements();
        group.throughput(Throughput::Elements((2 * weights * batch.rows()) as u64));
        group.bench_function(BenchmarkId::new(name, format!("{windows}x{length}")), |b| {
            b.iter(|| block.forward(&x, &batch, &ropes, None).expect("a forward pass"));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::quick(); targets = block }
criterion_main!(benches);
