//! What may stand in a config file and on the command line, and what is said about what may not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use secateur::Error;
use secateur::cli::{Cli, CliCommand, RunArgs};
use secateur::config::{OutputFormat, Settings, documented_file};
use secateur::engine::RunOptions;
use secateur::study::{CellSpec, Sampling};

/// The flags of a line after `secateur run`, in which `""` is an empty word.
fn run_args(line: &str) -> RunArgs {
    let words = line.split_whitespace().map(|word| if word == "\"\"" { "" } else { word });
    match Cli::from_args(["secateur", "run"].into_iter().chain(words)).unwrap().command {
        CliCommand::Run(args) => *args,
        other => panic!("{other:?}"),
    }
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml")
}

/// The settings of a command line over a config file.
fn load(path: &Path, line: &str) -> Result<Settings, Error> {
    let RunArgs { settings, resume, force, .. } = run_args(line);
    let run = RunOptions { resume, force, ..RunOptions::default() };
    Settings::load(Some(path), &settings.given, run)
}

/// The settings of a command line over the config file that is committed.
fn settings(line: &str) -> Result<Settings, Error> {
    load(&committed(), line)
}

/// The settings of a command line over a config file with this text, in a folder of its own.
fn settings_of_file(text: &str, line: &str) -> (tempfile::TempDir, Result<Settings, Error>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let settings = load(&path, line);
    (folder, settings)
}

/// A mistake with exit code 2, on one line that has all of `parts` in it.
fn assert_mistake(case: &str, settings: Result<Settings, Error>, parts: &[&str]) {
    let error = settings.expect_err(case);
    let message = error.to_string();
    assert_eq!(error.exit_code(), 2, "{case}: {message}");
    assert!(!message.contains('\n'), "{case}: {message}");
    for part in parts {
        assert!(message.contains(part), "{case}: no `{part}` in: {message}");
    }
}

#[test]
fn the_committed_file_has_the_defaults() {
    let (_folder, empty) = settings_of_file("", "--model m");
    let (empty, full) = (empty.unwrap(), settings("--model m").unwrap());
    assert_eq!(empty.study, full.study);
    assert_eq!(empty.format, full.format);
    assert_eq!(empty.basics.store, full.basics.store);
}

#[test]
fn every_key_of_the_committed_file_has_a_comment_that_names_its_flag() {
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    let flags: BTreeSet<String> =
        run.get_arguments().filter_map(|arg| arg.get_long()).map(|long| format!("--{long}")).collect();
    let mut named = BTreeSet::new();
    let mut comment = String::new();
    for line in documented_file().lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
            continue;
        }
        if line.contains(" = ") {
            let flag = comment.rsplit_once('(').and_then(|(_, rest)| rest.split_once(')'));
            let (flag, _) = flag.unwrap_or_else(|| panic!("no flag in the comment of: {line}"));
            named.insert(flag.to_owned());
        }
        comment.clear();
    }
    let only_flags = ["--config", "--resume", "--dry-run", "--force", "--demo", "--quick", "--help"];
    let keys: BTreeSet<String> =
        flags.into_iter().filter(|flag| !only_flags.contains(&flag.as_str())).collect();
    assert_eq!(named, keys);
}

#[test]
fn the_defaults_are_those_of_the_references() {
    let defaults = settings("--model m").unwrap();
    let study = &defaults.study;
    let labels: Vec<String> = study.cells.iter().map(CellSpec::label).collect();
    assert_eq!(labels, ["magnitude 50%", "wanda 50% c4", "sparsegpt 50% c4"]);
    assert_eq!((study.seq_len, study.calibration.samples, study.seed), (2048, 128, 0));
    assert_eq!((study.calibration.sampling, study.evaluation.max_windows), (Sampling::Random, None));
    assert!((study.prune.damping - 0.01).abs() < 1e-12);
    assert_eq!((study.prune.block_size, study.prune.blocks), (128, None));
    assert_eq!(study.prune.modules, ["*"]);
    assert_eq!(study.evaluation.corpora, ["wikitext2"]);
    assert!(
        study.evaluation.tasks.is_empty() && defaults.basics.threads.is_none() && !defaults.basics.offline
    );
}

#[test]
fn flags_become_the_study() {
    let line = "--model org/name --methods wanda,magnitude --sparsity 0.5 50% 2:4 --calibration a/c4.txt \
                --calibration alpaca --calibration-samples 32 --sampling head --seq-len 512 --seed 7 \
                --corpus w.txt --max-windows 8 --tasks t.jsonl --task-limit 64 --shots 5 --shots-from t=train.jsonl --max-new-tokens 32 \
                --modules down_proj,self_attn.q_proj --blocks 2..5 --damping 0.1 --block-size 64 --profile p.txt \
                --device cpu --dtype f32 --threads 2 --batch-tokens 1024 --batch-prompts 4 --offline \
                --store s.db --save-models out --format jsonl --resume --dry-run --force";
    let Settings { study, run, format, basics } = settings(line).unwrap();
    let ids: Vec<String> = study.cells.iter().map(CellSpec::id).collect();
    let expected = [
        "wanda-0.5-c4-s7",
        "wanda-2of4-c4-s7",
        "wanda-0.5-alpaca-s7",
        "wanda-2of4-alpaca-s7",
        "magnitude-0.5",
        "magnitude-2of4",
    ];
    assert_eq!(ids, expected);
    assert_eq!(study.cells[1].recipe.to_string(), "wanda@2:4");
    assert_eq!((study.model.as_str(), study.seq_len, study.calibration.samples), ("org/name", 512, 32));
    assert_eq!(study.calibration.sampling, Sampling::Head);
    assert_eq!((study.evaluation.max_windows, study.evaluation.task_limit), (Some(8), Some(64)));
    assert_eq!(study.evaluation.max_new_tokens, 32);
    assert_eq!(study.evaluation.shots.count, 5);
    assert_eq!(study.evaluation.shots.sources, [("t".to_owned(), "train.jsonl".to_owned())].into());
    assert_eq!(study.prune.modules, ["down_proj", "self_attn.q_proj"]);
    assert_eq!((study.prune.blocks, study.prune.block_size), (Some((2, 5)), 64));
    assert_eq!(study.prune.profile.as_deref(), Some(Path::new("p.txt")));
    assert_eq!((study.compute.batch_tokens, study.compute.batch_prompts), (1024, 4));
    assert!(run.resume && run.force);
    assert_eq!(run.save_models.as_deref(), Some(Path::new("out")));
    assert_eq!(format, OutputFormat::Jsonl);
    assert_eq!((basics.threads, basics.offline, basics.store.as_path()), (Some(2), true, Path::new("s.db")));
}

#[test]
fn a_study_of_methods_without_data_has_no_calibration_set() {
    let study = settings("--model m --methods magnitude").unwrap().study;
    assert!(study.calibration.sets.is_empty());
    assert_eq!(study.cells[0].recipe.method(), "magnitude");
}

#[test]
fn parameters_of_every_step_belong_to_the_recipe_that_a_list_was_split_in() {
    let line = "--model m --calibration c4 --recipe depth@25%,by=angular+gptq@4bit,group=64,sym,wanda@50%";
    let study = settings(line).unwrap().study;
    let recipes: Vec<String> = study.cells.iter().map(|cell| cell.recipe.to_string()).collect();
    assert_eq!(recipes, ["depth@25%,by=angular+gptq@4bit,group=64,sym", "wanda@50%"]);
}

#[test]
fn what_is_removed_has_levels_of_its_own_and_the_methods_that_do_it_run_at_them() {
    let ids = |line: &str| -> Vec<String> {
        settings(line).unwrap().study.cells.iter().map(CellSpec::id).collect()
    };
    let line = "--model m --methods magnitude --sparsity 50% --calibration c4";
    assert_eq!(
        ids(&format!("{line} --structure 20%,8blocks")),
        ["magnitude-0.5", "depth-0.2-c4-s0", "depth-8blocks-c4-s0", "width-0.2-c4-s0"]
    );
    assert_eq!(ids("--model m --methods depth --calibration c4"), ["depth-0.25-c4-s0"]);
    let error = settings(&format!("{line} --structure 2:4")).unwrap_err().to_string();
    assert!(error.contains("--structure") && error.contains("a share above 0"), "{error}");
}

#[test]
fn mistakes_name_the_flag_what_was_found_and_what_is_accepted() {
    for (line, parts) in [
        ("", &["no model", "--model", "SECATEUR_MODEL", "[study]"][..]),
        ("--model \"\"", &["no model"]),
        ("--model m --methods obd", &["--methods", "`obd`", "magnitude, wanda, sparsegpt"]),
        ("--model m --methods \"\"", &["--methods", "nothing", "magnitude, wanda, sparsegpt"]),
        ("--model m --sparsity 1.0", &["--sparsity", "`1.0`", "0 <= s < 1"]),
        ("--model m --sparsity -0.1", &["--sparsity", "`-0.1`", "0 <= s < 1"]),
        ("--model m --sparsity 0.5,4:2", &["--sparsity", "`4:2`", "N < M"]),
        ("--model m --sparsity \"\"", &["--sparsity", "nothing", "2:4"]),
        ("--model m --seq-len 0", &["--seq-len", "`0`", "2 or more"]),
        ("--model m --seq-len 1", &["--seq-len", "`1`", "2 or more"]),
        ("--model m --calibration-samples 0", &["--calibration-samples", "`0`", "1 or more"]),
        ("--model m --max-new-tokens 0", &["--max-new-tokens", "`0`", "1 or more"]),
        ("--model m --batch-tokens 0", &["--batch-tokens", "`0`", "1 or more"]),
        ("--model m --batch-prompts 0", &["--batch-prompts", "`0`", "1 or more"]),
        ("--model m --block-size 0", &["--block-size", "`0`", "1 or more"]),
        ("--model m --sampling tail", &["--sampling", "`tail`", "random, head"]),
        ("--model m --damping 2000", &["--damping", "`2000`", "from 0 to 1000"]),
        ("--model m --damping -1", &["--damping", "`-1`", "from 0 to 1000"]),
        ("--model m --damping nan", &["--damping", "`NaN`", "from 0"]),
        ("--model m --damping inf", &["--damping", "`inf`", "from 0"]),
        ("--model m --blocks 5..2", &["--blocks", "`5..2`", "a < b"]),
        ("--model m --blocks 3..3", &["--blocks", "`3..3`", "a < b"]),
        ("--model m --blocks all", &["--blocks", "`all`", "a < b"]),
        ("--model m --modules \"\"", &["--modules", "nothing", "q_proj"]),
        ("--model m --device tpu", &["--device", "`tpu`", "auto, cpu, cuda"]),
        ("--model m --dtype int8", &["--dtype", "`int8`", "auto, f32, bf16, f16"]),
        ("--model m --device cpu --dtype bf16", &["--dtype", "`bf16`", "f32"]),
        ("--model m --device cpu --dtype f16", &["--dtype", "`f16`", "f32"]),
        ("--model m --threads 5000", &["--threads", "`5000`", "1024"]),
        ("--model m --format yaml", &["--format", "`yaml`", "table, json, jsonl"]),
        ("--model m --calibration \"\"", &["wanda", "--calibration"]),
        ("--model m --corpus \"\"", &["nothing to measure", "--corpus", "--tasks"]),
        (
            "--model m --calibration a/c4.txt,b/c4.jsonl",
            &["--calibration", "`a/c4.txt`", "`b/c4.jsonl`", "`c4`"],
        ),
        ("--model m --calibration c4*0+alpaca", &["--calibration", "`0`", "`c4`", "a whole number from 1"]),
        ("--model m --calibration c4+", &["--calibration", "`c4+`", "found nothing", "c4*3+alpaca"]),
        ("--model m --calibration c4*3", &["--calibration", "`c4*3`", "one set", "c4*3+alpaca"]),
        ("--model m --calibration a/c4.txt+c4", &["--calibration", "`a/c4.txt`", "`c4`"]),
        ("--model m --corpus w.txt --corpus w.txt", &["--corpus", "`w.txt`"]),
        ("--model m --tasks t.json,x/t.jsonl", &["--tasks", "`t.json`", "`x/t.jsonl`"]),
        ("--model m --prompt Answer:", &["--prompt", "`Answer:`", "{instruction}"]),
    ] {
        assert_mistake(line, settings(line), parts);
    }
}

#[test]
fn mistakes_in_a_file_name_file_line_and_key() {
    for (text, parts) in [
        ("[study]\nsparsity = [0.5, 1.5]\n", &["c.toml:2", "`sparsity`", "`1.5`"][..]),
        ("[calibration]\n# few\nsamples = 0\n", &["c.toml:3", "`samples`", "`0`"]),
        ("[prune]\ndamping = -0.5\n", &["c.toml:2", "`damping`", "`-0.5`"]),
        ("[prune]\ndamping = \"much\"\n", &["c.toml:2", "`damping`", "\"much\"", "a number"]),
        ("[evaluation]\ncorpora = \"wikitext2\"\n", &["c.toml:2", "`corpora`", "wikitext2", "a list"]),
        ("[evaluation]\ncorpus = []\n", &["c.toml:2", "unknown key `corpus`", "`corpora`", "`max_windows`"]),
        ("[compute]\noffline = 1\n", &["c.toml:2", "`offline`", "true or false"]),
        ("[compute]\nthreads = -2\n", &["c.toml:2", "`threads`", "`-2`", "whole number"]),
        ("[output]\nformat = \"xml\"\n", &["c.toml:2", "`format`", "`xml`", "jsonl"]),
        ("[network]\n", &["c.toml:1", "unknown key `network`", "`compute`"]),
        ("model = \"m\"\n", &["c.toml:1", "unknown key `model`", "`study`"]),
        ("[study\n", &["c.toml:1", "TOML"]),
        ("[study]\nseed = 1\nseed = 2\n", &["c.toml:3", "TOML", "duplicate key"]),
    ] {
        let (_folder, settings) = settings_of_file(text, "--model m");
        assert_mistake(text, settings, parts);
    }
}

#[test]
fn relative_paths_in_a_file_start_at_its_folder_and_names_stay_names() {
    let text = "[study]\nmodel = \"org/name\"\n[calibration]\nsets = [\"c4\", \"texts/a.txt\"]\n\
                [evaluation]\ncorpora = [\"../b.txt\", \"/abs/c.txt\"]\ntasks = [\"~/t.jsonl\"]\n\
                [prune]\nprofile = \"p.txt\"\n[output]\nstore = \"s.db\"\nsave_models = \"out\"\n";
    let (folder, settings) = settings_of_file(text, "");
    let Settings { study, run, basics, .. } = settings.unwrap();
    let at = |path: &str| folder.path().join(path);
    let text_at = |path: &str| at(path).to_string_lossy().into_owned();
    assert_eq!(study.model, "org/name");
    assert_eq!(study.calibration.sets, ["c4".to_owned(), text_at("texts/a.txt")]);
    assert_eq!(study.evaluation.corpora, [text_at("../b.txt"), "/abs/c.txt".to_owned()]);
    assert!(Path::new(&study.evaluation.tasks[0]).is_absolute() && !study.evaluation.tasks[0].contains('~'));
    assert_eq!(study.prune.profile, Some(at("p.txt")));
    assert_eq!((basics.store, run.save_models), (at("s.db"), Some(at("out"))));
}

#[test]
fn every_set_of_a_mixture_is_a_name_or_starts_at_the_files_folder() {
    let text = "[calibration]\nsets = [\"c4*3 + texts/a.txt\", \"b+c.txt\", \"b+c.txt+alpaca\"]\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.path().join("b+c.txt"), "A file whose name has a plus.").unwrap();
    let study = load(&path, "--model m --methods wanda --sparsity 0.5").unwrap().study;
    let at = |path: &str| folder.path().join(path).to_string_lossy().into_owned();
    let mixed = format!("{}+alpaca", at("b+c.txt"));
    assert_eq!(study.calibration.sets, [format!("c4*3+{}", at("texts/a.txt")), at("b+c.txt"), mixed]);
    let ids: Vec<String> = study.cells.iter().map(CellSpec::id).collect();
    assert_eq!(ids, ["wanda-0.5-c4x3+a-s0", "wanda-0.5-b_c-s0", "wanda-0.5-b_c+alpaca-s0"]);
    assert_eq!(study.cells[0].label(), "wanda 50% c4*3+a");
}

#[test]
fn a_model_in_a_file_is_a_folder_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::create_dir_all(folder.path().join("org/name")).unwrap();
    for model in ["org/name", "./new", "a/b/c"] {
        std::fs::write(&path, format!("[study]\nmodel = \"{model}\"\n")).unwrap();
        let settings = load(&path, "").unwrap();
        assert_eq!(Path::new(&settings.study.model), folder.path().join(model));
    }
}

#[test]
fn an_empty_flag_unsets_what_the_file_sets() {
    let text = "[evaluation]\ntasks = [\"t.json\"]\nmax_windows = 9\nprompt = \"{instruction}\"\n";
    let (_folder, with) = settings_of_file(text, "--model m");
    let with = with.unwrap().study.evaluation;
    assert_eq!((with.tasks.len(), with.max_windows, with.prompt.is_some()), (1, Some(9), true));
    let (_folder, without) = settings_of_file(text, "--model m --tasks \"\" --max-windows 0 --prompt \"\"");
    let without = without.unwrap().study.evaluation;
    assert_eq!((without.tasks.len(), without.max_windows, without.prompt), (0, None, None));
}
