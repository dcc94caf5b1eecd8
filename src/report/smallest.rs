//! How small models of each kind are before a measure says that they are damaged. Measures seldom agree on that.

use crate::human;
use crate::methods;
use crate::results::{CellResult, Metrics, ModelFootprint};
use crate::scores::stats::mean_over_tasks;
use crate::scores::{F1, JS_DIVERGENCE, PERPLEXITY};
use crate::study::CellSpec;

/// How far a measure may go.
struct Limit {
    /// In words.
    name: &'static str,
    /// Whether a cell keeps within it, given the base; `None` where that was not measured.
    keeps: fn(&Metrics, &Metrics) -> Option<bool>,
}

const LIMITS: [Limit; 3] = [
    Limit {
        name: "perplexity up to +10%",
        keeps: |cell, base| {
            let [cell, base] = [cell, base].map(|metrics| metrics.first(&PERPLEXITY));
            Some(cell?.value <= 1.10 * base?.value)
        },
    },
    Limit { name: "JS under 0.05", keeps: |cell, _| Some(cell.first(&JS_DIVERGENCE)?.value < 0.05) },
    Limit {
        name: "F1 at least 95%",
        keeps: |cell, base| {
            let [of_cell, of_base] = [cell, base].map(|metrics| metrics.of(&F1).collect::<Vec<_>>());
            let [cell, base] = [&of_cell, &of_base].map(|f1| mean_over_tasks(f1, &of_base));
            Some(cell?.value >= 0.95 * base?.value)
        },
    },
];

/// A sentence for every kind of models of a study: the smallest within each limit. None where all models are as large as
/// the base.
pub(crate) fn smallest_models(
    base: (&Metrics, Option<ModelFootprint>),
    cells: &[(&CellResult, Option<ModelFootprint>)],
) -> Vec<String> {
    let (base, Some(whole)) = base else { return Vec::new() };
    let known = cells.iter().filter_map(|(cell, found)| {
        Some(SizedCell { kind: methods::kind_of(&cell.spec.recipe)?, cell, whole: (*found)? })
    });
    let known: Vec<SizedCell<'_>> = known.collect();
    if known.iter().all(|found| found.whole.size_bytes == whole.size_bytes) {
        return Vec::new();
    }
    let mut kinds: Vec<&str> = known.iter().map(|found| found.kind).collect();
    kinds.sort_by_key(|kind| methods::KINDS.iter().position(|known| known == kind));
    kinds.dedup();
    let mut sets: Vec<&String> =
        known.iter().filter_map(|found| found.cell.spec.calibration.as_ref()).collect();
    sets.sort_unstable();
    sets.dedup();
    // A recipe makes one model for every calibration set: where there are several, the name tells which.
    let name: fn(&CellSpec) -> String =
        if sets.len() > 1 { CellSpec::label } else { |cell| cell.recipe.label() };
    kinds.into_iter().filter_map(|kind| sentence(kind, base, &known, name)).collect()
}

/// A cell whose size is known.
struct SizedCell<'a> {
    kind: &'static str,
    cell: &'a CellResult,
    whole: ModelFootprint,
}

fn sentence(
    kind: &str,
    base: &Metrics,
    cells: &[SizedCell<'_>],
    name: fn(&CellSpec) -> String,
) -> Option<String> {
    let within = |limit: &Limit| {
        let judged = cells.iter().filter(|found| found.kind == kind);
        let judged: Vec<_> =
            judged.filter_map(|found| Some((found, (limit.keeps)(&found.cell.metrics, base)?))).collect();
        if judged.is_empty() {
            return None;
        }
        let kept = judged.into_iter().filter(|(_, keeps)| *keeps).map(|(found, _)| found);
        // Of those that are as large, the one with the most zeros.
        let smallest = kept.min_by_key(|found| (found.whole.size_bytes, found.whole.packed_size_bytes));
        let found = smallest.map_or_else(
            || "none".to_owned(),
            |found| format!("{}, {}", name(&found.cell.spec), human::bytes(found.whole.size_bytes)),
        );
        Some(found)
    };
    // Limits with the same answer share it.
    let mut answers: Vec<(String, Vec<&str>)> = Vec::new();
    for (limit, found) in LIMITS.iter().filter_map(|limit| Some((limit.name, within(limit)?))) {
        match answers.iter_mut().find(|(known, _)| *known == found) {
            Some((_, limits)) => limits.push(limit),
            None => answers.push((found, vec![limit])),
        }
    }
    let parts = answers.into_iter().map(|(found, limits)| match &limits[..] {
        [first, second, third] => format!("{first}, {second} and {third}: {found}"),
        limits => format!("{}: {found}", limits.join(" and ")),
    });
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| format!("Smallest {kind} model with {}", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::NamedNumbers;
    use crate::results::Measurement;

    fn measured(score: &str, value: f64) -> Measurement {
        let (ci95, details) = ([value; 2], NamedNumbers::default());
        Measurement { score: score.into(), data_set: "d".into(), value, ci95, n: 10, details }
    }

    fn metrics(perplexity: f64, js: Option<f64>, f1: Option<f64>) -> Metrics {
        let js = js.map(|js| measured("js_divergence", js));
        let f1 = f1.map(|f1| measured("f1", f1));
        let values = std::iter::once(measured("perplexity", perplexity)).chain(js).chain(f1).collect();
        Metrics { values }
    }

    fn cell(recipe: &str, metrics: Metrics) -> CellResult {
        let spec = CellSpec { recipe: recipe.parse().unwrap(), calibration: None, seed: 0 };
        CellResult { metrics, ..CellResult::queued(&spec) }
    }

    #[allow(clippy::unnecessary_wraps, reason = "results have it so")]
    fn whole(size_bytes: u64, packed_size_bytes: u64) -> Option<ModelFootprint> {
        let bits_per_weight = size_bytes as f64;
        Some(ModelFootprint {
            parameters: 8,
            zeros: Some(0),
            size_bytes,
            packed_size_bytes,
            bits_per_weight,
            packed_bits_per_weight: 1.0,
        })
    }

    #[test]
    fn measures_that_disagree_each_name_their_smallest_model_of_every_kind() {
        let base = metrics(10.0, None, Some(0.8));
        let cells = [
            (cell("wanda@50%", metrics(11.0, Some(0.04), Some(0.80))), whole(1_000_000, 700_000)),
            (cell("wanda@60%", metrics(10.9, Some(0.06), Some(0.75))), whole(1_000_000, 600_000)),
            (cell("gptq@4bit", metrics(10.5, Some(0.03), Some(0.77))), whole(400_000, 400_000)),
            (cell("gptq@3bit", metrics(10.8, Some(0.08), Some(0.20))), whole(300_000, 300_000)),
            (cell("depth@2blocks", metrics(20.0, Some(0.5), Some(0.79))), whole(800_000, 800_000)),
            (cell("wanda@50%+rtn@4bit", metrics(30.0, None, Some(0.1))), whole(400_000, 300_000)),
            (cell("rtn@2bit", metrics(1.0, Some(0.0), Some(1.0))), None),
        ];
        let cells: Vec<_> = cells.iter().map(|(cell, whole)| (cell, *whole)).collect();
        let found = smallest_models((&base, whole(1_000_000, 1_000_000)), &cells);
        let expected = [
            "Smallest cut-down model with perplexity up to +10% and JS under 0.05: none; F1 at least 95%: depth 2blocks, \
             800.0 kB",
            "Smallest pruned model with perplexity up to +10%: wanda 60%, 1.0 MB; JS under 0.05 and F1 at least 95%: wanda \
             50%, 1.0 MB",
            "Smallest quantised model with perplexity up to +10%: gptq 3bit, 300.0 kB; JS under 0.05 and F1 at least 95%: \
             gptq 4bit, 400.0 kB",
            "Smallest combined model with perplexity up to +10% and F1 at least 95%: none",
        ];
        assert_eq!(found, expected);
        assert!(found.iter().all(|line| line.is_ascii()));
        // The same recipe, calibrated on two sets.
        let calibrated = |recipe: &str, set: &str, perplexity: f64| {
            let mut cell = cell(recipe, metrics(perplexity, None, None));
            cell.spec.calibration = Some(set.into());
            cell
        };
        let of_sets = [
            (calibrated("wanda@60%", "c4", 10.5), whole(900_000, 600_000)),
            (calibrated("wanda@60%", "alpaca", 12.0), whole(900_000, 600_000)),
        ];
        let of_sets: Vec<_> = of_sets.iter().map(|(cell, whole)| (cell, *whole)).collect();
        let found = smallest_models((&base, whole(1_000_000, 1_000_000)), &of_sets);
        assert_eq!(found, ["Smallest pruned model with perplexity up to +10%: wanda 60% c4, 900.0 kB"]);
        // Where nothing is smaller there is nothing to say.
        assert_eq!(smallest_models((&base, whole(1_000_000, 1_000_000)), &cells[..2]), [""; 0]);
        assert_eq!(smallest_models((&base, None), &cells), [""; 0]);
    }
}
