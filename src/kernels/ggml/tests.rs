use super::*;
use crate::skip;

const TYPES: [(&str, GgmlType); 10] = [
    ("Q8_0", GgmlType::Q8_0),
    ("Q4_0", GgmlType::Q4_0),
    ("Q4_1", GgmlType::Q4_1),
    ("Q5_0", GgmlType::Q5_0),
    ("Q5_1", GgmlType::Q5_1),
    ("Q2_K", GgmlType::Q2K),
    ("Q3_K", GgmlType::Q3K),
    ("Q4_K", GgmlType::Q4K),
    ("Q5_K", GgmlType::Q5K),
    ("Q6_K", GgmlType::Q6K),
];

fn waves(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37).sin() * (1.0 + (i % 7) as f32) / 40.0).collect()
}

fn error(found: &[f32], wanted: &[f32]) -> f64 {
    let sum = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v * v)).sum::<f64>();
    (sum(&mut found.iter().zip(wanted).map(|(f, w)| f - w)) / sum(&mut wanted.iter().copied())).sqrt()
}

#[test]
fn every_type_gives_back_about_what_it_was_given() {
    let values = waves(6 * 512);
    for &mixture in MIXTURES {
        let kind = mixture.kind;
        let bytes = quantise(kind, &values, 512).unwrap();
        assert_eq!(bytes.len(), 6 * kind.row_bytes(512), "{mixture}");
        let back = dequantise(kind, &bytes).unwrap();
        let most = match 8 * kind.block_bytes() / kind.block_values() {
            16.. => 0.003,
            8.. => 0.01,
            6.. => 0.04,
            5.. => 0.1,
            4.. => 0.13,
            3.. => 0.25,
            _ => 0.5,
        };
        let found = error(&back, &values);
        assert!(found < most, "{mixture}: {found}");
        assert_eq!(rounded(kind, &values, 512).unwrap(), back);
        // What starts at another row is quantised alike.
        assert_eq!(
            quantise(kind, &values[512..1024], 512).unwrap(),
            bytes[kind.row_bytes(512)..][..kind.row_bytes(512)]
        );
    }
}

#[test]
fn rows_that_are_no_whole_blocks_get_another_type() {
    let cases = [
        (GgmlType::Q4K, 256, GgmlType::Q4K),
        (GgmlType::Q4K, 576, GgmlType::Q5_0),
        (GgmlType::Q5K, 576, GgmlType::Q5_1),
        (GgmlType::Q6K, 576, GgmlType::Q8_0),
        (GgmlType::Q2K, 576, GgmlType::Q4_0),
        (GgmlType::Q3K, 576, GgmlType::Q4_0),
        (GgmlType::Q8_0, 576, GgmlType::Q8_0),
        (GgmlType::Q6K, 100, GgmlType::F16),
        (GgmlType::Q4_0, 8, GgmlType::F16),
    ];
    for (kind, columns, expected) in cases {
        assert_eq!(kind.fitting(columns), expected, "{kind:?} {columns}");
    }
    assert!(quantise(GgmlType::Q4K, &waves(576), 576).is_err());
    assert!(dequantise(GgmlType::Q4K, &[0; 145]).is_err());
}

#[test]
fn what_f16_cannot_hold_is_refused() {
    let error = quantise(GgmlType::F16, &[1.0, -7e4], 2).unwrap_err();
    assert!(error.to_string().contains("beyond f16"), "{error}");
    assert!(quantise(GgmlType::Bf16, &[1.0, -7e4], 2).is_ok());
}

#[test]
fn names_lead_to_mixtures_and_are_different() {
    for &mixture in MIXTURES {
        assert_eq!(mixture.name().parse::<GgmlMixture>().unwrap(), mixture);
    }
    assert_eq!("Q4_K_M".parse::<GgmlMixture>().unwrap().file_type, 15);
    let error = "q9".parse::<GgmlMixture>().unwrap_err();
    assert!(error.to_string().contains("q4_k_m"), "{error}");
}

/// Blocks of 30 that get more bits.
const MORE: [usize; 14] = [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29];

/// What llama.cpp made of SmolLM2 (30 blocks, three query heads a key head), see FORMATS.md in `../shared`.
#[test]
fn mixtures_are_those_that_llama_cpp_gave_to_smollm2() {
    let place = |kind, block, columns| MatrixPlace { kind, block, blocks: 30, queries_per_key: 3, columns };
    let of = |name: &str, kind, block, columns| {
        name.parse::<GgmlMixture>().unwrap().type_of(&place(kind, block, columns))
    };
    for block in 0..30 {
        let more = MORE.contains(&block);
        let value = if more { GgmlType::Q8_0 } else { GgmlType::Q5_0 };
        let down = if more { GgmlType::Q6K } else { GgmlType::Q4K };
        assert_eq!(of("q4_k_m", MatrixKind::Value, block, 576), value);
        assert_eq!(of("q4_k_m", MatrixKind::Down, block, 1536), down);
        assert_eq!(of("q4_k_m", MatrixKind::Other, block, 576), GgmlType::Q5_0);
        assert_eq!(of("q4_k_m", MatrixKind::AttentionOutput, block, 576), GgmlType::Q5_0);
        assert_eq!(of("q6_k", MatrixKind::Other, block, 576), GgmlType::Q8_0);
        assert_eq!(of("q6_k", MatrixKind::Down, block, 1536), GgmlType::Q6K);
        assert_eq!(of("q2_k", MatrixKind::Value, block, 576), GgmlType::Q4_0);
        assert_eq!(of("q2_k", MatrixKind::Down, block, 1536), GgmlType::Q3K);
        assert_eq!(of("q4_0", MatrixKind::Down, block, 1536), GgmlType::Q4_0);
        // Rows of whole blocks, so that nothing else is taken instead.
        assert_eq!(of("q4_k_m", MatrixKind::FusedInputs, block, 1536), GgmlType::Q5K);
        assert_eq!(of("q5_k_m", MatrixKind::FusedInputs, block, 1536), GgmlType::Q6K);
        assert_eq!(of("q3_k_m", MatrixKind::FusedInputs, block, 1536), GgmlType::Q4K);
        assert_eq!(of("q2_k", MatrixKind::FusedInputs, block, 1536), GgmlType::Q2K);
    }
    for name in ["q4_k_m", "q6_k", "q2_k", "q4_0"] {
        assert_eq!(of(name, MatrixKind::Head, 0, 576), GgmlType::Q8_0, "{name}");
    }
}

#[test]
fn modules_of_all_families_are_known_by_what_they_are_for() {
    for (path, kind) in [
        ("self_attn.v_proj", MatrixKind::Value),
        ("self_attn.q_proj", MatrixKind::Other),
        ("self_attn.qkv_proj", MatrixKind::FusedInputs),
        ("attention.query_key_value", MatrixKind::FusedInputs),
        ("attn.c_attn", MatrixKind::FusedInputs),
        ("self_attn.o_proj", MatrixKind::AttentionOutput),
        ("self_attn.out_proj", MatrixKind::AttentionOutput),
        ("attention.dense", MatrixKind::AttentionOutput),
        ("attn.c_proj", MatrixKind::AttentionOutput),
        ("mlp.c_proj", MatrixKind::Down),
        ("mlp.dense_4h_to_h", MatrixKind::Down),
        ("mlp.down_proj", MatrixKind::Down),
        ("fc2", MatrixKind::Down),
        ("fc1", MatrixKind::Other),
        ("mlp.gate_up_proj", MatrixKind::Other),
    ] {
        assert_eq!(MatrixKind::of_module(path), kind, "{path}");
    }
}

#[test]
fn bytes_are_those_of_ggml() {
    let Some(path) = skip::shared("golden/quant/ggml_blocks.safetensors") else { return };
    let file = std::fs::read(path).unwrap();
    let golden = safetensors::SafeTensors::deserialize(&file).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let tensor = golden.tensor(name).unwrap();
        tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let (rows, importance) = (floats("rows.f32"), floats("imatrix.f32"));
    let mut compared = 0;
    for (name, kind) in TYPES {
        for (name, importance) in
            [(name.to_owned(), None), (format!("{name}+imatrix"), Some(&importance[..]))]
        {
            let Ok(wanted) = golden.tensor(&name) else { continue };
            let found = quantise_by_importance(kind, &rows, 1536, importance).unwrap();
            let differ = found.iter().zip(wanted.data()).filter(|(f, w)| f != w).count();
            assert!(found == wanted.data(), "{name}: {differ} of {} bytes differ", found.len());
            compared += 1;
        }
    }
    assert_eq!(compared, 19, "Q8_0 has no choice, and no bytes by importance");
}
