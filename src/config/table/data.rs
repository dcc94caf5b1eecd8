//! What methods calibrate on, and what base and cells are measured on.

use crate::config::entry::SettingEntry;
use crate::config::list::join_list;
use crate::data::{self, FieldNames};
use crate::methods::METHODS;
use crate::study::{Sampling, ScoredPositions};

pub(super) fn entries() -> Vec<SettingEntry> {
    [calibration(), corpora(), tasks(), shots(), fields()].into_iter().flatten().collect()
}

fn fields() -> Vec<SettingEntry> {
    let accepted = data::FIELDS.join(", ");
    vec![
        SettingEntry::list("fields", "evaluation.fields", &[], |draft, found| {
            draft.fields = FieldNames::parse(found.words()).map_err(|e| found.mistake(e))?;
            Ok(())
        })
        .about("Names of fields in files of texts and tasks, such as instruction=q,output=a")
        .detail(format!(
            "The fields are {accepted}. A file that has the usual names is read by these. A name that no file has is \
             refused. A dot leads into a field: output=answer.short."
        ))
        .value_name("FIELD=NAME")
        .unset("the usual names")
        .in_fingerprint()
        .example("text=body"),
    ]
}

fn calibration() -> Vec<SettingEntry> {
    let needy: Vec<&str> =
        METHODS.iter().filter(|method| method.needs_calibration()).map(|method| method.name()).collect();
    vec![
        SettingEntry::list("calibration", "calibration.sets", &["c4"], |draft, found| {
            draft.calibration.sets = found.calibration_sets()?;
            Ok(())
        })
        .about(format!("Calibration sets for {}: c4, wikitext2, alpaca or files", needy.join(", ")))
        .detail(
            "Files are .txt, .jsonl, .ndjson, .json, .csv, .tsv or .parquet, each also with .gz or .zst. Several sets make \
             several cells. Sets with + between them are one set that draws from all of them: c4+alpaca equally, \
             c4*3+alpaca three windows of four from c4.",
        )
        .value_name("NAME|FILE")
        .in_form("calibration", "c4, wikitext2, alpaca or files, with commas; c4+alpaca mixes", |study| {
            join_list(&study.calibration.sets)
        })
        .example("alpaca"),
        SettingEntry::count("calibration-samples", "calibration.samples", 128, 1, |draft, n| {
            draft.calibration.samples = n;
        })
        .about("Windows drawn from each calibration set")
        .value_name("N")
        .in_fingerprint()
        .in_form("samples", "windows drawn from each calibration set", |study| {
            study.calibration.samples.to_string()
        })
        .example("32"),
        SettingEntry::text("sampling", "calibration.sampling", Sampling::Random.name(), |draft, found| {
            draft.calibration.sampling = found.parse()?;
            Ok(())
        })
        .about("How these windows are drawn: random, or head (consecutive from the start)")
        .detail("Random draws documents and offsets by the seed.")
        .value_name("HOW")
        .choices(&Sampling::NAMES)
        .in_fingerprint()
        .in_form("sampling", "random, or head: from the start", |study| {
            study.calibration.sampling.name().to_owned()
        })
        .example("head"),
    ]
}

fn corpora() -> Vec<SettingEntry> {
    vec![
        SettingEntry::list("corpus", "evaluation.corpora", &["wikitext2"], |draft, found| {
            draft.evaluation.corpora = found.data_sets()?;
            Ok(())
        })
        .about("Corpora for perplexity and divergence: wikitext2, c4, alpaca or files")
        .value_name("NAME|FILE")
        .in_fingerprint()
        .in_form("corpora", "texts for perplexity and JS, with commas", |study| {
            join_list(&study.evaluation.corpora)
        })
        .example("other.txt"),
        SettingEntry::count("max-windows", "evaluation.max_windows", 0, 0, |draft, n| {
            draft.evaluation.max_windows = Some(n).filter(|&n| n > 0);
        })
        .about("Most windows to measure of each corpus; 0 means all")
        .value_name("N")
        .in_fingerprint()
        .in_form("max windows", "windows of each text; 0 is all", |study| {
            study.evaluation.max_windows.unwrap_or(0).to_string()
        })
        .example("8"),
        SettingEntry::text("score", "evaluation.score", ScoredPositions::All.name(), |draft, found| {
            draft.evaluation.score = found.parse()?;
            Ok(())
        })
        .about("Which positions of a window count: all, or second-half (as llama.cpp has it)")
        .detail(
            "Positions of the second half have read half of the window or more; the last one, which has no next token, is \
             left out. Figures can then be laid beside those of llama.cpp's own perplexity tool.",
        )
        .value_name("WHICH")
        .choices(&ScoredPositions::NAMES)
        .in_fingerprint()
        .in_form("positions", "all, or second-half: as llama.cpp", |study| {
            study.evaluation.score.name().to_owned()
        })
        .example("second-half"),
    ]
}

fn shots() -> Vec<SettingEntry> {
    vec![
        SettingEntry::count("shots", "evaluation.shots", 0, 0, |draft, n| {
            draft.evaluation.shots.count = n;
        })
        .about("Examples with their answers before each question with choices; 0 means none")
        .detail(
            "They come from --shots-from where it names the task, else from the training part of a set that is known by \
             name, else from the other records of the task's file. Answers in words get none.",
        )
        .value_name("N")
        .in_fingerprint()
        .in_form("shots", "examples before a question; 0 is none", |study| {
            study.evaluation.shots.count.to_string()
        })
        .example("5"),
        SettingEntry::list("shots-from", "evaluation.shots_from", &[], |draft, found| {
            draft.evaluation.shots.sources = found.data_sets_by_task()?;
            Ok(())
        })
        .about("Files that examples are taken from, by task, such as arc=train.jsonl")
        .detail(
            "A task is called by the name of its file, without folders and extension. A question is never among its own \
             examples. The name of a known set in place of a file means its training part.",
        )
        .value_name("TASK=FILE")
        .unset("the training part of a known set, else the other records of the task's file")
        .in_fingerprint()
        .example("arc=train.jsonl"),
    ]
}

fn tasks() -> Vec<SettingEntry> {
    vec![
        SettingEntry::list("tasks", "evaluation.tasks", &[], |draft, found| {
            draft.evaluation.tasks = found.data_sets()?;
            Ok(())
        })
        .about("Tasks: questions that are answered in words (alpaca, or files) or by the likelihood of choices (arc_easy, hellaswag, lambada and others, or files)")
        .detail(
            "A record has instruction and output or references; question and answer or answers (with its context); \
             prompt and completion; messages; or query, choices and gold.",
        )
        .value_name("NAME|FILE")
        .unset("none")
        .in_fingerprint()
        .in_form("tasks", "task files, with commas; empty: none", |study| join_list(&study.evaluation.tasks))
        .example("t.jsonl"),
        SettingEntry::count("task-limit", "evaluation.task_limit", 0, 0, |draft, n| {
            draft.evaluation.task_limit = Some(n).filter(|&n| n > 0);
        })
        .about("Most records to answer of each task; 0 means all")
        .value_name("N")
        .in_fingerprint()
        .in_form("task limit", "records of each task; 0 is all", |study| {
            study.evaluation.task_limit.unwrap_or(0).to_string()
        })
        .example("16"),
        SettingEntry::count("max-new-tokens", "evaluation.max_new_tokens", 64, 1, |draft, n| {
            draft.evaluation.max_new_tokens = n;
        })
        .about("Longest answer, in tokens")
        .value_name("N")
        .in_fingerprint()
        .in_form("answer tokens", "longest answer", |study| study.evaluation.max_new_tokens.to_string())
        .example("32"),
        SettingEntry::text("prompt", "evaluation.prompt", "", |draft, found| {
            if found.text().is_some_and(|text| !text.contains("{instruction}")) {
                return Err(found.refuse(&found.value, "a template with {instruction} in it (and {input})"));
            }
            draft.evaluation.prompt = found.text().is_some().then(|| found.value.clone());
            Ok(())
        })
        .about("Prompt template with {instruction} and {input}")
        .value_name("TEMPLATE")
        .unset("the model's chat template, else Alpaca's")
        .in_fingerprint()
        .example("Q: {instruction}"),
        SettingEntry::switch("disagreement", "evaluation.disagreement", true, |draft, yes| {
            draft.evaluation.disagreement = yes;
        })
        .about("Measure how far base and cell disagree at each token of the answers")
        .detail("The measure is JS divergence in bits. It takes a fraction of the time that the answers take.")
        .value_name("BOOL")
        .example("false"),
    ]
}
