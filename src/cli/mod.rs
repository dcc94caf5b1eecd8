//! The command line: what can be typed, and what `--help` says about it.
//!
//! Settings come from the table in [`crate::config`], which also checks them, together with variables and the config
//! file, so that every mistake is reported in one way.

mod find;
mod manual;
mod settings;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::export::ExportedForm;
use crate::kernels::ggml::{GgmlMixture, MIXTURES};

pub use find::FindArgs;
pub use manual::{completions, manual_page};
pub(crate) use settings::{All, OfMachine, SettingsArgs, StoreOnly};
pub use worker::WorkerArgs;

/// `secateur`: everything that was typed.
#[derive(Debug, Parser)]
#[command(
    name = "secateur",
    version,
    about = "Compress a large language model and see what that really costs: perplexity, JS divergence and task scores",
    subcommand_required = true,
    max_term_width = 110,
    after_help = "Without a command, secateur opens the dashboard; without a model, on the built-in study.\n\n\
                  Exit codes: 0 done, 1 a failure, 2 a mistake in the command or its files, 130 interrupted."
)]
pub struct Cli {
    /// Settings file; default ./config.toml, else secateur/config.toml in the config folder
    #[arg(long, global = true, env = "SECATEUR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// What the program can be asked to do.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Open the dashboard, as `secateur` without a command does
    Tui(Box<TuiArgs>),
    /// Compress a model with every method at every level and measure each variant against the base
    #[command(after_help = RUN_AFTER_HELP)]
    Run(Box<RunArgs>),
    /// Find the level at which a recipe breaks a bound, with as few variants as can be
    #[command(after_help = find::AFTER_HELP)]
    Find(Box<FindArgs>),
    /// Compute cells of a study that another process runs, in its study folder
    #[command(after_help = worker::AFTER_HELP)]
    Worker(WorkerArgs),
    /// Report what this machine has and what a study would use
    Doctor(DoctorArgs),
    /// Write a finished cell of a stored study as a model: a Hugging Face folder, GGUF or compressed-tensors
    Export(ExportArgs),
    /// List the studies of a store
    List(ListArgs),
    /// Print a stored study
    Show(ShowArgs),
    /// Compare two cells of a stored study, or a cell and the base: differences, flips, and where they differ most
    Compare(CompareArgs),
    /// Draw a screen of the dashboard into an SVG, PNG or text file, without a terminal
    Snapshot(Box<SnapshotArgs>),
    /// Print every setting with its default, as a config file to start from
    Settings(SettingsListArgs),
    /// Print a script that completes secateur's commands, flags and values in a shell
    #[command(after_help = COMPLETIONS_AFTER_HELP)]
    Completions(CompletionsArgs),
    /// Print the manual page of secateur or of one of its commands
    #[command(after_help = "To read it: secateur man run | man -l -")]
    Man(ManArgs),
}

const RUN_AFTER_HELP: &str = "Lists take commas, spaces or repetition: --sparsity 0.5,2:4 or --corpus a.txt b.txt. \
An empty value (\"\") unsets what the config file sets.\n\n\
Example:\n  secateur run --model ./SmolLM2-135M --methods wanda,sparsegpt --sparsity 0.5,2:4 \\\n    \
--calibration c4 --corpus wikitext2 --max-windows 32 --seq-len 512";

const COMPLETIONS_AFTER_HELP: &str = "\
bash:  secateur completions bash > ~/.local/share/bash-completion/completions/secateur
zsh:   secateur completions zsh > a folder of $fpath/_secateur
fish:  secateur completions fish > ~/.config/fish/completions/secateur.fish";

/// `secateur run`.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct RunArgs {
    /// What to measure and how.
    #[command(flatten)]
    pub settings: SettingsArgs<All>,
    /// Resume the newest study of the store that has the same definition
    #[arg(long, help_heading = "Run")]
    pub resume: bool,
    /// Print the plan and what it needs (memory, disk, time), then stop
    #[arg(long, help_heading = "Run")]
    pub dry_run: bool,
    /// Run even if the estimate says that there is not enough memory
    #[arg(long, help_heading = "Run")]
    pub force: bool,
    /// Run the built-in study: its settings replace the config file's; flags and variables override them
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
    pub settings: SettingsArgs<All>,
    /// How the dashboard looks.
    #[command(flatten)]
    pub look: LookArgs,
    /// Only look; if another process is running a study in the store, follow it live
    #[arg(long, help_heading = "Dashboard")]
    pub readonly: bool,
    /// When the terminal goes away, finish the study without a screen, instead of stopping after the current block
    #[arg(long, help_heading = "Dashboard")]
    pub keep_running: bool,
    /// Use the mouse wheel and click tabs; to copy text with the mouse, hold Shift
    #[arg(long, help_heading = "Dashboard")]
    pub mouse: bool,
    /// Open this study of the store [default with --readonly: the newest]
    #[arg(long, value_name = "N", help_heading = "Dashboard")]
    pub study: Option<i64>,
    /// Print as `secateur run` does, even in a terminal
    #[arg(long, help_heading = "Dashboard")]
    pub no_tui: bool,
    /// Run even if the estimate says that there is not enough memory
    #[arg(long, help_heading = "Dashboard")]
    pub force: bool,
    /// Begin with the built-in study, also where the config file names a model
    #[arg(long, help_heading = "Dashboard")]
    pub demo: bool,
    /// Begin with a part of the built-in study that takes half a minute
    #[arg(long, requires = "demo", help_heading = "Dashboard")]
    pub quick: bool,
}

/// Flags that only the dashboard has, `secateur run` not, with their dashes, and whether the next word is a value.
pub(crate) fn screen_flags() -> Vec<(String, bool)> {
    let program = Cli::command();
    let flags = |name: &str| program.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    let of_run: Vec<_> = flags("run").filter_map(clap::Arg::get_long).collect();
    let own = flags("tui").filter_map(|arg| arg.get_long().map(|long| (arg, long)));
    own.filter(|(_, long)| !of_run.contains(long))
        .map(|(arg, long)| {
            let takes_a_word = arg.get_action().takes_values() && !arg.is_require_equals_set();
            (format!("--{long}"), takes_a_word)
        })
        .collect()
}

/// Colours and symbols.
#[derive(Debug, Clone, Default, Args)]
pub struct LookArgs {
    /// Draw with ASCII only: no braille, no box drawing [default: follows the locale: LC_ALL, LC_CTYPE, LANG]
    #[arg(long, env = "SECATEUR_ASCII", value_name = "BOOL", help_heading = "Dashboard")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = FalseyValueParser::new())]
    pub ascii: Option<bool>,
    /// Colours [default: what the terminal reports]
    #[arg(
        long,
        env = "SECATEUR_COLORS",
        value_enum,
        default_value_t,
        value_name = "HOW",
        help_heading = "Dashboard"
    )]
    pub colors: Colors,
    /// Background of the terminal [default: what the terminal reports, else dark]
    #[arg(long, env = "SECATEUR_BACKGROUND", value_enum, default_value_t, value_name = "HOW")]
    #[arg(help_heading = "Dashboard")]
    pub background: Ground,
}

/// How many colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Colors {
    /// What the terminal reports.
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
    /// What the terminal reports, else dark.
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
    /// Screen to draw
    #[arg(long, value_enum, default_value_t)]
    pub screen: ScreenName,
    /// Size of the screen
    #[arg(long, default_value = "160x48", value_name = "COLUMNSxROWS")]
    pub size: String,
    /// `--store`.
    #[command(flatten)]
    pub settings: SettingsArgs<StoreOnly>,
    /// Number of the study [default: the newest]
    #[arg(long, value_name = "N")]
    pub study: Option<i64>,
    /// Cell to show on the run and inspect screens [default: the last one that is done]
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

/// `secateur doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t = TableFormat::Table)]
    pub format: TableFormat,
    /// What a study would use.
    #[command(flatten)]
    pub settings: SettingsArgs<OfMachine>,
}

/// How `secateur doctor` and `secateur list` print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// Lines for people.
    Table,
    /// JSON.
    Json,
}

/// `secateur export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Id of the cell, as `secateur show --format csv` prints it: wanda-0.5-c4-s0; or base, the model as it came
    pub cell: String,
    /// Folder or file to write; must not exist yet (a folder may be empty)
    pub out: PathBuf,
    /// The format
    #[arg(long = "as", value_name = "FORMAT", default_value_t, help = ExportedForm::help())]
    #[arg(value_parser = PossibleValuesParser::new(ExportedForm::names()).try_map(|name| name.parse::<ExportedForm>()))]
    pub format: ExportedForm,
    /// The types of a GGUF's matrices [default: floats of 16 bits, or of 32 where the source has them]
    #[arg(long, value_name = "TYPE", value_parser = PossibleValuesParser::new(MIXTURES.iter().map(|m| m.name())).try_map(|name| name.parse::<GgmlMixture>()))]
    pub quantize: Option<GgmlMixture>,
    /// The calibration set of an importance matrix, or several as in c4+alpaca [default: the study's first]
    #[arg(long, value_name = "NAME|FILE")]
    pub calibration: Option<String>,
    /// Do not open the export again to compare its perplexity with that of the model in memory
    #[arg(long)]
    pub no_verify: bool,
    /// `--store`.
    #[command(flatten)]
    pub settings: SettingsArgs<StoreOnly>,
    /// Number of the study [default: the newest that has the cell]
    #[arg(long, value_name = "N")]
    pub study: Option<i64>,
}

/// `secateur list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// How to print them
    #[arg(long, value_enum, default_value = "table")]
    pub format: TableFormat,
    /// `--store`.
    #[command(flatten)]
    pub settings: SettingsArgs<StoreOnly>,
}

/// `secateur show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Number of the study [default: the newest]
    pub study: Option<i64>,
    /// `--store`.
    #[command(flatten)]
    pub settings: SettingsArgs<StoreOnly>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = ShowFormat::Table)]
    pub format: ShowFormat,
    /// Print what the surveys of the study's calibration sets say of every block: influence, angles, outliers, errors,
    /// how much the inputs of its output layers vary, and in csv and json the scores of experts
    #[arg(long)]
    pub survey: bool,
    /// Print the profile that an allocation chose for a cell, as `run --profile` reads it
    #[arg(long, value_name = "CELL", conflicts_with_all = ["survey", "format"])]
    pub profile: Option<String>,
}

/// `secateur compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Id of a cell, as `secateur show --format csv` prints it; or base, the model as it came
    pub a: String,
    /// Id of the other one; differences are what it has more or less than A
    pub b: String,
    /// `--store`.
    #[command(flatten)]
    pub settings: SettingsArgs<StoreOnly>,
    /// Number of the study [default: the newest that has the cell]
    #[arg(long, value_name = "N")]
    pub study: Option<i64>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = CompareFormat::Table)]
    pub format: CompareFormat,
}

/// How `secateur compare` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompareFormat {
    /// Lines for people.
    Table,
    /// One JSON object.
    Json,
}

/// `secateur settings`.
#[derive(Debug, Clone, Args)]
pub struct SettingsListArgs {
    /// How to print them
    #[arg(long, value_enum, default_value_t = SettingsFormat::Toml)]
    pub format: SettingsFormat,
}

/// How `secateur settings` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SettingsFormat {
    /// A config file.
    Toml,
    /// A Markdown table.
    Markdown,
}

/// `secateur completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `secateur man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// A command, for its own page
    pub command: Option<String>,
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

impl Cli {
    /// The parser. Its help names variables without their values: those may be long, or nobody's business.
    pub fn parser() -> clap::Command {
        let quiet = |command: clap::Command| command.mut_args(|arg| arg.hide_env_values(true));
        quiet(Self::command()).mut_subcommands(quiet)
    }

    /// Parses a command line whose first item is the program's name.
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
        Self::from_arg_matches(&matches)
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
    use crate::config::setting;

    fn given<'a>(args: &'a SettingsArgs<All>, flag: &str) -> &'a [String] {
        args.given.get(setting(flag).unwrap()).map_or(&[], |(_, words)| words)
    }

    #[test]
    fn without_a_command_the_dashboard_is_meant() {
        let command = |line: &str| Cli::from_args(line.split(' ')).map(|cli| cli.command);
        assert!(matches!(command("secateur"), Ok(CliCommand::Tui(_))));
        assert!(matches!(command("secateur --config c.toml"), Ok(CliCommand::Tui(_))));
        assert!(matches!(command("secateur --config=c.toml --ascii"), Ok(CliCommand::Tui(_))));
        let Ok(CliCommand::Tui(tui)) = command("secateur --model m --readonly") else { panic!() };
        assert!(tui.readonly && given(&tui.settings, "model") == ["m"]);
        assert!(matches!(command("secateur --config c.toml list"), Ok(CliCommand::List(_))));
        assert!(command("secateur --help").is_err() && command("secateur nonsense").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_take_commas_spaces_and_repetition() {
        let line = "secateur run --methods wanda,magnitude --sparsity 0.3 2:4 --sparsity -0.1 --offline";
        let CliCommand::Run(run) = Cli::from_args(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!(given(&run.settings, "methods"), ["wanda", "magnitude"]);
        assert_eq!(given(&run.settings, "sparsity"), ["0.3", "2:4", "-0.1"]);
        assert_eq!(given(&run.settings, "offline"), ["true"]);
        assert!(given(&run.settings, "tasks").is_empty() && !run.resume);
    }
}
