//! Disagreement on answers: held against both models' logits over the whole text, computed by themselves.

mod common;

use candle_core::DType;
use common::{Place, Synthetic};
use secateur::engine::RunOptions;
use secateur::model::arch::{llama::Llama, mistral::Mistral};
use secateur::model::{Architecture, Batch, Block, LmHead, ModelFolder, PromptFormat, head, load_tokenizer};
use secateur::results::Answer;
use secateur::scores::records;
use secateur::store::Store;
use secateur::study::{CellSpec, StudySpec};

/// Records of the task file of a [`Place`].
const RECORDS: usize = 8;

fn place(architecture: &'static dyn Architecture) -> Place {
    // The window of Mistral is shorter than any prompt.
    Place::new(&Synthetic { dtype: DType::BF16, ..Synthetic::tiny(architecture) })
}

/// A study whose eight records make three batches.
fn spec(place: &Place, cells: Vec<CellSpec>) -> StudySpec {
    let mut spec = place.spec(cells);
    spec.evaluation.tasks = vec![place.path("tasks.jsonl").display().to_string()];
    spec.evaluation.max_new_tokens = 12;
    spec.compute.batch_prompts = 3;
    spec
}

/// Rows of logits behind every token of a text.
fn logits(folder: &ModelFolder, text: &[u32]) -> Vec<Vec<f32>> {
    let (dtype, device) = (DType::F32, common::device());
    let (batch, ropes) = (Batch::windows(1, text.len()), folder.config.rope_tables(text.len()));
    let mut x = head::embed(folder, text, &batch, dtype, &device).unwrap();
    for index in 0..folder.config.blocks {
        let block = Block::load(folder, index, dtype, &device).unwrap();
        x = block.forward(&x, &batch, &ropes, None).unwrap();
    }
    LmHead::load(folder, dtype, &device).unwrap().logits(&x).unwrap().to_vec2().unwrap()
}

/// JS divergence in bits, as its definition says.
fn js_bits(p: &[f32], q: &[f32]) -> f64 {
    let softmax = |x: &[f32]| -> Vec<f64> {
        let exps: Vec<f64> = x.iter().map(|&v| f64::from(v).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.iter().map(|v| v / sum).collect()
    };
    let (p, q) = (softmax(p), softmax(q));
    let half = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| 0.5 * a * (a / f64::midpoint(*a, *b)).log2()).sum()
    };
    half(&p, &q) + half(&q, &p)
}

/// Checks every token of a cell's answers. Returns the largest disagreement.
fn check(place: &Place, answers: &[Answer], cell: &CellSpec) -> f64 {
    let base = ModelFolder::open(&place.path("model")).unwrap();
    let pruned = ModelFolder::open(&place.path("saved").join(cell.id())).unwrap();
    let tokenizer = load_tokenizer(&base.tokenizer).unwrap();
    let format = PromptFormat::for_model(&base, None).unwrap();
    assert_eq!(answers.len(), RECORDS);
    let mut largest = 0f64;
    for answer in answers {
        let prompt = format.encode(&tokenizer, &format.render(&answer.prompt, "").unwrap()).unwrap();
        let text = [&prompt[..], &answer.tokens].concat();
        let (of_base, of_cell) = (logits(&base, &text), logits(&pruned, &text));
        assert!(!answer.tokens.is_empty());
        assert_eq!(answer.disagreement_bits.len(), answer.tokens.len());
        for (i, &bits) in answer.disagreement_bits.iter().enumerate() {
            let position = prompt.len() - 1 + i;
            let expected = js_bits(&of_base[position], &of_cell[position]);
            largest = largest.max(expected);
            let apart = (f64::from(bits) - expected).abs();
            assert!(apart < 2e-5, "{} {} token {i}: {bits} {expected}", answer.record, cell.id());
        }
        assert_eq!(answer.pieces.len(), answer.tokens.len());
        assert_eq!(answer.pieces.concat().trim(), answer.text);
    }
    largest
}

#[test]
fn disagreement_is_the_divergence_of_both_models_where_a_token_was_chosen() {
    for architecture in [&Llama as &'static dyn Architecture, &Mistral] {
        let place = place(architecture);
        let cells = vec![place.cell("magnitude", "0.6"), place.cell("sparsegpt", "2:4")];
        let store = place.path("studies.db");
        let save =
            || RunOptions { resume: true, save_models: Some(place.path("saved")), ..RunOptions::default() };
        common::run(&store, spec(&place, cells.clone()), save());
        let read =
            |cell: &CellSpec| Store::open_read_only(&store).unwrap().answers(1, Some(&cell.id())).unwrap();
        for cell in &cells {
            let largest = check(&place, &read(cell), cell);
            assert!(largest > 0.01, "{architecture:?}: the models hardly differ: {largest}");
        }
        // The base agrees with itself, and is not asked.
        let of_base = Store::open_read_only(&store).unwrap().answers(1, None).unwrap();
        assert!(of_base.iter().all(|a| a.disagreement_bits.is_empty() && a.pieces.len() == a.tokens.len()));

        // What was kept of the prompts is of use, not needed: one batch's is gone, of another's a byte is wrong.
        let base = place.path("studies.d/study-1/base");
        let kept = |batch: usize| base.join(format!("prompts-00-{batch:06}-0001.safetensors"));
        std::fs::remove_file(kept(3)).unwrap();
        let mut bytes = std::fs::read(kept(0)).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 0x40;
        std::fs::write(kept(0), bytes).unwrap();
        let later = place.cell("wanda", "0.5");
        common::run(&store, spec(&place, [&cells[..], std::slice::from_ref(&later)].concat()), save());
        check(&place, &read(&later), &later);
        assert!(kept(3).exists(), "kept again");
        let left = std::fs::read_dir(place.path("studies.d/study-1").join(later.id())).unwrap();
        for file in left {
            let name = file.unwrap().file_name().into_string().unwrap();
            assert!(name.starts_with("block-") || name == "positions.safetensors", "{name} was left behind");
        }
    }
}

#[test]
fn disagreement_can_be_switched_off() {
    let place = place(&Llama);
    let cell = place.cell("magnitude", "0.6");
    let mut spec = spec(&place, vec![cell.clone()]);
    spec.evaluation.disagreement = false;
    let store = place.path("studies.db");
    common::run(&store, spec.clone(), RunOptions::default());
    let read = || Store::open_read_only(&store).unwrap().answers(1, Some(&cell.id())).unwrap();
    let without = read();
    assert!(without.iter().all(|a| a.disagreement_bits.is_empty() && !a.tokens.is_empty()));
    let files = std::fs::read_dir(place.path("studies.d/study-1/base")).unwrap();
    let mut names: Vec<String> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["positions.safetensors", "states.safetensors"]);
    // It is the same study with and without.
    spec.evaluation.disagreement = true;
    let store = Store::open_read_only(&store).unwrap();
    assert_eq!(store.resumable(&spec, None).unwrap(), Some(1));
}

#[test]
fn answers_end_where_the_models_positions_do() {
    let place = place(&Llama);
    // Alpaca's form takes some 130 positions, of which a token is a byte.
    let config = place.path("model/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["max_position_embeddings"] = 185.into();
    std::fs::write(&config, json.to_string()).unwrap();
    let base = ModelFolder::open(&place.path("model")).unwrap();
    let (tokenizer, format) =
        (load_tokenizer(&base.tokenizer).unwrap(), PromptFormat::for_model(&base, None).unwrap());

    let cell = place.cell("magnitude", "0.6");
    let (result, events) = common::run(
        &place.path("studies.db"),
        spec(&place, vec![cell.clone()]),
        RunOptions { save_models: Some(place.path("saved")), ..RunOptions::default() },
    );
    assert_eq!(records(&result.base.metrics), RECORDS);
    let store = Store::open_read_only(&place.path("studies.db")).unwrap();
    let answers = store.answers(1, Some(&cell.id())).unwrap();
    let mut rooms = Vec::new();
    for answer in &answers {
        let room = 185usize.saturating_sub(
            format.encode(&tokenizer, &format.render(&answer.prompt, "").unwrap()).unwrap().len(),
        );
        assert!(answer.tokens.len() <= room.min(12), "{room}");
        assert_eq!(answer.disagreement_bits.len(), answer.tokens.len());
        rooms.push(room);
    }
    let warnings: Vec<String> = events
        .iter()
        .filter_map(|e| match e {
            secateur::engine::Event::Warning { message, .. } => Some(message.clone()),
            _ => None,
        })
        .collect();
    for (record, room) in rooms.iter().enumerate() {
        let named = |what: &str| {
            let number = format!(" {}", record + 1);
            let names = |w: &&String| w.split(':').next().unwrap().split(',').any(|n| n.ends_with(&number));
            warnings.iter().filter(|w| w.contains(what)).any(|w| names(&w))
        };
        assert_eq!(named("is not asked"), *room == 0, "{record} {room} {warnings:?}");
        assert_eq!(named("at the latest"), (1..12).contains(room), "{record} {room} {warnings:?}");
    }
    assert!(rooms.contains(&0) && rooms.iter().any(|r| (1..12).contains(r)), "{rooms:?}");
}
