//! A model of which blocks or experts are left out, as files that any program reads: what stays gets new numbers, and so do
//! the names of its tensors and whatever `config.json` says of single blocks and of the number of experts.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::arch::read_model;
use super::config::ModelConfig;
use super::folder::ModelFolder;
use super::json::JsonFile;
use super::layout::{BlockLayout, ModuleDef};
use crate::error::{Error, Result};

/// The configuration of the text model inside another one.
const TEXT: &str = "text_config";

/// The keys that families have the number of blocks under.
const COUNTS: [&str; 4] = ["num_hidden_layers", "n_layer", "num_layers", "n_layers"];

/// The keys that families have the number of experts under.
const EXPERTS: [&str; 2] = ["num_experts", "num_local_experts"];

/// The kinds of blocks as a list with an entry for each.
const TYPES: &str = "layer_types";

/// New names of tensors.
#[derive(Debug, Clone)]
pub(crate) struct TensorNames {
    /// What stands in front of a block's number in the files' names; `None` where nothing is left out.
    prefix: Option<String>,
    /// The new number of every block of the files, where it stays.
    numbers: Vec<Option<usize>>,
    experts: ExpertNames,
}

/// What becomes of tensors of experts, where some of these are left out, by the names that the files have.
#[derive(Debug, Clone, Default)]
struct ExpertNames {
    /// The names with the new number of the expert; `None` where it is left out.
    new: HashMap<String, Option<String>>,
    /// The entries that stay of tensors with one for every expert.
    entries: HashMap<String, Vec<usize>>,
}

impl ExpertNames {
    fn of(folder: &ModelFolder) -> Result<Self> {
        let mut names = Self::default();
        let cut = folder.config.layouts().filter(|layout| !layout.removed_experts().is_empty());
        for layout in cut {
            names.add(folder, layout)?;
        }
        Ok(names)
    }

    fn add(&mut self, folder: &ModelFolder, layout: &BlockLayout) -> Result<()> {
        let stored = |name: &str| folder.weights.stored_name(name).to_owned();
        let kept = layout.kept_experts();
        self.entries.extend(layout.cut_tensors().iter().map(|name| (stored(name), kept.clone())));
        for (_, module) in layout.modules_in_files() {
            let Some(expert) = module.expert else { continue };
            let number = kept.iter().position(|kept| *kept == expert.index);
            let renamed = number.map(|number| renamed(module, expert.index, number)).transpose()?;
            for name in [Some(module.weight()), module.bias()].into_iter().flatten() {
                let old = stored(&name);
                let new = renamed.as_ref().map(|path| {
                    // The model may lie below another name in the files, or not below the one that it has here.
                    let end = format!("{path}{}", &name[module.full_name.len()..]);
                    let before = name.len() - module.full_name.len() + module.name.len();
                    format!("{}{end}", &old[..old.len() - before])
                });
                self.new.insert(old, new);
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.entries.is_empty()
    }
}

/// The path of an expert's module within its block with another number of the expert.
fn renamed(module: &ModuleDef, before: usize, after: usize) -> Result<String> {
    let unknown = || {
        Error::failure(format!("the name of `{}` does not say which expert it belongs to", module.full_name))
    };
    let prefix = prefix(&module.name, before).ok_or_else(unknown)?;
    let rest = &module.name[prefix.len() + before.to_string().len()..];
    Ok(format!("{prefix}{after}{rest}"))
}

impl TensorNames {
    /// Of a model, some blocks of which may be left out.
    ///
    /// # Errors
    /// [`Error::Failure`] where names do not show which block they belong to.
    pub fn of(folder: &ModelFolder) -> Result<Self> {
        let config = &folder.config;
        let experts = ExpertNames::of(folder)?;
        let mut numbers = vec![None; config.blocks_in_files()];
        for block in 0..config.blocks {
            numbers[config.number_in_files(block)] = Some(block);
        }
        if numbers.iter().all(Option::is_some) {
            return Ok(Self { prefix: None, numbers, experts });
        }
        let number = config.number_in_files(0);
        let names = config.layout(0).tensors();
        let first = names.first().map(|(name, _)| folder.weights.stored_name(name));
        let prefix = first.and_then(|name| prefix(name, number));
        let unknown =
            || Error::failure("the names of the model's tensors do not say which block they belong to");
        Ok(Self { prefix: Some(prefix.ok_or_else(unknown)?), numbers, experts })
    }

    /// The new name of a tensor of the files; `None` where its block or its expert is left out.
    pub fn new_name<'a>(&'a self, name: &'a str) -> Option<Cow<'a, str>> {
        match self.experts.new.get(name) {
            None => self.with_new_block(name),
            Some(new) => self.with_new_block(new.as_deref()?),
        }
    }

    /// The entries of a tensor of the files that stay, where it has one for every expert and some are left out.
    pub fn kept_entries(&self, name: &str) -> Option<&[usize]> {
        self.experts.entries.get(name).map(Vec::as_slice)
    }

    fn with_new_block<'a>(&self, name: &'a str) -> Option<Cow<'a, str>> {
        let Some(prefix) = &self.prefix else { return Some(Cow::Borrowed(name)) };
        let Some((number, rest)) = name.strip_prefix(prefix.as_str()).and_then(|rest| rest.split_once('.'))
        else {
            return Some(Cow::Borrowed(name));
        };
        match number.parse::<usize>().ok().and_then(|number| self.numbers.get(number)) {
            None => Some(Cow::Borrowed(name)),
            Some(new) => new.map(|new| Cow::Owned(format!("{prefix}{new}.{rest}"))),
        }
    }

    /// Whether all names stay.
    pub fn are_the_same(&self) -> bool {
        self.prefix.is_none() && self.experts.is_empty()
    }
}

/// What stands in front of a block's number, a part of the name by itself: `model.layers.`.
fn prefix(name: &str, number: usize) -> Option<String> {
    let number = number.to_string();
    let mut at = 0;
    for part in name.split('.') {
        if part == number {
            return Some(name[..at].to_owned());
        }
        at += part.len() + 1;
    }
    None
}

/// The `config.json` of a model, some blocks or experts of which are left out. What it says is read again: every block has
/// to be what it was.
///
/// # Errors
/// [`Error::Mistake`] where a configuration of this family cannot say what a block is that has another number now.
pub(crate) fn config_of(folder: &ModelFolder) -> Result<Map<String, Value>> {
    let path = folder.root.join("config.json");
    let source = folder.configuration()?;
    let names = TensorNames::of(folder)?;
    if names.are_the_same() {
        return Ok(source);
    }
    if !names.experts.is_empty() && names.prefix.is_some() {
        // What blocks are without some others is compared with all their experts.
        let config = folder.config.with_all_experts();
        config_of(&ModelFolder { config, ..folder.clone() })?;
    }
    let mut wrong = String::new();
    for with_types in [false, true] {
        let mut map = source.clone();
        let Some(keys) = text_keys(&mut map, &folder.config) else { continue };
        rewrite(keys, &folder.config);
        if with_types {
            keys.insert(TYPES.to_owned(), types(&folder.config));
        }
        let file = JsonFile { path: &path, prefix: String::new(), map };
        match read_model(&file).map(|read| difference(folder, &names, &read)) {
            Ok(None) => return Ok(file.map),
            Ok(Some(found)) => wrong = found,
            Err(error) => wrong = error.to_string(),
        }
    }
    Err(Error::mistake(format!(
        "the configuration of a {} cannot say what its blocks are when some{} are left out: {wrong}",
        folder.config.architecture,
        if names.experts.is_empty() { "" } else { " of them or of its experts" }
    )))
}

/// The keys that a configuration has of the model's text part.
pub(super) fn text_keys<'a>(
    map: &'a mut Map<String, Value>,
    config: &ModelConfig,
) -> Option<&'a mut Map<String, Value>> {
    if config.inside.is_some() { map.get_mut(TEXT).and_then(Value::as_object_mut) } else { Some(map) }
}

/// Why the files of a model cannot do without the blocks that are left out, or without any one where none is yet; `None` is
/// nothing.
pub(crate) fn refuses(folder: &ModelFolder) -> Option<String> {
    if let Some(why) = folder.config.needs_all_blocks {
        return Some(why.to_owned());
    }
    let blocks = folder.config.blocks;
    if blocks < folder.config.blocks_in_files() {
        return config_of(folder).err().map(|error| error.to_string());
    }
    let with_fewer = |removed: usize| config_of(&folder.without_blocks(&[removed])).err();
    (0..blocks).filter(|_| blocks > 1).find_map(with_fewer).map(|error| error.to_string())
}

/// Why the files of a model cannot do without some experts of every block; `None` is nothing.
pub(crate) fn refuses_experts(folder: &ModelFolder) -> Option<String> {
    let (experts, chosen) = folder.config.experts()?;
    if experts <= chosen || folder.config.layouts().any(|layout| !layout.removed_experts().is_empty()) {
        return config_of(folder).err().map(|error| error.to_string());
    }
    let removed = vec![vec![0]; folder.config.blocks_in_files()];
    let fewer = ModelFolder { config: folder.config.without_experts(&removed), ..folder.clone() };
    config_of(&fewer).err().map(|error| error.to_string())
}

/// Writes the number of blocks and of experts, and leaves out what lists say of blocks that are gone.
fn rewrite(keys: &mut Map<String, Value>, config: &ModelConfig) {
    let before = config.blocks_in_files();
    if let (Some((experts, _)), Some(layout)) = (config.experts(), config.layouts().next())
        && !layout.removed_experts().is_empty()
    {
        let all = experts + layout.removed_experts().len();
        let known: Vec<&str> = EXPERTS.into_iter().filter(|key| keys.contains_key(*key)).collect();
        // A count that is not said is that of the class.
        for key in if known.is_empty() { EXPERTS.to_vec() } else { known } {
            let is_count = keys.get(key).is_none_or(|count| count.as_u64() == Some(all as u64));
            if is_count {
                keys.insert(key.to_owned(), json!(experts));
            }
        }
    }
    for (key, value) in keys {
        match value {
            Value::Number(count)
                if COUNTS.contains(&key.as_str()) && count.as_u64() == Some(before as u64) =>
            {
                *value = json!(config.blocks);
            }
            Value::Array(list) if key.contains("layer") && list.len() == before => {
                let kept = (0..config.blocks).map(|block| list[config.number_in_files(block)].clone());
                *value = kept.collect();
            }
            _ => {}
        }
    }
}

/// The kinds of the blocks that stay.
fn types(config: &ModelConfig) -> Value {
    (0..config.blocks).map(|block| json!(config.plans.at(block).decoder.kind())).collect()
}

/// What a configuration that was read again says otherwise of a block; `None` is nothing.
fn difference(folder: &ModelFolder, names: &TensorNames, read: &ModelConfig) -> Option<String> {
    let config = &folder.config;
    if read.blocks != config.blocks {
        return Some(format!("it has {} blocks, and {} are left", read.blocks, config.blocks));
    }
    if read.experts() != config.experts() {
        return Some("it would have another number of experts".to_owned());
    }
    let differs = |block: &usize| {
        let renamed = config.layout(*block).tensors().into_iter().map(|(name, shape)| {
            let stored = folder.weights.stored_name(&name);
            // A name that the files do not have is another word for one that they have.
            let bare = name.len() - stored.len().min(name.len());
            let new = names.new_name(stored).map(|new| format!("{}{new}", &name[..bare]));
            (new.unwrap_or_default(), shape)
        });
        // How a block computes is what it prints of itself: numbers of its tensors, shapes and settings. Without some of its
        // experts these are other numbers.
        let print = |config: &ModelConfig| format!("{:?}", config.plans.at(*block).decoder);
        let is_cut = !config.layout(*block).removed_experts().is_empty();
        !renamed.eq(read.layout(*block).tensors())
            || config.attention(*block) != read.attention(*block)
            || (!is_cut && print(config) != print(read))
    };
    let block = (0..config.blocks).find(differs)?;
    let number = config.number_in_files(block);
    Some(format!("block {number} would be another kind of block as number {block}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ARCHITECTURES, RemovedParts, Synthetic};

    fn opened(architecture: &'static dyn crate::model::Architecture) -> (tempfile::TempDir, ModelFolder) {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::tiny(architecture).write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        (dir, folder)
    }

    #[test]
    fn every_architecture_says_what_its_blocks_are_when_one_is_left_out() {
        for &architecture in ARCHITECTURES {
            let (_dir, folder) = opened(architecture);
            assert!(folder.config.blocks > 1, "{architecture:?}");
            assert_eq!(refuses(&folder), None, "{architecture:?}");
            for removed in 0..folder.config.blocks {
                let less = folder.without_blocks(&[removed]);
                let config = config_of(&less).unwrap();
                let file = JsonFile { path: &folder.root, prefix: String::new(), map: config };
                let read = read_model(&file).unwrap();
                for block in 0..less.config.blocks {
                    let number = block + usize::from(block >= removed);
                    assert_eq!(less.config.number_in_files(block), number);
                    assert_eq!(read.attention(block), folder.config.attention(number), "{architecture:?}");
                }
            }
        }
    }

    #[test]
    fn every_mixture_says_what_it_is_without_some_of_its_experts() {
        let mut mixtures = 0;
        for &architecture in ARCHITECTURES {
            let (_dir, folder) = opened(architecture);
            assert_eq!(refuses_experts(&folder), None, "{architecture:?}");
            let Some((experts, chosen)) = folder.config.experts() else { continue };
            mixtures += 1;
            let removed =
                RemovedParts { blocks: vec![1], experts: vec![vec![0], vec![1], vec![experts - 1]] };
            let fewer = folder.without(&removed);
            let file =
                JsonFile { path: &folder.root, prefix: String::new(), map: config_of(&fewer).unwrap() };
            let read = read_model(&file).unwrap();
            assert_eq!((read.blocks, read.experts()), (2, Some((experts - 1, chosen))), "{architecture:?}");
            let names = TensorNames::of(&fewer).unwrap();
            // Names of the files in the order of the layout become the names of a model that has fewer from the start.
            let renamed: Vec<String> = fewer
                .config
                .layouts()
                .flat_map(BlockLayout::tensors)
                .map(|(name, _)| names.new_name(folder.weights.stored_name(&name)).unwrap().into_owned())
                .collect();
            let wanted: Vec<String> =
                read.layouts().flat_map(BlockLayout::tensors).map(|(name, _)| name).collect();
            assert_eq!(renamed, wanted, "{architecture:?}");
            for (_, module) in folder.config.layout(0).modules() {
                let is_gone = module.expert.is_some_and(|expert| expert.index == 0);
                assert_eq!(names.new_name(&module.weight()).is_none(), is_gone, "{}", module.full_name);
            }
            let routers = fewer.config.layout(0).cut_tensors();
            let kept: Vec<usize> = (1..experts).collect();
            assert!(
                !routers.is_empty() && routers.iter().all(|name| names.kept_entries(name) == Some(&kept))
            );
        }
        assert!(mixtures >= 4, "{mixtures}");
    }

    #[test]
    fn tensors_of_blocks_that_stay_get_their_new_number_and_others_go() {
        for &architecture in ARCHITECTURES {
            let (_dir, folder) = opened(architecture);
            let less = folder.without_blocks(&[1]);
            let names = TensorNames::of(&less).unwrap();
            let (first, second) = (folder.config.layout(0).tensors(), folder.config.layout(1).tensors());
            assert_eq!(names.new_name(&first[0].0).as_deref(), Some(first[0].0.as_str()));
            assert!(second.iter().all(|(name, _)| names.new_name(name).is_none()), "{architecture:?}");
            for (after, before) in folder.config.layout(2).tensors().iter().zip(&second) {
                // The third block becomes the second.
                assert_eq!(names.new_name(&after.0).as_deref(), Some(before.0.as_str()), "{architecture:?}");
            }
            let embedding = &folder.config.embedding.tensor;
            assert_eq!(names.new_name(embedding).as_deref(), Some(embedding.as_str()));
            assert!(TensorNames::of(&folder).unwrap().are_the_same());
        }
    }
}
