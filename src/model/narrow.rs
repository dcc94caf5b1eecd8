//! A model whose blocks have fewer heads and neurons than those of its files: what is read of the files, and what
//! `config.json` has to say of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value, json};

use super::arch::read_model;
use super::config::ModelConfig;
use super::convert::round_to;
use super::folder::ModelFolder;
use super::json::JsonFile;
use super::layout::{BlockLayout, ModuleDef, ModuleId};
use super::renumber::text_keys;
use super::weights::Weights;
use super::widths::WidthPart;
use crate::error::{Error, Result};

/// The keys that families have the width inside the MLP under.
const NEURONS: [&str; 3] = ["intermediate_size", "n_inner", "ffn_dim"];
/// Those of the number of query heads.
const HEADS: [&str; 2] = ["num_attention_heads", "n_head"];
const KEY_HEADS: &str = "num_key_value_heads";
const HEAD_DIM: &str = "head_dim";
/// Whether all layers of attention, and of the MLP, have biases.
const ATTENTION_BIAS: &str = "attention_bias";
const MLP_BIAS: &str = "mlp_bias";

/// How many units go from every block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct UnitCounts {
    /// Key heads, with the query heads that share them.
    pub groups: usize,
    /// Neurons of the MLP.
    pub neurons: usize,
}

/// What stays of a part of a block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NarrowPart {
    /// The units that stay, in ascending order.
    pub kept: Vec<usize>,
    /// What the units that go give in the mean, which is added to the part's output, `[hidden]`.
    pub mean: Option<Vec<f32>>,
}

/// What stays of a block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NarrowBlock {
    pub attention: NarrowPart,
    pub mlp: NarrowPart,
}

/// What stays of the blocks of a model, by their numbers in the files; the same number of units in each.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Narrowing(pub BTreeMap<usize, NarrowBlock>);

/// The configuration of a narrower model.
#[derive(Debug, Clone)]
pub(crate) struct NarrowConfig {
    pub config: ModelConfig,
    map: Map<String, Value>,
    /// Whether the outputs of attention and of the MLP have biases in it.
    pub biases: [bool; 2],
}

/// The keys that were tried, and what came of it.
type Attempt = std::result::Result<NarrowConfig, String>;

impl NarrowConfig {
    /// Of a model with so many units fewer in every block.
    ///
    /// # Errors
    /// [`Error::Mistake`] where blocks have no such units, or the family's configuration cannot say it.
    pub fn of(folder: &ModelFolder, removed: UnitCounts) -> Result<Self> {
        let class = folder.config.architecture;
        let refused =
            |why: &str| Error::mistake(format!("the blocks of a {class} cannot be made narrower: {why}"));
        for block in 0..folder.config.blocks {
            let widths = folder.config.widths(block);
            for (part, count) in [(&widths.attention, removed.groups), (&widths.mlp, removed.neurons)] {
                match part {
                    Err(why) if count > 0 => return Err(refused(why)),
                    Ok(part) if count >= part.units => {
                        return Err(refused(&format!(
                            "{count} of {} parts of block {block} would go",
                            part.units
                        )));
                    }
                    _ => {}
                }
            }
        }
        let source = folder.configuration()?;
        let mut wrong = String::new();
        // Biases that are not there yet where the family has the key for them, else without.
        let widths = folder.config.widths(0);
        let lacks_bias = |part: &std::result::Result<WidthPart, &str>, count: usize| {
            let output = part.as_ref().ok().filter(|_| count > 0);
            output.is_some_and(|part| !folder.config.layout(0).module(part.output).bias)
        };
        let wanted =
            [lacks_bias(&widths.attention, removed.groups), lacks_bias(&widths.mlp, removed.neurons)];
        for flags in [[true, true], [true, false], [false, true], [false, false]] {
            if flags.iter().zip(wanted).any(|(flag, wanted)| *flag && !wanted) {
                continue;
            }
            for neurons in [None].into_iter().chain(NEURONS.map(Some)) {
                match attempt(folder, &source, removed, flags, neurons) {
                    Ok(found) => return Ok(found),
                    Err(why) => wrong = why,
                }
            }
        }
        Err(refused(&format!("its configuration cannot say so ({wrong})")))
    }

    /// A model of this configuration, with the weights of the source.
    pub fn of_folder(self, source: &ModelFolder) -> ModelFolder {
        ModelFolder { config: self.config, rewritten: Some(Arc::new(self.map)), ..source.clone() }
    }

    /// The parts of a block that are in `narrowing`, each with what stays of it.
    fn parts<'a>(
        widths: &'a [Option<WidthPart>; 2],
        block: &'a NarrowBlock,
    ) -> Vec<(&'a WidthPart, &'a NarrowPart)> {
        let [attention, mlp] = widths;
        let all = [(attention, &block.attention), (mlp, &block.mlp)];
        let narrower = |(part, stays): (&'a Option<WidthPart>, &'a NarrowPart)| {
            part.as_ref().filter(|part| stays.kept.len() < part.units).map(|part| (part, stays))
        };
        all.into_iter().filter_map(narrower).collect()
    }
}

/// Writes what changes into a configuration and reads it again. `flags` are whether attention and MLP get biases,
/// `inserted` is a key for the width of the MLP that the configuration does not have.
fn attempt(
    folder: &ModelFolder,
    source: &Map<String, Value>,
    removed: UnitCounts,
    flags: [bool; 2],
    inserted: Option<&str>,
) -> Attempt {
    let config = &folder.config;
    let mut map = source.clone();
    let keys = text_keys(&mut map, config).ok_or("it has no text part")?;
    let widths = config.widths(0);
    if let Some(mlp) = widths.mlp.iter().find(|_| removed.neurons > 0) {
        let after = json!(mlp.units - removed.neurons);
        for key in NEURONS {
            if keys.get(key).and_then(Value::as_u64) == Some(mlp.units as u64) {
                keys.insert(key.to_owned(), after.clone());
            }
        }
        if let Some(key) = inserted {
            keys.insert(key.to_owned(), after);
        }
    }
    if removed.groups > 0 {
        let heads = config.attention(0);
        let left = heads.key - removed.groups;
        for key in HEADS.iter().filter(|key| source_has(source, config, key)) {
            keys.insert((*key).to_owned(), json!(heads.query / heads.key * left));
        }
        if keys.contains_key(KEY_HEADS) || heads.key != heads.query {
            keys.insert(KEY_HEADS.to_owned(), json!(left));
        }
        keys.insert(HEAD_DIM.to_owned(), json!(heads.dim));
    }
    for (key, flag) in [ATTENTION_BIAS, MLP_BIAS].into_iter().zip(flags) {
        if flag {
            keys.insert(key.to_owned(), json!(true));
        }
    }
    let path = folder.root.join("config.json");
    let file = JsonFile { path: &path, prefix: String::new(), map };
    let read = read_model(&file).map_err(|error| error.to_string())?;
    let biases = check(folder, &read, removed, flags)?;
    // What the files decided beside the configuration stays decided.
    let config = ModelConfig { plans: read.plans, ..config.clone() };
    Ok(NarrowConfig { config, map: file.map, biases })
}

fn source_has(source: &Map<String, Value>, config: &ModelConfig, key: &str) -> bool {
    let mut map = source.clone();
    text_keys(&mut map, config).is_some_and(|keys| keys.contains_key(key))
}

/// Compares the blocks of a configuration that was read with what they have to be; returns whether the outputs of attention
/// and of the MLP have biases.
fn check(
    folder: &ModelFolder,
    read: &ModelConfig,
    removed: UnitCounts,
    flags: [bool; 2],
) -> std::result::Result<[bool; 2], String> {
    let config = &folder.config;
    if read.blocks != config.blocks || read.ropes != config.ropes {
        return Err("it has other blocks or rotary embeddings".into());
    }
    let mut biases = [true, true];
    for block in 0..config.blocks {
        let wrong = |what: &str| format!("{what} of block {block} would be another");
        let heads = config.attention(block);
        let mut expected = heads;
        expected.key -= removed.groups.min(heads.key);
        expected.query = heads.query / heads.key.max(1) * expected.key;
        if read.attention(block) != expected {
            return Err(wrong("attention"));
        }
        let (before, after) = (config.layout(block), read.layout(block));
        if !before.other_tensors().eq(after.other_tensors())
            || before.modules().count() != after.modules().count()
        {
            return Err(wrong("a tensor"));
        }
        let widths = config.widths(block);
        let parts = [(&widths.attention, removed.groups), (&widths.mlp, removed.neurons)];
        for ((part, bias), flag) in parts.iter().zip(&mut biases).zip(flags) {
            let output = part.0.as_ref().ok().map(|part| after.module(part.output));
            *bias &= output.is_some_and(|module| module.bias);
            if flag && !*bias {
                return Err("the family has no such biases".into());
            }
        }
        for ((id, before), (_, after)) in before.modules().zip(after.modules()) {
            let gains = after.bias && !before.bias;
            let same = ModuleDef {
                shape: narrowed_shape(config.layout(block), id, &parts),
                bias: after.bias,
                ..before.clone()
            };
            if *after != same || (before.bias && !after.bias) || (gains && flags == [false, false]) {
                return Err(wrong(&before.name));
            }
        }
    }
    Ok(biases)
}

/// The shape of a module with fewer units in the parts that it belongs to.
fn narrowed_shape(
    layout: &BlockLayout,
    id: ModuleId,
    parts: &[(&std::result::Result<WidthPart, &'static str>, usize)],
) -> (usize, usize) {
    let (mut rows, mut columns) = layout.module(id).shape;
    for (part, removed) in parts {
        let Ok(part) = part else { continue };
        let made = part.rows.iter().filter(|rows| rows.module == id).map(|rows| rows.length).sum::<usize>();
        rows -= made * removed;
        columns -= if part.output == id { part.features * removed } else { 0 };
    }
    (rows, columns)
}

/// The model of a folder of which less is read.
///
/// # Errors
/// [`Error::Mistake`] as [`NarrowConfig::of`]; tensors that cannot be read.
pub(crate) fn narrowed(folder: &ModelFolder, narrowing: &Narrowing) -> Result<ModelFolder> {
    let Some((first, stays)) = narrowing.0.first_key_value() else { return Ok(folder.clone()) };
    let widths = folder.config.widths(*first);
    let removed =
        |part: Option<WidthPart>, stays: &NarrowPart| part.map_or(0, |part| part.units - stays.kept.len());
    let removed = UnitCounts {
        groups: removed(widths.attention.ok(), &stays.attention),
        neurons: removed(widths.mlp.ok(), &stays.mlp),
    };
    let NarrowConfig { config, map, .. } = NarrowConfig::of(folder, removed)?;
    let mut weights = folder.weights.clone();
    for (number, stays) in &narrowing.0 {
        let layout = folder.config.layout(*number);
        let widths = folder.config.widths(*number);
        let widths = [widths.attention.ok(), widths.mlp.ok()];
        for (part, stays) in NarrowConfig::parts(&widths, stays) {
            for (id, rows) in part.kept_rows(layout, &stays.kept) {
                cut_rows(&mut weights, layout.module(id), rows)?;
            }
            let (output, columns) = (layout.module(part.output), part.kept_columns(&stays.kept));
            let turned = output.turned;
            let (rows, columns) = if turned { (Some(columns), None) } else { (None, Some(columns)) };
            weights.cut(&output.weight(), rows, columns)?;
        }
        for (id, module) in config.layout(*number).modules() {
            let mean = NarrowConfig::parts(&widths, stays).into_iter().find(|(part, _)| part.output == id);
            let mean = mean.and_then(|(_, stays)| stays.mean.as_deref());
            put_bias(&mut weights, layout.module(id), module, mean)?;
        }
    }
    Ok(ModelFolder { config, weights, rewritten: Some(Arc::new(map)), ..folder.clone() })
}

/// Leaves rows out of a module's weight, and elements out of its bias.
fn cut_rows(weights: &mut Weights, module: &ModuleDef, rows: Vec<usize>) -> Result<()> {
    if let Some(bias) = module.bias() {
        weights.cut(&bias, Some(rows.clone()), None)?;
    }
    let (rows, columns) = if module.turned { (None, Some(rows)) } else { (Some(rows), None) };
    weights.cut(&module.weight(), rows, columns)
}

/// Gives a module the bias that it has in the narrower model: that of the files and `mean`, rounded to the precision of the
/// files.
fn put_bias(
    weights: &mut Weights,
    before: &ModuleDef,
    after: &ModuleDef,
    mean: Option<&[f32]>,
) -> Result<()> {
    let Some(name) = after.bias() else { return Ok(()) };
    let (weight, own) = (after.weight(), before.bias());
    let (dtype, mut values) = match &own {
        Some(own) => {
            let values = weights.tensor(own, DType::F32, &Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            (weights.required(own)?.dtype, values)
        }
        None => (weights.required(&weight)?.dtype, vec![0.0; after.shape.0]),
    };
    if own.is_some() && mean.is_none() {
        return Ok(());
    }
    for (value, mean) in values.iter_mut().zip(mean.into_iter().flatten()) {
        *value += mean;
    }
    let shape = [values.len()];
    let rounded: Tensor = round_to(&mut values, &shape, dtype)?;
    if own.is_none() {
        // In files whose names lack the decoder's own, that of the bias does too.
        let stored = weights.stored_name(&weight).to_owned();
        let stored = format!("{}bias", stored.strip_suffix("weight").unwrap_or(&stored));
        if stored != name {
            weights.alias(name, stored.clone());
        }
        return weights.put(&stored, &weight, &rounded);
    }
    weights.put(&name, &weight, &rounded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "exact values are meant")]

    use super::*;
    use crate::model::{ARCHITECTURES, Block, Synthetic};

    fn opened(model: &Synthetic) -> (tempfile::TempDir, ModelFolder) {
        let dir = tempfile::tempdir().unwrap();
        model.write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        (dir, folder)
    }

    /// Leaves out the first key head and the neurons of odd numbers below 20.
    fn choice(folder: &ModelFolder, groups: usize, mean: Option<f32>) -> Narrowing {
        let hidden = folder.config.hidden_size;
        let block = |block: usize| {
            let widths = folder.config.widths(block);
            let units =
                |part: &std::result::Result<WidthPart, &str>| part.as_ref().map_or(0, |part| part.units);
            let neurons = (0..units(&widths.mlp)).filter(|n| *n > 20 || n.is_multiple_of(2));
            let mean = mean.map(|mean| vec![mean; hidden]);
            let attention = (groups..units(&widths.attention)).collect();
            let of_heads = mean.clone().filter(|_| groups > 0);
            NarrowBlock {
                attention: NarrowPart { kept: attention, mean: of_heads },
                mlp: NarrowPart { kept: neurons.collect(), mean },
            }
        };
        Narrowing((0..folder.config.blocks).map(|number| (number, block(number))).collect())
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_architecture_of_one_mlp_gets_fewer_neurons_and_heads_where_these_are_its_own() {
        let (mut narrower, mut with_heads) = (0, 0);
        for &architecture in ARCHITECTURES {
            let (_dir, folder) = opened(&Synthetic::tiny(architecture));
            let widths = folder.config.widths(0);
            if widths.mlp.is_err() {
                let error = NarrowConfig::of(&folder, UnitCounts { groups: 0, neurons: 1 }).unwrap_err();
                assert!(error.exit_code() == 2, "{architecture:?}: {error}");
                continue;
            }
            narrower += 1;
            for groups in 0..=usize::from(widths.attention.is_ok()) {
                with_heads += groups;
                let narrow = narrowed(&folder, &choice(&folder, groups, None)).unwrap();
                assert!(narrow.parameters() < folder.parameters(), "{architecture:?}");
                for (name, shape) in narrow.config.tensors() {
                    assert_eq!(
                        narrow.weights.required(&name).unwrap().shape,
                        shape,
                        "{architecture:?} {name}"
                    );
                }
                Block::load(&narrow, 0, DType::F32, &Device::Cpu).unwrap();
            }
        }
        assert!(narrower >= 20 && with_heads >= 10, "{narrower} {with_heads}");
    }

    #[test]
    fn what_stays_are_the_rows_and_columns_of_the_files_and_the_mean_is_a_bias() {
        let (_dir, folder) = opened(&Synthetic { dtype: DType::F32, ..Synthetic::default() });
        let chosen = choice(&folder, 1, Some(0.25));
        let narrow = narrowed(&folder, &chosen).unwrap();
        let (before, after) = (folder.config.layout(1), narrow.config.layout(1));
        let matrix = |folder: &ModelFolder, layout: &BlockLayout, name: &str| {
            let module = layout.module(layout.find(name).unwrap()).clone();
            (module.shape, values(&folder.matrix(&module, DType::F32, &Device::Cpu).unwrap()))
        };
        let ((rows, columns), whole) = matrix(&folder, before, "mlp.down_proj");
        let (shape, cut) = matrix(&narrow, after, "mlp.down_proj");
        let kept = &chosen.0[&1].mlp.kept;
        assert_eq!(shape, (rows, kept.len()));
        for row in 0..rows {
            let expected: Vec<f32> = kept.iter().map(|column| whole[row * columns + column]).collect();
            assert_eq!(cut[row * kept.len()..][..kept.len()], expected);
        }
        let ((rows, columns), whole) = matrix(&folder, before, "self_attn.q_proj");
        let (shape, cut) = matrix(&narrow, after, "self_attn.q_proj");
        // The first of two key heads takes half of the query heads with it.
        assert_eq!((shape, &cut[..]), ((rows / 2, columns), &whole[rows / 2 * columns..]));
        for (_, module) in after.modules() {
            let bias = narrow.weights.tensor(&module.bias().unwrap(), DType::F32, &Device::Cpu).unwrap();
            let is_output = ["o_proj", "down_proj"].contains(&module.short_name());
            assert!(
                values(&bias).iter().all(|v| *v == if is_output { 0.25 } else { 0.0 }),
                "{}",
                module.name
            );
        }
    }

    #[test]
    fn a_bias_that_is_there_grows_and_heads_that_cannot_go_are_refused_with_the_reason() {
        let opt = ARCHITECTURES.iter().find(|a| a.model_type() == "opt").unwrap();
        let (_dir, folder) = opened(&Synthetic::tiny(*opt));
        let narrow = narrowed(&folder, &choice(&folder, 0, Some(0.5))).unwrap();
        let layout = folder.config.layout(0);
        let name = layout.module(layout.find("fc2").unwrap()).bias().unwrap();
        let read =
            |folder: &ModelFolder| values(&folder.weights.tensor(&name, DType::F32, &Device::Cpu).unwrap());
        let off = read(&folder).into_iter().zip(read(&narrow)).map(|(before, after)| after - before - 0.5);
        assert!(off.into_iter().all(|off| off.abs() < 1e-6));
        let error = NarrowConfig::of(&folder, UnitCounts { groups: 1, neurons: 0 }).unwrap_err();
        assert!(error.to_string().contains("as wide as the hidden size over"), "{error}");
    }
}
