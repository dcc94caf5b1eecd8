//! What every block of a cell loses, where the recipe spreads its fraction by what the survey says of the blocks.

use super::Reporter;
use super::assignment::Assignment;
use super::dense_model::SurveyedModel;
use super::place::Place;
use super::study::Study;
use crate::error::Result;
use crate::methods::DenseModel;
use crate::store::profile as kept_profile;

/// Name of the detail of a module that tells which share of it was to become zero.
pub(super) const SHARE_DETAIL: &str = "share";

/// Gives a cell its profile, where its recipe asks for one. It is chosen when it is first asked for, and kept beside the
/// cell's checkpoints, so that a cell that is resumed has the same one.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled) when it is to end; anything that fails.
pub(super) fn allocate(
    study: &Study,
    place: &Place,
    assignment: &mut Assignment,
    reporter: &mut Reporter,
) -> Result<()> {
    let Some(cell) = &assignment.cell else { return Ok(()) };
    let Some((allocation, fraction)) = study.procedure(cell)?.allocation() else { return Ok(()) };
    let blocks = study.folder.config.blocks;
    let known = kept_profile::read(&assignment.folder, blocks)?;
    let profile = if let Some(known) = known {
        known
    } else {
        let survey = SurveyedModel { study, place, assignment, reporter }.survey()?;
        let (first, end) = study.sizes.blocks;
        let pruned: Vec<usize> =
            (first..end).filter(|block| !assignment.removed.blocks.contains(block)).collect();
        let profile = allocation.profile(&survey, &pruned, fraction)?;
        let about = format!(
            "What allocation={} chose for {}: factors of the fraction, one per block.",
            allocation.name(),
            cell.id()
        );
        kept_profile::write(&assignment.folder, &profile.to_text(&about))?;
        profile
    };
    if profile.is_uniform() {
        assignment.calibration_warnings.push(format!(
            "allocation={}: the survey tells no block from another, so all blocks lose the same share",
            allocation.name()
        ));
    }
    assignment.profile = Some(profile);
    Ok(())
}
