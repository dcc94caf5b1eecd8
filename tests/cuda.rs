//! The built-in study on an NVIDIA GPU beside the same on the CPU. Other tests compute on a GPU where
//! `SECATEUR_TEST_DEVICE=cuda` says so.
#![cfg(feature = "cuda")]

mod common;

use candle_core::Device;
use common::{Place, Synthetic};
use serde_json::Value;

/// The quick study on a device.
fn study(device: &str, dtype: &str) -> Value {
    let place = Place::new(&Synthetic::default());
    let line = "run --demo --quick --format json --offline --device";
    let line: Vec<&str> = line.split_whitespace().chain([device, "--dtype", dtype]).collect();
    let output = place.program(&line).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The value of a score on the first data set.
fn first(model: &Value, score: &str) -> f64 {
    let found = model["metrics"].as_array().unwrap().iter().find(|found| found["score"] == score);
    found.and_then(|found| found["value"].as_f64()).unwrap_or_else(|| panic!("no {score}: {model}"))
}

/// Asserts that two studies say nearly the same: perplexity to a share, JS to bits, exact match to a share of questions.
fn agree(what: &str, cpu: &Value, gpu: &Value, perplexity: f64, js: f64, exact_match: f64) {
    let cells = |study: &Value| study["cells"].as_array().unwrap().clone();
    let pairs = cells(cpu).into_iter().zip(cells(gpu));
    let pairs: Vec<(Value, Value)> =
        [(cpu["base"].clone(), gpu["base"].clone())].into_iter().chain(pairs).collect();
    assert!(pairs.len() > 5);
    for (cpu, gpu) in &pairs {
        assert_eq!(cpu["id"], gpu["id"]);
        let cell = format!("{what}, {}", cpu["id"]);
        let both = |score: &str| [cpu, gpu].map(|study| first(study, score));
        let [on_cpu, on_gpu] = both("perplexity");
        let off = on_gpu / on_cpu - 1.0;
        println!("{cell}: perplexity {on_cpu} on the CPU, {:+.4}% on the GPU", 100.0 * off);
        assert!(off.abs() < perplexity, "{cell}");
        let [on_cpu, on_gpu] = both("exact_match");
        assert!((on_gpu - on_cpu).abs() <= exact_match, "{cell}: {on_gpu} {on_cpu}");
        if cpu["id"].is_string() {
            let [on_cpu, on_gpu] = both("js_divergence");
            println!("{cell}: JS {on_cpu} bits on the CPU, {on_gpu} on the GPU");
            assert!((on_gpu - on_cpu).abs() < js, "{cell}");
        }
        // What is solved may round to zero on one of the two.
        if !cpu["id"].as_str().is_some_and(|id| id.starts_with("sparsegpt")) {
            assert_eq!(cpu["footprint"], gpu["footprint"], "{cell}");
        }
    }
}

#[test]
fn a_gpu_finds_what_the_cpu_finds() {
    if let Err(error) = Device::new_cuda(0) {
        common::skip::skip(format_args!("no GPU: {error}"));
        return;
    }
    let cpu = study("cpu", "auto");
    agree("f32", &cpu, &study("cuda", "f32"), 0.01, 0.002, 0.05);
    agree("bf16", &cpu, &study("cuda", "auto"), 0.05, 0.02, 0.1);
}
