use serde_json::json;

use super::super::registry::ExportFormat;
use super::super::write::{Verification, export};
use super::*;
use crate::model::arch::llama::Llama;
use crate::model::arch::mistral::Mistral;
use crate::model::arch::qwen2::Qwen2;
use crate::model::arch::qwen3::Qwen3;
use crate::model::{Architecture, Synthetic};
use crate::panics;
use crate::skip;

/// A model in a folder that is removed in the end, with room for exports.
struct Case {
    dir: tempfile::TempDir,
    folder: ModelFolder,
}

impl Case {
    fn new(model: &Synthetic) -> Self {
        let dir = tempfile::tempdir().unwrap();
        model.write(&dir.path().join("model")).unwrap();
        let folder = ModelFolder::open(&dir.path().join("model")).unwrap();
        Self { dir, folder }
    }

    fn export(&self, quantize: Option<&str>) -> Result<Verification> {
        let options = ExportOptions { quantize: quantize.map(|name| name.parse().unwrap()) };
        let out = self.dir.path().join(format!("{}.gguf", quantize.unwrap_or("plain")));
        let texts: Vec<Vec<u32>> =
            (0..2).map(|n| (0..90).map(|i| (i * 53 + n * 7) % 258).collect()).collect();
        let model = ExportModel::base(&self.folder);
        Ok(export(&Gguf, &model, &options, &out, Some(&texts))?.unwrap())
    }
}

impl Case {
    /// How far the mean negative log-likelihoods of file and memory are apart, in nats.
    fn difference(&self, quantize: &str) -> f64 {
        let options = ExportOptions { quantize: quantize.parse().ok() };
        let out = self.dir.path().join(format!("{quantize}.gguf"));
        let model = ExportModel::base(&self.folder);
        assert!(export(&Gguf, &model, &options, &out, None).unwrap().is_none());
        let length = keys::context_length(&self.folder.config).min(40);
        let passages = [Passage { tokens: (0..length as u32).map(|i| (i * 53) % 258).collect(), first: 2 }];
        Gguf.read_back(&model, &options, &out, &passages).unwrap()
            - Gguf.in_memory(&model, &options, &passages).unwrap()
    }
}

fn model(architecture: &'static dyn Architecture) -> Synthetic {
    Synthetic { hidden: 256, intermediate: 512, head_dim: 64, ..Synthetic::tiny(architecture) }
}

#[test]
fn every_family_is_read_back_as_it_is_in_memory() {
    let families: [&'static dyn Architecture; 4] = [&Llama, &Mistral, &Qwen2, &Qwen3];
    for architecture in families {
        let case = Case::new(&model(architecture));
        let plain = case.export(None).unwrap();
        let context = keys::context_length(&case.folder.config).min(90);
        assert_eq!(plain.tokens, 2 * COMPARED.min(context - 1), "{architecture:?}");
        assert!(plain.difference().abs() < 2e-4, "{architecture:?} {plain:?}");
        for quantize in ["f32", "bf16", "q8_0", "q4_0", "q4_k_m", "q2_k"] {
            let difference = case.difference(quantize);
            // Readers round what is multiplied with block formats, and random models amplify that.
            let most = if quantize.contains('f') { 2e-3 } else { 0.1 };
            assert!(difference.abs() < most, "{architecture:?} {quantize} {difference}");
        }
        let size = |name: &str| std::fs::metadata(case.dir.path().join(name)).unwrap().len();
        assert!(size("q4_0.gguf") < size("q8_0.gguf") && size("q8_0.gguf") < size("bf16.gguf"));
    }
}

#[test]
fn what_candle_does_not_know_is_read_into_a_model_of_our_own() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32
    });
    let stretched = json!({ "rope_scaling": scaling });
    let biased = json!({ "attention_bias": true, "mlp_bias": true });
    for keys in [stretched, biased] {
        let mut model = model(&Llama);
        model.keys.extend(keys.as_object().unwrap().clone());
        let case = Case::new(&model);
        let plain = case.export(None).unwrap();
        assert!(plain.difference().abs() < 1e-4, "{keys} {plain:?}");
        let found = case.export(Some("q4_k_m")).unwrap();
        assert!(found.difference().abs() < 1e-4, "{keys} {found:?}");
    }
}

#[test]
fn models_of_other_programs_are_read_back_as_they_are_in_memory() {
    for name in ["llama", "mistral", "qwen2", "qwen3"] {
        let Some(path) = skip::shared(&format!("golden/tiny/{name}")) else { return };
        let folder = ModelFolder::open(&path).unwrap();
        let texts: Vec<Vec<u32>> = vec![(0..60).map(|i| 3 + (i * 37) % 150).collect()];
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a.gguf");
        let options = ExportOptions { quantize: "f32".parse().ok() };
        let found = export(&Gguf, &ExportModel::base(&folder), &options, &out, Some(&texts));
        let found = found.unwrap().unwrap();
        assert!(found.difference().abs() < 1e-4, "{name} {found:?}");
        // Beyond Mistral's window of eight tokens, llama.cpp would see what the model does not.
        assert_eq!(found.tokens, if name == "mistral" { 7 } else { 59 });
    }
}

#[test]
fn other_families_are_refused_by_name() {
    for &architecture in crate::model::ARCHITECTURES {
        let case = Case::new(&model(architecture));
        let why = Gguf.refuses(&case.folder, None, &ExportOptions::default());
        if layout::family(&case.folder.config).is_some() {
            assert_eq!(why, None, "{architecture:?}");
        } else {
            let why = why.unwrap();
            assert!(why.contains(architecture.name()) && why.contains("LlamaForCausalLM"), "{why}");
        }
    }
}

#[test]
fn a_file_that_is_cut_or_lies_is_an_error_and_never_a_panic() {
    let case = Case::new(&Synthetic::tiny(&Qwen2));
    case.difference("q4_0");
    let whole = std::fs::read(case.dir.path().join("q4_0.gguf")).unwrap();
    let path = case.dir.path().join("damaged.gguf");
    let model = ExportModel::base(&case.folder);
    let options = ExportOptions { quantize: "q4_0".parse().ok() };
    let passages = [Passage { tokens: vec![1, 2, 3], first: 2 }];
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        panics::catch(|| Gguf.read_back(&model, &options, &path, &passages))
    };
    assert!(read(&whole).is_ok());
    for length in (0..whole.len()).step_by(whole.len() / 20) {
        assert!(read(&whole[..length]).is_err(), "{length} bytes of {}", whole.len());
    }
    // Every byte of the keys, and of the list of tensors; some give another file that can be read.
    let header = whole.len().min(9000);
    for place in (0..header).step_by(23) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0xff;
        let _ = read(&bytes);
        bytes[place] = 0xff;
        let _ = read(&bytes);
    }
}

#[test]
fn a_file_with_other_weights_is_kept_under_another_name() {
    /// A format that writes another model than it should.
    #[derive(Debug)]
    struct Wrong(ModelFolder);

    impl Exporter for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }

        fn about(&self) -> &'static str {
            "wrong"
        }

        fn extension(&self) -> Option<&'static str> {
            Some("gguf")
        }

        fn refuses(&self, _: &ModelFolder, _: Option<&Recipe>, _: &ExportOptions) -> Option<String> {
            None
        }

        fn write(&self, _: &ExportModel<'_>, options: &ExportOptions, out: &PartialExport) -> Result<()> {
            Gguf.write(&ExportModel::base(&self.0), options, out)
        }

        fn read_back(
            &self,
            model: &ExportModel<'_>,
            options: &ExportOptions,
            path: &Path,
            passages: &[Passage],
        ) -> Result<f64> {
            Gguf.read_back(model, options, path, passages)
        }

        fn in_memory(
            &self,
            model: &ExportModel<'_>,
            options: &ExportOptions,
            passages: &[Passage],
        ) -> Result<f64> {
            Gguf.in_memory(model, options, passages)
        }

        fn tolerance(&self, _: &ExportModel<'_>, _: &ExportOptions) -> f64 {
            1e-6
        }
    }

    let case = Case::new(&model(&Qwen2));
    let other = Case::new(&Synthetic { seed: 9, ..model(&Qwen2) });
    let out = case.dir.path().join("out.gguf");
    let texts = [vec![1, 2, 3, 4, 5, 6]];
    let model = ExportModel::base(&case.folder);
    for name in ["out.gguf.unverified", "out.gguf.unverified-2"] {
        let wrong = Wrong(other.folder.clone());
        let error = export(&wrong, &model, &ExportOptions::default(), &out, Some(&texts)).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let message = error.to_string();
        assert!(message.contains(name) && message.contains("perplexity"), "{message}");
        assert!(case.dir.path().join(name).exists() && !out.exists());
    }
    assert_eq!("gguf".parse::<ExportFormat>().unwrap().0.name(), "gguf");
}
