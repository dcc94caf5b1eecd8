//! What removes parts of a model, through everything that a user can do with a cell. `golden_structure.rs` compares the
//! choices with their authors' code.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};
use common::{Place, Synthetic};
use secateur::engine::{Event, Phase, RunOptions};
use secateur::export::ExportFormat;
use secateur::model::arch::mixtral::Mixtral;
use secateur::model::{ARCHITECTURES, Architecture, ModelFolder};
use secateur::results::CellResult;
use secateur::scores::{JS_DIVERGENCE, PERPLEXITY};
use secateur::store::Store;
use secateur::store::checkpoint::{dropped_blocks, read_block};
use secateur::study::{CellSpec, StudySpec};

fn cell(place: &Place, recipe: &str) -> CellSpec {
    let calibration = Some(place.path("calibration.txt").display().to_string());
    CellSpec { recipe: recipe.parse().unwrap(), calibration, seed: 0 }
}

fn with_tasks(place: &Place, recipes: &[&str]) -> StudySpec {
    let mut spec = place.spec(recipes.iter().map(|recipe| cell(place, recipe)).collect());
    spec.evaluation.tasks = vec![place.path("tasks.jsonl").display().to_string()];
    spec.evaluation.task_limit = Some(2);
    spec
}

/// The tokens of all answers.
fn answers(store: &Path, cell: Option<&str>) -> Vec<Vec<u32>> {
    let answers = Store::open_read_only(store).unwrap().answers(1, cell).unwrap();
    answers.into_iter().map(|answer| answer.tokens).collect()
}

/// The blocks of which nothing is left.
fn gone(cell: &CellResult) -> Vec<usize> {
    let mut blocks: Vec<usize> =
        cell.modules.iter().filter(|m| m.footprint.weights == 0).map(|m| m.block).collect();
    blocks.dedup();
    blocks
}

/// What a person should know of a model, wherever it lies.
fn warnings(folder: &ModelFolder) -> Vec<String> {
    let root = folder.root.display().to_string();
    folder.config.warnings.iter().map(|warning| warning.replace(&root, "")).collect()
}

/// Modules of all blocks, which differ in some families.
fn modules(folder: &ModelFolder) -> usize {
    (0..folder.config.blocks).map(|block| folder.config.layout(block).modules().count()).sum()
}

/// The experts that a token of a block goes through, and all of them.
fn experts(folder: &ModelFolder) -> Option<(usize, usize)> {
    let place = folder.config.layout(0).modules().find_map(|(_, module)| module.expert)?;
    Some((place.chosen, place.experts))
}

/// Every architecture whose blocks have experts.
fn mixtures() -> impl Iterator<Item = &'static dyn Architecture> {
    ARCHITECTURES.iter().copied().filter(|architecture| {
        let folder = tempfile::tempdir().unwrap();
        Synthetic::tiny(*architecture).write(folder.path()).unwrap();
        experts(&ModelFolder::open(folder.path()).unwrap()).is_some()
    })
}

/// The experts of every block of which nothing is left, by the survey of a study.
fn lowest(store: &Path, count: usize) -> Vec<Vec<usize>> {
    let path = Store::open_read_only(store).unwrap().folder(1, None).join("survey-calibration-s0.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let survey: serde_json::Value = serde_json::from_str(&text).unwrap();
    let of_block = |scores: &serde_json::Value| {
        let scores: Vec<f64> = scores.as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        order.truncate(count);
        order.sort_unstable();
        order
    };
    survey["experts"].as_array().unwrap().iter().map(of_block).collect()
}

/// Writes what is exported, measures it by itself, and compares.
fn assert_same_when_opened(
    place: &Place,
    spec: &StudySpec,
    (store, saved): (&Path, &Path),
    cell: &CellResult,
) {
    let mut again = spec.clone();
    again.model = saved.display().to_string();
    again.cells.clear();
    let again_store = place.path(&format!("again-{}.db", cell.id));
    let (again, _) = common::run(&again_store, again, RunOptions::default());
    assert_eq!(again.base.metrics.first(&PERPLEXITY), cell.metrics.first(&PERPLEXITY), "{}", cell.id);
    let (own, read) = (answers(store, Some(&cell.id)), answers(&again_store, None));
    assert_eq!(own.len(), 2);
    assert_eq!(own, read, "{}", cell.id);
}

#[test]
fn a_mixture_of_every_architecture_loses_experts_and_is_exported_as_what_was_measured() {
    let mut seen = 0;
    for architecture in mixtures() {
        seen += 1;
        let place = Place::new(&Synthetic { dtype: DType::BF16, ..Synthetic::tiny(architecture) });
        let recipes = ["experts@50%", "experts@25%+wanda@2:4", "depth@1block+experts@50%+sparsegpt@50%"];
        let spec = with_tasks(&place, &recipes);
        let (store, saved) = (place.path("studies.db"), place.path("saved"));
        let options = RunOptions { save_models: Some(saved.clone()), ..RunOptions::default() };
        let (result, events) = common::run(&store, spec.clone(), options);
        let source = ModelFolder::open(&place.path("model")).unwrap();
        let (chosen, all) = experts(&source).unwrap();
        let surveys =
            events.iter().filter(|event| matches!(event, Event::Phase { phase: Phase::Survey, .. }));
        assert_eq!(surveys.count(), 1, "{architecture:?}: one survey serves all cells");
        for cell in &result.cells {
            let what = format!("{architecture:?} {}", cell.id);
            assert_eq!(cell.modules.len(), modules(&source), "{what}");
            let has_depth = cell.id.starts_with("depth");
            let gone = if cell.id.contains("experts-0.25") { all / 4 } else { all / 2 };
            let blocks: Vec<usize> = if has_depth {
                let dir = Store::open_read_only(&store).unwrap().folder(1, Some(&cell.id));
                dropped_blocks(&dir, result.model.blocks).unwrap()
            } else {
                Vec::new()
            };
            // Those with the lowest scores, in every block that stays.
            let lowest = lowest(&store, gone);
            for module in cell.modules.iter().filter(|module| !blocks.contains(&module.block)) {
                let layout = source.config.layout(module.block);
                let def = layout.modules().find(|(_, def)| def.full_name == module.name).unwrap().1;
                let goes = def.expert.is_some_and(|expert| lowest[module.block].contains(&expert.index));
                assert_eq!(module.footprint.weights == 0, goes, "{what} {}", module.name);
            }
            assert!(cell.metrics.first(&JS_DIVERGENCE).unwrap().value > 1e-5, "{what}");

            let path = saved.join(&cell.id);
            let exported = ModelFolder::open(&path).unwrap();
            assert_eq!(exported.config.blocks, source.config.blocks - blocks.len(), "{what}");
            assert_eq!(experts(&exported), Some((chosen, all - gone)), "{what}");
            assert_eq!(warnings(&exported), warnings(&source), "{what}");
            let whole = cell.whole_model.unwrap();
            assert_eq!(whole.parameters, exported.parameters(), "{what}");
            assert_eq!(whole.size_bytes * 8, exported.source_bits(std::iter::empty()).all, "{what}");
            assert_same_when_opened(&place, &spec, (&store, &path), cell);
        }
    }
    assert!(seen >= 4, "{seen} mixtures");
}

/// Names, rows of the router and the number of experts, where nothing else is done.
#[test]
fn experts_that_stay_are_the_sources_and_get_new_numbers() {
    let place = Place::new(&Synthetic { dtype: DType::BF16, ..Synthetic::tiny(&Mixtral) });
    let mut spec = place.spec(vec![cell(&place, "experts@25%")]);
    // The study's choice of modules and blocks is about what is compressed.
    spec.prune.blocks = Some((0, 1));
    spec.prune.modules = vec!["q_proj".into()];
    let (store, saved) = (place.path("studies.db"), place.path("saved"));
    let options = RunOptions { save_models: Some(saved.clone()), ..RunOptions::default() };
    let (result, _) = common::run(&store, spec, options);
    let source = ModelFolder::open(&place.path("model")).unwrap();
    let saved = saved.join(&result.cells[0].id);
    let exported = ModelFolder::open(&saved).unwrap();
    let read = |folder: &ModelFolder, name: &str| {
        let tensor = folder.weights.tensor(name, DType::F32, &Device::Cpu).unwrap();
        tensor.to_vec2::<f32>().unwrap()
    };
    let (_, all) = experts(&source).unwrap();
    for (block, gone) in lowest(&store, 1).iter().enumerate() {
        let kept: Vec<usize> = (0..all).filter(|expert| !gone.contains(expert)).collect();
        let prefix = format!("model.layers.{block}.block_sparse_moe");
        let rows = read(&source, &format!("{prefix}.gate.weight"));
        let expected: Vec<Vec<f32>> = kept.iter().map(|expert| rows[*expert].clone()).collect();
        assert_eq!(read(&exported, &format!("{prefix}.gate.weight")), expected);
        for (new, old) in kept.iter().enumerate() {
            for layer in ["w1", "w2", "w3"] {
                let name = |expert: usize| format!("{prefix}.experts.{expert}.{layer}.weight");
                assert_eq!(read(&exported, &name(new)), read(&source, &name(*old)), "{layer} of {old}");
            }
        }
        assert!(!exported.weights.contains(&format!("{prefix}.experts.{}.w1.weight", all - 1)));
    }
    let json = |path: &Path| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    assert_eq!(json(&saved.join("config.json"))["num_local_experts"], all - 1);
    let report = json(&saved.join("sparsity.json"));
    let told: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(report["dropped_experts"].clone()).unwrap();
    assert_eq!(told.into_values().collect::<Vec<_>>(), lowest(&store, 1));
}

/// The windows and kinds of rotation of blocks are those of their numbers in the source: kinds that follow from the number
/// alone would make it another model.
#[test]
fn a_model_of_every_architecture_loses_blocks_and_is_exported_as_what_was_measured() {
    for architecture in ARCHITECTURES {
        let model = Synthetic { dtype: DType::BF16, ..Synthetic::tiny(*architecture) };
        let place = Place::new(&model);
        let spec = with_tasks(&place, &["depth@1block", "depth@1block,by=angular+wanda@2:4"]);
        let (store, saved) = (place.path("studies.db"), place.path("saved"));
        let options = RunOptions { save_models: Some(saved.clone()), ..RunOptions::default() };
        let (result, events) = common::run(&store, spec.clone(), options);
        let source = ModelFolder::open(&place.path("model")).unwrap();
        let surveys =
            events.iter().filter(|event| matches!(event, Event::Phase { phase: Phase::Survey, .. }));
        assert_eq!(surveys.count(), 1, "{architecture:?}: one survey serves both cells");
        for cell in &result.cells {
            let what = format!("{architecture:?} {}", cell.id);
            assert_eq!(cell.modules.len(), modules(&source), "{what}");
            assert_eq!(gone(cell).len(), 1, "{what}");
            let dir = Store::open_read_only(&store).unwrap().folder(1, Some(&cell.id));
            assert_eq!(dropped_blocks(&dir, result.model.blocks).unwrap(), gone(cell), "{what}");
            assert!(cell.metrics.first(&JS_DIVERGENCE).unwrap().value > 1e-4, "{what}");

            let path = saved.join(&cell.id);
            let exported = ModelFolder::open(&path).unwrap();
            assert_eq!(exported.config.blocks, source.config.blocks - 1, "{what}");
            assert_eq!(warnings(&exported), warnings(&source), "{what}");
            let whole = cell.whole_model.unwrap();
            assert_eq!(whole.parameters, exported.parameters(), "{what}");
            assert_eq!(
                whole.size_bytes * 8,
                exported.source_bits(std::iter::empty()).all,
                "{what}: what is said of its size is what the export takes"
            );
            assert_same_when_opened(&place, &spec, (&store, &path), cell);
        }
    }
}

#[test]
fn steps_behind_it_work_on_what_is_left_and_every_format_holds_it() {
    let model = Synthetic { blocks: 5, dtype: DType::BF16, ..Synthetic::default() };
    let place = Place::new(&model);
    let formats = [
        ("hf", "depth@2blocks+sparsegpt@50%"),
        ("gguf", "depth@2blocks+magnitude@50%"),
        ("gguf", "depth@40%,by=angular+kquant@q8_0"),
        ("gguf", "depth@40%+gptq@4bit,group=32,sym"),
        ("compressed-tensors", "depth@40%,by=loss+rtn@4bit,group=32"),
        ("compressed-tensors", "depth@40%+sparsegpt@50%+gptq@4bit,group=32"),
    ];
    for (format, recipe) in formats {
        let saved = place.path(&format!("saved-{format}"));
        let save_as: ExportFormat = format.parse().unwrap();
        let options = RunOptions { save_models: Some(saved.clone()), save_as, ..RunOptions::default() };
        let (result, _) = common::run(
            &place.path(&format!("{format}.db")),
            place.spec(vec![cell(&place, recipe)]),
            options,
        );
        let cell = &result.cells[0];
        assert_eq!(gone(cell).len(), 2, "{recipe}");
        let left = cell.footprint.unwrap();
        assert_eq!(left.weights * 5, result.model.prunable_parameters * 3, "{recipe}");
        assert!((left.sparsity() - 0.5).abs() < 0.05 || !recipe.contains("50%"), "{recipe}");
        // It was opened again and compared, or it would not be there.
        let path = save_as.0.path_in(&saved, &cell.id);
        assert!(path.exists(), "{recipe}");
    }
}

#[test]
fn weights_of_blocks_that_stay_are_the_sources_where_nothing_else_is_done() {
    let place = Place::new(&Synthetic { blocks: 4, ..Synthetic::default() });
    let mut spec = place.spec(vec![cell(&place, "depth@50%")]);
    // The study's choice of modules and blocks is about what is compressed.
    spec.prune.blocks = Some((0, 2));
    spec.prune.modules = vec!["q_proj".into()];
    let store = place.path("studies.db");
    let (result, _) = common::run(&store, spec, RunOptions::default());
    let found = &result.cells[0];
    let gone = gone(found);
    assert_eq!(gone.len(), 2);
    let dir = Store::open_read_only(&store).unwrap().folder(1, Some(&found.id));
    for block in 0..4 {
        let modules = read_block(&dir, block, &candle_core::Device::Cpu).unwrap();
        assert_eq!(modules.len(), if gone.contains(&block) { 7 } else { 0 });
    }
    let half = found.whole_model.unwrap().size_bytes as f64;
    let all = result.base.whole_model.unwrap().size_bytes as f64;
    let blocks = ModelFolder::open(&place.path("model")).unwrap();
    let of_blocks: u64 = (0..4)
        .flat_map(|block| blocks.config.layout(block).tensors())
        .map(|(_, shape)| shape.iter().product::<usize>() as u64)
        .sum();
    let bytes = f64::from(blocks.dtype().size_in_bytes() as u32);
    assert!((all - half - of_blocks as f64 * bytes / 2.0).abs() < 1.0, "{all} {half}");
}

#[test]
fn experts_are_refused_where_there_are_none_or_too_few_would_stay() {
    let mixture = Place::new(&Synthetic::tiny(&Mixtral));
    let dense = Place::new(&Synthetic { blocks: 2, ..Synthetic::default() });
    for (place, recipe, part) in [
        (&dense, "experts@25%", "experts removes experts, and the model is no mixture of experts"),
        (
            &mixture,
            "experts@75%",
            "level `75%` removes 3 of the 4 experts of a block: a token goes through 2 of them",
        ),
        (&mixture, "experts@10%", "removes 0 of the 4 experts"),
        (&mixture, "experts@2blocks", "accepted is a share above 0"),
        (&mixture, "experts@25%+depth@1block", "blocks go before parts of blocks"),
        (&mixture, "wanda@50%+experts@25%", "comes first"),
        (&mixture, "experts@25%+experts@50%", "only one step can remove"),
    ] {
        let line =
            ["run", "--model", "model", "--calibration", "calibration.txt", "--seq-len", "32", "--corpus"];
        let line = [&line[..], &["corpus.txt", "--dry-run", "--recipe", recipe]].concat();
        let output = place.program(&line).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{recipe}: {said}");
        assert!(said.contains(part), "{recipe}: {said}");
    }
}

#[test]
fn what_cannot_be_removed_is_refused_before_anything_runs() {
    let place = Place::new(&Synthetic { blocks: 4, ..Synthetic::default() });
    for (recipe, part) in [
        (
            "depth@4blocks",
            "depth: level `4blocks` removes 4 of the 4 blocks of the model: accepted are 1 to 3",
        ),
        ("depth@3blocks,by=loss", "accepted are 1 to 2"),
        ("depth@95%", "removes 4 of the 4 blocks"),
        ("wanda@50%+depth@25%", "comes first"),
        ("depth@25%+depth@1block", "only one step can remove"),
        ("depth@2:4", "accepted are a share above 0"),
    ] {
        let line =
            ["run", "--model", "model", "--calibration", "calibration.txt", "--seq-len", "32", "--corpus"];
        let line = [&line[..], &["corpus.txt", "--dry-run", "--recipe", recipe]].concat();
        let output = place.program(&line).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{recipe}: {said}");
        assert!(said.contains(part), "{recipe}: {said}");
    }
}

#[test]
fn a_model_of_every_architecture_of_one_mlp_gets_narrower_and_is_exported_as_what_was_measured() {
    let mut narrower = 0;
    for architecture in ARCHITECTURES {
        let model = Synthetic { dtype: DType::BF16, ..Synthetic::tiny(*architecture) };
        let place = Place::new(&model);
        let line =
            ["run", "--model", "model", "--calibration", "calibration.txt", "--seq-len", "32", "--corpus"];
        let line = [&line[..], &["corpus.txt", "--dry-run", "--recipe", "width@20%"]].concat();
        let output = place.program(&line).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            assert_eq!(output.status.code(), Some(2), "{architecture:?}: {said}");
            assert!(
                said.contains("width: the blocks of a") && said.contains("cannot be made narrower"),
                "{said}"
            );
            continue;
        }
        narrower += 1;
        let recipes = ["width@20%", "depth@1block+width@40%+wanda@2:4"];
        let spec = with_tasks(&place, &recipes);
        let (store, saved) = (place.path("studies.db"), place.path("saved"));
        let options = RunOptions { save_models: Some(saved.clone()), ..RunOptions::default() };
        let (result, _) = common::run(&store, spec.clone(), options);
        for cell in &result.cells {
            let what = format!("{architecture:?} {}", cell.id);
            assert_eq!(gone(cell).len(), usize::from(cell.id.contains("depth")), "{what}");
            assert!(cell.metrics.first(&JS_DIVERGENCE).unwrap().value > 1e-5, "{what}");
            let path = saved.join(&cell.id);
            let exported = ModelFolder::open(&path).unwrap();
            assert_eq!(exported.config.warnings, [""; 0], "{what}");
            let whole = cell.whole_model.unwrap();
            assert_eq!(whole.parameters, exported.parameters(), "{what}");
            let bits = exported.source_bits(std::iter::empty()).all;
            assert_eq!(
                whole.size_bytes * 8,
                bits,
                "{what}: what is said of its size is what the export takes"
            );
            assert_same_when_opened(&place, &spec, (&store, &path), cell);
        }
    }
    assert!(narrower >= 20, "{narrower}");
}

#[test]
fn heads_go_with_their_groups_and_every_format_that_holds_narrower_blocks_is_opened_again() {
    let model = Synthetic {
        heads: 8,
        kv_heads: 4,
        head_dim: 16,
        intermediate: 192,
        dtype: DType::BF16,
        ..Synthetic::default()
    };
    for (format, sharded, recipe) in [
        ("hf", None, "width@30%,of=both"),
        ("hf", Some(3), "width@30%,of=both+sparsegpt@2:4"),
        ("gguf", None, "width@30%,of=both"),
        ("compressed-tensors", Some(2), "depth@1block+width@30%,of=both+rtn@4bit,group=32"),
        ("gguf", Some(2), "depth@1block+width@30%,of=both,multiple=32+kquant@q8_0"),
    ] {
        let place = Place::new(&Synthetic { sharded, ..model.clone() });
        let saved = place.path("saved");
        let save_as: ExportFormat = format.parse().unwrap();
        let options = RunOptions { save_models: Some(saved.clone()), save_as, ..RunOptions::default() };
        let spec = with_tasks(&place, &[recipe]);
        let (result, events) = common::run(&place.path("studies.db"), spec.clone(), options);
        let cell = &result.cells[0];
        let failures: Vec<_> =
            events.iter().filter(|event| matches!(event, Event::CellFailed { .. })).collect();
        assert!(failures.is_empty(), "{recipe}: {failures:?}");
        let path = save_as.0.path_in(&saved, &cell.id);
        assert!(path.exists(), "{recipe}");
        // A Llama has biases for what is gone.
        assert_eq!(cell.warnings, [""; 0], "{recipe}");
        if format == "hf" {
            let exported = ModelFolder::open(&path).unwrap();
            let heads = exported.config.attention(0);
            assert_eq!((heads.query, heads.key, heads.dim), (6, 3, 16), "{recipe}");
            let modules: Vec<_> =
                exported.config.layout(0).modules().map(|(_, m)| (m.shape, m.bias)).collect();
            assert!(modules.iter().all(|(_, bias)| *bias), "{recipe}: {modules:?}");
            let store = place.path("studies.db");
            assert_same_when_opened(&place, &spec, (&store, &path), cell);
        }
    }
}

#[test]
fn a_share_that_leaves_nothing_or_takes_nothing_is_refused_and_a_bias_that_has_no_place_is_told() {
    use secateur::model::arch::mistral::Mistral;
    let place = Place::new(&Synthetic { architecture: &Mistral, ..Synthetic::default() });
    for (recipe, part) in [
        ("width@90%", "accepted is less than"),
        ("width@0.01%", "none would go"),
        ("width@20%,multiple=128", "none would go"),
        ("width@8blocks", "accepted is a share above 0"),
        ("width@20%+depth@1block", "blocks go before parts of blocks"),
        ("wanda@50%+width@20%", "comes first"),
    ] {
        let line =
            ["run", "--model", "model", "--calibration", "calibration.txt", "--seq-len", "32", "--corpus"];
        let line = [&line[..], &["corpus.txt", "--dry-run", "--recipe", recipe]].concat();
        let output = place.program(&line).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{recipe}: {said}");
        assert!(said.contains(part), "{recipe}: {said}");
    }
    let spec = place.spec(vec![cell(&place, "width@20%")]);
    let (result, _) = common::run(&place.path("studies.db"), spec, RunOptions::default());
    let [said] = &result.cells[0].warnings[..] else { panic!("{:?}", result.cells[0].warnings) };
    assert!(said.contains("removed neurons") && said.contains("MistralForCausalLM has no bias"), "{said}");
}

/// A survey of a former version says nothing of module inputs: it is made again, and depth still reads it.
#[test]
fn a_survey_without_module_inputs_is_made_again_where_they_are_needed() {
    let place = Place::new(&Synthetic::default());
    let store = place.path("studies.db");
    let (_, _) = common::run(&store, place.spec(vec![cell(&place, "depth@1block")]), RunOptions::default());
    let folder = Store::open_read_only(&store).unwrap().folder(1, None);
    let path = folder.join("survey-calibration-s0.json");
    let mut survey: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let sites = survey.as_object_mut().unwrap().remove("sites").unwrap();
    std::fs::write(&path, survey.to_string()).unwrap();
    let spec = place.spec(vec![cell(&place, "depth@1block"), cell(&place, "width@20%")]);
    let options = RunOptions { resume: true, ..RunOptions::default() };
    let (result, _) = common::run(&store, spec, options);
    assert!(result.cells.iter().all(|cell| cell.whole_model.is_some()));
    let survey: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(survey["sites"], sites);
}
