//! Calibration sets that draw from several texts.

use super::windows::{counting, numbers};
use super::*;
use crate::skip;
use crate::study::{NAMED_TEXTS, Sampling};

fn drawn(set: &str, samples: usize, sampling: Sampling) -> Result<super::super::calibration_set::DrawnSet> {
    let draw = WindowDraw { samples, seq_len: 5, sampling, seed: 7 };
    draw_set(set, &FieldNames::default(), &numbers(), &draw, &mut NoFetch)
}

fn windows(set: &str, samples: usize, sampling: Sampling) -> Vec<Vec<u32>> {
    drawn(set, samples, sampling).unwrap().windows
}

/// Two files of numbers that differ.
fn two_files(folder: &TempDir) -> (String, String) {
    let lines: Vec<String> =
        (0..9).map(|n| format!("{{\"text\":\"{}\"}}", counting(500 + 10 * n..508 + 10 * n))).collect();
    (write(folder, "a.txt", counting(0..400)), write(folder, "b.jsonl", lines.join("\n")))
}

#[test]
fn each_component_is_drawn_as_if_it_stood_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = two_files(&folder);
    for sampling in [Sampling::Head, Sampling::Random] {
        for (set, [of_a, of_b]) in
            [(format!("{a}+{b}"), [4, 4]), (format!("{a}*3+{b}"), [6, 2]), (format!("{a} + {b} * 3"), [2, 6])]
        {
            let expected = [windows(&a, of_a, sampling), windows(&b, of_b, sampling)].concat();
            assert_eq!(windows(&set, 8, sampling), expected, "{set} {sampling:?}");
        }
    }
    let found = drawn(&format!("{a}+{b}"), 7, Sampling::Random).unwrap();
    let counts: Vec<_> =
        found.components.iter().map(|c| (c.name.as_deref().unwrap(), c.coverage.windows)).collect();
    assert_eq!(counts, [("a", 4), ("b", 3)]);
    assert_eq!(drawn(&a, 7, Sampling::Random).unwrap().components[0].name, None);
}

#[test]
fn the_component_that_is_thin_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (a, _) = two_files(&folder);
    let thin = write(&folder, "page.txt", counting(0..7));
    let found = drawn(&format!("{a}+{thin}"), 16, Sampling::Random).unwrap();
    let warnings: Vec<_> = found.warnings("a+page").collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0]
            .starts_with("calibration set a+page, component page: thin calibration, 8 windows of 5 tokens"),
        "{warnings:?}"
    );
    let found = drawn(&thin, 8, Sampling::Random).unwrap();
    assert!(found.warnings("page").next().unwrap().starts_with("calibration set page: thin calibration"));
}

#[test]
fn a_file_whose_name_has_a_plus_is_one_text() {
    let folder = tempfile::tempdir().unwrap();
    let (a, _) = two_files(&folder);
    let both = write(&folder, "a.txt+b.txt", counting(700..760));
    assert_eq!(windows(&both, 2, Sampling::Head)[0], (700..705).collect::<Vec<_>>());
    let found = drawn(&format!("{both}+{a}"), 2, Sampling::Head).unwrap();
    assert_eq!(found.windows, [(700..705).collect::<Vec<_>>(), (0..5).collect()]);
}

#[test]
fn a_component_with_a_mistake_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (a, _) = two_files(&folder);
    let message = mistake("nothing", drawn(&format!("{a}+nothing"), 4, Sampling::Head));
    assert!(
        message.starts_with("`nothing` is neither a file nor a known text: known by name: wikitext2"),
        "{message}"
    );
    let message = mistake("gone.txt", drawn(&format!("{a}+gone.txt"), 4, Sampling::Head));
    assert!(message.contains("no such file"), "{message}");
    let message = mistake("c4", drawn(&format!("{a}*900+c4"), 4, Sampling::Head));
    assert!(message.contains("none would come from `c4`"), "{message}");
}

#[test]
fn the_windows_of_a_mixture_are_those_of_the_reference() {
    let (Some(model), Some(data), Some(gold)) =
        (skip::smollm2(), skip::shared("data"), skip::shared("golden/structure/results.json"))
    else {
        return;
    };
    let golden: serde_json::Value = serde_json::from_str(&fs::read_to_string(gold).unwrap()).unwrap();
    let ids = |key: &str| -> Vec<u32> { serde_json::from_value(golden["mixed"][key].clone()).unwrap() };
    let tokenizer = tokenizers::Tokenizer::from_file(model.join("tokenizer.json")).unwrap();
    let draw = |set: &str, samples| {
        let draw = WindowDraw { samples, seq_len: 512, sampling: Sampling::Head, seed: 0 };
        draw_set(set, &FieldNames::default(), &tokenizer, &draw, &mut NoFetch).unwrap().windows
    };
    let [c4, dolly] =
        ["text/c4_sample.txt", "tasks/dolly_dev.jsonl"].map(|file| data.join(file).display().to_string());
    let windows = draw(&format!("{c4}+{dolly}"), 32);
    assert_eq!(windows[..16], draw(&c4, 32)[..16]);
    assert_eq!(windows[16][..12], ids("dolly_first_12_ids"));
    assert_eq!(windows[31][508..], ids("dolly_last_4_ids"));
}

#[test]
fn the_names_that_tell_components_apart_are_those_that_are_known() {
    let message = text_mistake("nothing");
    assert!(message.contains(&format!("known by name: {};", NAMED_TEXTS.join(", "))), "{message}");
}
