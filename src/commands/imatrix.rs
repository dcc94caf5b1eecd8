//! `secateur export base FILE --as imatrix`.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::cli::ExportArgs;
use crate::data::{self, Fetch, FieldNames, WindowDraw};
use crate::demo;
use crate::engine::sums_of_squares;
use crate::error::{Error, Result};
use crate::export::{self, InputSums};
use crate::hub;
use crate::model::{ModelFolder, load_tokenizer};
use crate::store::StudyRecord;
use crate::study::{CalibrationSpec, StudySpec};

/// How long nothing is said of the blocks that are done.
const QUIET: Duration = Duration::from_secs(5);

/// Collects the inputs of a study's base over a calibration set, whose files `sets` fetches, and writes their sums; returns
/// what to say about it.
///
/// # Errors
/// [`Error::Mistake`] for options of other formats, a set that cannot be read, or a model that llama.cpp does not
/// know; [`Error::Failure`] when something cannot be read or written.
pub(super) fn write(
    record: &StudyRecord,
    args: &ExportArgs,
    offline: bool,
    sets: &mut dyn Fetch,
) -> Result<String> {
    if args.quantize.is_some() {
        return Err(Error::mistake("--quantize is for models, and an importance matrix is none"));
    }
    let mut spec = record.spec.clone();
    demo::find_files(&mut spec)?;
    let set = args.calibration.clone().or_else(|| spec.calibration.sets.first().cloned());
    let set =
        set.ok_or_else(|| Error::mistake("the study has no calibration set: name one with --calibration"))?;
    let folder = ModelFolder::open(&hub::model_folder(&spec.model, offline)?)?;
    if let Some(why) = export::refuses_sums(&folder) {
        return Err(Error::mistake(format!("there can be no importance matrix: {why}")));
    }
    let windows = windows(&spec, &set, &folder, sets)?;
    let (mut said, mut last) = (Instant::now(), 0);
    let blocks = folder.config.blocks;
    let mut told = |block: usize| {
        if block != last && said.elapsed() >= QUIET {
            (said, last) = (Instant::now(), block);
            // Standard error may be gone; then nobody needs to know.
            let _ = writeln!(io::stderr(), "collecting inputs: {block} of {blocks} blocks");
        }
        Ok(())
    };
    let sums = InputSums {
        set: set.clone(),
        windows: windows.len(),
        window_tokens: spec.seq_len,
        blocks: sums_of_squares(&folder, &windows, spec.compute.batch_tokens, &mut told)?,
    };
    export::write_sums(&folder, &sums, &args.out)?;
    Ok(format!(
        "importance matrix of study {} over {} windows of {} tokens of {set} written to {}\n\
         verified: opened again, all sums are as they were collected",
        record.id,
        sums.windows,
        sums.window_tokens,
        args.out.display()
    ))
}

/// The windows of a calibration set, drawn as the study draws them.
fn windows(spec: &StudySpec, set: &str, folder: &ModelFolder, sets: &mut dyn Fetch) -> Result<Vec<Vec<u32>>> {
    let tokenizer = load_tokenizer(&folder.tokenizer)?;
    let CalibrationSpec { samples, sampling, .. } = spec.calibration;
    let draw = WindowDraw { samples, seq_len: spec.seq_len, sampling, seed: spec.seed };
    Ok(data::draw_set(set, &FieldNames::new(&spec.fields)?, &tokenizer, &draw, sets)?.windows)
}
