//! What is removed agrees with the authors' code on a real model, as `../shared/golden/structure/README.md` lists it.

mod common;

use std::path::{Path, PathBuf};

use secateur::engine::RunOptions;
use secateur::methods::{DenseModel, Depth, Method, Survey, grid};
use secateur::results::CellResult;
use secateur::scores::{JS_DIVERGENCE, PERPLEXITY, TOP1_AGREEMENT};
use secateur::store::Store;
use secateur::study::{Parameters, StudySpec};
use serde_json::Value;

const BLOCKS: usize = 30;

/// The model, the texts and the golden results.
struct Setting {
    home: tempfile::TempDir,
    model: PathBuf,
    data: PathBuf,
    golden: Value,
}

impl Setting {
    fn new() -> Option<Self> {
        let (model, data) = (common::skip::smollm2()?, common::skip::shared("data")?);
        let golden = common::skip::shared("golden/structure")?.join("results.json");
        let golden = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
        Some(Self { home: tempfile::tempdir().unwrap(), model, data, golden })
    }

    fn study(&self, recipes: &[&str], samples: usize) -> StudySpec {
        let calibration = self.data.join("text/c4_sample.txt");
        let corpus = self.data.join("text/wikitext2_raw_test.txt");
        let recipes: Vec<_> = recipes.iter().map(|recipe| recipe.parse().unwrap()).collect();
        let cells = grid(&recipes, &[calibration.display().to_string()], 0);
        let mut spec = common::study(&self.model, &calibration, &corpus, 512, cells);
        spec.calibration.samples = samples;
        spec.evaluation.max_windows = Some(8);
        spec.compute.device = "cpu".into();
        spec
    }

    fn store(&self) -> PathBuf {
        self.home.path().join("golden.db")
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The greatest difference of two lists of numbers.
fn apart(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn survey(store: &Path) -> Survey {
    let folder = Store::open_read_only(store).unwrap().folder(1, None);
    let path = folder.join("survey-c4_sample-s0.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A model of which only the survey is known.
struct Surveyed(Survey);

impl DenseModel for Surveyed {
    fn survey(&mut self) -> secateur::Result<Survey> {
        Ok(self.0.clone())
    }

    fn losses_without(&mut self, _: &[usize], _: &[usize]) -> secateur::Result<Vec<f64>> {
        panic!("the survey says enough")
    }
}

/// What is chosen by a survey.
fn chosen(survey: &Survey, by: &str, count: usize) -> Vec<usize> {
    let given = Parameters::from([("by".to_owned(), by.to_owned())]);
    let arguments = Depth.arguments(&given, &Parameters::new()).unwrap();
    let removal = Depth.block_removal().unwrap();
    removal.choose(&mut Surveyed(survey.clone()), BLOCKS, count, &arguments).unwrap()
}

fn gone(cell: &CellResult) -> Vec<usize> {
    let mut blocks: Vec<usize> =
        cell.modules.iter().filter(|m| m.footprint.weights == 0).map(|m| m.block).collect();
    blocks.dedup();
    blocks
}

fn is_close(what: &str, got: f64, want: f64, tolerance: f64) -> bool {
    println!("{what}: {got:.6}, golden {want:.6}, at most {tolerance:.6} apart");
    (got - want).abs() <= tolerance
}

#[test]
fn blocks_have_the_authors_influence_and_angles_and_models_without_them_their_perplexities() {
    let Some(setting) = Setting::new() else { return };
    let cells = [
        ("depth@10%", "depth-influence-3"),
        ("depth@9blocks", "depth-influence-9"),
        ("depth@20%,by=angular", "depth-angular-last-6"),
    ];
    let (result, _) = common::run(
        &setting.store(),
        setting.study(&cells.map(|(recipe, _)| recipe), 32),
        RunOptions::default(),
    );
    let golden = &setting.golden["depth"];
    let survey = survey(&setting.store());
    assert_eq!(survey.windows, 32);
    let influence = apart(&survey.influence, &numbers(&golden["survey"]["block_influence_mean"]));
    println!("influence: at most {influence:.2e} apart");
    assert!(influence < 1e-4);
    for (spanned, want) in golden["survey"]["angular_last_token"].as_object().unwrap() {
        let spanned: usize = spanned.parse().unwrap();
        let angles = apart(&survey.angles[spanned - 1], &numbers(want));
        println!("angles of spans of {spanned}: at most {angles:.2e} apart");
        assert!(angles < 1e-4);
    }
    let known =
        |name: &str| golden["cells"].as_array().unwrap().iter().find(|cell| cell["cell"] == name).unwrap();
    let dropped =
        |name: &str| numbers(&known(name)["dropped"]).iter().map(|b| *b as usize).collect::<Vec<_>>();
    for count in [3, 6, 9] {
        assert_eq!(chosen(&survey, "influence", count), dropped(&format!("depth-influence-{count}")));
        assert_eq!(chosen(&survey, "angular", count), dropped(&format!("depth-angular-last-{count}")));
    }
    let mut all = true;
    for ((recipe, name), cell) in cells.iter().zip(&result.cells) {
        assert_eq!(cell.spec.recipe.to_string(), *recipe);
        assert_eq!(gone(cell), dropped(name), "{recipe}");
        let number = |key: &str| known(name)[key].as_f64().unwrap();
        let value = |score| cell.metrics.first(score).unwrap().value;
        let (perplexity, js) = (number("perplexity"), number("js_bits"));
        all &= is_close(&format!("{recipe} perplexity"), value(&PERPLEXITY), perplexity, 0.001 * perplexity);
        all &= is_close(&format!("{recipe} JS"), value(&JS_DIVERGENCE), js, 0.003 * js);
        let top1 = number("top1_agreement");
        all &= is_close(&format!("{recipe} top-1"), value(&TOP1_AGREEMENT), top1, 0.003);
        let (own, base) = (cell.seconds.evaluate, result.base.seconds.evaluate);
        println!("{recipe}: {own:.1} s of evaluation, the base {base:.1} s");
    }
    assert!(all, "not all within their bounds");
}
