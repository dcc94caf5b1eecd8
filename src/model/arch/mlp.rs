//! MLPs: with a gate, with gate and fellow in one matrix, or plain.

use crate::kernels::activation::ActivationFunction;
use crate::model::forward::{Flow, Forward};
use crate::model::layout::{BlockLayout, LayoutBuilder, ModuleId};
use crate::model::ops::{self, Activations, ColumnRuns};
use crate::model::widths::{UnitRows, WidthPart};

/// How the tensors of an MLP are called, and which lie in one.
#[derive(Debug, Clone, Copy)]
pub(super) enum MlpNames {
    /// `down(f(gate) · up)`
    Gated { gate: &'static str, up: &'static str, down: &'static str },
    /// The same with one matrix: all rows of the gate, then those of the other.
    Fused { gate_up: &'static str, down: &'static str },
    /// `down(f(up))`
    Plain { up: &'static str, down: &'static str },
}

/// What an MLP has in a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct MlpSettings {
    pub hidden: usize,
    pub intermediate: usize,
    pub bias: bool,
    pub activation: ActivationFunction,
    pub names: MlpNames,
}

impl MlpSettings {
    /// As Llama calls its tensors, without biases.
    pub fn gated(hidden: usize, intermediate: usize, activation: ActivationFunction) -> Self {
        let names = MlpNames::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" };
        Self { hidden, intermediate, bias: false, activation, names }
    }

    /// The same with the gate and its fellow in one matrix.
    pub fn fused(self) -> Self {
        Self { names: MlpNames::Fused { gate_up: "mlp.gate_up_proj", down: "mlp.down_proj" }, ..self }
    }

    /// The same without a gate.
    pub fn without_gate(self, up: &'static str, down: &'static str) -> Self {
        Self { names: MlpNames::Plain { up, down }, ..self }
    }
}

/// The first layers of an MLP.
#[derive(Debug, Clone, Copy)]
pub(super) enum MlpInputs {
    Gated([ModuleId; 2]),
    Fused(ModuleId),
    Plain(ModuleId),
}

impl MlpInputs {
    /// Declares them; `beside` reads the input of those that were declared last.
    fn declare(layout: &mut LayoutBuilder, settings: MlpSettings, beside: bool) -> Self {
        let MlpSettings { hidden, intermediate, bias, names, .. } = settings;
        let mut one = |name, out| {
            let module = [(name, out, bias)];
            let [id] =
                if beside { layout.linears_beside(hidden, module) } else { layout.linears(hidden, module) };
            id
        };
        match names {
            MlpNames::Fused { gate_up, .. } => Self::Fused(one(gate_up, 2 * intermediate)),
            MlpNames::Plain { up, .. } => Self::Plain(one(up, intermediate)),
            MlpNames::Gated { gate, up, .. } => {
                let modules = [(gate, intermediate, bias), (up, intermediate, bias)];
                Self::Gated(if beside {
                    layout.linears_beside(hidden, modules)
                } else {
                    layout.linears(hidden, modules)
                })
            }
        }
    }

    /// Declares those that read the same input as the layers that were declared last.
    pub fn beside(layout: &mut LayoutBuilder, settings: MlpSettings) -> Self {
        Self::declare(layout, settings, true)
    }
}

/// An MLP.
#[derive(Debug)]
pub(super) struct Mlp {
    inputs: MlpInputs,
    /// The input was shown to who watches when attention read it.
    beside: bool,
    pub down: ModuleId,
    activation: ActivationFunction,
}

impl Mlp {
    /// Declares the layers of an MLP.
    pub fn new(layout: &mut LayoutBuilder, settings: MlpSettings) -> Self {
        let inputs = MlpInputs::declare(layout, settings, false);
        Self { beside: false, ..Self::behind(layout, inputs, settings) }
    }

    /// Declares the last layer of an MLP whose first ones read what attention reads.
    pub fn behind(layout: &mut LayoutBuilder, inputs: MlpInputs, settings: MlpSettings) -> Self {
        let MlpSettings { hidden, intermediate, bias, activation, names } = settings;
        let (MlpNames::Gated { down, .. } | MlpNames::Fused { down, .. } | MlpNames::Plain { down, .. }) =
            names;
        let down = layout.linear(intermediate, (down, hidden, bias));
        Self { inputs, beside: true, down, activation }
    }

    /// Whether a pass needs what it gives, see [`Forward::is_needed`].
    pub fn is_needed(&self, cx: &Forward<'_>) -> bool {
        let (MlpInputs::Gated([first, _]) | MlpInputs::Fused(first) | MlpInputs::Plain(first)) = self.inputs;
        cx.is_needed(&[first, self.down])
    }

    /// The neurons.
    pub fn width_part(&self, layout: &BlockLayout) -> WidthPart {
        let units = layout.module(self.down).shape.1;
        let rows = |module, start| UnitRows { module, start, length: 1, stride: 1 };
        let rows = match self.inputs {
            MlpInputs::Gated([gate, up]) => vec![rows(gate, 0), rows(up, 0)],
            MlpInputs::Fused(both) => vec![rows(both, 0), rows(both, units)],
            MlpInputs::Plain(up) => vec![rows(up, 0)],
        };
        WidthPart { units, features: 1, output: self.down, rows }
    }

    /// The activations of `x`: the input of the last layer.
    pub fn activate(&self, x: &Activations, cx: &mut Forward<'_>) -> Flow<Activations> {
        match self.inputs {
            MlpInputs::Gated(modules) => {
                let [gate, up] = self.call(modules, x, cx)?;
                Ok(ops::gated(&gate, &up, self.activation)?)
            }
            MlpInputs::Fused(module) => {
                let [both] = self.call([module], x, cx)?;
                let stride = both.width()?;
                let length = stride / 2;
                let gate = ops::columns(&both, ColumnRuns { start: 0, length, stride, count: 1 })?;
                let up = ops::columns(&both, ColumnRuns { start: length, length, stride, count: 1 })?;
                Ok(ops::gated(&gate, &up, self.activation)?)
            }
            MlpInputs::Plain(module) => {
                let [up] = self.call([module], x, cx)?;
                Ok(ops::activate(up, self.activation)?)
            }
        }
    }

    fn call<const N: usize>(
        &self,
        modules: [ModuleId; N],
        x: &Activations,
        cx: &mut Forward<'_>,
    ) -> Flow<[Activations; N]> {
        if self.beside { cx.linear_beside(modules, x) } else { cx.linear(modules, x) }
    }
}
