//! The command line: what can be typed, and what `--help` says about it.
//!
//! Values stay as they were typed; [`crate::config`] checks them together with variables and the config file, so
//! that every mistake is reported in one way.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// `secateur`: everything that was typed.
#[derive(Debug, Parser)]
#[command(
    name = "secateur",
    version,
    about = "Prune a large language model and see what that really costs: perplexity, JS divergence and task scores",
    subcommand_required = true,
    max_term_width = 110,
    after_help = "Without a command the dashboard opens, on the built-in study where no model is named.\n\n\
                  Exit codes: 0 done, 1 a failure, 2 a mistake in the command or its files, 130 interrupted."
)]
pub struct Cli {
    /// Settings file; default ./config.toml, else secateur/config.toml in the config folder, else built in
    #[arg(long, global = true, env = "SECATEUR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open the dashboard: what `secateur` does when no command is named
    Tui(Box<TuiArgs>),
    /// Prune a model with every method at every sparsity and measure each variant against the base
    #[command(after_help = RUN_AFTER_HELP)]
    Run(Box<RunArgs>),
    /// Say what this machine has and what a study would use
    Doctor(DoctorArgs),
    /// Write a finished cell of a stored study as a Hugging Face model folder
    Export(ExportArgs),
    /// List the studies of a store
    List(ListArgs),
    /// Print a stored study
    Show(ShowArgs),
    /// Draw a screen of the dashboard into an SVG, PNG or text file, without a terminal
    Snapshot(Box<SnapshotArgs>),
}

const RUN_AFTER_HELP: &str = "Lists take commas, spaces or repetition: --sparsity 0.5,2:4 or --corpus a.txt b.txt. \
An empty value (\"\") unsets what the config file sets.\n\n\
Example:\n  secateur run --model ./SmolLM2-135M --methods wanda,sparsegpt --sparsity 0.5,2:4 \\\n    \
--calibration c4 --corpus wikitext2 --max-windows 32 --seq-len 512";

/// `secateur run`.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct RunArgs {
    /// What to measure and how.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Go on with the newest study of the store that has the same definition
    #[arg(long, help_heading = "Run")]
    pub resume: bool,
    /// Print the plan and what it needs (memory, disk, time), then stop
    #[arg(long, help_heading = "Run")]
    pub dry_run: bool,
    /// Run even if the estimate says that memory will not do
    #[arg(long, help_heading = "Run")]
    pub force: bool,
    /// Run the built-in study: its settings stand in for the config file, flags and variables win over them
    #[arg(long, help_heading = "Run")]
    pub demo: bool,
    /// Run a part of the built-in study that takes half a minute
    #[arg(long, requires = "demo", help_heading = "Run")]
    pub quick: bool,
}

/// `secateur tui`, and `secateur` alone.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct TuiArgs {
    /// What the study screen shows at first.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// How the dashboard looks.
    #[command(flatten)]
    pub look: LookArgs,
    /// Only look: another process may be running a study in the store, which is followed live
    #[arg(long, help_heading = "Dashboard")]
    pub readonly: bool,
    /// Go on without a screen when the terminal goes away, instead of stopping after the block in hand
    #[arg(long, help_heading = "Dashboard")]
    pub keep_running: bool,
    /// Take the mouse: wheel and tabs (copying text with it then needs Shift)
    #[arg(long, help_heading = "Dashboard")]
    pub mouse: bool,
    /// Open this study of the store [default with --readonly: the newest]
    #[arg(long, value_name = "N", help_heading = "Dashboard")]
    pub study: Option<i64>,
    /// Print as `secateur run` does, even in a terminal
    #[arg(long, help_heading = "Dashboard")]
    pub no_tui: bool,
    /// Run even if the estimate says that memory will not do
    #[arg(long, help_heading = "Dashboard")]
    pub force: bool,
}

/// Colours and symbols.
#[derive(Debug, Clone, Default, Args)]
pub struct LookArgs {
    /// Draw with ASCII only: no braille, no box drawing
    #[arg(long, env = "SECATEUR_ASCII", help_heading = "Dashboard")]
    pub ascii: bool,
    /// Colours [default: what the terminal says it has]
    #[arg(
        long,
        env = "SECATEUR_COLORS",
        value_enum,
        default_value_t,
        value_name = "HOW",
        help_heading = "Dashboard"
    )]
    pub colors: Colors,
    /// What the terminal's background is [default: what the terminal says, else dark]
    #[arg(long, env = "SECATEUR_BACKGROUND", value_enum, default_value_t, value_name = "HOW")]
    #[arg(help_heading = "Dashboard")]
    pub background: Ground,
}

/// How many colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Colors {
    /// As many as the terminal says it has.
    #[default]
    Auto,
    /// 24-bit colours.
    Truecolor,
    /// The 256 of xterm.
    #[value(name = "256")]
    Ansi256,
    /// The 16 of every terminal.
    #[value(name = "16")]
    Ansi16,
    /// None.
    None,
}

/// The background that colours are chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Ground {
    /// As the terminal says, else dark.
    #[default]
    Auto,
    /// Dark.
    Dark,
    /// Light.
    Light,
}

/// `secateur snapshot`.
#[derive(Debug, Clone, Args)]
pub struct SnapshotArgs {
    /// File to write: .svg, .png or .txt
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Which screen
    #[arg(long, value_enum, default_value_t)]
    pub screen: ScreenName,
    /// Columns and rows
    #[arg(long, default_value = "160x48", value_name = "COLUMNSxROWS")]
    pub size: String,
    /// The results database [default: as `secateur run`]
    #[arg(long, env = "SECATEUR_STORE", value_name = "FILE")]
    pub store: Option<String>,
    /// Number of the study [default: the newest]
    #[arg(long, value_name = "N")]
    pub study: Option<i64>,
    /// Cell to show on the run and inspect screens [default: the last that is done]
    #[arg(long, value_name = "ID")]
    pub cell: Option<String>,
    /// Keys to press before the picture is taken, as they are typed: "tt" for the third score
    #[arg(long, value_name = "KEYS", default_value = "")]
    pub keys: String,
    /// Colours and symbols.
    #[command(flatten)]
    pub look: LookArgs,
}

/// A screen of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[allow(missing_docs, reason = "named as on screen")]
pub enum ScreenName {
    Study,
    Run,
    #[default]
    Compare,
    Inspect,
    History,
}

/// The flags and variables that are also keys of config.toml. `None` is: not given.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::doc_markdown, reason = "these are the help texts, where backticks would show")]
pub struct SettingsArgs {
    /// Base model: a Hugging Face folder or a hub id
    #[arg(long, env = "SECATEUR_MODEL", value_name = "DIR|HUB-ID", help_heading = "Study")]
    pub model: Option<String>,
    /// Methods: magnitude, wanda, sparsegpt [default: all three]
    #[arg(long, env = "SECATEUR_METHODS", value_name = "NAME", help_heading = "Study")]
    #[arg(value_delimiter = ',', num_args = 1..)]
    pub methods: Option<Vec<String>>,
    /// Sparsities: a fraction (0.5 or 50%) or N:M, N zeroes in every M weights (2:4) [default: 0.5]
    #[arg(long, env = "SECATEUR_SPARSITY", value_name = "S", help_heading = "Study")]
    #[arg(value_delimiter = ',', num_args = 1.., allow_negative_numbers = true)]
    pub sparsity: Option<Vec<String>>,
    /// Length of calibration and evaluation windows, in tokens [default: 2048]
    #[arg(long, env = "SECATEUR_SEQ_LEN", value_name = "N", help_heading = "Study")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub seq_len: Option<usize>,
    /// Seed of every random choice [default: 0]
    #[arg(long, env = "SECATEUR_SEED", value_name = "N", help_heading = "Study")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<u64>)]
    pub seed: Option<u64>,

    /// Calibration sets for wanda and sparsegpt: c4, wikitext2, alpaca or files [default: c4]
    #[arg(long, env = "SECATEUR_CALIBRATION", value_name = "NAME|FILE", help_heading = "Calibration")]
    #[arg(value_delimiter = ',', num_args = 1..)]
    pub calibration: Option<Vec<String>>,
    /// Windows drawn from each calibration set [default: 128]
    #[arg(long, env = "SECATEUR_CALIBRATION_SAMPLES", value_name = "N", help_heading = "Calibration")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub calibration_samples: Option<usize>,
    /// How they are drawn: random, or head (consecutive from the start) [default: random]
    #[arg(long, env = "SECATEUR_SAMPLING", value_name = "HOW", help_heading = "Calibration")]
    pub sampling: Option<String>,

    /// Texts for perplexity and divergence: wikitext2, c4, alpaca or files [default: wikitext2]
    #[arg(long, env = "SECATEUR_CORPUS", value_name = "NAME|FILE", help_heading = "Evaluation")]
    #[arg(value_delimiter = ',', num_args = 1..)]
    pub corpus: Option<Vec<String>>,
    /// At most so many windows of each text; 0 is all [default: 0]
    #[arg(long, env = "SECATEUR_MAX_WINDOWS", value_name = "N", help_heading = "Evaluation")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub max_windows: Option<usize>,
    /// Tasks for exact match, F1 and ROUGE-1: alpaca, or JSON and JSONL files [default: none]
    #[arg(long, env = "SECATEUR_TASKS", value_name = "NAME|FILE", help_heading = "Evaluation")]
    #[arg(value_delimiter = ',', num_args = 1..)]
    pub tasks: Option<Vec<String>>,
    /// At most so many records of each task; 0 is all [default: 0]
    #[arg(long, env = "SECATEUR_TASK_LIMIT", value_name = "N", help_heading = "Evaluation")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub task_limit: Option<usize>,
    /// Longest answer, in tokens [default: 64]
    #[arg(long, env = "SECATEUR_MAX_NEW_TOKENS", value_name = "N", help_heading = "Evaluation")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub max_new_tokens: Option<usize>,
    /// Prompt template with {instruction} and {input} [default: the model's chat template, else Alpaca's]
    #[arg(long, env = "SECATEUR_PROMPT", value_name = "TEMPLATE", help_heading = "Evaluation")]
    pub prompt: Option<String>,
    /// Measure how far base and cell disagree at each token of the answers [default: true]
    #[arg(long, env = "SECATEUR_DISAGREEMENT", value_name = "BOOL", help_heading = "Evaluation")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new())]
    pub disagreement: Option<bool>,

    /// Modules that are pruned: names such as q_proj, patterns such as 'mlp.*' [default: all]
    #[arg(long, env = "SECATEUR_MODULES", value_name = "NAME", help_heading = "Pruning")]
    #[arg(value_delimiter = ',', num_args = 1..)]
    pub modules: Option<Vec<String>>,
    /// Blocks that are pruned, a to b-1 counted from 0 [default: all]
    #[arg(long, env = "SECATEUR_BLOCKS", value_name = "A..B", help_heading = "Pruning")]
    pub blocks: Option<String>,
    /// SparseGPT: share of the Hessian's mean diagonal added to its diagonal [default: 0.01]
    #[arg(long, env = "SECATEUR_DAMPING", value_name = "X", help_heading = "Pruning")]
    #[arg(allow_negative_numbers = true)]
    pub damping: Option<f64>,
    /// SparseGPT: columns solved together [default: 128]
    #[arg(long, env = "SECATEUR_BLOCK_SIZE", value_name = "N", help_heading = "Pruning")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub block_size: Option<usize>,
    /// File of one factor per block that multiplies a cell's fraction [default: none]
    #[arg(long, env = "SECATEUR_PROFILE", value_name = "FILE", help_heading = "Pruning")]
    pub profile: Option<String>,

    /// Where to compute: auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long, env = "SECATEUR_DEVICE", value_name = "DEVICE", help_heading = "Compute")]
    pub device: Option<String>,
    /// What to compute in: auto, f32, bf16 or f16 [default: auto = f32 on cpu, bf16 on cuda]
    #[arg(long, env = "SECATEUR_DTYPE", value_name = "DTYPE", help_heading = "Compute")]
    pub dtype: Option<String>,
    /// Worker threads; 0 is one a core [default: 0]
    #[arg(long, env = "SECATEUR_THREADS", value_name = "N", help_heading = "Compute")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub threads: Option<usize>,
    /// Tokens through a block at once; bounds the memory for activations [default: 2048]
    #[arg(long, env = "SECATEUR_BATCH_TOKENS", value_name = "N", help_heading = "Compute")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub batch_tokens: Option<usize>,
    /// Prompts answered together [default: 16]
    #[arg(long, env = "SECATEUR_BATCH_PROMPTS", value_name = "N", help_heading = "Compute")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub batch_prompts: Option<usize>,
    /// Never ask the network, use what the hub cache has [default: false]
    #[arg(long, env = "SECATEUR_OFFLINE", value_name = "BOOL", help_heading = "Compute")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new())]
    pub offline: Option<bool>,

    /// Results database [default: secateur/studies.db in the data folder]
    #[arg(long, env = "SECATEUR_STORE", value_name = "FILE", help_heading = "Output")]
    pub store: Option<String>,
    /// Export every finished cell as a model folder below this one [default: none]
    #[arg(long, env = "SECATEUR_SAVE_MODELS", value_name = "DIR", help_heading = "Output")]
    pub save_models: Option<String>,
    /// What goes to stdout: table, json (one object at the end) or jsonl (one event a line) [default: table]
    #[arg(long, env = "SECATEUR_FORMAT", value_name = "FORMAT", help_heading = "Output")]
    pub format: Option<String>,

    /// Names of the fields above that a variable set, so that a mistake names the variable.
    #[arg(skip)]
    pub from_variables: Vec<String>,
}

/// `secateur doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t = DoctorFormat::Table)]
    pub format: DoctorFormat,
    /// The results database to look at [default: as `secateur run`]
    #[arg(long, env = "SECATEUR_STORE", value_name = "FILE")]
    pub store: Option<String>,
    /// What a study would compute on: auto, cpu, cuda or cuda:N [default: as `secateur run`]
    #[arg(long, env = "SECATEUR_DEVICE", value_name = "DEVICE")]
    pub device: Option<String>,
    /// What it would compute in: auto, f32, bf16 or f16 [default: as `secateur run`]
    #[arg(long, env = "SECATEUR_DTYPE", value_name = "DTYPE")]
    pub dtype: Option<String>,
    /// Worker threads it would start; 0 is one a core [default: as `secateur run`]
    #[arg(long, env = "SECATEUR_THREADS", value_name = "N")]
    #[arg(allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub threads: Option<usize>,
}

/// How `secateur doctor` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DoctorFormat {
    /// Lines for people.
    Table,
    /// One JSON object.
    Json,
}

/// `secateur export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Id of the cell, as `secateur show` prints it: wanda-0.5-c4-s0
    pub cell: String,
    /// Folder to write; must not exist yet or be empty
    pub dir: PathBuf,
    /// The results database [default: as `secateur run`]
    #[arg(long, env = "SECATEUR_STORE", value_name = "FILE")]
    pub store: Option<String>,
    /// Number of the study [default: the newest that has the cell]
    #[arg(long, value_name = "N")]
    pub study: Option<i64>,
}

/// `secateur list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// The results database [default: as `secateur run`]
    #[arg(long, env = "SECATEUR_STORE", value_name = "FILE")]
    pub store: Option<String>,
}

/// `secateur show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Number of the study [default: the newest]
    pub study: Option<i64>,
    /// The results database [default: as `secateur run`]
    #[arg(long, env = "SECATEUR_STORE", value_name = "FILE")]
    pub store: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = ShowFormat::Table)]
    pub format: ShowFormat,
}

/// How `secateur show` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShowFormat {
    /// A table for people.
    Table,
    /// One JSON object.
    Json,
    /// One line a cell, comma-separated.
    Csv,
    /// A Markdown table.
    Markdown,
}

/// A whole number for clap, which says what is accepted where it is none.
fn whole<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.trim().parse().map_err(|_| "accepted is a whole number, 0 or more")
}

impl Cli {
    /// The parser. Its help names variables without their values: those may be long, or nobody's business.
    pub fn parser() -> clap::Command {
        let quiet = |command: clap::Command| command.mut_args(|arg| arg.hide_env_values(true));
        quiet(Self::command()).mut_subcommands(quiet)
    }

    /// Parses a command line whose first item is the program's name; remembers which settings came from variables.
    ///
    /// # Errors
    /// clap's own, with their text: a usage error (exit code 2), or `--help` and `--version` (exit code 0).
    pub fn from_args<I, T>(args: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let args = with_command(args.into_iter().map(Into::into).collect());
        let matches = Self::parser().try_get_matches_from(args)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        let settings = match &mut cli.command {
            Command::Run(run) => Some(&mut run.settings),
            Command::Tui(tui) => Some(&mut tui.settings),
            _ => None,
        };
        if let (Some(settings), Some((_, matches))) = (settings, matches.subcommand()) {
            settings.from_variables = matches
                .ids()
                .map(clap::Id::as_str)
                .filter(|id| matches.value_source(id) == Some(ValueSource::EnvVariable))
                .map(str::to_owned)
                .collect();
        }
        Ok(cli)
    }
}

/// The words that were typed, with `tui` where no command is named: only flags, or nothing at all.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let mut at = 1;
    while let Some(word) = args.get(at) {
        let word = word.to_string_lossy();
        if word == "--config" {
            at += 2;
        } else if word.starts_with("--config=") {
            at += 1;
        } else if matches!(&*word, "-h" | "--help" | "-V" | "--version") || !word.starts_with('-') {
            return args;
        } else {
            break;
        }
    }
    args.insert(at.min(args.len()), "tui".into());
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_command_the_dashboard_is_meant() {
        let command = |line: &str| Cli::from_args(line.split(' ')).map(|cli| cli.command);
        assert!(matches!(command("secateur"), Ok(Command::Tui(_))));
        assert!(matches!(command("secateur --config c.toml"), Ok(Command::Tui(_))));
        assert!(matches!(command("secateur --config=c.toml --ascii"), Ok(Command::Tui(_))));
        let Ok(Command::Tui(tui)) = command("secateur --model m --readonly") else { panic!() };
        assert!(tui.readonly && tui.settings.model.as_deref() == Some("m"));
        assert!(matches!(command("secateur --config c.toml list"), Ok(Command::List(_))));
        assert!(command("secateur --help").is_err() && command("secateur nonsense").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_take_commas_spaces_and_repetition() {
        let line = "secateur run --methods wanda,magnitude --sparsity 0.3 2:4 --sparsity -0.1 --offline";
        let Command::Run(run) = Cli::from_args(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!(run.settings.methods.unwrap(), ["wanda", "magnitude"]);
        assert_eq!(run.settings.sparsity.unwrap(), ["0.3", "2:4", "-0.1"]);
        assert_eq!(run.settings.offline, Some(true));
        assert!(run.settings.tasks.is_none() && !run.resume);
    }
}
