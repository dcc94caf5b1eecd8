//! The scores of a block's experts, while tokens go through them.

use crate::error::Result;
use crate::methods::ExpertScores;
use crate::model::ops::row_norms;
use crate::model::{Activations, Block, ExpertObserver};

/// Is shown what the experts of a dense block make of their tokens.
#[derive(Debug)]
pub(super) struct ShownExperts(ExpertScores);

impl ShownExperts {
    /// For a block with all experts that the files have, or with none.
    pub fn of(block: &Block) -> Self {
        let (experts, _) = block.layout().experts().unwrap_or_default();
        Self(ExpertScores::new(experts))
    }

    /// The scores.
    pub fn finish(self) -> Vec<f64> {
        self.0.finish()
    }
}

impl ExpertObserver for ShownExperts {
    fn output(&mut self, expert: usize, output: &Activations, gates: &[f32]) -> Result<()> {
        self.0.add(expert, gates, &row_norms(output)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::model::arch::mixtral::Mixtral;
    use crate::model::head::embed;
    use crate::model::{ARCHITECTURES, Architecture, Batch, ModelFolder, Onlookers, Synthetic};

    /// What a family calls things, and what its router does.
    struct MixtureFamily {
        architecture: &'static dyn Architecture,
        router: &'static str,
        experts: &'static str,
        /// Gate, what is multiplied with it, and what writes back.
        layers: [&'static str; 3],
        chosen: usize,
        /// Whether the gates of the chosen experts add up to one.
        renormalised: bool,
    }

    const USUAL: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

    fn families() -> [MixtureFamily; 4] {
        let usual = |class: &str, chosen, renormalised| MixtureFamily {
            architecture: *ARCHITECTURES.iter().find(|known| known.name() == class).unwrap(),
            router: "mlp.gate.weight",
            experts: "mlp.experts",
            layers: USUAL,
            chosen,
            renormalised,
        };
        [
            MixtureFamily {
                router: "block_sparse_moe.gate.weight",
                experts: "block_sparse_moe.experts",
                layers: ["w1", "w3", "w2"],
                ..usual("MixtralForCausalLM", 2, true)
            },
            usual("Qwen3MoeForCausalLM", 2, true),
            usual("Qwen2MoeForCausalLM", 2, false),
            usual("OlmoeForCausalLM", 3, false),
        ]
    }

    type Matrix64 = Vec<Vec<f64>>;

    fn rows(x: &Tensor) -> Matrix64 {
        let rows = x.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
        rows.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect()
    }

    /// `W · x`
    fn times(weight: &Matrix64, x: &[f64]) -> Vec<f64> {
        weight.iter().map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    }

    /// `S_j = mean over the tokens that are routed to j of g_j(x) · ‖f_j(x)‖₂`, where `x` is what the norm before the
    /// mixture makes of the states behind attention, `g` the softmax of the router's logits (over their sum for the chosen,
    /// where the family does that), and `f_j(x) = W_down · (silu(W_gate · x) ∘ (W_up · x))`.
    fn scores(folder: &ModelFolder, family: &MixtureFamily, block: usize, attended: &Matrix64) -> Vec<f64> {
        let tensor = |name: &str| {
            let name = format!("model.layers.{block}.{name}");
            folder.weights.tensor(&name, DType::F32, &Device::Cpu).unwrap()
        };
        let gains = tensor("post_attention_layernorm.weight").to_vec1::<f32>().unwrap();
        let router = rows(&tensor(family.router));
        let experts: Vec<[Matrix64; 3]> = (0..router.len())
            .map(|e| family.layers.map(|l| rows(&tensor(&format!("{}.{e}.{l}.weight", family.experts)))))
            .collect();
        let mut seen = vec![(0.0, 0.0); experts.len()];
        for state in attended {
            let square = state.iter().map(|v| v * v).sum::<f64>() / state.len() as f64;
            let scale = 1.0 / (square + folder.config.head.norm_eps).sqrt();
            let x: Vec<f64> = state.iter().zip(&gains).map(|(v, g)| v * scale * f64::from(*g)).collect();
            let exponentials: Vec<f64> = times(&router, &x).iter().map(|logit| logit.exp()).collect();
            let all: f64 = exponentials.iter().sum();
            let mut order: Vec<usize> = (0..experts.len()).collect();
            order.sort_by(|a, b| exponentials[*b].total_cmp(&exponentials[*a]));
            let chosen = &order[..family.chosen];
            let of_chosen: f64 = chosen.iter().map(|expert| exponentials[*expert]).sum();
            for &expert in chosen {
                let gate = exponentials[expert] / if family.renormalised { of_chosen } else { all };
                let [gate_weights, up, down] = &experts[expert];
                let silu = |v: f64| v / (1.0 + (-v).exp());
                let inner = times(gate_weights, &x).into_iter().zip(times(up, &x));
                let output = times(down, &inner.map(|(gate, up)| silu(gate) * up).collect::<Vec<_>>());
                seen[expert].0 += gate * output.iter().map(|v| v * v).sum::<f64>().sqrt();
                seen[expert].1 += 1.0;
            }
        }
        seen.into_iter().map(|(sum, tokens)| if tokens > 0.0 { sum / tokens } else { 0.0 }).collect()
    }

    fn onlookers(shown: &mut ShownExperts) -> Onlookers<'_> {
        Onlookers { inputs: None, experts: Some(shown) }
    }

    #[test]
    fn scores_are_those_of_the_formula_in_f64() {
        for family in families() {
            let dir = tempfile::tempdir().unwrap();
            Synthetic::tiny(family.architecture).write(dir.path()).unwrap();
            let folder = ModelFolder::open(dir.path()).unwrap();
            let tokens: Vec<u32> = (0..60).map(|i| (i * 37 + i / 20 * 11) % 258).collect();
            let batch = Batch::windows(3, 20);
            let ropes = folder.config.rope_tables(20);
            let mut x = embed(&folder, &tokens, &batch, DType::F32, &Device::Cpu).unwrap();
            for index in 0..folder.config.blocks {
                let block = Block::load(&folder, index, DType::F32, &Device::Cpu).unwrap();
                // Without what its MLPs write, a block's output is what attention leaves.
                let mut silent = block.clone();
                for (id, module) in block.layout().modules() {
                    if module.short_name() == family.layers[2] || module.short_name() == "down_proj" {
                        let zeros = Tensor::zeros(module.shape, DType::F32, &Device::Cpu).unwrap();
                        silent.set_weight(id, zeros);
                    }
                }
                let attended = silent.forward(&x, &batch, &ropes, None).unwrap();
                let mut shown = ShownExperts::of(&block);
                let output = block.forward_observed(&x, &batch, &ropes, onlookers(&mut shown)).unwrap();
                let plain = block.forward(&x, &batch, &ropes, None).unwrap();
                assert_eq!(rows(&output), rows(&plain), "{:?}", family.architecture);
                let (got, want) = (shown.finish(), scores(&folder, &family, index, &rows(&attended)));
                assert_eq!(got.len(), want.len());
                assert!(want.iter().any(|score| *score > 1e-3), "{want:?}");
                for (got, want) in got.iter().zip(&want) {
                    assert!((got - want).abs() < 1e-4 * want, "{:?}: {got} {want}", family.architecture);
                }
                x = output;
            }
        }
    }

    #[test]
    fn a_block_without_some_experts_is_the_router_over_those_that_are_left() {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::tiny(&Mixtral).write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let removed =
            crate::model::RemovedParts { blocks: Vec::new(), experts: vec![vec![1], vec![], vec![]] };
        let fewer = folder.without(&removed);
        let (tokens, batch) = ((0..40).collect::<Vec<u32>>(), Batch::windows(2, 20));
        let ropes = folder.config.rope_tables(20);
        let x = embed(&folder, &tokens, &batch, DType::F32, &Device::Cpu).unwrap();
        let load = |folder: &ModelFolder| Block::load(folder, 0, DType::F32, &Device::Cpu).unwrap();
        let mut shown = ShownExperts(ExpertScores::new(4));
        let less = load(&fewer).forward_observed(&x, &batch, &ropes, onlookers(&mut shown)).unwrap();
        assert_eq!(shown.finish()[1].to_bits(), 0.0_f64.to_bits(), "nothing goes through it");
        assert_ne!(rows(&less), rows(&load(&folder).forward(&x, &batch, &ropes, None).unwrap()));
        assert_eq!(fewer.config.layout(1), folder.config.layout(1));
    }
}
