//! What people read of a study, and that its JSON is what its schema says.

mod samples;

use std::path::Path;

use jsonschema::Validator;
use secateur::report;
use secateur::results::{
    BaseResult, CellResult, CellState, Environment, Footprint, Metrics, ModelInfo, RankCorrelations,
    StudyResult,
};
use secateur::study::{CellSpec, Contamination, MeasuredAs, Sparsity, Step};
use serde_json::{Value, json};

fn schema() -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/report.schema.json");
    let text = std::fs::read_to_string(path).unwrap();
    jsonschema::draft202012::new(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// A study of which nothing is known yet.
fn empty() -> StudyResult {
    StudyResult::new(
        0,
        ModelInfo { source_bits: None, ..samples::model() },
        Environment::default(),
        BaseResult::default(),
        vec![],
        RankCorrelations::default(),
    )
}

/// Two methods at 50%, done, on one text and one task.
fn small() -> StudyResult {
    let cell = |method, calibration: Option<&str>, perplexity, js, score| CellResult {
        state: CellState::Done,
        footprint: Some(samples::footprint(500_000, 1_000_000)),
        metrics: Metrics {
            values: [
                samples::perplexity("wikitext2", perplexity),
                samples::js("wikitext2", js),
                samples::kl("wikitext2", js * 4.0),
                samples::top1("wikitext2", 0.625),
            ]
            .into_iter()
            .chain(samples::task("squad", score))
            .collect(),
        },
        ..CellResult::queued(&CellSpec {
            recipe: Step::new(method, Sparsity::Fraction(0.5)).into(),
            calibration: calibration.map(Into::into),
            seed: 0,
        })
    };
    let mut base = samples::base();
    base.metrics.values.retain(|value| value.data_set != "ptb");
    let cells = vec![
        cell("magnitude", None, 1_234_567.0, 0.5, 0.0),
        cell("wanda", Some("../data/c4_sample.txt"), 57.0, 0.125, 0.3),
    ];
    let StudyResult { study, model, environment, rank_correlations, .. } = samples::result();
    StudyResult::new(study, model, environment, base, cells, rank_correlations)
}

/// A text that is partly calibrated on, and a task that is not.
fn contamination() -> Vec<Contamination> {
    let found = |data_set: &str, measured_as, contaminated| Contamination {
        calibration: "c4_sample".into(),
        seed: 0,
        data_set: data_set.into(),
        measured_as,
        contaminated,
        n: 32,
    };
    vec![found("wikitext2", MeasuredAs::Corpus, 1), found("squad", MeasuredAs::Task, 0)]
}

#[test]
fn contamination_is_said_of_every_data_set_and_warned_of_above_a_hundredth() {
    let result = StudyResult { contamination: contamination(), ..small() };
    let warning =
        "contaminated data: 1 of 32 windows of wikitext2 (3.1%) hold 13 tokens in a row of calibration set";
    for text in [report::table(&result, 0), report::markdown(&result)] {
        assert!(text.contains("a calibration set (contamination): wikitext2 3.1%, squad 0.0%."), "{text}");
        assert_eq!(text.matches(warning).count(), 1, "{text}");
    }
    let clean = StudyResult { contamination: contamination()[1..].to_vec(), ..small() };
    let text = report::table(&clean, 0);
    assert!(text.contains("squad 0.0%") && !text.contains("Warning"), "{text}");
    assert!(!report::table(&small(), 0).contains("contamination"));
}

#[test]
fn every_report_is_as_the_schema_says_and_reads_back() {
    let schema = schema();
    let mut formats = small();
    for (cell, recipe) in
        formats.cells.iter_mut().zip(["kquant@q4_k_m,imatrix", "sparsegpt@50%+gptq@4bit,group=64,sym"])
    {
        cell.spec.recipe = recipe.parse().unwrap();
        cell.footprint = cell.footprint.map(|found| Footprint { saved_at_ends: 1200, ..found });
    }
    let contaminated = StudyResult { contamination: contamination(), ..small() };
    for result in [samples::result(), small(), empty(), formats, contaminated] {
        let text = report::json(&result);
        let value: Value = serde_json::from_str(&text).unwrap();
        let errors: Vec<_> =
            schema.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        let back: StudyResult = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{back:?}"), format!("{result:?}"), "to the last bit");
    }
    let value: Value = serde_json::from_str(&report::json(&samples::result())).unwrap();
    let ruined = &value["cells"][1]["metrics"];
    assert_eq!(ruined[0]["score"], "perplexity");
    assert_eq!(
        (&ruined[0]["value"], &ruined[0]["details"]["standard_error_nats"]),
        (&json!("inf"), &json!("nan"))
    );
    assert_eq!(ruined[1]["ci95"], json!(["-inf", "nan"]));
    let agreement = &value["cells"][0]["metrics"][3];
    let expected = json!({"score": "top1_agreement", "data_set": "wikitext2", "value": 0.75, "ci95": [0.75 * 0.9, 0.75 * 1.1], "n": 8, "details": {}});
    assert_eq!(*agreement, expected);
}

/// Every place in a value where an object stands.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.push(at.to_owned());
            map.iter().for_each(|(key, inner)| objects(inner, &format!("{at}/{key}"), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, inner)| objects(inner, &format!("{at}/{i}"), found));
        }
        _ => {}
    }
}

#[test]
fn the_schema_refuses_what_lacks_or_has_too_much_anywhere() {
    let schema = schema();
    let whole = StudyResult { contamination: contamination(), ..samples::result() };
    let whole: Value = serde_json::from_str(&report::json(&whole)).unwrap();
    let mut places = Vec::new();
    objects(&whole, "", &mut places);
    for place in [
        "/base/metrics/3",
        "/cells/0/metrics/2/details",
        "/cells/0/modules/2",
        "/rank_correlations/texts/1",
        "/contamination/1",
    ] {
        assert!(places.iter().any(|p| p == place), "the sample has no {place}");
    }
    // Details are numbers by names of the method's or the score's own.
    for place in places.into_iter().filter(|place| !place.ends_with("/details")) {
        let object = |value: &mut Value| value.pointer_mut(&place).unwrap().as_object_mut().unwrap().clone();
        let original = object(&mut whole.clone());
        for key in original.keys() {
            let mut wrong = whole.clone();
            wrong.pointer_mut(&place).unwrap().as_object_mut().unwrap().shift_remove(key);
            assert!(!schema.is_valid(&wrong), "{place} without {key}");
        }
        let mut wrong = whole.clone();
        wrong.pointer_mut(&place).unwrap()["more"] = json!(1);
        assert!(!schema.is_valid(&wrong), "{place} with something more");
    }
}

#[test]
fn the_schema_refuses_wrong_values() {
    let schema = schema();
    let whole: Value = serde_json::from_str(&report::json(&samples::result())).unwrap();
    for (place, value) in [
        ("/version", json!(1)),
        ("/study", json!(-1)),
        ("/model/parameters", json!(1.5)),
        ("/model/dtype", json!("")),
        ("/base/seconds/prune", json!("inf")),
        ("/base/metrics/0/score", json!("bleu")),
        ("/base/metrics/0/value", json!("infinity")),
        ("/base/metrics/0/value", json!(null)),
        ("/base/metrics/0/ci95", json!([1.0])),
        ("/base/metrics/0/ci95", json!([1.0, 2.0, 3.0])),
        ("/base/metrics/0/n", json!(-1)),
        ("/base/metrics/0/details", json!({"nats": 1.0})),
        ("/cells/0/metrics/1/details", json!({"nats": "many"})),
        ("/cells", json!({})),
        ("/cells/0/recipe", json!("random")),
        ("/cells/0/recipe", json!("wanda@50%,")),
        ("/cells/0/recipe", json!("wanda@50%,damping=")),
        ("/cells/0/recipe", json!(0.5)),
        ("/cells/0/calibration", json!(1)),
        ("/cells/0/state", json!("Done")),
        ("/cells/0/footprint/zeros", json!(1.5)),
        ("/cells/0/whole_model/size_bytes", json!(1.5)),
        ("/cells/0/whole_model/bits_per_weight", json!("many")),
        ("/base/whole_model/zeros", json!(-1)),
        ("/model/source_bits/all", json!("all")),
        ("/cells/0/warnings", json!([1])),
        ("/cells/0/modules/0/error_basis", json!("Hessian")),
        ("/cells/0/modules/0/details", json!({"damping": "infinity"})),
        ("/rank_correlations/texts/1/mean/value", json!(-1.5)),
        ("/rank_correlations/texts/1/by_task/0/ci95", json!([-1.0, "inf"])),
        ("/rank_correlations/texts/0/score", json!("luck")),
        ("/rank_correlations/tasks/0/score", json!("perplexity")),
    ] {
        let mut wrong = whole.clone();
        *wrong.pointer_mut(place).unwrap() = value.clone();
        assert!(!schema.is_valid(&wrong), "{place} = {value}");
    }
}

#[test]
fn the_table_of_a_small_study() {
    let expected = "\
models/tiny: LlamaForCausalLM, 134.5M parameters, 106.2M of them prunable, BF16 weights, computed in f32 on cpu

                                         wikitext2                                 squad
method     level  calibration    zeros      ppl  x base  JS bits  KL bits  top-1      EM     F1  ROUGE-1
---------  -----  -----------   ------   ------  ------  -------  -------  -----   -----  -----  -------
base       -      -                  -    28.53       -        -        -      -   30.0%  60.0%    54.0%
magnitude  50%    -             50.00%   1.23e6  4.33e4   0.5000   2.0000  62.5%    0.0%   0.0%     0.0%
wanda      50%    c4_sample     50.00%    57.00    2.00   0.1250   0.5000  62.5%   15.0%  30.0%    27.0%

Size: 269.0 MB each, 16.00 bits per weight; an export stores a zero like any other weight.
JS divergence ranks the cells as the tasks do (rho +1.00, +0.80 to +1.00); perplexity less well (+0.50, +0.30 to +0.70);
6 cells

rank correlation with     ppl      JS
---------------------   -----   -----
squad F1                +0.50   +1.00
mean                    +0.50   +1.00
95% from                +0.30   +0.80
to                      +0.70   +1.00
Spearman's rank correlation, over the cells, of the damage that a metric sees in a text with the damage that a task
shows; +1.00 is perfect. The 95% interval is a bootstrap over cells.

";
    assert_eq!(report::table(&small(), 120), expected);
    // Too narrow for both texts and tasks: the tasks come below.
    let narrow = report::table(&small(), 80);
    let below = "
                                squad
method     level  calibration      EM     F1  ROUGE-1
---------  -----  -----------   -----  -----  -------
base       -      -             30.0%  60.0%    54.0%
magnitude  50%    -              0.0%   0.0%     0.0%
wanda      50%    c4_sample     15.0%  30.0%    27.0%
";
    assert!(narrow.contains(below), "{narrow}");
}

#[test]
fn sizes_are_shown_where_they_differ() {
    let StudyResult { study, model, environment, base, mut cells, rank_correlations, .. } = small();
    // Half a million weights of sixteen bits less.
    cells[1].footprint.as_mut().unwrap().stored_bits -= 8_000_000;
    let result = StudyResult::new(study, model, environment, base, cells, rank_correlations);
    let text = report::table(&result, 120);
    let words = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(words("method")[3..6], ["zeros", "bits", "size"], "{text}");
    assert_eq!(words("base")[3..7], ["-", "16.00", "269.0", "MB"], "{text}");
    assert_eq!(words("wanda")[3..7], ["50.00%", "15.94", "268.0", "MB"], "{text}");
    assert!(text.contains("bits, size: stored bits per weight and bytes of the whole model"), "{text}");
    assert!(report::markdown(&result).contains("| zeros | bits | size |"));

    // A study that does not know says nothing.
    let mut result = small();
    result.base.whole_model = None;
    result.cells.iter_mut().for_each(|cell| cell.whole_model = None);
    let text = report::table(&result, 120);
    let head = text.lines().find(|line| line.starts_with("method")).unwrap();
    assert!(!text.contains("Size:") && !head.contains("size"), "{text}");
}

#[test]
fn cells_that_are_not_done_say_so_and_what_is_not_known_is_a_dash() {
    let text = report::table(&samples::result(), 200);
    let line = |start: &str| text.lines().find(|l| l.starts_with(start)).unwrap().to_owned();
    assert!(line("method").contains("state"), "{text}");
    assert!(line("magnitude  30%").contains(" done "), "{text}");
    let failed = line("magnitude  2:4");
    assert!(failed.contains(" failed ") && failed.contains(" inf "), "{text}");
    assert!(line("sparsegpt  30%").contains(" running ") && line("sparsegpt  2:4").contains(" queued "));
    let queued = line("sparsegpt  2:4");
    assert_eq!(queued.split_whitespace().filter(|field| *field == "-").count(), 14, "{queued}");
    assert!(!report::table(&small(), 200).contains("state"), "not where all are done");

    let nothing = report::table(&empty(), 80);
    assert!(nothing.contains("\nbase") && nothing.contains("No task was asked"), "{nothing}");
}

#[test]
fn warnings_are_told_with_their_cell_and_cannot_reach_the_terminal() {
    let mut result = small();
    result.cells[1].warnings = vec!["red \u{1b}[31m\nand \u{7}loud".into(), "damping was 0.1".into()];
    let text = report::table(&result, 80);
    assert!(text.contains("Warning, wanda 50% c4_sample: damping was 0.1\n"), "{text}");
    assert!(text.contains("Warning, wanda 50% c4_sample: red \\x1b[31m\\nand \\x07loud\n"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

#[test]
fn the_verdict_is_said_in_words() {
    let say = |perplexity, js, cells| {
        let rank_correlations = samples::rank_correlations(perplexity, js, 0.1, cells);
        report::table(&StudyResult { rank_correlations, ..small() }, 0)
    };
    let sentence = "JS divergence ranks the cells much as the tasks do (rho +0.75, +0.65 to +0.85); perplexity \
                    less well (+0.50, +0.40 to +0.60); 6 cells\n";
    assert!(say(Some(0.5), Some(0.75), 6).contains(sentence));
    assert!(say(Some(0.9), Some(-0.1), 6).contains("JS divergence does not (-0.10, -0.20 to 0.00)"));
    assert!(say(Some(0.9), Some(0.9), 6).contains("No verdict from 6 cells: the intervals of "));
    // A metric that falls while the damage rises ranks nothing, even where the other is worse.
    let neither = say(Some(-0.5), Some(-0.2), 6);
    assert!(
        neither.contains("No metric ranks the cells as the tasks do; JS divergence comes nearest (rho -0.20")
    );
    assert!(say(None, Some(0.9), 6).contains("no other metric has a rank correlation; 6 cells\n"));
    let nothing = say(None, None, 2);
    assert!(nothing.contains("It takes 3 finished cells with task scores; so far 2."));
    assert!(!nothing.contains("rank correlation with"), "{nothing}");
}

#[test]
fn seeds_are_shown_where_cells_differ_in_them() {
    let mut result = small();
    assert!(!report::table(&result, 0).contains("seed"));
    let mut other = result.cells[1].clone();
    other.spec.seed = 1;
    result.cells.push(other);
    assert!(report::table(&result, 0).contains("seed"));
}

#[test]
fn markdown_is_a_table_that_shows_text_as_it_is() {
    let mut result = small();
    result.cells[1].warnings = vec!["a | b *c*".into()];
    let text = report::markdown(&result);
    let header = "| method | level | calibration | zeros | wikitext2 ppl | wikitext2 x base | \
                  wikitext2 JS bits | wikitext2 KL bits | wikitext2 top-1 | squad EM | squad F1 | squad ROUGE-1 |\n\
                  | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n\
                  | base | - | - | - | 28.53 | - | - | - | - | 30.0% | 60.0% | 54.0% |\n";
    assert!(text.contains(header), "{text}");
    assert!(text.contains("| wanda | 50% | c4\\_sample | 50.00% | 57.00 | 2.00 |"), "{text}");
    assert!(text.contains("- wanda 50% c4\\_sample: a \\| b \\*c\\*\n"), "{text}");
    assert!(
        text.contains("JS divergence ranks the cells as the tasks do (rho +1.00, +0.80 to +1.00)"),
        "{text}"
    );
}

/// The fields of CSV text, line by line, as RFC 4180 defines them.
fn parse_csv(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut field, mut quoted) = (vec![], vec![], String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                line.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut line));
            }
            c => field.push(c),
        }
    }
    assert!(field.is_empty() && line.is_empty() && !quoted, "the last line is whole");
    lines
}

#[test]
fn csv_has_one_line_a_row_under_stable_names_in_full_precision() {
    let lines = parse_csv(&report::csv(&samples::result()));
    assert_eq!(lines.len(), 1 + 1 + 4);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{lines:#?}");
    let names = &lines[0];
    assert_eq!(
        names[..10].join(","),
        "id,recipe,calibration,seed,state,sparsity,bits_per_weight,packed_bits_per_weight,size_bytes,packed_size_bytes"
    );
    let field = |row: usize, name: &str| {
        let column = names.iter().position(|n| n == name);
        &*lines[row][column.unwrap_or_else(|| panic!("no column {name} in {names:?}"))]
    };
    assert_eq!(field(1, "id"), "base");
    assert_eq!(field(1, "perplexity.wikitext2").parse(), Ok(28.526_481_39));
    assert_eq!(field(1, "js_bits.wikitext2"), "");
    assert_eq!(field(2, "warnings"), "a \"quoted\" one, with | and,\nanother line; täst");
    assert_eq!(field(2, "sparsity").parse(), Ok(0.3));
    assert_eq!((field(1, "size_bytes"), field(1, "bits_per_weight")), ("269030016", "16"));
    // A million weights are compressed: a bit for each, and sixteen for those that are not zero.
    let bits = 133_515_008_u64 * 16 + 1_000_000 + 700_000 * 16;
    assert_eq!(
        (field(2, "size_bytes"), field(2, "packed_size_bytes")),
        ("269030016", &*(bits / 8).to_string())
    );
    assert_eq!(field(2, "packed_bits_per_weight").parse(), Ok(bits as f64 / 134_515_008.0));
    assert_eq!((field(4, "size_bytes"), field(4, "bits_per_weight")), ("", ""), "not known yet");
    assert_eq!(field(2, "kl_bits.ptb"), "0.5");
    assert_eq!(field(2, "top1_agreement.ptb.hi"), "0.55");
    assert_eq!(field(2, "f1.squad.lo").parse(), Ok(0.4 * 0.9));
    assert_eq!((field(3, "perplexity.wikitext2"), field(3, "perplexity.wikitext2.hi")), ("inf", "inf"));
    assert_eq!(
        (field(3, "js_bits.wikitext2.lo"), field(3, "js_bits.wikitext2.hi")),
        ("-inf", "nan"),
        "as in JSON"
    );
    assert_eq!(
        (field(4, "id"), field(4, "state")),
        ("sparsegpt-0.30000000000000004-c4-s18446744073709551615", "running")
    );
    assert_eq!((field(4, "calibration"), field(5, "perplexity.ptb")), ("data/c4.txt", ""));
}

#[test]
fn data_sets_of_one_name_are_told_apart() {
    let mut result = small();
    result.cells[0].metrics.values.push(samples::perplexity("wikitext2", 99.0));
    let lines = parse_csv(&report::csv(&result));
    let column = lines[0].iter().position(|n| n == "perplexity.wikitext2#2").unwrap();
    assert_eq!((&*lines[1][column], &*lines[2][column], &*lines[3][column]), ("", "99", ""));
}

#[test]
fn tables_of_many_texts_and_tasks_stay_within_their_width() {
    let mut result = small();
    let names: Vec<String> = (0..7).map(|i| format!("a_text_with_a_long_name_{i}")).collect();
    let metrics = result.cells.iter_mut().map(|c| &mut c.metrics).chain([&mut result.base.metrics]);
    for metrics in metrics {
        for name in &names {
            metrics.values.push(samples::perplexity(name, 10.0));
            metrics.values.extend(samples::task(name, 0.5));
        }
    }
    for width in [80, 100, 200, 0] {
        let text = report::table(&result, width);
        if width > 0 {
            let longest = text.lines().map(|l| l.chars().count()).max().unwrap();
            assert!(longest <= width, "{longest} > {width}:\n{text}");
        }
        let tables = text.lines().filter(|l| l.starts_with("method")).count();
        for method in ["base ", "magnitude ", "wanda "] {
            assert_eq!(text.lines().filter(|l| l.starts_with(method)).count(), tables, "in every part");
        }
        assert_eq!(text.matches("JS bits").count(), 8);
        assert!(text.split_whitespace().any(|word| word == "mean"), "{text}");
        // Of the base: (60% + 7 × 50%) / 8.
        assert!(text.contains("51.2%"), "{text}");
    }
    assert_eq!(report::table(&result, 0).lines().filter(|l| l.starts_with("method")).count(), 1);
}
