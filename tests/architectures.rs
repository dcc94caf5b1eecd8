//! Every architecture: compared with what transformers makes of small models, and through everything that a user can do
//! with a model.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use common::{Place, Synthetic};
use secateur::Result;
use secateur::engine::RunOptions;
use secateur::model::{
    ARCHITECTURES, ActivationObserver, Activations, Batch, Block, Generator, InputSite, LmHead, ModelFolder,
    RopeTables, head,
};
use secateur::scores::{JS_DIVERGENCE, PERPLEXITY, records};
use serde_json::Value;

/// Folders of known architectures that need something else which is not known yet, and the word that the refusal names.
const REFUSED: [(&str, &str); 4] = [
    ("llama_dynamic", "dynamic"),
    ("llama_yarn", "yarn"),
    ("qwen3_rope_parameters", "yarn"),
    ("qwen3_yarn", "yarn"),
];

/// What transformers made of a model.
struct Golden {
    folder: PathBuf,
    told: Value,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        let told = std::fs::read_to_string(folder.join("golden.json")).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        let tensors =
            candle_core::safetensors::load(folder.join("golden.safetensors"), &Device::Cpu).unwrap();
        Self { folder: folder.to_path_buf(), told, tensors }
    }

    fn tokens(&self, pointer: &str) -> Vec<u32> {
        let list = self.told.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}")).as_array().unwrap();
        list.iter().map(|id| id.as_u64().unwrap() as u32).collect()
    }

    fn tolerance(&self, of: &str) -> f32 {
        self.told["tolerance"][of].as_f64().unwrap() as f32
    }

    /// Compares a matrix with a golden one.
    fn check(&self, name: &str, got: &Tensor, of: &str) {
        let got = got.to_device(&Device::Cpu).unwrap();
        let apart = (got - &self.tensors[name]).unwrap().abs().unwrap();
        let apart = apart.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        let tolerance = self.tolerance(of);
        assert!(apart <= tolerance, "{}, {name}: {apart} apart, {tolerance} accepted", self.folder.display());
    }
}

/// Sees every input of a block, and keeps it.
#[derive(Default)]
struct Keeper(BTreeMap<InputSite, Tensor>);

impl ActivationObserver for Keeper {
    fn input(&mut self, site: InputSite, x: &Activations) -> Result<()> {
        let x = match x {
            Activations::Host { data, width } => Tensor::from_slice(data, ((), *width), &Device::Cpu)?,
            Activations::Device(x) => x.to_device(&Device::Cpu)?,
        };
        assert!(self.0.insert(site, x).is_none(), "an input was shown twice");
        Ok(())
    }
}

/// A model with all its blocks in `f32`.
struct Loaded {
    folder: ModelFolder,
    blocks: Vec<Block>,
    head: LmHead,
    device: Device,
}

impl Loaded {
    fn open(path: &Path) -> Result<Self> {
        let (mut folder, device) = (ModelFolder::open(path)?, common::device());
        // The golden answers go on behind them.
        folder.config.eos.clear();
        let load = |i| Block::load(&folder, i, DType::F32, &device);
        let blocks = (0..folder.config.blocks).map(load).collect::<Result<_>>()?;
        let head = LmHead::load(&folder, DType::F32, &device)?;
        Ok(Self { folder, blocks, head, device })
    }

    /// The states after every block, the embedding's first.
    fn states(&self, tokens: &[u32]) -> (Vec<Tensor>, Batch, RopeTables) {
        let (batch, ropes) = (Batch::windows(1, tokens.len()), self.folder.config.rope_tables(tokens.len()));
        let mut states = vec![head::embed(&self.folder, tokens, DType::F32, &self.device).unwrap()];
        for block in &self.blocks {
            states.push(block.forward(states.last().unwrap(), &batch, &ropes, None).unwrap());
        }
        (states, batch, ropes)
    }
}

fn check_states_and_logits(model: &Loaded, golden: &Golden) {
    let (states, ..) = model.states(&golden.tokens("/sequences/a/tokens"));
    golden.check("a.embedding", &states[0], "hidden_states");
    for (block, x) in states[1..].iter().enumerate() {
        golden.check(&format!("a.block.{block}"), x, "hidden_states");
    }
    golden.check("a.logits", &model.head.logits(states.last().unwrap()).unwrap(), "logits");
    let (states, ..) = model.states(&golden.tokens("/sequences/b/tokens"));
    let logits = model.head.logits(states.last().unwrap()).unwrap();
    let rows = golden.tensors["b.logits"].dim(0).unwrap();
    let last = logits.narrow(0, logits.dim(0).unwrap() - rows, rows).unwrap();
    golden.check("b.logits", &last, "logits");
}

/// Inputs of all modules, and what attention and MLP make of theirs where that is golden.
fn check_inputs_and_parts(model: &Loaded, golden: &Golden) {
    let (states, batch, ropes) = model.states(&golden.tokens("/sequences/a/tokens"));
    let mut compared = 0;
    for (index, (block, x)) in model.blocks.iter().zip(&states).enumerate() {
        let sites: Vec<InputSite> = block.layout().sites().map(|(site, _)| site).collect();
        let mut keeper = Keeper::default();
        block.observe(x, &batch, &ropes, &sites, &mut keeper).unwrap();
        for (id, module) in block.layout().modules() {
            let input = &keeper.0[&module.site];
            let sums = input.sqr().unwrap().sum(0).unwrap().to_vec1::<f32>().unwrap();
            let want = golden.tensors[&format!("a.inputs.{}", module.full_name)].to_vec1::<f32>().unwrap();
            let largest = want.iter().fold(0f32, |a, b| a.max(*b));
            for (got, want) in sums.iter().zip(want) {
                assert!((got - want).abs() <= 1e-4 * largest, "{}: {got}, golden {want}", module.full_name);
            }
            compared += 1;
            let part = match module.short_name() {
                "o_proj" => format!("a.block.{index}.attention"),
                "down_proj" => format!("a.block.{index}.mlp"),
                _ => continue,
            };
            if golden.tensors.contains_key(&part) {
                let linear = block.module(id);
                let input = input.to_device(&model.device).unwrap();
                let mut y = input.matmul(&linear.weight.t().unwrap()).unwrap();
                if let Some(bias) = &linear.bias {
                    y = y.broadcast_add(bias).unwrap();
                }
                golden.check(&part, &y, "hidden_states");
            }
        }
    }
    let all = golden.tensors.keys().filter(|name| name.starts_with("a.inputs.")).count();
    assert_eq!(compared, all, "{}: inputs of every linear layer", golden.folder.display());
}

fn check_answers(model: &Loaded, golden: &Golden) {
    let prompt = golden.tokens("/generation/prompt");
    let generated = golden.tokens("/generation/generated");
    let Loaded { folder, blocks, head, device } = model;
    // Fewer rows at a time than the prompt has.
    let generator = Generator::new(
        std::borrow::Cow::Borrowed(folder),
        blocks.clone(),
        head.clone(),
        DType::F32,
        device,
        7,
    );
    let answers =
        generator.answer(&[prompt], std::slice::from_ref(&generated.len()), &mut |_| Ok(()), &mut || Ok(()));
    let answer = answers.unwrap().remove(0);
    assert_eq!(answer.tokens, generated, "{}", golden.folder.display());
    let states = answer.states.unwrap().to_device(device).unwrap();
    golden.check("generated.logits", &head.logits(&states).unwrap(), "logits");
}

#[test]
fn small_models_give_what_transformers_makes_of_them() {
    let Some(root) = common::skip::shared("golden/tiny") else {
        return;
    };
    let mut agreed = BTreeSet::new();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    for folder in folders.iter().filter(|folder| folder.join("golden.safetensors").exists()) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        let class = config["architectures"][0].as_str().unwrap();
        let known = ARCHITECTURES.iter().any(|architecture| architecture.name() == class);
        let refused = REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, word)| *word);
        if let Some(word) = refused.or((!known).then_some(class)) {
            let error = ModelFolder::open(folder).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            assert!(error.to_string().contains(word), "{name}: {error}");
            continue;
        }
        let (model, golden) = (Loaded::open(folder).unwrap(), Golden::read(folder));
        check_states_and_logits(&model, &golden);
        check_inputs_and_parts(&model, &golden);
        check_answers(&model, &golden);
        agreed.insert(class.to_owned());
    }
    for architecture in ARCHITECTURES {
        assert!(agreed.contains(architecture.name()), "{architecture:?} was compared with nothing");
    }
}

#[test]
fn a_model_of_every_architecture_is_pruned_measured_exported_and_opened_again() {
    for architecture in ARCHITECTURES {
        let place = Place::new(&Synthetic { dtype: DType::BF16, ..Synthetic::tiny(*architecture) });
        let cells =
            vec![place.cell("magnitude", "0.5"), place.cell("wanda", "2:4"), place.cell("sparsegpt", "0.5")];
        let mut spec = place.spec(cells);
        spec.evaluation.tasks = vec![place.path("tasks.jsonl").display().to_string()];
        spec.evaluation.task_limit = Some(2);
        let saved = place.path("saved");
        let options = RunOptions { save_models: Some(saved.clone()), ..RunOptions::default() };
        let (result, _) = common::run(&place.path("studies.db"), spec.clone(), options);
        let names = ModelFolder::open(&place.path("model")).unwrap().config.module_names();
        for cell in &result.cells {
            assert_eq!(cell.modules.len(), result.model.blocks * names.len(), "{architecture:?}");
            let exported = ModelFolder::open(&saved.join(&cell.id)).unwrap();
            for module in &cell.modules {
                assert!(names.iter().any(|name| name == module.path()), "{}", module.name);
                let weight =
                    exported.weights.tensor(&format!("{}.weight", module.name), DType::F32, &Device::Cpu);
                let weight = weight.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let zeros = weight.iter().filter(|w| **w == 0.0).count();
                let counted = (module.footprint.zeros as usize, module.footprint.weights as usize);
                assert_eq!((zeros, weight.len()), counted, "{}", module.name);
            }
            let perplexity = cell.metrics.first(&PERPLEXITY);
            assert!(cell.metrics.first(&JS_DIVERGENCE).unwrap().value > 1e-4, "{architecture:?}");
            assert_eq!(records(&cell.metrics), 2);
            // What is exported is what was measured.
            let mut again = spec.clone();
            again.model = saved.join(&cell.id).display().to_string();
            again.cells.clear();
            let (again, _) = common::run(&place.path("again.db"), again, RunOptions::default());
            assert_eq!(again.base.metrics.first(&PERPLEXITY), perplexity, "{architecture:?} {}", cell.id);
        }
    }
}
