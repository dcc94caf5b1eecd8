//! What makes two studies the same, so that one can resume where the other stopped.

use serde_json::json;

use crate::study::{ALL_MODULES, StudySpec};

/// All of a study that changes the numbers of a cell, as JSON text: equal texts, equal numbers.
///
/// Left out are the list of cells with their calibration sets (cells may be added to a study) and what only changes
/// how fast things go, or what is measured beside: disagreements on answers, batch sizes and, where the dtype is named, the device. With the dtype `auto` the device
/// decides on it, so that `cpu` and `cuda` differ then; which of several GPUs never matters.
pub(super) fn fingerprint(spec: &StudySpec) -> String {
    let StudySpec { model, cells: _, seq_len, calibration, evaluation, prune, compute, seed, fields } = spec;
    // Whether disagreements are measured changes no other number.
    let mut evaluation = json!(evaluation);
    if let Some(evaluation) = evaluation.as_object_mut() {
        evaluation.shift_remove("disagreement");
    }
    let device = compute.device.split(':').next().filter(|_| compute.dtype == "auto");
    let mut definition = json!({
        "model": model,
        "seed": seed,
        "seq_len": seq_len,
        "calibration": { "samples": calibration.samples, "sampling": calibration.sampling },
        "evaluation": evaluation,
        "prune": {
            "modules": modules(&prune.modules),
            "blocks": prune.blocks,
            "damping": prune.damping,
            "block_size": prune.block_size,
            "profile": prune.profile.as_deref().map(|p| p.to_string_lossy()),
        },
        "dtype": compute.dtype,
        "device": device,
    });
    // Only where there are some: studies of before there were any are the same as those without.
    if !fields.is_empty() {
        definition["fields"] = json!(fields);
    }
    definition.to_string()
}

/// The modules of a Llama with their paths, in the order in which studies of version 0.1 name them. Those had no patterns:
/// what means all modules has to read as their list of all.
const FIRST_MODULES: [(&str, &str); 7] = [
    ("q_proj", "self_attn.q_proj"),
    ("k_proj", "self_attn.k_proj"),
    ("v_proj", "self_attn.v_proj"),
    ("o_proj", "self_attn.o_proj"),
    ("gate_proj", "mlp.gate_proj"),
    ("up_proj", "mlp.up_proj"),
    ("down_proj", "mlp.down_proj"),
];

/// Patterns of modules in one order, each once.
fn modules(patterns: &[String]) -> Vec<&str> {
    if patterns.iter().any(|pattern| pattern == ALL_MODULES) {
        return FIRST_MODULES.map(|(name, _)| name).to_vec();
    }
    let first =
        |pattern: &str| FIRST_MODULES.iter().position(|(name, path)| [*name, *path].contains(&pattern));
    let name = |pattern| first(pattern).map_or(pattern, |place| FIRST_MODULES[place].0);
    let mut names: Vec<&str> = patterns.iter().map(|pattern| name(pattern.as_str())).collect();
    names.sort_unstable_by_key(|name| (first(name).unwrap_or(FIRST_MODULES.len()), *name));
    names.dedup();
    names
}

/// Whether the cells of two studies can stand side by side: no cell has the same id but other calibration data.
pub(super) fn compatible(a: &StudySpec, b: &StudySpec) -> bool {
    a.cells.iter().all(|cell| {
        b.cells.iter().all(|other| cell.id() != other.id() || cell.calibration == other.calibration)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Given, Means, Settings, setting, settings};
    use crate::engine::RunOptions;

    fn study(flags: &[(&str, &str)]) -> StudySpec {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut given = Given::default();
        for (flag, text) in flags {
            given.set(setting(flag).unwrap(), Means::Flag, text);
        }
        Settings::load(Some(file.path()), &given, RunOptions::default()).unwrap().study
    }

    #[test]
    fn exactly_the_settings_that_the_table_marks_make_another_study() {
        let same = fingerprint(&study(&[("model", "m")]));
        for setting in settings() {
            let changed = fingerprint(&study(&[("model", "m"), (setting.flag(), setting.example())]));
            assert_eq!(changed != same, setting.is_in_fingerprint(), "--{}", setting.flag());
        }
    }
}
