use std::fs;
use std::path::PathBuf;

use half::bf16;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::test_cells::{cell, write_codes};
use super::super::write::export;
use super::*;
use crate::kernels::codes::GroupGrid;
use crate::model::Synthetic;
use crate::model::arch::qwen2::Qwen2;

/// A matrix of given codes with groups of `group` columns, scales 1, 2, 3 … and zeros `zeros`.
fn codes(shape: [usize; 2], bits: u8, group: usize, codes: &[u8], zeros: Option<&[u8]>) -> Codes {
    let grid = Grid { bits, group, symmetric: zeros.is_none(), scale_dtype: DType::BF16 };
    let zero = |i: usize| zeros.map_or(1 << (bits - 1), |zeros| zeros[i]);
    let groups = (0..shape[0] * shape[1] / group)
        .map(|i| GroupGrid { scale: (i + 1) as f32, zero: zero(i) })
        .collect();
    Codes::of(shape, grid, codes, groups)
}

/// Dtype, shape and bytes of a tensor that a matrix becomes.
fn part(codes: &Codes, name: &str) -> Option<(&'static str, Vec<usize>, Vec<u8>)> {
    let part = parts_of(codes).into_iter().find(|part| part.name == name)?;
    let bytes = (part.bytes)(codes);
    assert_eq!(bytes.len(), part.shape.iter().product::<usize>() * width(part.dtype), "{name}");
    Some((part.dtype, part.shape, bytes))
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

#[test]
fn the_words_of_a_row_are_one_string_of_bits() {
    // Ten codes of four bits: eight fill a word, two begin the next.
    let four = codes([2, 10], 4, 10, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].repeat(2), None);
    let (dtype, shape, bytes) = part(&four, PACKED).unwrap();
    assert_eq!((dtype, shape), ("I32", vec![2, 2]));
    assert_eq!(words(&bytes), [0x8765_4321, 0xa9, 0x8765_4321, 0xa9]);
    // Eleven of three: the last has two bits in the first word and one in the second.
    let three = codes([1, 11], 3, 11, &[1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 7], None);
    let (_, shape, bytes) = part(&three, PACKED).unwrap();
    assert_eq!(shape, [1, 2]);
    assert_eq!(words(&bytes), [0b11_010_001_000_111_110_101_100_011_010_001, 0b1]);
    let eight = codes([1, 4], 8, 4, &[0x10, 0x32, 0x54, 0xfe], None);
    assert_eq!(words(&part(&eight, PACKED).unwrap().2), [0xfe54_3210]);
    let two = codes([1, 3], 2, 3, &[3, 0, 2], None);
    assert_eq!(words(&part(&two, PACKED).unwrap().2), [0b10_00_11]);
}

#[test]
fn scales_and_the_shape_stand_beside_the_words() {
    let matrix = codes([2, 4], 4, 2, &[0; 8], None);
    let (dtype, shape, bytes) = part(&matrix, SCALE).unwrap();
    let halves = [1.0, 2.0, 3.0, 4.0].map(|scale| bf16::from_f32(scale).to_le_bytes()).concat();
    assert_eq!((dtype, shape, bytes), ("BF16", vec![2, 2], halves));
    let (dtype, shape, bytes) = part(&matrix, SHAPE).unwrap();
    assert_eq!((dtype, shape), ("I64", vec![2]));
    assert_eq!(bytes, [2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    assert!(part(&matrix, ZERO_POINT).is_none(), "zero lies in the middle");
}

#[test]
fn the_words_of_zero_points_run_down_the_rows() {
    // Nine rows of two groups: the zeros of the first are 1 … 9, those of the second 15, 14 … 7.
    let zeros: Vec<u8> = (0..9).flat_map(|row| [row + 1, 15 - row]).collect();
    let matrix = codes([9, 2], 4, 1, &[0; 18], Some(&zeros));
    let (dtype, shape, bytes) = part(&matrix, ZERO_POINT).unwrap();
    assert_eq!((dtype, shape), ("I32", vec![2, 2]));
    assert_eq!(words(&bytes), [0x8765_4321, 0x89ab_cdef, 0x9, 0x7]);
}

/// A model with a cell whose first block is on a grid, and the cell's export.
struct Case {
    dir: tempfile::TempDir,
    folder: ModelFolder,
}

impl Case {
    fn new(bits: u8, symmetric: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = Synthetic { dtype: DType::BF16, blocks: 2, ..Synthetic::tiny(&Qwen2) };
        model.write(&dir.path().join("model")).unwrap();
        let folder = ModelFolder::open(&dir.path().join("model")).unwrap();
        let case = Self { dir, folder };
        write_codes(&case.folder, &case.path("checkpoints"), bits, 8, symmetric);
        let (checkpoints, cell) = (case.path("checkpoints"), cell(&format!("rtn@{bits}bit")));
        let model = ExportModel::cell(&case.folder, &checkpoints, &cell);
        let out = case.path("out");
        export(&CompressedTensors, &model, &ExportOptions::default(), &out, None).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The matrices of the first block as the reader has them.
    fn read(&self) -> Result<Vec<Vec<f32>>> {
        let mut read = reopen::Reopened::open(&self.path("out"), &self.folder)?;
        let block = read.load(0)?;
        let modules = self.folder.config.layout(0).modules();
        modules.map(|(id, _)| Ok(block.module(id)?.weight.flatten_all()?.to_vec1()?)).collect()
    }

    /// What the reader says of other bytes in place of a file's; the file is then as before.
    fn read_with(&self, file: &str, bytes: &[u8]) -> Result<Vec<Vec<f32>>> {
        let path = self.path("out").join(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let found = self.read();
        fs::write(&path, before).unwrap();
        found
    }

    fn bytes(&self, file: &str) -> Vec<u8> {
        fs::read(self.path("out").join(file)).unwrap()
    }
}

/// The JSON at the head of a safetensors file, and where the data begin.
fn header(bytes: &[u8]) -> (Value, usize) {
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..data]).unwrap(), data)
}

fn with_header(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn a_row_that_is_one_group_long_goes_with_groups_and_with_rows() {
    let grids = |grids: &[(usize, usize)]| {
        let grid = |group| Grid { bits: 4, group, symmetric: true, scale_dtype: DType::F32 };
        common_group(&grids.iter().map(|(group, columns)| (grid(*group), *columns)).collect::<Vec<_>>())
    };
    assert_eq!(grids(&[(64, 64), (64, 128)]).unwrap(), Some(64));
    assert_eq!(grids(&[(64, 128), (64, 64)]).unwrap(), Some(64));
    assert_eq!(grids(&[(64, 64), (128, 128)]).unwrap(), None);
    assert_eq!(grids(&[(64, 64), (64, 64)]).unwrap(), None);
    assert!(grids(&[(32, 32), (64, 128)]).is_err());
}

#[test]
fn what_is_read_back_is_what_the_codes_stand_for() {
    for (bits, symmetric) in [(2, true), (3, false), (4, true), (4, false), (8, false)] {
        let case = Case::new(bits, symmetric);
        let checkpoints = case.path("checkpoints");
        let cell = cell("rtn@4bit");
        let model = ExportModel::cell(&case.folder, &checkpoints, &cell);
        let mut blocks = Blocks::new(&model);
        let ids = case.folder.config.layout(0).modules().map(|(id, _)| id);
        for (id, found) in ids.zip(case.read().unwrap()) {
            let wanted: Vec<f32> = blocks.weight(0, id).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(found, wanted, "{bits} bits, symmetric: {symmetric}");
        }
    }
}

#[test]
fn a_flipped_byte_is_found_or_changes_only_values() {
    let case = Case::new(4, false);
    let (whole, wanted) = (case.bytes(SINGLE_FILE), case.read().unwrap());
    let (entries, data) = header(&whole);
    let values = [PACKED, SCALE, ZERO_POINT];
    let mut changed = 0;
    for (name, entry) in entries.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__") {
        let from = data + entry["data_offsets"][0].as_u64().unwrap() as usize;
        let to = data + entry["data_offsets"][1].as_u64().unwrap() as usize;
        for place in [from, usize::midpoint(from, to), to - 1] {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x11;
            let found = case.read_with(SINGLE_FILE, &bytes);
            if values.iter().any(|part| name.ends_with(part)) {
                let found = found.unwrap_or_else(|e| panic!("{name}: {e}"));
                assert!(found.iter().zip(&wanted).all(|(f, w)| f.len() == w.len()), "{name}");
                changed += usize::from(found != wanted);
            } else {
                assert!(found.is_err(), "{name}: nobody saw byte {place}");
            }
        }
    }
    // Three bytes of three tensors of seven modules, less those that fill up a word.
    assert!(changed > 50, "{changed}");
    for place in (0..data).step_by(5) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x11;
        // In the header's list it is another name, size or place: few of those can be read.
        if let Ok(found) = case.read_with(SINGLE_FILE, &bytes) {
            assert_eq!(found.len(), wanted.len());
        }
    }
}

#[test]
fn a_file_that_ends_too_early_is_an_error() {
    let case = Case::new(4, true);
    for file in [SINGLE_FILE, CONFIG] {
        let whole = case.bytes(file);
        for length in (0..whole.len()).step_by((whole.len() / 60).max(1)) {
            // The last line feed of config.json says nothing.
            assert!(case.read_with(file, &whole[..length]).is_err(), "{file}: {length} of {}", whole.len());
        }
    }
    let longer = [case.bytes(SINGLE_FILE), vec![0; 8]].concat();
    assert!(case.read_with(SINGLE_FILE, &longer).is_err(), "bytes that belong to nothing");
    for length in [u64::MAX, 1 << 60, (longer.len() as u64) - 7] {
        let mut bytes = longer.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        assert!(case.read_with(SINGLE_FILE, &bytes).is_err(), "a header of {length} bytes");
    }
}

#[test]
fn a_configuration_that_says_something_else_is_an_error() {
    let case = Case::new(4, false);
    let config: Value = serde_json::from_slice(&case.bytes(CONFIG)).unwrap();
    let weights = "/quantization_config/config_groups/group_0/weights";
    let changes = [
        (format!("{weights}/group_size"), vec![json!(0), json!(7), json!(16), json!(-8), json!(1_u64 << 60)]),
        (
            format!("{weights}/num_bits"),
            vec![json!(0), json!(3), json!(8), json!(9), json!(u64::MAX), json!(4.5)],
        ),
        (format!("{weights}/strategy"), vec![json!("channel"), json!("tensor"), json!(1)]),
        (format!("{weights}/type"), vec![json!("float")]),
        (format!("{weights}/symmetric"), vec![json!("no"), Value::Null]),
        ("/quantization_config/format".into(), vec![json!("dense")]),
        ("/quantization_config/quant_method".into(), vec![json!("gptq")]),
        ("/quantization_config/config_groups".into(), vec![json!({}), json!([1]), json!("all")]),
        ("/quantization_config".into(), vec![Value::Null, json!([]), json!(4)]),
    ];
    for (place, values) in changes {
        for value in values {
            let mut changed = config.clone();
            *changed.pointer_mut(&place).unwrap() = value.clone();
            let found = case.read_with(CONFIG, changed.to_string().as_bytes());
            assert!(found.is_err(), "{place}: {value}");
        }
    }
    for text in ["", "null", "[]", "{", "{\"quantization_config\":"] {
        assert!(case.read_with(CONFIG, text.as_bytes()).is_err(), "{text}");
    }
}

/// Numbers and other things that no writer means.
fn lies() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(|n| json!(n)),
        (0u32..64).prop_map(|bit| json!(1_u64 << bit)),
        any::<i32>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|x| json!(x)),
        prop::sample::select(vec!["I32", "I64", "BF16", "F32", "F64", "U8", "", "group"])
            .prop_map(|s| json!(s)),
        prop::collection::vec(any::<u64>(), 0..4).prop_map(|v| json!(v)),
        prop::collection::vec((0u32..63).prop_map(|bit| 1_u64 << bit), 0..6).prop_map(|v| json!(v)),
        Just(Value::Null),
        Just(json!({})),
    ]
}

/// Every place below a value, as JSON pointers.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    let mut below = |key: &str, value: &Value| {
        let place = format!("{at}/{key}");
        places(value, &place, all);
        all.push(place);
    };
    match value {
        Value::Object(entries) => entries.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| below(&i.to_string(), value));
        }
        _ => {}
    }
}

/// Puts something else in one place, or removes what is there.
fn lie(value: &mut Value, place: Index, other: &Value, remove: bool) {
    let mut all = Vec::new();
    places(value, "", &mut all);
    let place = place.get(&all);
    if let Some((above, key)) = place.rsplit_once('/').filter(|_| remove)
        && let Some(Value::Object(entries)) = value.pointer_mut(above)
    {
        entries.remove(key);
    } else if let Some(found) = value.pointer_mut(place) {
        *found = other.clone();
    }
}

#[test]
fn lies_are_errors_or_read_as_other_values() {
    let case = Case::new(3, false);
    let (whole, wanted) = (case.bytes(SINGLE_FILE), case.read().unwrap());
    let (entries, data) = header(&whole);
    let config: Value = serde_json::from_slice(&case.bytes(CONFIG)).unwrap();
    let lengths: Vec<usize> = wanted.iter().map(Vec::len).collect();
    let one_lie = (any::<Index>(), lies(), any::<bool>());
    let many = prop::collection::vec(one_lie, 1..4);
    proptest!(ProptestConfig::with_cases(400), |(told in many, in_config in any::<bool>(), cut in 0usize..9)| {
        let mut lying = if in_config { config.clone() } else { entries.clone() };
        for (place, other, remove) in &told {
            lie(&mut lying, *place, other, *remove);
        }
        let found = if in_config {
            case.read_with(CONFIG, lying.to_string().as_bytes())
        } else {
            let kept = if cut < 8 { &whole[data..] } else { &whole[data..data + (whole.len() - data) / 2] };
            case.read_with(SINGLE_FILE, &with_header(&lying, kept))
        };
        if let Ok(found) = found {
            prop_assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), lengths.clone());
        }
    });
}
