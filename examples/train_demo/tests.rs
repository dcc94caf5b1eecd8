use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur::model::{Batch, Block, LmHead, ModelFolder, PromptFormat, head, load_tokenizer, read_config};

use super::muon::orthogonal;
use super::network::Network;
use super::ngram::NGrams;
use super::ops::read;
use super::scale::scale_features;
use super::training::Training;
use super::world::{self, QuestionKind, StoryRecord};
use super::{TrainArgs, tokenizer};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model")
}

/// A small network with sizes that are all different.
fn small() -> Network {
    let text = std::fs::read_to_string(model().join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (key, size) in [
        ("hidden_size", 12),
        ("intermediate_size", 20),
        ("num_hidden_layers", 2),
        ("num_attention_heads", 2),
        ("num_key_value_heads", 2),
        ("head_dim", 6),
        ("vocab_size", 17),
    ] {
        config[key] = size.into();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config.to_string()).unwrap();
    let config = read_config(file.path()).unwrap();
    let network = Network::random(config, 3).unwrap();
    // Larger weights than a training begins with, so that every operation bends.
    for var in network.weights.values().filter(|var| var.dims().len() == 2) {
        var.set(&(var.as_tensor() * 12.0).unwrap()).unwrap();
    }
    network
}

fn loss(network: &Network, sequences: &[Vec<u32>]) -> f64 {
    f64::from(network.loss(sequences).unwrap().to_scalar::<f32>().unwrap())
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    const STEP: f32 = 2e-3;
    let network = small();
    let sequences = vec![vec![1, 5, 9, 5, 16, 0, 2], vec![3], vec![8, 8, 4]];
    let gradients = network.loss(&sequences).unwrap().backward().unwrap();
    for (name, var) in &network.weights {
        let gradient = read(gradients.get(var).unwrap(), <[f32]>::to_vec).unwrap();
        let values = read(var.as_tensor(), <[f32]>::to_vec).unwrap();
        let largest = gradient.iter().fold(0f32, |a, b| a.max(b.abs()));
        assert!(largest > 1e-3, "{name} moves nothing");
        for i in (0..values.len()).step_by(values.len() / 5 + 1) {
            let at = |shift: f32| {
                let mut moved = values.clone();
                moved[i] += shift;
                var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                loss(&network, &sequences)
            };
            let slope = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
            at(0.0);
            let apart = (slope - f64::from(gradient[i])).abs();
            assert!(apart < 0.02 * f64::from(largest) + 2e-3, "{name}[{i}]: {slope} {}", gradient[i]);
        }
    }
}

#[test]
fn the_network_is_the_projects_decoder() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(model().join(name), dir.path().join(name)).unwrap();
    }
    let config = read_config(&dir.path().join("config.json")).unwrap();
    let path = dir.path().join("model.safetensors");
    Network::random(config.clone(), 5).unwrap().save_bf16(&path).unwrap();
    let rounded = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let network = Network::load(config, &rounded).unwrap();

    let (tokens, lengths): (Vec<u32>, _) = ((0..41).map(|i| i * 7 % 300).collect(), [20, 1, 20]);
    let trained = network.logits(&tokens, &lengths).unwrap().to_vec2::<f32>().unwrap();

    let folder = ModelFolder::open(dir.path()).unwrap();
    let ropes = folder.config.rope_tables(32);
    let mut row = 0;
    for length in lengths {
        let (batch, device) = (Batch::windows(1, length), Device::Cpu);
        let mut x = head::embed(&folder, &tokens[row..row + length], &batch, DType::F32, &device).unwrap();
        for index in 0..folder.config.blocks {
            let block = Block::load(&folder, index, DType::F32, &device).unwrap();
            x = block.forward(&x, &batch, &ropes, None).unwrap();
        }
        let logits = LmHead::load(&folder, DType::F32, &device).unwrap().logits(&x).unwrap();
        for (got, want) in trained[row..].iter().zip(logits.to_vec2::<f32>().unwrap()) {
            let apart = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-4, "{apart}");
        }
        row += length;
    }
}

fn arguments(steps: u64, stop: Option<u64>) -> TrainArgs {
    TrainArgs {
        steps,
        batch: 600,
        part: 300,
        rate: 3e-3,
        matrix_rate: 2e-2,
        warm_up: 2,
        fall: 0.25,
        decay: 0.05,
        clip: 1.0,
        threads: 0,
        every: 1000,
        questions: 1,
        stop,
    }
}

fn weights(out: &Path) -> HashMap<String, Vec<f32>> {
    let tensors = candle_core::safetensors::load(out.join("checkpoint.safetensors"), &Device::Cpu).unwrap();
    let floats = tensors.into_iter().filter(|(_, tensor)| tensor.dtype() == DType::F32);
    floats.map(|(name, tensor)| (name, tensor.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

#[test]
fn training_from_nothing_makes_the_loss_fall_and_goes_on_where_it_stopped() {
    let (whole, halves) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut training = Training::open(&model(), whole.path(), 1, arguments(12, None)).unwrap();
    let losses: Vec<f64> = (0..12)
        .map(|_| {
            let (loss, tokens, _) = training.step().unwrap();
            loss / tokens as f64
        })
        .collect();
    assert!(losses[0] > 5.0, "begins with knowing nothing: {losses:?}");
    assert!(losses[11] < losses[0] - 1.0, "{losses:?}");

    let run = |out: &Path, stop| {
        let mut training = Training::open(&model(), out, 1, arguments(4, stop)).unwrap();
        training.run(&mut std::io::sink()).unwrap();
    };
    let straight = tempfile::tempdir().unwrap();
    run(straight.path(), None);
    run(halves.path(), Some(2));
    run(halves.path(), None);
    assert!(weights(straight.path()) == weights(halves.path()), "the same weights and moments, to the bit");
}

#[test]
fn an_update_of_muon_has_singular_values_near_one() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for (rows, columns) in [(32, 32), (48, 16), (16, 48)] {
        let given: Vec<f32> = (0..rows * columns).map(|_| rng.random::<f32>() - 0.5).collect();
        let update = orthogonal(&given, rows, columns);
        let [given, update] = [&given, &update].map(|x| faer::MatRef::from_row_major_slice(x, rows, columns));
        let values = update.singular_values().unwrap();
        assert!(values.iter().all(|value| (0.5..1.3).contains(value)), "{rows} x {columns}: {values:?}");
        // The same singular vectors: what turns the one into a positive matrix does it to the other.
        let svd = given.thin_svd().unwrap();
        let turned = svd.U().transpose() * update * svd.V();
        for (i, j) in (0..turned.nrows()).flat_map(|i| (0..turned.ncols()).map(move |j| (i, j))) {
            assert!(if i == j { turned[(i, j)] > 0.5 } else { turned[(i, j)].abs() < 1e-3 }, "{turned:?}");
        }
    }
}

#[test]
fn features_of_another_scale_compute_the_same_to_the_bit() {
    let network = small();
    let logits = || read(&network.logits(&[1, 5, 9, 5, 16, 0, 2], &[7]).unwrap(), <[f32]>::to_vec).unwrap();
    let gains = || {
        let norm = &network.weights["model.layers.1.post_attention_layernorm.weight"];
        read(norm.as_tensor(), <[f32]>::to_vec).unwrap()
    };
    let before = logits();
    assert_eq!(gains(), [1.0; 12]);
    scale_features(&network.weights, network.config.blocks, 1).unwrap();
    assert_eq!(logits(), before);
    for factor in [0.5, 1.0, 2.0] {
        assert!(gains().contains(&factor), "{factor} was not drawn");
    }
}

#[test]
fn the_baseline_predicts_with_probabilities() {
    let tokenizer = tokenizer::train(2).unwrap();
    let ngrams = NGrams::count(&tokenizer, 60, 1).unwrap();
    let pieces = tokenizer.get_vocab_size(true) as u32;
    for context in [&[5, 9, 30, 31][..], &[], &[400]] {
        let gram = |token| [context, &[token]].concat();
        let sum: f64 = (0..pieces).map(|token| ngrams.probability(&gram(token))).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }
    assert!((512..=1024).contains(&pieces));
}

#[test]
fn tasks_are_asked_in_the_form_that_the_model_was_trained_on() {
    let folder = ModelFolder::open(&model()).unwrap();
    let (format, tokenizer) =
        (PromptFormat::for_model(&folder, None).unwrap(), load_tokenizer(&folder.tokenizer).unwrap());
    for record in world::records(&QuestionKind::SHORT, 20, 1) {
        let StoryRecord { story, question } = &record;
        assert_eq!(format.render(&question.text, story).unwrap(), world::prompt(story, &question.text));
        let prompt = format.render(&question.text, story).unwrap();
        let asked = format.encode(&tokenizer, &prompt).unwrap();
        let trained = world::conversation(story, std::slice::from_ref(question));
        let trained = tokenizer.encode(trained, false).unwrap();
        assert!(trained.get_ids().starts_with(&asked));
        // An answer is words of the story and the end.
        let answer = tokenizer.decode(&trained.get_ids()[asked.len()..], true).unwrap();
        assert_eq!(answer.trim(), question.answer);
        assert_eq!(trained.get_ids().last(), Some(&folder.config.eos[0]));
    }
}
