//! Fused loops of the host compared with candle's operations.

use candle_core::Shape;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};

use super::*;
use crate::kernels::activation::ActivationFunction;
use crate::model::batch::Sequence;

/// One operation on the host, as a tensor.
fn tensor_of(rows: Result<Activations>) -> Tensor {
    rows.unwrap().into_tensor().unwrap()
}

fn host(x: &Tensor) -> Activations {
    let rows = Activations::of(x).unwrap();
    assert!(matches!(rows, Activations::Host { .. }));
    rows
}

struct Random(rand_chacha::ChaCha8Rng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(rand_chacha::ChaCha8Rng::seed_from_u64(seed))
    }

    fn tensor<S: Into<Shape>>(&mut self, shape: S) -> Tensor {
        let shape = shape.into();
        let values = (0..shape.elem_count()).map(|_| self.0.random_range(-2f32..2.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }
}

/// Greatest distance of two elements.
fn apart(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.shape(), b.shape());
    let values =
        |x: &Tensor| x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn fused_products_equal_composed_ones(
        n in 1usize..40, inner in 1usize..70, outer in 1usize..40, seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let (x, weight) = (random.tensor((n, inner)), random.tensor((outer, inner)));
        let (bias, residual) = (random.tensor(outer), random.tensor((n, outer)));
        let product = composed::product(&x, &weight).unwrap();
        prop_assert!(apart(&tensor_of(linear(&host(&x), &weight, None)), &product) < 1e-4);
        let sum = composed::product_add(&residual, &x, &weight).unwrap();
        prop_assert!(apart(&tensor_of(linear_add(host(&residual), &host(&x), &weight, None)), &sum) < 1e-4);
        let biased = sum.broadcast_add(&bias).unwrap();
        prop_assert!(apart(&tensor_of(linear_add(host(&residual), &host(&x), &weight, Some(&bias))), &biased) < 1e-4);
        // A transposed view is not contiguous.
        let view = random.tensor((inner, n)).t().unwrap();
        let product = composed::product(&view.contiguous().unwrap(), &weight).unwrap();
        prop_assert!(apart(&tensor_of(linear(&host(&view), &weight, None)), &product) < 1e-4);
    }

    #[test]
    fn packed_products_equal_composed_ones(
        n in 1usize..90, inner in 1usize..200, outer in 1usize..40, seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let (x, residual, bias) =
            (random.tensor((n, inner)), random.tensor((n, outer)), random.tensor(outer));
        let weight = random.tensor((outer, inner)).relu().unwrap();
        let Some(packed) = pack(&weight).unwrap() else { return Ok(()) };
        let product = composed::product(&x, &weight).unwrap();
        let got = tensor_of(linear_packed(None, &host(&x), &packed, None));
        prop_assert!(apart(&got, &product) < 1e-3);
        let sum = composed::product_add(&residual, &x, &weight).unwrap().broadcast_add(&bias).unwrap();
        let got = tensor_of(linear_packed(Some(host(&residual)), &host(&x), &packed, Some(&bias)));
        prop_assert!(apart(&got, &sum) < 1e-3);
    }

    #[test]
    fn fused_norms_and_activations_equal_composed_ones(n in 1usize..60, width in 1usize..90, seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let (x, up, weight) = (random.tensor((n, width)), random.tensor((n, width)), random.tensor(width));
        for eps in [1e-5, 1e-1] {
            let norm = composed::rms_norm(&x, &weight, eps).unwrap();
            prop_assert!(apart(&tensor_of(rms_norm(&host(&x), &weight, eps)), &norm) < 1e-4);
        }
        for factor in [1.0, -0.37] {
            let sum = (&x + (&up * factor).unwrap()).unwrap();
            prop_assert!(apart(&tensor_of(add(host(&x), &host(&up), factor)), &sum) < 1e-5);
            let device = add(Activations::Device(x.clone()), &Activations::Device(up.clone()), factor);
            prop_assert!(apart(&tensor_of(device), &sum) < 1e-6);
            let scaled = (&x * factor).unwrap();
            prop_assert!(apart(&tensor_of(scale(host(&x), factor)), &scaled) < 1e-6);
            prop_assert!(apart(&tensor_of(scale(Activations::Device(x.clone()), factor)), &scaled) < 1e-6);
        }
        let gated_by_silu = composed::silu_mul(&x, &up).unwrap();
        prop_assert!(apart(&tensor_of(silu_mul(&host(&x), &host(&up))), &gated_by_silu) < 1e-5);
        for function in [
            ActivationFunction::Silu,
            ActivationFunction::Gelu,
            ActivationFunction::GeluTanh,
            ActivationFunction::Relu,
        ] {
            let device = Activations::Device(x.clone());
            let product = tensor_of(gated(&device, &Activations::Device(up.clone()), function));
            prop_assert!(apart(&tensor_of(gated(&host(&x), &host(&up), function)), &product) < 1e-5);
            let alone = tensor_of(activate(device, function));
            prop_assert!(apart(&tensor_of(activate(host(&x), function)), &alone) < 1e-5);
        }
        let capped = tensor_of(softcap(Activations::Device(x.clone()), 1.5));
        prop_assert!(apart(&tensor_of(softcap(host(&x), 1.5)), &capped) < 1e-5);
        let factors = random.tensor(n).to_vec1().unwrap();
        let scaled = tensor_of(scale_rows(Activations::Device(x.clone()), &factors));
        prop_assert!(apart(&tensor_of(scale_rows(host(&x), &factors)), &scaled) < 1e-6);
    }

    #[test]
    fn fused_layer_norms_and_columns_equal_composed_ones(
        n in 1usize..30, pieces in 1usize..4, piece in 2usize..20, with_bias in any::<bool>(), seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let width = pieces * piece;
        let (x, weight, bias) = (random.tensor((n, width)), random.tensor(width), random.tensor(width));
        let bias = with_bias.then_some(&bias);
        let norm = composed::layer_norm(&x, &weight, bias, piece, 1e-2).unwrap();
        prop_assert!(apart(&tensor_of(layer_norm(&host(&x), &weight, bias, piece, 1e-2)), &norm) < 1e-4);
        let runs = ColumnRuns { start: 1, length: piece - 1, stride: piece, count: pieces };
        let taken = tensor_of(columns(&Activations::Device(x.clone()), runs));
        prop_assert!(apart(&tensor_of(columns(&host(&x), runs)), &taken) < 1e-9);
        let first = ColumnRuns { start: 0, length: width - 1, stride: width, count: 1 };
        let taken = tensor_of(columns(&Activations::Device(x.clone()), first));
        prop_assert!(apart(&taken, &x.narrow(1, 0, width - 1).unwrap()) < 1e-9);
    }

    #[test]
    fn fused_rotation_and_attention_equal_composed_ones(
        lengths in prop::collection::vec((1usize..80, 0usize..20), 1..5), spare in 0usize..3,
        key_heads in 1usize..3, groups in 1usize..4, half in 1usize..9,
        window in prop::option::of(1usize..40), scale in prop::option::of(0.01f64..1.0),
        softcap in prop::option::of(0.5f64..9.0), part in 1usize..9, neighbours in any::<bool>(), has_sinks: bool,
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let heads =
            AttentionShape { query: key_heads * groups, key: key_heads, dim: 2 * half, window, scale, softcap };
        let sequence = |(slot, &(new, past)): (usize, &(usize, usize))| Sequence { slot, past, new };
        let batch = Batch::new(lengths.iter().enumerate().map(sequence).collect());
        let capacity = lengths.iter().map(|(new, past)| new + past).max().unwrap() + spare;
        let turned = half.min(part);
        let [cos, sin] = [(); 2].map(|()| random.tensor(capacity * turned).to_vec1().unwrap());
        let table = RopeTable::of(cos, sin, turned, neighbours);
        let q = random.tensor((batch.rows(), heads.query * heads.dim));
        let k = random.tensor((lengths.len() * capacity, heads.key * heads.dim));
        let v = random.tensor((lengths.len() * capacity, heads.key * heads.dim));
        let rotated = composed::rope(&q, &table, &batch, heads.query).unwrap();
        prop_assert!(apart(&tensor_of(rope(&host(&q), &table, &batch, heads.query)), &rotated) < 1e-5);
        let segments = batch.segments(Some(capacity));
        let sinks = has_sinks.then(|| random.tensor(heads.query));
        let sinks = sinks.as_ref();
        let attended = composed::causal_attention(&q, (&k, &v), &segments, heads, sinks).unwrap();
        let fused = tensor_of(causal_attention(&host(&q), &host(&k), &host(&v), &segments, heads, sinks));
        prop_assert!(apart(&fused, &attended) < 1e-4);
    }
}

#[test]
fn attention_of_more_queries_than_live_at_the_same_time_equals_the_fused_one() {
    let mut random = Random::new(3);
    let sequence = |slot, past, new| Sequence { slot, past, new };
    let long = DEVICE_QUERIES + 70;
    let batch = Batch::new(vec![sequence(0, 30, long), sequence(1, 0, long), sequence(2, 5, 9)]);
    let capacity = long + 30;
    for window in [None, Some(200)] {
        let heads = AttentionShape { query: 4, key: 2, dim: 6, window, scale: None, softcap: None };
        let q = random.tensor((batch.rows(), heads.query * heads.dim));
        let k = random.tensor((3 * capacity, heads.key * heads.dim));
        let v = random.tensor((3 * capacity, heads.key * heads.dim));
        let segments = batch.segments(Some(capacity));
        let device = composed::causal_attention(&q, (&k, &v), &segments, heads, None).unwrap();
        let host = tensor_of(causal_attention(&host(&q), &host(&k), &host(&v), &segments, heads, None));
        assert!(apart(&host, &device) < 1e-4);
    }
}
