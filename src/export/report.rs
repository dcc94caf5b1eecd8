//! `sparsity.json`: what was done to a model, beside its weights.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde::Serialize;

use crate::model::{ModelFolder, ModuleId};
use crate::number::{self, NamedNumbers};
use crate::results::CellResult;
use crate::study::Recipe;

/// What was counted in a matrix while it was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub block: usize,
    pub module: ModuleId,
    pub zeros: usize,
    pub weights: usize,
}

/// What `sparsity.json` holds.
#[derive(Debug, Serialize)]
pub(super) struct SparsityReport<'a> {
    program: &'static str,
    version: &'static str,
    source_model: PathBuf,
    cell: &'a str,
    recipe: &'a Recipe,
    /// Zeros over weights of the compressed modules, counted in what was written; `None` when there are none.
    sparsity: Option<f64>,
    zeros: usize,
    weights: usize,
    calibration: Option<&'a str>,
    seed: u64,
    /// Blocks of the source that are left out. Modules are called as in the source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dropped_blocks: Vec<usize>,
    /// Experts that are left out, for each block of the source that stays and has lost some.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    dropped_experts: BTreeMap<usize, Vec<usize>>,
    modules: Vec<ModuleReport>,
}

#[derive(Debug, Serialize)]
struct ModuleReport {
    name: String,
    sparsity: f64,
    zeros: usize,
    weights: usize,
    reconstruction_error: Option<Float>,
    details: NamedNumbers,
}

/// A float that may be one that JSON has no number for.
#[derive(Debug, Serialize)]
struct Float(#[serde(with = "number")] f64);

impl<'a> SparsityReport<'a> {
    pub fn new(folder: &ModelFolder, cell: &'a CellResult, counts: &[Count]) -> Self {
        let found: HashMap<&str, _> = cell.modules.iter().map(|m| (m.name.as_str(), m)).collect();
        let module = |&Count { block, module, zeros, weights }: &Count| {
            let name = folder.config.layout(block).module(module).full_name.clone();
            let found = found.get(name.as_str());
            ModuleReport {
                sparsity: zeros as f64 / weights as f64,
                zeros,
                weights,
                reconstruction_error: found.map(|m| Float(m.reconstruction_error)),
                details: found.map(|m| m.details.clone()).unwrap_or_default(),
                name,
            }
        };
        let (zeros, weights) = counts.iter().fold((0, 0), |(z, w), c| (z + c.zeros, w + c.weights));
        Self {
            program: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            source_model: std::path::absolute(&folder.root).unwrap_or_else(|_| folder.root.clone()),
            cell: &cell.id,
            recipe: &cell.spec.recipe,
            sparsity: (weights > 0).then(|| zeros as f64 / weights as f64),
            zeros,
            weights,
            calibration: cell.spec.calibration.as_deref(),
            seed: cell.spec.seed,
            dropped_blocks: folder.config.dropped_blocks(),
            dropped_experts: folder.config.dropped_experts(),
            modules: counts.iter().map(module).collect(),
        }
    }
}
