//! How blocks declare their norms.

use crate::model::config::NormKind;
use crate::model::forward::{LayerNormParts, Norm};
use crate::model::layout::LayoutBuilder;

impl Norm {
    /// Declares a norm whose weight is `NAME.weight`, and its bias `NAME.bias`.
    pub fn new(layout: &mut LayoutBuilder, name: &str, width: usize, (kind, eps): (NormKind, f64)) -> Self {
        let weight = format!("{name}.weight");
        match kind {
            NormKind::Rms => Self { weight: layout.tensor(&weight, &[width]), eps, layer: None },
            NormKind::RmsPlusOne => {
                Self { weight: layout.tensor_plus_one(&weight, &[width]), eps, layer: None }
            }
            NormKind::Layer { bias } => {
                let weight = layout.tensor(&weight, &[width]);
                let bias = bias.then(|| layout.tensor(&format!("{name}.bias"), &[width]));
                Self { weight, eps, layer: Some(LayerNormParts { bias, piece: width }) }
            }
        }
    }

    /// Declares a layer norm without a bias of every head by itself, with a weight for each.
    pub(super) fn by_head(
        layout: &mut LayoutBuilder,
        (name, own_tensors): (&str, bool),
        (heads, dim): (usize, usize),
        eps: f64,
    ) -> Self {
        let weight = if own_tensors {
            let names: Vec<String> = (0..heads).map(|head| format!("{name}.norms.{head}.weight")).collect();
            layout.stacked(&names, &[dim], false)
        } else {
            layout.tensor(&format!("{name}.weight"), &[heads, dim])
        };
        Self { weight, eps, layer: Some(LayerNormParts { bias: None, piece: dim }) }
    }
}
