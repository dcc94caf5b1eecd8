use serde_json::json;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Content;

use super::super::registry::ExportFormat;
use super::super::test_cells::{cell, write_codes};
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
fn symmetric_codes_of_four_and_eight_bits_are_written_as_they_are() {
    let families: [&'static dyn Architecture; 2] = [&Llama, &Qwen2];
    let recipes = [
        ("rtn@4bit,sym,group=32", 4, 32, GgmlDType::Q4_0),
        ("wanda@50%+gptq@4bit,sym,group=128", 4, 128, GgmlDType::Q4_0),
        ("rtn@8bit,sym,group=row", 8, usize::MAX, GgmlDType::Q8_0),
    ];
    for architecture in families {
        let case = Case::new(&Synthetic { dtype: DType::BF16, ..model(architecture) });
        let texts = [(0..90).map(|i| (i * 53) % 258).collect()];
        for (recipe, bits, group, kind) in recipes {
            let cell = cell(recipe);
            let checkpoints = case.dir.path().join(&cell.id);
            write_codes(&case.folder, &checkpoints, bits, group, true);
            let model = ExportModel::cell(&case.folder, &checkpoints, &cell);
            let out = case.dir.path().join(format!("{}.gguf", cell.id));
            let found =
                export(&Gguf, &model, &ExportOptions::default(), &out, Some(&texts)).unwrap().unwrap();
            assert!(found.difference().abs() < 1e-9, "{recipe} {found:?}");

            let mut file = std::fs::File::open(&out).unwrap();
            let content = Content::read(&mut file).unwrap();
            let file_type = content.metadata["general.file_type"].to_u32().unwrap();
            assert_eq!(file_type, if bits == 4 { 2 } else { 7 });
            let is = |name: &str, kind| assert_eq!(content.tensor_infos[name].ggml_dtype, kind, "{name}");
            is("token_embd.weight", GgmlDType::F16);
            is("blk.0.attn_q.weight", kind);
            is("blk.0.ffn_down.weight", kind);
            // The last block was left alone.
            is(&format!("blk.{}.attn_q.weight", case.folder.config.blocks - 1), GgmlDType::F16);
            let id = case.folder.config.layout(0).find("self_attn.q_proj").unwrap();
            let wanted = Blocks::new(&model).weight(0, id).unwrap().flatten_all().unwrap();
            let read = content.tensor(&mut file, "blk.0.attn_q.weight", &Device::Cpu).unwrap();
            let (rows, columns) = read.shape().dims2().unwrap();
            let read = read.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap();
            let mut read = read.to_vec1::<f32>().unwrap();
            if families::GgufFamily::of(&case.folder.config).unwrap().name == "llama" {
                read = layout::RowOrder::Halves { heads: rows / 64 }.undo(&read, columns);
            }
            assert_eq!(read, wanted.to_vec1::<f32>().unwrap(), "{recipe}");

            // Types that are asked for are what they were.
            let options = ExportOptions { quantize: "f16".parse().ok() };
            let out = case.dir.path().join(format!("{}.f16.gguf", cell.id));
            assert!(export(&Gguf, &model, &options, &out, Some(&texts)).unwrap().is_some());
            let content = Content::read(&mut std::fs::File::open(&out).unwrap()).unwrap();
            assert_eq!(content.tensor_infos["blk.0.attn_q.weight"].ggml_dtype, GgmlDType::F16);
        }
    }
}

#[test]
fn codes_that_no_type_holds_are_refused_before_anything_is_read() {
    let half = Case::new(&Synthetic { dtype: DType::F16, ..model(&Qwen2) });
    let full = Case::new(&model(&Qwen2));
    for (case, recipe, what) in [
        (&half, "rtn@3bit,sym,group=32", "3 bits"),
        (&half, "gptq@4bit", "zero lies in the middle"),
        (&half, "sparsegpt@2:4+gptq@8bit,group=row", "zero lies in the middle"),
        (&full, "rtn@4bit,sym,group=32", "F32"),
    ] {
        let recipe = recipe.parse().unwrap();
        let why = Gguf.refuses(&case.folder, Some(&recipe), &ExportOptions::default()).unwrap();
        for part in [what, "--quantize f16", "--as compressed-tensors", "sym,group=32"] {
            assert!(why.contains(part), "{part} is not in: {why}");
        }
        let options = ExportOptions { quantize: "f16".parse().ok() };
        assert_eq!(Gguf.refuses(&case.folder, Some(&recipe), &options), None);
    }
    for recipe in ["rtn@4bit,sym,group=64", "gptq@8bit,sym,group=row", "wanda@50%"] {
        let recipe = recipe.parse().unwrap();
        assert_eq!(Gguf.refuses(&half.folder, Some(&recipe), &ExportOptions::default()), None);
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
    let names = [
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "qwen3_yarn",
        "granite",
        "smollm3",
        "olmo2",
        "olmo3",
        "gemma",
        "phi3",
        "phi3_longrope",
        "phi",
        "gpt_neox",
        "gpt_neox_sequential",
        "gpt2",
        "stablelm",
        "stablelm_12b",
        "starcoder2",
        "glm4",
        "mixtral",
        "qwen3_moe",
        "olmoe",
        "qwen2_moe",
    ];
    for name in names {
        let Some(path) = skip::shared(&format!("golden/tiny/{name}")) else { return };
        let folder = ModelFolder::open(&path).unwrap();
        let texts: Vec<Vec<u32>> = vec![(0..60).map(|i| 3 + (i * 37) % 150).collect()];
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a.gguf");
        let options = ExportOptions { quantize: "f32".parse().ok() };
        let found = export(&Gguf, &ExportModel::base(&folder), &options, &out, Some(&texts));
        let found = found.unwrap().unwrap();
        assert!(found.difference().abs() < 1e-4, "{name} {found:?}");
        let tokens = match name {
            // Beyond a window of eight tokens, llama.cpp would see what the model does not.
            "mistral" | "phi3" | "starcoder2" => 7,
            // Longer texts turn in another way, and llama.cpp asks for the length of its context instead.
            "phi3_longrope" | "qwen3_yarn" => 31,
            _ => 59,
        };
        assert_eq!(found.tokens, tokens, "{name}");
    }
}

#[test]
fn other_families_and_settings_are_refused_by_name() {
    for &architecture in crate::model::ARCHITECTURES {
        let case = Case::new(&Synthetic::tiny(architecture));
        let why = Gguf.refuses(&case.folder, None, &ExportOptions::default());
        let name = architecture.name();
        if families::GgufFamily::of(&case.folder.config).is_some() {
            // The examples have whatever a family may have, also what llama.cpp takes for granted.
            let said = match name {
                "Gemma2ForCausalLM" | "Gemma3ForCausalLM" => Some("`query_pre_attn_scalar` is 24"),
                "Olmo3ForCausalLM" => Some("every 4th"),
                "SmolLM3ForCausalLM" => Some("every fourth block"),
                _ => None,
            };
            assert_eq!(why.is_some(), said.is_some(), "{name}: {why:?}");
            assert!(said.is_none_or(|said| why.is_some_and(|why| why.contains(said))), "{name}");
        } else {
            let why = why.unwrap();
            assert!(why.contains(name) && why.contains("LlamaForCausalLM"), "{why}");
        }
    }
}

#[test]
fn blocks_that_would_move_to_another_kind_are_refused_before_they_are_chosen() {
    let said = |class: &str, recipe: Option<&str>, removed: &[usize]| {
        let architecture = crate::model::ARCHITECTURES.iter().find(|known| known.name() == class).unwrap();
        let mut model = Synthetic { blocks: 5, ..Synthetic::tiny(*architecture) };
        for key in ["no_rope_layers", "use_sliding_window", "sliding_window"] {
            model.keys.remove(key);
        }
        let case = Case::new(&model);
        let recipe = recipe.map(|recipe| recipe.parse().unwrap());
        Gguf.refuses(&case.folder.without_blocks(removed), recipe.as_ref(), &ExportOptions::default())
    };
    let smollm3 = |recipe, removed: &[usize]| said("SmolLM3ForCausalLM", recipe, removed);
    assert_eq!(smollm3(None, &[]), None);
    assert_eq!(smollm3(Some("wanda@50%"), &[4]), None, "the first four are as they were");
    assert!(smollm3(None, &[0]).unwrap().contains("every fourth block"));
    assert!(smollm3(Some("depth@20%"), &[]).unwrap().contains("every fourth block"));
    assert_eq!(said("LlamaForCausalLM", Some("depth@20%+wanda@50%"), &[]), None);
}

/// A file that is damaged in many ways, and what is read of it.
struct Damaged<'a> {
    model: ExportModel<'a>,
    whole: Vec<u8>,
    path: std::path::PathBuf,
}

impl Damaged<'_> {
    /// What the reader says of bytes; a panic inside candle is an error that says so.
    fn read(&self, bytes: &[u8]) -> Result<f64, String> {
        std::fs::write(&self.path, bytes).unwrap();
        let passages = [Passage { tokens: vec![1, 2, 3], first: 2 }];
        panics::catch(|| Gguf.read_back(&self.model, &ExportOptions::default(), &self.path, &passages))
    }

    fn read_with(&self, place: usize, new: &[u8]) -> Result<f64, String> {
        let mut bytes = self.whole.clone();
        bytes[place..place + new.len()].copy_from_slice(new);
        self.read(&bytes)
    }
}

/// Exports a small model, or a cell of codes of it, and hands the file over.
fn with_damaged(architecture: &'static dyn Architecture, recipe: Option<&str>, check: &dyn Fn(&Damaged<'_>)) {
    let case = Case::new(&Synthetic { dtype: DType::F16, blocks: 2, ..Synthetic::tiny(architecture) });
    let (cell, checkpoints) = (recipe.map(cell), case.dir.path().join("checkpoints"));
    let model = match &cell {
        Some(cell) => {
            write_codes(&case.folder, &checkpoints, 4, 32, true);
            ExportModel::cell(&case.folder, &checkpoints, cell)
        }
        None => ExportModel::base(&case.folder),
    };
    let out = case.dir.path().join("out.gguf");
    export(&Gguf, &model, &ExportOptions::default(), &out, None).unwrap();
    let damaged =
        Damaged { model, whole: std::fs::read(&out).unwrap(), path: case.dir.path().join("damaged.gguf") };
    assert!(damaged.read(&damaged.whole).is_ok());
    check(&damaged);
}

/// A walk through a file's header, which notes where the numbers stand that say how the rest is to be read.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Place and bytes of each.
    numbers: Vec<(usize, usize)>,
}

impl<'a> Walk<'a> {
    fn through(bytes: &'a [u8]) -> Self {
        let mut walk = Self { bytes, at: 8, numbers: Vec::new() };
        let (tensors, keys) = (walk.number(8, true), walk.number(8, true));
        for _ in 0..keys {
            walk.text(true);
            let kind = walk.number(4, true);
            walk.value(kind, true);
        }
        for _ in 0..tensors {
            walk.text(true);
            let dims = walk.number(4, true);
            for _ in 0..dims {
                walk.number(8, true);
            }
            walk.number(4, true);
            walk.number(8, true);
        }
        walk
    }

    fn number(&mut self, bytes: usize, note: bool) -> u64 {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(&self.bytes[self.at..self.at + bytes]);
        if note {
            self.numbers.push((self.at, bytes));
        }
        self.at += bytes;
        u64::from_le_bytes(wide)
    }

    fn text(&mut self, note: bool) {
        self.at += self.number(8, note) as usize;
    }

    fn value(&mut self, kind: u64, note: bool) {
        match kind {
            7 => self.at += 1,
            8 => self.text(note),
            9 => {
                let (kind, count) = (self.number(4, true), self.number(8, true));
                // The first and the last of thousands.
                (0..count).for_each(|i| self.value(kind, i == 0 || i + 1 == count));
            }
            _ => self.at += 4,
        }
    }
}

const PANICKED: &str = "of a kind that is not known";

#[test]
fn a_file_that_is_cut_anywhere_is_an_error() {
    for (architecture, recipe) in [(&Qwen2 as _, None), (&Llama as _, Some("rtn@4bit,sym,group=32"))] {
        with_damaged(architecture, recipe, &|file| {
            let places: Vec<usize> = Walk::through(&file.whole).numbers.iter().map(|(at, _)| *at).collect();
            let through = (0..file.whole.len()).step_by(file.whole.len() / 20);
            for length in through.chain(places) {
                let why = file.read(&file.whole[..length]).unwrap_err();
                assert!(!why.contains(PANICKED), "{length} bytes: {why}");
            }
        });
    }
}

#[test]
fn lengths_counts_types_and_places_that_lie_are_errors() {
    for (architecture, recipe) in [(&Qwen2 as _, None), (&Llama as _, Some("rtn@4bit,sym,group=32"))] {
        with_damaged(architecture, recipe, &|file| {
            for (place, bytes) in Walk::through(&file.whole).numbers {
                let old = &file.whole[place..place + bytes];
                for lie in [u64::MAX, 1 << 60, 1 << 31, 1 << 16, 77, 1, 0] {
                    let lie = &lie.to_le_bytes()[..bytes];
                    // Another place among the tensors gives another model, and a type may have the same size.
                    let may_be_read = lie == old || lie[3..].iter().all(|byte| *byte == 0);
                    match file.read_with(place, lie) {
                        Ok(_) => assert!(may_be_read, "{lie:?} in place of {old:?} at {place}"),
                        Err(why) => assert!(!why.contains(PANICKED), "{lie:?} at {place}: {why}"),
                    }
                }
            }
        });
    }
}

#[test]
fn numbers_of_keys_that_lie_are_errors_or_other_models() {
    with_damaged(&Llama, None, &|file| {
        let text = |key: &str| {
            let mut found = file.whole.windows(key.len()).enumerate().filter(|(_, w)| *w == key.as_bytes());
            found.next().map_or_else(|| panic!("{key}"), |(place, _)| place + key.len() + 4)
        };
        let keys = [
            ("llama.block_count", true),
            ("llama.embedding_length", true),
            ("llama.attention.head_count", true),
            ("llama.attention.head_count_kv", true),
            ("llama.rope.dimension_count", true),
            ("llama.attention.key_length", true),
            ("llama.context_length", false),
            ("llama.feed_forward_length", false),
            ("llama.rope.freq_base", false),
        ];
        for (key, is_checked) in keys {
            for lie in [0, 1, 3, 1 << 16, 1 << 30, u32::MAX] {
                let found = file.read_with(text(key), &lie.to_le_bytes());
                assert!(found.is_err() || !is_checked, "{key} = {lie}");
                assert!(!found.is_err_and(|why| why.contains(PANICKED)), "{key} = {lie}");
            }
        }
    });
}

#[test]
fn any_byte_of_the_header_may_be_another() {
    with_damaged(&Qwen2, None, &|file| {
        let header = Walk::through(&file.whole).at;
        for place in (0..header).step_by(17) {
            for byte in [file.whole[place] ^ 0xff, 0xff, 0] {
                // Some give another file that can be read.
                let _ = file.read_with(place, &[byte]);
            }
        }
    });
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
