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
            "study {} has no survey: a cell that removes blocks makes one of its calibration set",
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
                let columns = row.len();
                if at == 0 { format!("{line}\n|{}", " --- |".repeat(columns)) } else { line }
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

/// For people: influence, the angle across every single block, and how much the inputs of its output layers vary.
fn rows(surveys: &[(String, Survey)]) -> Vec<Vec<String>> {
    let modules = watched(surveys);
    let mut header = ["calibration", "block", "influence", "angle"].map(str::to_owned).to_vec();
    header.extend(modules.iter().map(|module| format!("{} variance", short(module))));
    let mut rows = vec![header];
    for (set, survey) in surveys {
        let alone = survey.angles.first().map_or(&[][..], Vec::as_slice);
        for (block, (influence, angle)) in survey.influence.iter().zip(alone).enumerate() {
            let mut row =
                vec![set.clone(), block.to_string(), format!("{influence:.4}"), format!("{angle:.4}")];
            row.extend(modules.iter().map(|module| {
                mean_variance(survey, block, module).map_or("-".to_owned(), |found| format!("{found:.3e}"))
            }));
            rows.push(row);
        }
    }
    rows
}

/// A row a block, a column for the angle across one block, two blocks and so on from there, and one for the mean variance
/// of every input that is known. JSON has the inputs feature by feature.
fn csv(surveys: &[(String, Survey)]) -> String {
    let modules = watched(surveys);
    let longest = surveys.iter().map(|(_, survey)| survey.blocks()).max().unwrap_or(0);
    let spans = (1..=longest).map(|spanned| format!(",angle_{spanned}"));
    let variances = modules.iter().map(|module| format!(",{}_variance", short(module)));
    let mut text = format!("calibration,block,influence{}\n", spans.chain(variances).collect::<String>());
    for (set, survey) in surveys {
        for (block, influence) in survey.influence.iter().enumerate() {
            let field = |found: Option<f64>| found.map_or(",".to_owned(), |found| format!(",{found}"));
            let angle = |spanned: usize| {
                field(survey.angles.get(spanned - 1).and_then(|angles| angles.get(block)).copied())
            };
            let variances = modules.iter().map(|module| field(mean_variance(survey, block, module)));
            let fields = (1..=longest).map(angle).chain(variances).collect::<String>();
            text += &format!("{set},{block},{influence}{fields}\n");
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
    fn every_block_has_a_row_and_every_span_that_begins_there_a_figure() {
        let site = SiteFigures { module: "a.o".into(), mean: vec![0.0; 2], variance: vec![0.25, 0.75] };
        let survey = Survey {
            windows: 4,
            influence: vec![0.5, 0.25],
            angles: vec![vec![0.125, 0.0625], vec![0.375]],
            sites: vec![vec![site], Vec::new()],
            ..Survey::default()
        };
        let surveys = [("c4-s0".to_owned(), survey)];
        assert_eq!(
            csv(&surveys),
            "calibration,block,influence,angle_1,angle_2,o_variance\nc4-s0,0,0.5,0.125,0.375,0.5\nc4-s0,1,0.25,0.0625,,"
        );
        let [_, first, second] = &rows(&surveys)[..] else { panic!("two blocks") };
        assert_eq!(first.join(" "), "c4-s0 0 0.5000 0.1250 5.000e-1");
        assert_eq!(second.join(" "), "c4-s0 1 0.2500 0.0625 -");
    }
}
