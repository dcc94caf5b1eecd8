//! `secateur show --survey`: what is known of the blocks of a study's model.

use serde_json::json;

use crate::cli::ShowFormat;
use crate::error::{Error, Result};
use crate::methods::Survey;
use crate::store::{Store, StudyRecord, survey};
use crate::text::aligned;

/// The surveys of a study, in any of the formats of `show`.
///
/// # Errors
/// [`Error::Mistake`] where there is none.
pub(super) fn show(store: &Store, record: &StudyRecord, format: ShowFormat) -> Result<String> {
    let surveys = survey::all(&store.folder(record.id, None), record.model.blocks)?;
    if surveys.is_empty() {
        return Err(Error::mistake(format!(
            "study {} has no survey: a cell that removes blocks or experts, or spreads a fraction over them, makes one of its \
             calibration set",
            record.id
        )));
    }
    match format {
        ShowFormat::Json => {
            let all = surveys.iter().map(|(set, survey)| json!({ "calibration": set, "survey": survey }));
            let all = json!({ "study": record.id, "surveys": all.collect::<Vec<_>>() });
            serde_json::to_string_pretty(&all).map_err(|e| Error::failure(format!("cannot make JSON: {e}")))
        }
        ShowFormat::Csv => Ok(csv(&surveys)),
        ShowFormat::Table => Ok(aligned(&rows(&surveys))),
        ShowFormat::Markdown => {
            let lines = rows(&surveys).into_iter().enumerate().map(|(at, row)| {
                let line = format!("| {} |", row.join(" | "));
                if at == 0 { format!("{line}\n|{}", " --- |".repeat(row.len())) } else { line }
            });
            Ok(lines.collect::<Vec<_>>().join("\n"))
        }
    }
}

/// The modules whose inputs are known, each once.
fn watched(surveys: &[(String, Survey)]) -> Vec<&str> {
    let mut modules = Vec::new();
    for site in surveys.iter().flat_map(|(_, survey)| survey.sites.iter().flatten()) {
        if !modules.contains(&site.module.as_str()) {
            modules.push(&site.module);
        }
    }
    modules
}

fn short(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

/// The mean over the features of a module's input of their variances.
fn mean_variance(survey: &Survey, block: usize, module: &str) -> Option<f64> {
    let variance = &survey.site(block, module)?.variance;
    Some(variance.iter().sum::<f64>() / variance.len().max(1) as f64)
}

/// The share of weights whose error people are shown.
const HALF: usize = 50;

/// The error of a block whose modules lose so many percent of their weights.
fn error_at(survey: &Survey, block: usize, percent: usize) -> Option<f64> {
    survey.errors.get(block)?.get(percent - 1).copied()
}

/// For people: influence, the angle across every single block, its outliers, its error without half of its weights, and how
/// much the inputs of its output layers vary.
fn rows(surveys: &[(String, Survey)]) -> Vec<Vec<String>> {
    let modules = watched(surveys);
    let header = ["calibration", "block", "influence", "angle", "outliers", "error at 50%"];
    let mut header = header.map(str::to_owned).to_vec();
    header.extend(modules.iter().map(|module| format!("{} variance", short(module))));
    let mut rows = vec![header];
    for (set, survey) in surveys {
        let alone = survey.angles.first().map_or(&[][..], Vec::as_slice);
        for (block, (influence, angle)) in survey.influence.iter().zip(alone).enumerate() {
            let outliers = survey.outlier_ratio.get(block).map_or_else(String::new, |d| format!("{d:.3}%"));
            let [influence, angle] = [influence, angle].map(|figure| format!("{figure:.4}"));
            let error = error_at(survey, block, HALF).map_or_else(String::new, |error| format!("{error:.4}"));
            let mut row = vec![set.clone(), block.to_string(), influence, angle, outliers, error];
            row.extend(modules.iter().map(|module| {
                mean_variance(survey, block, module).map_or("-".to_owned(), |found| format!("{found:.3e}"))
            }));
            rows.push(row);
        }
    }
    rows
}

/// A row a block, its outliers in percent, its error without 10%, 20% and so on to 90% of its weights, a column for the angle across one block, two blocks and so on from there, one for
/// the mean variance of every input that is known, and one for each expert. JSON has the inputs feature by feature.
fn csv(surveys: &[(String, Survey)]) -> String {
    let modules = watched(surveys);
    let longest = surveys.iter().map(|(_, survey)| survey.blocks()).max().unwrap_or(0);
    let spans = (1..=longest).map(|spanned| format!(",angle_{spanned}"));
    let variances = modules.iter().map(|module| format!(",{}_variance", short(module)));
    let most = surveys.iter().flat_map(|(_, survey)| &survey.experts).map(Vec::len).max().unwrap_or(0);
    let experts = (0..most).map(|expert| format!(",expert_{expert}"));
    let columns = spans.chain(variances).chain(experts).collect::<String>();
    let errors = || (10..100).step_by(10);
    let error_columns = errors().map(|percent| format!(",error_{percent}")).collect::<Vec<_>>().concat();
    let mut text = format!("calibration,block,influence,outlier_ratio{error_columns}{columns}\n");
    for (set, survey) in surveys {
        for (block, influence) in survey.influence.iter().enumerate() {
            let field = |found: Option<f64>| found.map_or(",".to_owned(), |found| format!(",{found}"));
            let angle = |spanned: usize| {
                field(survey.angles.get(spanned - 1).and_then(|angles| angles.get(block)).copied())
            };
            let variances = modules.iter().map(|module| field(mean_variance(survey, block, module)));
            let scores = survey.experts.get(block);
            let scores = (0..most).map(|expert| field(scores.and_then(|scores| scores.get(expert)).copied()));
            let fields = (1..=longest).map(angle).chain(variances).chain(scores).collect::<String>();
            let outliers = survey.outlier_ratio.get(block).map_or_else(String::new, f64::to_string);
            let lost: String = errors().map(|percent| field(error_at(survey, block, percent))).collect();
            text += &format!("{set},{block},{influence},{outliers}{lost}{fields}\n");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::SiteFigures;

    #[test]
    fn every_block_has_a_row_and_every_span_that_begins_there_and_every_expert_a_figure() {
        let site = SiteFigures { module: "a.o".into(), mean: vec![0.0; 2], variance: vec![0.25, 0.75] };
        let survey = Survey {
            windows: 4,
            influence: vec![0.5, 0.25],
            angles: vec![vec![0.125, 0.0625], vec![0.375]],
            outlier_ratio: vec![1.5, 0.4872],
            errors: vec![(1..=100).map(|percent| f64::from(percent) / 200.0).collect()],
            sites: vec![vec![site], Vec::new()],
            ..Survey::default()
        };
        let with_experts = Survey { experts: vec![vec![0.5, 2.0], vec![1.0]], ..survey.clone() };
        let of_experts = csv(&[("c4-s0".to_owned(), with_experts)]);
        let errors = "error_10,error_20,error_30,error_40,error_50,error_60,error_70,error_80,error_90";
        let columns =
            format!("calibration,block,influence,outlier_ratio,{errors},angle_1,angle_2,o_variance");
        assert!(of_experts.starts_with(&format!("{columns},expert_0,expert_1\n")), "{of_experts}");
        assert!(
            of_experts.contains(",0.375,0.5,0.5,2\n") && of_experts.ends_with(",0.0625,,,1,"),
            "{of_experts}"
        );
        let surveys = [("c4-s0".to_owned(), survey)];
        let lost = "0.05,0.1,0.15,0.2,0.25,0.3,0.35,0.4,0.45";
        assert_eq!(
            csv(&surveys),
            format!(
                "{columns}\nc4-s0,0,0.5,1.5,{lost},0.125,0.375,0.5\nc4-s0,1,0.25,0.4872,{},0.0625,,",
                ",".repeat(8)
            )
        );
        let [_, first, second] = &rows(&surveys)[..] else { panic!("two blocks") };
        assert_eq!(first.join(" "), "c4-s0 0 0.5000 0.1250 1.500% 0.2500 5.000e-1");
        assert_eq!(second.join(" "), "c4-s0 1 0.2500 0.0625 0.487%  -");
    }
}
