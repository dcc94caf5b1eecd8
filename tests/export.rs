//! Exports, as another program finds them: the source's files, with what pruning made of them and nothing else.

#[path = "common/skip.rs"]
mod skip;
#[path = "common/synthetic.rs"]
mod synthetic;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use secateur::Error;
use secateur::export::{EXPORTERS, ExportFormat, ExportModel, ExportOptions, Passage, Verification, export};
use secateur::kernels::codes::{Codes, Grid};
use secateur::model::ModelFolder;
use secateur::model::arch::llama::Llama;
use secateur::results::{CellResult, CellState, ErrorBasis, Footprint, ModuleResult};
use secateur::store::checkpoint::{block_path, write_block};
use secateur::store::stored::{Stored, mask_of};
use secateur::study::{CellSpec, Sparsity, Step};
use serde_json::{Map, Value, json};
use synthetic::Synthetic;

/// A source model, the checkpoints of a cell of it, and room for exports.
struct Case {
    dir: tempfile::TempDir,
    /// The bytes that every pruned tensor must have in the end.
    pruned: BTreeMap<String, Vec<u8>>,
    zeros: BTreeMap<String, usize>,
}

impl Case {
    /// Of every block but the last, which stays whole: `q_proj` and `down_proj` masked, `v_proj` and `up_proj` with
    /// new values, the others left alone.
    fn new(model: &Synthetic) -> Self {
        let dir = tempfile::tempdir().unwrap();
        model.write(&dir.path().join("model")).unwrap();
        let mut case = Self { dir, pruned: BTreeMap::new(), zeros: BTreeMap::new() };
        for block in 0..model.blocks {
            let mut modules = Vec::new();
            if block + 1 < model.blocks {
                for (i, kind) in ["mlp.down_proj", "self_attn.q_proj"].into_iter().enumerate() {
                    modules.push((kind, case.mask(block, kind, 3 + i)));
                }
                for kind in ["self_attn.v_proj", "mlp.up_proj"] {
                    modules.push((kind, case.values(block, kind)));
                }
            }
            write_block(&case.checkpoints(), block, &modules).unwrap();
        }
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn checkpoints(&self) -> PathBuf {
        self.path("checkpoints")
    }

    /// Checkpoints in a folder of their own, with all modules of every block but the last on a grid.
    fn codes(&self, name: &str, bits: u8, group: usize, symmetric: bool) -> PathBuf {
        let (folder, path) = (self.folder(), self.path(name));
        for block in 0..folder.config.blocks {
            let mut modules = Vec::new();
            for (_, module) in
                folder.config.layout(block).modules().filter(|_| block + 1 < folder.config.blocks)
            {
                let weights = folder.weights.tensor(&module.weight(), DType::F32, &Device::Cpu).unwrap();
                let mut weights: Vec<f32> = weights.flatten_all().unwrap().to_vec1().unwrap();
                let scale_dtype = folder.stored_dtype(module);
                let grid = Grid { bits, group, symmetric, scale_dtype };
                let codes = Codes::nearest(&mut weights, module.shape.1, grid);
                modules.push((module.name.clone(), Stored::Codes(codes)));
            }
            write_block(&path, block, &modules).unwrap();
        }
        path
    }

    fn folder(&self) -> ModelFolder {
        ModelFolder::open(&self.path("model")).unwrap()
    }

    fn export(&self, out: &Path) -> Result<(), Error> {
        self.export_of(&self.checkpoints(), out, None).map(drop)
    }

    fn export_of(
        &self,
        checkpoints: &Path,
        out: &Path,
        texts: Option<&[Vec<u32>]>,
    ) -> Result<Option<Verification>, Error> {
        let (folder, cell) = (self.folder(), cell());
        let model = ExportModel::cell(&folder, checkpoints, &cell);
        export(ExportFormat::default().0, &model, &ExportOptions::default(), out, texts)
    }

    /// Every `step`th weight goes.
    fn mask(&mut self, block: usize, module: &str, step: usize) -> Stored {
        let folder = self.folder();
        let name = format!("model.layers.{block}.{module}.weight");
        let info = folder.weights.required(&name).unwrap();
        let width = info.dtype.size_in_bytes();
        let kept = |i: usize| !(i + block).is_multiple_of(step);
        let mut bytes = folder.weights.bytes(&name, <[u8]>::to_vec).unwrap();
        for (i, element) in bytes.chunks_mut(width).enumerate() {
            if !kept(i) {
                element.fill(0);
            }
        }
        self.zeros.insert(name.clone(), (0..info.elements()).filter(|&i| !kept(i)).count());
        self.pruned.insert(name, bytes);
        let weights: Vec<f32> = (0..info.elements()).map(|i| f32::from(u8::from(kept(i)))).collect();
        let bits = mask_of(&weights);
        Stored::Mask { shape: [info.shape[0], info.shape[1]], bits }
    }

    /// Made-up weights: 0, 0.25, 0.5, 0.75, −0 and over again, which every dtype can hold.
    fn values(&mut self, block: usize, module: &str) -> Stored {
        let folder = self.folder();
        let name = format!("model.layers.{block}.{module}.weight");
        let info = folder.weights.required(&name).unwrap();
        let new: Vec<f32> =
            (0..info.elements()).map(|i| [0.0, 0.25, 0.5, 0.75, -0.0][(i + block) % 5]).collect();
        let bytes = new.iter().flat_map(|v| match info.dtype {
            DType::F32 => v.to_le_bytes().to_vec(),
            DType::F16 => half::f16::from_f32(*v).to_le_bytes().to_vec(),
            _ => half::bf16::from_f32(*v).to_le_bytes().to_vec(),
        });
        self.pruned.insert(name.clone(), bytes.collect());
        self.zeros.insert(name, new.iter().filter(|v| **v == 0.0).count());
        let tensor = Tensor::from_vec(new, info.shape.as_slice(), &Device::Cpu).unwrap();
        Stored::Values(tensor.to_dtype(info.dtype).unwrap())
    }

    /// That an export is the source with the pruned tensors in place, and what was left behind beside it: nothing.
    fn check(&self, out: &Path) {
        let (source, exported) = (self.folder(), ModelFolder::open(out).unwrap());
        assert!(source.weights.names().eq(exported.weights.names()));
        for name in source.weights.names() {
            let read = |folder: &ModelFolder| folder.weights.bytes(name, <[u8]>::to_vec);
            match self.pruned.get(name) {
                Some(bytes) => assert!(read(&exported).unwrap() == *bytes, "{name} is not as pruned"),
                None => assert!(
                    source.weights.info(name).is_none() || read(&exported).unwrap() == read(&source).unwrap(),
                    "{name} was changed"
                ),
            }
        }
        for file in weight_files(&source.root) {
            let same = header(&source.root.join(&file)) == header(&out.join(&file));
            assert!(same, "{file}: names, order, dtypes, shapes and metadata");
        }
        let beside = names(out.parent().unwrap());
        assert!(!beside.iter().any(|name| name.contains(".part")), "{beside:?}");
    }
}

fn cell() -> CellResult {
    let spec = CellSpec {
        recipe: Step::new("sparsegpt", Sparsity::SemiStructured { zeros: 2, group: 4 }).into(),
        calibration: Some("data/c4.txt".into()),
        seed: 7,
    };
    let module = |block, path, error| ModuleResult {
        block,
        name: format!("model.layers.{block}.{path}"),
        footprint: Footprint::default(),
        reconstruction_error: error,
        error_basis: ErrorBasis::Hessian,
        dead_columns: 0,
        details: [("damping", 0.01)].into_iter().collect(),
        seconds: 1.0,
    };
    let modules = vec![
        module(0, "mlp.down_proj", f64::INFINITY),
        module(0, "self_attn.q_proj", 0.125),
        module(0, "self_attn.v_proj", 0.25),
    ];
    CellResult { state: CellState::Done, modules, ..CellResult::queued(&spec) }
}

fn quantised_cell(recipe: &str) -> CellResult {
    let spec = CellSpec { recipe: recipe.parse().unwrap(), calibration: None, seed: 7 };
    CellResult { state: CellState::Done, ..CellResult::queued(&spec) }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn weight_files(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.ends_with(".safetensors")).collect()
}

/// A safetensors file's header with its length, as it stands there.
fn header(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[..8 + length].to_vec()
}

fn safetensors(header: &Map<String, Value>, data: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap();
    [&(header.len() as u64).to_le_bytes(), header.as_slice(), data].concat()
}

fn check_target(out: &Path) -> Result<(), Error> {
    ExportFormat::default().0.check_target(out)
}

/// One line that a person can act on, and exit code 2.
fn mistake(result: Result<(), Error>, parts: &[&str]) {
    said(&result.unwrap_err(), 2, parts);
}

fn said(error: &Error, code: u8, parts: &[&str]) {
    let message = error.to_string();
    assert_eq!(error.exit_code(), code, "{message}");
    assert!(!message.contains('\n'), "{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

fn small() -> Synthetic {
    Synthetic { hidden: 32, intermediate: 48, heads: 2, kv_heads: 1, blocks: 2, ..Synthetic::default() }
}

#[test]
fn every_dtype_and_layout_keeps_all_but_the_pruned_tensors_byte_for_byte() {
    for (dtype, sharded, tied) in [
        (DType::F32, None, true),
        (DType::F32, Some(3), false),
        (DType::F16, None, false),
        (DType::F16, Some(1), true),
        (DType::BF16, None, true),
        (DType::BF16, Some(4), false),
    ] {
        let case = Case::new(&Synthetic { tied, dtype, sharded, ..Synthetic::tiny(&Llama) });
        let out = case.path("out");
        case.export(&out).unwrap();
        case.check(&out);
        assert_eq!(out.join("model.safetensors.index.json").exists(), sharded.is_some());
        assert_eq!(case.folder().config.tensors(), ModelFolder::open(&out).unwrap().config.tensors());
    }
}

#[test]
fn matrices_larger_than_a_piece_come_out_whole() {
    // 600 x 1000 weights: more than a megabyte in either precision, and no whole number of pieces.
    for dtype in [DType::F32, DType::BF16] {
        let case = Case::new(&Synthetic { hidden: 600, intermediate: 1000, blocks: 2, dtype, ..small() });
        let out = case.path("out");
        case.export(&out).unwrap();
        case.check(&out);
    }
}

#[test]
fn any_order_of_tensors_and_buffers_of_other_dtypes_stay_as_they_are() {
    let case = Case::new(&Synthetic { blocks: 3, ..small() });
    let path = case.path("model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let old = header(&path);
    let entries: Map<String, Value> = serde_json::from_slice(&old[8..]).unwrap();
    // Blocks alternate from tensor to tensor, an integer buffer is in between, the header is not in the data's order.
    let mut order: Vec<&String> = entries.keys().filter(|name| *name != "__metadata__").collect();
    order.sort_by_key(|name| name.chars().rev().filter(|c| !c.is_ascii_digit()).collect::<String>());
    let mut data = vec![1; 24];
    let mut new = Map::new();
    for name in order {
        let offsets: (usize, usize) = serde_json::from_value(entries[name]["data_offsets"].clone()).unwrap();
        let start = data.len();
        data.extend_from_slice(&bytes[old.len()..][offsets.0..offsets.1]);
        let mut entry = entries[name].clone();
        entry["data_offsets"] = json!([start, data.len()]);
        new.insert(name.clone(), entry);
    }
    new.insert("buffer".into(), json!({"dtype": "I64", "shape": [3], "data_offsets": [0, 24]}));
    new.insert("__metadata__".into(), json!({"format": "pt", "note": "täst \" \\"}));
    fs::write(&path, safetensors(&new, &data)).unwrap();

    let out = case.path("out");
    case.export(&out).unwrap();
    case.check(&out);
    let exported = fs::read(out.join("model.safetensors")).unwrap();
    assert_eq!(exported[header(&path).len()..][..24], [1; 24]);
}

#[test]
fn what_belongs_to_the_model_is_copied_and_nothing_else() {
    let case = Case::new(&small());
    let copied = [
        "added_tokens.json",
        "chat_template.jinja",
        "LICENSE",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.model",
        "USE_POLICY.md",
    ];
    let left = [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "model.safetensors.index.json",
        "other.safetensors",
        "optimizer.pt",
        "README.md",
        ".gitattributes",
    ];
    for name in copied.iter().chain(&left) {
        fs::write(case.path("model").join(name), format!("{{}} of {name}")).unwrap();
    }
    fs::write(case.path("model/sparsity.json"), "an older one").unwrap();
    fs::create_dir(case.path("model/folder.json")).unwrap();
    let out = case.path("out");
    case.export(&out).unwrap();
    let mut expected: Vec<&str> = copied.to_vec();
    expected.extend(["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]);
    for name in &expected {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(case.path("model").join(name)).unwrap());
    }
    expected.extend(["model.safetensors", "sparsity.json"]);
    expected.sort_unstable();
    assert_eq!(names(&out), expected);
}

#[test]
fn the_report_says_what_was_done_with_zeroes_counted_in_what_was_written() {
    let case = Case::new(&Synthetic { dtype: DType::BF16, ..small() });
    let out = case.path("out");
    case.export(&out).unwrap();
    let report: Value = serde_json::from_slice(&fs::read(out.join("sparsity.json")).unwrap()).unwrap();
    assert_eq!(report["program"], "secateur");
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["source_model"], case.path("model").to_str().unwrap());
    assert_eq!(report["cell"], "sparsegpt-2of4-c4-s7");
    assert_eq!(report["recipe"], "sparsegpt@2:4");
    assert_eq!((&report["calibration"], &report["seed"]), (&json!("data/c4.txt"), &json!(7)));

    let modules = report["modules"].as_array().unwrap();
    let order: Vec<&str> = modules.iter().map(|m| m["name"].as_str().unwrap()).collect();
    let expected = ["self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.down_proj"];
    assert_eq!(order, expected.map(|path| format!("model.layers.0.{path}")));
    let (mut zeros, mut weights) = (0, 0);
    for module in modules {
        let name = format!("{}.weight", module["name"].as_str().unwrap());
        let of = (case.zeros[&name], case.pruned[&name].len() / 2);
        assert_eq!((&module["zeros"], &module["weights"]), (&json!(of.0), &json!(of.1)));
        assert_eq!(module["sparsity"], json!(of.0 as f64 / of.1 as f64));
        (zeros, weights) = (zeros + of.0, weights + of.1);
    }
    assert_eq!(report["sparsity"], json!(zeros as f64 / weights as f64));
    assert_eq!((&report["zeros"], &report["weights"]), (&json!(zeros), &json!(weights)));
    let errors: Vec<&Value> = modules.iter().map(|m| &m["reconstruction_error"]).collect();
    assert_eq!(errors, [&json!(0.125), &json!(0.25), &Value::Null, &json!("inf")]);
    assert_eq!((&modules[0]["details"], &modules[2]["details"]), (&json!({"damping": 0.01}), &json!({})));
}

#[test]
fn an_export_is_opened_again_and_has_the_perplexity_of_the_cell() {
    for tied in [true, false] {
        let case = Case::new(&Synthetic { tied, dtype: DType::BF16, ..Synthetic::tiny(&Llama) });
        let texts: Vec<Vec<u32>> =
            (0..2).map(|n| (0..40).map(|i| (i * 53 + n * 7) % 258).collect()).collect();
        let out = case.path("out");
        let found = case.export_of(&case.checkpoints(), &out, Some(&texts)).unwrap().unwrap();
        assert_eq!(found.tokens, 78);
        assert!(found.in_memory.is_finite() && found.difference().abs() < 1e-9, "{found:?}");
        let (folder, base) = (case.folder(), case.path("base"));
        let (format, options) = (ExportFormat::default().0, ExportOptions::default());
        let of_base = export(format, &ExportModel::base(&folder), &options, &base, Some(&texts));
        let of_base = of_base.unwrap().unwrap();
        assert!(of_base.difference().abs() < 1e-9 && (of_base.in_memory - found.in_memory).abs() > 1e-3);
        assert!(!base.join("sparsity.json").exists());
        assert_eq!(
            fs::read(base.join("model.safetensors")).unwrap(),
            fs::read(case.path("model/model.safetensors")).unwrap()
        );
    }
}

/// Cuts the largest file of an export in half.
fn damage(out: &Path) {
    let mut files = vec![out.to_path_buf()];
    if out.is_dir() {
        files = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path()).collect();
    }
    let length = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let largest = files.into_iter().max_by_key(length).unwrap();
    let half = length(&largest) / 2;
    fs::OpenOptions::new().write(true).open(&largest).unwrap().set_len(half).unwrap();
}

#[test]
fn every_format_writes_cells_and_base_and_reads_them_back() {
    let case = Case::new(&Synthetic { dtype: DType::BF16, ..Synthetic::tiny(&Llama) });
    let (folder, checkpoints, cell) = (case.folder(), case.checkpoints(), cell());
    let quantised = [quantised_cell("rtn@3bit"), quantised_cell("rtn@4bit,sym,group=32")];
    let (asymmetric, symmetric) = (case.codes("codes", 3, 8, false), case.codes("symmetric", 4, 32, true));
    let texts: Vec<Vec<u32>> = vec![(0..40).map(|i| (i * 53) % 258).collect()];
    let options = ExportOptions::default();
    let mut names = Vec::new();
    for &format in EXPORTERS {
        assert!(!names.contains(&format.name()) && !format.about().ends_with('.'));
        names.push(format.name());
        assert_eq!(format.name().parse::<ExportFormat>().unwrap().0, format);
        let passages = [Passage { tokens: texts[0].clone(), first: 1 }];
        let models = [
            ExportModel::base(&folder),
            ExportModel::cell(&folder, &checkpoints, &cell),
            ExportModel::cell(&folder, &asymmetric, &quantised[0]),
            ExportModel::cell(&folder, &symmetric, &quantised[1]),
        ];
        let refused = models.iter().filter(|model| {
            let recipe = model.cell.map(|cell| &cell.result.spec.recipe);
            format.refuses(&folder, recipe, &options).is_some()
        });
        assert!(refused.count() < models.len(), "{format:?} writes nothing");
        for (number, model) in models.iter().enumerate() {
            let recipe = model.cell.map(|cell| &cell.result.spec.recipe);
            let out = case.path(&format!("{}-{number}", format.name()));
            let written = export(format, model, &options, &out, Some(&texts));
            if let Some(why) = format.refuses(&folder, recipe, &options) {
                mistake(written.map(drop), &[&why, format.name()]);
                continue;
            }
            let found = written.unwrap().unwrap();
            assert!(found.difference().abs() <= format.tolerance(model, &options), "{format:?} {found:?}");
            assert_eq!(out.is_dir(), format.extension().is_none());
            mistake(format.check_target(&out), &[out.to_str().unwrap(), "never overwrites"]);
            assert!(format.read_back(model, &options, &out, &passages).is_ok());
            damage(&out);
            assert!(format.read_back(model, &options, &out, &passages).is_err(), "{format:?}");
        }
    }
    let error = "zip".parse::<ExportFormat>().unwrap_err().to_string();
    assert!(names.iter().all(|name| error.contains(name)), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_clear_error_in_every_format() {
    let Some(disk) = Disk::new("size=600k") else {
        skip::skip("this user may not mount a small disk");
        return;
    };
    let case = Case::new(&Synthetic { intermediate: 512, blocks: 3, ..Synthetic::default() });
    let (folder, options) = (case.folder(), ExportOptions::default());
    for &format in EXPORTERS {
        let model = ExportModel::base(&folder);
        if format.refuses(&folder, None, &options).is_some() {
            continue;
        }
        let out = disk.0.path().join("out");
        let error = export(format, &model, &options, &out, None).unwrap_err();
        said(&error, 1, &[out.to_str().unwrap(), "is full", "left behind"]);
        assert_eq!(names(disk.0.path()), [""; 0]);
    }
}

#[test]
fn a_place_that_is_taken_is_refused_before_any_work_and_stays_as_it_is() {
    let case = Case::new(&small());
    let (full, file) = (case.path("full"), case.path("file"));
    fs::create_dir(&full).unwrap();
    fs::write(full.join("precious"), "mine").unwrap();
    fs::write(&file, "mine").unwrap();
    for (out, what) in [(&full, "not empty"), (&file, "no folder"), (&case.path("model"), "not empty")] {
        let parts = [out.to_str().unwrap(), what, "never overwrites"];
        mistake(check_target(out), &parts);
        // The checkpoints are not even looked at.
        mistake(case.export_of(&case.path("nothing"), out, None).map(drop), &parts);
    }
    assert_eq!(names(&full), ["precious"]);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert_eq!(names(case.dir.path()), ["checkpoints", "file", "full", "model"]);
}

#[test]
fn a_new_name_an_empty_folder_and_missing_folders_above_are_fine() {
    let case = Case::new(&small());
    let (empty, deep) = (case.path("empty"), case.path("a/b/out"));
    fs::create_dir(&empty).unwrap();
    for out in [&empty, &deep] {
        check_target(out).unwrap();
        assert!(!deep.parent().unwrap().exists(), "a check makes nothing");
        case.export(out).unwrap();
        case.check(out);
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_an_empty_folder_is_filled_and_stays_a_link() {
    let case = Case::new(&small());
    fs::create_dir(case.path("real")).unwrap();
    std::os::unix::fs::symlink(case.path("real"), case.path("link")).unwrap();
    case.export(&case.path("link")).unwrap();
    assert!(case.path("link").is_symlink());
    case.check(&case.path("real"));

    std::os::unix::fs::symlink(case.path("gone"), case.path("dangling")).unwrap();
    mistake(check_target(&case.path("dangling")), &["dangling", "points nowhere"]);
}

#[test]
fn a_cell_that_is_not_finished_is_refused() {
    let case = Case::new(&small());
    fs::remove_file(block_path(&case.checkpoints(), 1)).unwrap();
    let (folder, unfinished) = (case.folder(), CellResult { state: CellState::Cancelled, ..cell() });
    let checkpoints = case.checkpoints();
    let model = ExportModel::cell(&folder, &checkpoints, &unfinished);
    let refused =
        export(ExportFormat::default().0, &model, &ExportOptions::default(), &case.path("a/out"), None);
    mistake(refused.map(drop), &["sparsegpt-2of4-c4-s7", "not finished", "1 of 2 blocks", "--resume"]);
    // One that is done was whole.
    mistake(
        case.export(&case.path("a/out")),
        &["sparsegpt-2of4-c4-s7 are gone", "1 of 2 blocks", "another study"],
    );
    fs::remove_dir_all(case.checkpoints()).unwrap();
    mistake(case.export(&case.path("a/out")), &["0 of 2 blocks"]);
    assert_eq!(names(case.dir.path()), ["model"]);
}

#[test]
fn what_fails_half_way_leaves_nothing_behind() {
    let case = Case::new(&Synthetic { blocks: 3, ..small() });
    let path = block_path(&case.checkpoints(), 1);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = case.export(&case.path("a/b/out")).unwrap_err();
    said(&error, 1, &[path.to_str().unwrap(), "damaged"]);
    assert_eq!(names(case.dir.path()), ["checkpoints", "model"]);

    // Checkpoints of a model with other sizes, and of one with another precision.
    for (shape, dtype) in [((32, 31), DType::F32), ((32, 32), DType::BF16)] {
        let values = Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
        write_block(&case.checkpoints(), 1, &[("self_attn.q_proj", Stored::Values(values))]).unwrap();
        let name = "model.layers.1.self_attn.q_proj.weight";
        mistake(case.export(&case.path("out")), &[name, "[32, 32] of F32", "another model"]);
        assert_eq!(names(case.dir.path()), ["checkpoints", "model"]);
    }
}

#[test]
fn what_a_killed_export_left_is_replaced() {
    let case = Case::new(&small());
    let part = case.path(&format!("out.part-{}", std::process::id()));
    fs::create_dir(&part).unwrap();
    fs::write(part.join("model.safetensors"), "torn").unwrap();
    fs::write(part.join("rest"), "torn").unwrap();
    case.export(&case.path("out")).unwrap();
    case.check(&case.path("out"));
    assert!(!case.path("out/rest").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_the_users_mistake() {
    let case = Case::new(&small());
    fs::write(case.path("file"), "").unwrap();
    let mut places = vec![case.path("file/out"), case.path("file/a/b")];
    if cfg!(target_os = "linux") {
        places.push("/proc/secateur/out".into());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let closed = case.path("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
        if fs::write(closed.join("probe"), "").is_ok() {
            skip::skip("one folder of several: this user may write even where nobody may");
        } else {
            places.push(closed.join("out"));
        }
    }
    for out in &places {
        for result in [check_target(out), case.export(out)] {
            mistake(result, &[out.to_str().unwrap(), "cannot be written"]);
        }
    }
}

/// A small file system in memory, gone when dropped.
#[cfg(target_os = "linux")]
struct Disk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl Disk {
    /// `None` where the user may not mount.
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "none"]).arg(dir.path());
        let mounted = mount.output().is_ok_and(|o| o.status.success());
        mounted.then(|| Self(dir))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_clear_error_and_nothing_is_left_behind() {
    let (Some(disk), Some(spare)) = (Disk::new("size=1m"), Disk::new("size=1m")) else {
        skip::skip("this user may not mount a small disk");
        return;
    };
    // Two shards of some 700 KB: the first fits, the second does not.
    let case =
        Case::new(&Synthetic { intermediate: 512, blocks: 3, sharded: Some(2), ..Synthetic::default() });
    let out = disk.0.path().join("a/out");
    check_target(&out).unwrap();
    said(&case.export(&out).unwrap_err(), 1, &[out.to_str().unwrap(), "is full", "nothing", "left behind"]);
    assert_eq!(names(disk.0.path()), [""; 0]);

    // Once there is room, the same export works; the top of a disk cannot be replaced and is refused at once.
    let small = Case::new(&small());
    small.export(&out).unwrap();
    small.check(&out);
    mistake(check_target(spare.0.path()), &[spare.0.path().to_str().unwrap(), "top of a disk"]);
}
