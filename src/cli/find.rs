//! `secateur find` on the command line.

use clap::Args;

use super::settings::{AllButCells, SettingsArgs};

pub(super) const AFTER_HELP: &str = "A bound is SCORE<=VALUE or SCORE>=VALUE, in quotes for the shell. SCORE is the name or \
id of any score (js, kl, perplexity, f1, em, acc, flips, …) or size. A percentage is of the base's value (f1>=95%), and of \
shares such as flips the share itself (flips<=2%). A size has a unit (size<=4.5GiB).\n\n\
Levels: 1% to 99% for methods that prune; 8, 4, 3 and 2 bits; all formats of llama.cpp.\n\n\
Example:\n  secateur find --model ./SmolLM2-135M --recipe wanda --until \"js<=0.05\" \\\n    \
--calibration c4 --corpus wikitext2 --max-windows 32 --seq-len 512";

/// `secateur find`.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct FindArgs {
    /// Recipe whose level is looked for: wanda, gptq,group=64; of two steps, one without a level: sparsegpt+gptq@4bit
    #[arg(long, value_name = "RECIPE", help_heading = "Search")]
    pub recipe: String,
    /// Bound to keep: js<=0.05, f1>=95%, flips<=2%, size<=4.5GiB, perplexity<=12
    #[arg(long, value_name = "BOUND", help_heading = "Search")]
    pub until: String,
    /// Distance of two sparsities [default: 1%]
    #[arg(long, value_name = "S", help_heading = "Search")]
    pub step: Option<String>,
    /// What to measure and how.
    #[command(flatten)]
    pub settings: SettingsArgs<AllButCells>,
    /// Resume the newest study of the store that has the same definition; levels that it has measured count
    #[arg(long, help_heading = "Run")]
    pub resume: bool,
    /// Print the plan of the longest search and what it needs (memory, disk, time), then stop
    #[arg(long, help_heading = "Run")]
    pub dry_run: bool,
    /// Run even if the estimate says that there is not enough memory
    #[arg(long, help_heading = "Run")]
    pub force: bool,
    /// Search on the built-in study: its settings replace the config file's; flags and variables override them
    #[arg(long, help_heading = "Run")]
    pub demo: bool,
    /// Measure on the part of the built-in study that takes half a minute
    #[arg(long, requires = "demo", help_heading = "Run")]
    pub quick: bool,
}
