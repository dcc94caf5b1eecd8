//! The `secateur` program: parses the command line, installs the hooks, dispatches.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use color_eyre::config::{HookBuilder, Theme};
use secateur::cli::{self, Cli, CliCommand, DoctorArgs, RunArgs, SettingsFormat, TableFormat, TuiArgs};
use secateur::config::{self, Basics, Settings};
use secateur::engine::RunOptions;
use secateur::error::{Error, Result};
use secateur::results::StudyResult;
use secateur::store::Store;
use secateur::tui::{self, StartsWith, effects::SettingsSource, picture};
use secateur::{commands, demo, doctor, headless, report};

/// Hands what a phase has freed back to the system before the next one asks for its own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    install_hooks();
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::from_args(&words) {
        Ok(cli) => cli,
        Err(error) => {
            // Help for a reader that has gone is no reason to fail.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli, &words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Standard error may be gone (a closed terminal); there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {}", error.printable());
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(Cli { config: file, command }: Cli, words: &[OsString]) -> Result<u8> {
    let config = file.as_deref();
    match command {
        CliCommand::Tui(args) => dashboard(file, *args, words),
        CliCommand::Run(args) => {
            let settings = run_settings(config, &args)?;
            if args.dry_run { print(&headless::plan(&settings)?) } else { run_headless(&settings, words) }
        }
        CliCommand::Find(args) => {
            let search = headless::SearchSetup::new(config, &args)?;
            if args.dry_run { print(&search.plan()?) } else { Ok(search.run(&texts(words))?.exit_code()) }
        }
        CliCommand::Worker(args) => headless::work(args),
        CliCommand::Doctor(DoctorArgs { format, settings }) => {
            let report = doctor::DoctorReport::gather(&Basics::load(config, &settings.given)?)?;
            print(&match format {
                TableFormat::Table => report.text(),
                TableFormat::Json => serde_json::to_string_pretty(&report)
                    .map_err(|e| Error::failure(format!("cannot write the report as JSON: {e}")))?,
            })
        }
        CliCommand::Export(args) => {
            print(&headless::until_stopped(move || commands::export(file.as_deref(), &args))?)
        }
        CliCommand::List(args) => print(&commands::list(config, &args)?),
        CliCommand::Snapshot(args) => print(&picture::take(config, &args)?),
        CliCommand::Settings(args) => print(&match args.format {
            SettingsFormat::Toml => config::documented_file(),
            SettingsFormat::Markdown => config::markdown(),
        }),
        CliCommand::Completions(args) => print(&cli::completions(args.shell)),
        CliCommand::Man(args) => print(&cli::manual_page(args.command.as_deref())?),
        CliCommand::Compare(args) => print(&commands::compare(config, &args, headless::terminal_width())?),
        CliCommand::Show(args) => print(&commands::show(config, &args, headless::terminal_width())?),
    }
}

/// The dashboard; where there is no terminal, the same study without a screen. Where no model is named it opens on the
/// built-in study.
fn dashboard(config: Option<PathBuf>, args: TuiArgs, words: &[OsString]) -> Result<u8> {
    let TuiArgs { settings, look, readonly, keep_running, mouse, study, no_tui, force, demo, quick } = args;
    let named = !demo && Settings::name_a_model(config.as_deref(), &settings.given)?;
    let config = if named { config } else { Some(demo::settings_file(quick)?) };
    // What is to be typed to resume has to name the built-in study.
    let own_choice = (!named && !demo).then(|| OsString::from("--demo"));
    let words: Vec<OsString> = words.iter().cloned().chain(own_choice).collect();
    let store_named = config::setting("store")
        .and_then(|store| settings.given.get(store))
        .is_some_and(|(means, _)| means == config::Means::Flag);
    let opens = match study {
        Some(study) => StartsWith::Study(study),
        // Who names a store and no model wants to see what is in the store.
        None if readonly || (store_named && !named && !demo) => StartsWith::Newest,
        None => StartsWith::Form,
    };
    let run = RunOptions { force, ..RunOptions::default() };
    let found = Settings::load(config.as_deref(), &settings.given, run)?;
    if no_tui {
        if readonly || study.is_some() {
            return Err(Error::mistake(format!(
                "--no-tui runs a study, which {} does not go with; `secateur show` prints a stored one",
                if readonly { "--readonly" } else { "--study" }
            )));
        }
        return run_headless(&found, &words);
    }
    if let Some(why) = tui::why_impossible(&picture::variable) {
        if readonly || study.is_some() {
            return Err(Error::mistake(format!(
                "no dashboard ({why}): `secateur show` prints a stored study"
            )));
        }
        // Standard error may be gone; then nobody needs to know.
        let _ = writeln!(io::stderr(), "no dashboard ({why}): the study runs without it");
        return run_headless(&found, &words);
    }
    if let Some(number) = study {
        // A study that is not there is told before the screen is taken.
        Store::open_read_only(&found.basics.store)?.study(number)?;
    }
    let setup = tui::Setup {
        settings: found,
        origin: SettingsSource { config, given: settings.given },
        theme: picture::theme(&look, &picture::variable),
        mouse,
        readonly,
        keep_running,
        opens,
    };
    tui::run(setup, table)
}

/// The settings of a run; with `--demo` the built-in study's file replaces the config file.
fn run_settings(config: Option<&Path>, args: &RunArgs) -> Result<Settings> {
    let RunArgs { ref settings, resume, force, demo, quick, .. } = *args;
    let built_in = if demo { Some(demo::settings_file(quick)?) } else { None };
    let run = RunOptions { resume, force, ..RunOptions::default() };
    let found = Settings::load(built_in.as_deref().or(config), &settings.given, run)?;
    found.check_save_flags(&settings.given)?;
    Ok(found)
}

/// The engine without a screen; `words` are the command line.
fn run_headless(settings: &Settings, words: &[OsString]) -> Result<u8> {
    Ok(headless::run(settings, &texts(words), table)?.exit_code())
}

/// The command line as text.
fn texts(words: &[OsString]) -> Vec<String> {
    words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The table of a result.
fn table(result: &StudyResult) -> String {
    report::table(result, headless::terminal_width())
}

/// Prints to standard output; a reader that has gone is no error.
fn print(text: &str) -> Result<u8> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Io { context: "cannot write to standard output".into(), source: e })
        }
        _ => Ok(0),
    }
}

/// Makes panics readable. Errors are one line each, and need no report.
fn install_hooks() {
    let plain = !io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let theme = if plain { Theme::new() } else { Theme::dark() };
    // It fails only where hooks are installed already, which leaves those in place.
    let _ = HookBuilder::default().theme(theme).display_env_section(false).install();
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !secateur::panics::expected() {
            report(info);
        }
    }));
}
