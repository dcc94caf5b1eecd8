//! Every score of the registry, through all that people meet it in.

#![allow(clippy::float_cmp, reason = "exact values are meant")]

mod samples;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use secateur::report;
use secateur::results::{Metrics, StudyResult};
use secateur::scores::{Better, Measure, PERPLEXITY_RATIO, SCORES, Score, Subject};
use serde_json::{Value, json};

/// A study in which every score was measured, each with a value of its own.
fn study() -> StudyResult {
    let mut result = samples::result();
    result.cells.truncate(1);
    let measured = |score: &Score, i: usize| {
        let details = vec![0.25; score.details.len()];
        samples::measured(score, "set", 0.5 + i as f64 / 64.0, &details)
    };
    let all: Vec<_> = SCORES.iter().enumerate().map(|(i, score)| (score, measured(score, i))).collect();
    let own = all.iter().filter(|(score, _)| !score.compares()).map(|(_, value)| value.clone());
    result.base.metrics = Metrics { values: own.collect() };
    result.cells[0].metrics = Metrics { values: all.into_iter().map(|(_, value)| value).collect() };
    result
}

#[test]
fn names_are_unique_and_say_something() {
    for name in [|s: &Score| s.id, |s: &Score| s.csv, |s: &Score| s.title, |s: &Score| s.name] {
        let names: BTreeSet<&str> = SCORES.iter().map(|score| name(score)).collect();
        assert_eq!(names.len(), SCORES.len(), "{names:?}");
    }
    for score in SCORES {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(score.id.chars().all(word) && score.csv.chars().all(word), "{}", score.id);
        assert!(score.about.ends_with('.') && score.about.is_ascii(), "{}: {}", score.id, score.about);
        assert!(score.details.iter().all(|detail| detail.name.chars().all(word)), "{}", score.id);
    }
}

#[test]
fn values_from_end_to_end_of_the_range_are_written_and_weighed() {
    for score in SCORES {
        let [low, high] = score.range;
        assert!(low < high, "{}", score.id);
        for value in [low, high, f64::NAN] {
            let texts = [score.in_table(value), score.in_line(value)];
            assert!(texts.iter().all(|text| !text.is_empty() && text.len() < 30), "{}: {texts:?}", score.id);
        }
        assert_ne!(score.in_table(low), score.in_table(high), "{}", score.id);
        let (better, worse) = match score.better {
            Better::Lower => (low, high),
            Better::Higher => (high, low),
        };
        assert!(score.damage(better) < score.damage(worse), "{}", score.id);
        if let Some(same) = score.of_itself {
            // A cell may be better than the base where a score is a ratio.
            assert!(
                same == better || score == &&PERPLEXITY_RATIO,
                "{}: nothing is better than the base itself",
                score.id
            );
            assert!((low..=high).contains(&same), "{}", score.id);
        }
    }
}

#[test]
fn measuring_gives_as_many_details_as_are_named() {
    for score in SCORES {
        if let Measure::Windows(measure) = score.measure {
            assert_eq!(measure(&[]).details.len(), score.details.len(), "{}", score.id);
        }
    }
}

#[test]
fn every_score_is_in_table_markdown_and_csv() {
    let result = study();
    let (table, markdown, csv) = (report::table(&result, 0), report::markdown(&result), report::csv(&result));
    for (i, score) in SCORES.iter().enumerate() {
        let value = 0.5 + i as f64 / 64.0;
        let head = score.short_head();
        let titles = table.lines().nth(3).unwrap();
        assert!(titles.contains(&head), "no {head} in {titles}");
        assert!(markdown.contains(&format!(" {head} |")), "no {head} in\n{markdown}");
        for text in [&table, &markdown] {
            assert!(
                text.contains(&score.in_table(value)),
                "no {} of {}:\n{text}",
                score.in_table(value),
                score.id
            );
        }
        let column =
            csv.lines().next().unwrap().split(',').position(|name| name == format!("{}.set", score.csv));
        // The warning before the scores breaks the line.
        let cell = csv.lines().nth(3).unwrap().rsplit(',');
        let columns = csv.lines().next().unwrap().split(',').count();
        let column = column.unwrap_or_else(|| panic!("no {} in\n{csv}", score.csv));
        assert_eq!(cell.clone().nth(columns - 1 - column), Some(&*value.to_string()), "{}\n{csv}", score.csv);
    }
}

fn schema_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/report.schema.json")
}

/// What the schema says of one score's measurements. Details are not required: a study of an earlier version has fewer.
fn measurement(score: &Score) -> Value {
    let [low, high] =
        score.range.map(|end| if end.is_infinite() { "infinity".into() } else { end.to_string() });
    let better = match score.better {
        Better::Lower => "lower",
        Better::Higher => "higher",
    };
    let unit = if score.unit.is_empty() { String::new() } else { format!(" {}", score.unit) };
    let details = score.details.iter().map(|detail| {
        let number = json!({"$ref": "#/$defs/number", "description": detail.about});
        (detail.name.to_owned(), number)
    });
    json!({
        "title": score.title,
        "description": format!("{} {low} to {high}{unit}; {better} is better.", score.about),
        "properties": {
            "score": {"const": score.id},
            "details": {
                "properties": details.collect::<serde_json::Map<_, _>>(),
                "additionalProperties": false
            }
        }
    })
}

/// The registry is the list that the schema has: `UPDATE_DOCS=1 cargo test --release --test scores` writes it there.
#[test]
fn the_schema_has_every_score() {
    let text = std::fs::read_to_string(schema_file()).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    let scores: Vec<Value> = SCORES.iter().map(|score| measurement(score)).collect();
    *schema.pointer_mut("/$defs/measurement/oneOf").unwrap() = scores.into();
    for (list, subject) in [("texts", Subject::Corpus), ("tasks", Subject::Task)] {
        let ids: Vec<&str> = SCORES.iter().filter(|score| score.subject() == subject).map(|s| s.id).collect();
        let place = format!("/properties/rank_correlations/properties/{list}/items/properties/score/enum");
        *schema.pointer_mut(&place).unwrap() = ids.into();
    }
    let expected = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(schema_file(), &expected).unwrap();
        return;
    }
    assert!(
        text == expected,
        "assets/report.schema.json is out of date; UPDATE_DOCS=1 cargo test --release --test scores writes it"
    );
}
