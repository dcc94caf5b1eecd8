//! The built-in study on an NVIDIA GPU beside the same on the CPU. Other tests compute on a GPU where
//! `SECATEUR_TEST_DEVICE=cuda` says so.
#![cfg(feature = "cuda")]

mod common;

use candle_core::Device;
use common::Place;
use secateur::model::Synthetic;
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

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {value}"))
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
        let at = "/metrics/perplexity/0/value";
        let off = number(gpu, at) / number(cpu, at) - 1.0;
        println!("{cell}: perplexity {} on the CPU, {:+.4}% on the GPU", number(cpu, at), 100.0 * off);
        assert!(off.abs() < perplexity, "{cell}");
        let at = "/metrics/tasks/0/exact_match/value";
        assert!(
            (number(gpu, at) - number(cpu, at)).abs() <= exact_match,
            "{cell}: {} {}",
            number(gpu, at),
            number(cpu, at)
        );
        if cpu["id"].is_string() {
            let at = "/metrics/js_divergence/0/bits";
            println!("{cell}: JS {} bits on the CPU, {} on the GPU", number(cpu, at), number(gpu, at));
            assert!((number(gpu, at) - number(cpu, at)).abs() < js, "{cell}");
        }
        if cpu["method"] != "sparsegpt" {
            assert_eq!(cpu["footprint"], gpu["footprint"], "{cell}");
        }
    }
}

#[test]
fn a_gpu_finds_what_the_cpu_finds() {
    if let Err(error) = Device::new_cuda(0) {
        eprintln!("SKIPPED a_gpu_finds_what_the_cpu_finds: no GPU: {error}");
        return;
    }
    let cpu = study("cpu", "auto");
    agree("f32", &cpu, &study("cuda", "f32"), 0.01, 0.002, 0.05);
    agree("bf16", &cpu, &study("cuda", "auto"), 0.05, 0.02, 0.1);
}
