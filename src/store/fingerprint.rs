//! What makes two studies the same, so that one can go on where the other stopped.

use serde_json::json;

use crate::study::StudySpec;

/// All of a study that changes the numbers of a cell, as JSON text: equal texts, equal numbers.
///
/// Left out are the list of cells with their calibration sets (cells may be added to a study) and what only changes
/// how fast things go, or what is measured beside: disagreements on answers, batch sizes and, where the dtype is named, the device. With the dtype `auto` the device
/// decides on it, so that `cpu` and `cuda` differ then; which of several GPUs never matters.
pub(super) fn fingerprint(spec: &StudySpec) -> String {
    let StudySpec { model, cells: _, seq_len, calibration, evaluation, prune, compute, seed } = spec;
    let mut modules = prune.modules.clone();
    modules.sort_unstable();
    modules.dedup();
    // Whether disagreements are measured changes no other number.
    let mut evaluation = json!(evaluation);
    if let Some(evaluation) = evaluation.as_object_mut() {
        evaluation.shift_remove("disagreement");
    }
    let device = compute.device.split(':').next().filter(|_| compute.dtype == "auto");
    json!({
        "model": model,
        "seed": seed,
        "seq_len": seq_len,
        "calibration": { "samples": calibration.samples, "sampling": calibration.sampling },
        "evaluation": evaluation,
        "prune": {
            "modules": modules,
            "blocks": prune.blocks,
            "damping": prune.damping,
            "block_size": prune.block_size,
            "profile": prune.profile.as_deref().map(|p| p.to_string_lossy()),
        },
        "dtype": compute.dtype,
        "device": device,
    })
    .to_string()
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
