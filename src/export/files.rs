//! The files of a model's folder: those with weights, and what belongs to the model besides.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::part::Output;
use super::source::CHUNK;
use crate::error::{Error, Result};
use crate::model::ModelFolder;
use crate::model::weights::{INDEX_FILE, SINGLE_FILE};

pub(super) const CONFIG: &str = "config.json";

/// The report that lies beside the weights.
pub(super) const REPORT_FILE: &str = "sparsity.json";

/// Files besides the weights are copied up to this size: tokenizers have some tens of megabytes.
const LARGEST_COMPANION: u64 = 256 << 20;

/// What counts in `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    /// From tensor to file.
    weight_map: HashMap<String, String>,
}

/// A file of JSON.
pub(super) fn json_text(name: &str, value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    Ok(text.map_err(|e| Error::failure(format!("cannot make {name}: {e}")))? + "\n")
}

/// Names of the files that the weights are in.
pub(super) fn weight_files(folder: &ModelFolder) -> Result<BTreeSet<String>> {
    if folder.root.join(SINGLE_FILE).is_file() {
        return Ok(BTreeSet::from([SINGLE_FILE.to_owned()]));
    }
    let path = folder.root.join(INDEX_FILE);
    let text = fs::read(&path).map_err(|e| Error::io("cannot read", &path, e))?;
    let index: Index =
        serde_json::from_slice(&text).map_err(|e| Error::mistake(format!("{}: {e}", path.display())))?;
    Ok(index.weight_map.into_values().collect())
}

/// Names of the files in a model's folder that belong to the model besides its weights.
pub(super) fn companions(root: &Path, sharded: bool) -> Result<BTreeSet<OsString>> {
    let cannot = |e| Error::io("cannot read", root, e);
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        // The file that a link points to is meant: the hub's cache is made of links.
        let small = |m: fs::Metadata| m.is_file() && m.len() <= LARGEST_COMPANION;
        if is_companion(&name.to_string_lossy(), sharded) && fs::metadata(root.join(&name)).is_ok_and(small) {
            names.insert(name);
        }
    }
    Ok(names)
}

fn is_companion(name: &str, sharded: bool) -> bool {
    if name.ends_with(".index.json") {
        // Any other index is of weights in another format, which are not exported.
        return sharded && name == INDEX_FILE;
    }
    let kind = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
    let legal = ["license", "licence", "notice", "use_policy"];
    name != REPORT_FILE
        && (matches!(kind, "json" | "jinja" | "txt")
            || name.starts_with("tokenizer.model")
            || legal.iter().any(|word| name.to_lowercase().starts_with(word)))
}

pub(super) fn copy(path: &Path, out: &mut Output<'_>) -> Result<()> {
    let cannot = |e| Error::io("cannot read", path, e);
    let mut file = File::open(path).map_err(cannot)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).map_err(cannot)? {
            0 => return Ok(()),
            n => out.put(&buffer[..n])?,
        }
    }
}
