//! Which heads and neurons a cell removes: chosen once, from the dense model, and kept beside its checkpoints.

use std::fs;
use std::sync::Arc;

use candle_core::{DType, Device};

use super::Reporter;
use super::assignment::Assignment;
use super::dense_model::SurveyedModel;
use super::place::Place;
use super::study::Study;
use crate::error::{Error, Result};
use crate::export::unit_counts;
use crate::methods::{Survey, WidthRemoval, mean_output, units_that_stay};
use crate::model::narrow::{NarrowBlock, NarrowConfig, NarrowPart, Narrowing, UnitCounts, narrowed};
use crate::model::ops::with_elements;
use crate::model::{ModelFolder, WidthPart};
use crate::store::width;

/// The model whose blocks a cell has made narrower, still with all blocks of its files; `None` where it makes none narrower.
/// What goes is chosen when it is first asked for, and kept with that.
///
/// # Errors
/// [`Error::Cancelled`] when it is to end; anything that fails.
pub(super) fn narrowed_model(
    study: &Study,
    place: &Place,
    assignment: &Assignment,
    reporter: &mut Reporter,
) -> Result<Option<Arc<ModelFolder>>> {
    let Some(cell) = &assignment.cell else { return Ok(None) };
    let procedure = study.procedure(cell)?;
    let Some((_, removal)) = procedure.narrowing() else { return Ok(None) };
    let Some(counts) = unit_counts(&study.folder, &procedure)? else { return Ok(None) };
    let chosen = if let Some(known) = width::read(&assignment.folder)? {
        known
    } else {
        let survey = SurveyedModel { study, place, assignment, reporter }.survey_with_sites()?;
        let chosen = choose(study, assignment, &survey, (removal, counts), reporter)?;
        let dir = &assignment.folder;
        fs::create_dir_all(dir).map_err(|e| Error::io("cannot create", dir, e))?;
        let widths = study.folder.config.widths(0);
        let units = [widths.attention, widths.mlp].map(|part| part.map_or(0, |part| part.units));
        width::write(dir, &chosen, units)?;
        chosen
    };
    Ok(Some(Arc::new(narrowed(&study.folder, &chosen)?)))
}

/// What a person should know of how a cell's blocks were made narrower.
pub(super) fn warnings(study: &Study, assignment: &Assignment) -> Result<Vec<String>> {
    let Some(cell) = &assignment.cell else { return Ok(Vec::new()) };
    let Some(counts) = unit_counts(&study.folder, &study.procedure(cell)?)? else { return Ok(Vec::new()) };
    let [attention, mlp] = NarrowConfig::of(&study.folder, counts)?.biases;
    let parts = [("heads", counts.groups, attention), ("neurons", counts.neurons, mlp)];
    let without = parts.iter().filter(|(_, count, bias)| *count > 0 && !bias).map(|(name, ..)| *name);
    let without: Vec<&str> = without.collect();
    if without.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "what the removed {} give in the mean is left out: a {} has no bias that could hold it",
        without.join(" and "),
        study.folder.config.architecture
    )])
}

/// Chooses what stays of every block that is not left out.
fn choose(
    study: &Study,
    assignment: &Assignment,
    survey: &Survey,
    (removal, counts): (&dyn WidthRemoval, UnitCounts),
    reporter: &mut Reporter,
) -> Result<Narrowing> {
    let config = &study.folder.config;
    let [attention_bias, mlp_bias] = NarrowConfig::of(&study.folder, counts)?.biases;
    let mut chosen = Narrowing::default();
    for block in (0..config.blocks).filter(|block| !assignment.removed.blocks.contains(block)) {
        reporter.check()?;
        let widths = config.widths(block);
        let part = |part: Option<&WidthPart>, count: usize, bias: bool| -> Result<NarrowPart> {
            let units = part.map_or(0, |part| part.units);
            let Some(part) = part.filter(|_| count > 0) else {
                return Ok(NarrowPart { kept: (0..units).collect(), mean: None });
            };
            let module = config.layout(block).module(part.output);
            let inputs =
                survey.site(block, &module.name).filter(|site| site.variance.len() == module.shape.1);
            let inputs = inputs.ok_or_else(|| {
                Error::failure(format!("the survey says nothing of the input of {}", module.full_name))
            })?;
            let weights = study.folder.matrix(module, DType::F32, &Device::Cpu)?;
            with_elements(&weights, |weights| {
                let kept = units_that_stay(&removal.scores(weights, inputs, part.features), count);
                let mean = bias.then(|| mean_output(weights, &inputs.mean, &part.kept_columns(&kept)));
                NarrowPart { kept, mean }
            })
        };
        let attention = part(widths.attention.as_ref().ok(), counts.groups, attention_bias)?;
        let mlp = part(widths.mlp.as_ref().ok(), counts.neurons, mlp_bias)?;
        chosen.0.insert(block, NarrowBlock { attention, mlp });
    }
    Ok(chosen)
}
