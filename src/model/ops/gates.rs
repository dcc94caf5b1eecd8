//! What an MLP and the output of attention apply, element by element.

use super::{Activations, composed, mixed};
use crate::error::Result;
use crate::kernels::activation::{self, ActivationFunction};
use crate::kernels::elementwise;
use crate::kernels::scratch::Buffer;

/// `f(x)`, in place of `x`.
///
/// # Errors
/// A tensor operation that fails.
pub(in crate::model) fn activate(x: Activations, function: ActivationFunction) -> Result<Activations> {
    match x {
        Activations::Host { mut data, width } => {
            activation::apply(&mut data, function);
            Ok(Activations::Host { data, width })
        }
        Activations::Device(x) => Ok(Activations::Device(composed::activate(&x, function)?)),
    }
}

/// `f(gate) · up`.
///
/// # Errors
/// A tensor operation that fails.
pub(in crate::model) fn gated(
    gate: &Activations,
    up: &Activations,
    function: ActivationFunction,
) -> Result<Activations> {
    match (gate, up) {
        // The one kernel for both ways to say it, or the numbers would depend on which is called.
        _ if function == ActivationFunction::Silu => silu_mul(gate, up),
        (Activations::Host { data: gate, width }, Activations::Host { data: up, .. }) => {
            let mut out = Buffer::take(gate.len());
            activation::gated(&mut out, gate, up, function);
            Ok(Activations::Host { data: out, width: *width })
        }
        (Activations::Device(gate), Activations::Device(up)) => {
            Ok(Activations::Device((composed::activate(gate, function)? * up)?))
        }
        _ => Err(mixed()),
    }
}

/// `g · sigmoid(1.702 · g) · (u + 1)`, with a gate `g` of at most `limit` and `u` between `-limit` and `limit`.
///
/// # Errors
/// A tensor operation that fails.
pub(in crate::model) fn clamped_gated(
    gate: &Activations,
    up: &Activations,
    limit: f64,
) -> Result<Activations> {
    match (gate, up) {
        (Activations::Host { data: gate, width }, Activations::Host { data: up, .. }) => {
            let mut out = Buffer::take(gate.len());
            activation::clamped_gated(&mut out, gate, up, limit as f32);
            Ok(Activations::Host { data: out, width: *width })
        }
        (Activations::Device(gate), Activations::Device(up)) => {
            Ok(Activations::Device(composed::clamped_gated(gate, up, limit)?))
        }
        _ => Err(mixed()),
    }
}

/// `x · sigmoid(gate)`, in place of `x`.
///
/// # Errors
/// A tensor operation that fails.
pub(in crate::model) fn times_sigmoid(x: Activations, gate: &Activations) -> Result<Activations> {
    match (x, gate) {
        (Activations::Host { mut data, width }, Activations::Host { data: gate, .. }) => {
            activation::times_sigmoid(&mut data, gate);
            Ok(Activations::Host { data, width })
        }
        (Activations::Device(x), Activations::Device(gate)) => {
            Ok(Activations::Device((x * candle_nn::ops::sigmoid(gate)?)?))
        }
        _ => Err(mixed()),
    }
}

/// `silu(gate) · up`.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn silu_mul(gate: &Activations, up: &Activations) -> Result<Activations> {
    match (gate, up) {
        (Activations::Host { data: gate, width }, Activations::Host { data: up, .. }) => {
            let mut out = Buffer::take(gate.len());
            elementwise::silu_mul(&mut out, gate, up);
            Ok(Activations::Host { data: out, width: *width })
        }
        (Activations::Device(gate), Activations::Device(up)) => {
            Ok(Activations::Device(composed::silu_mul(gate, up)?))
        }
        _ => Err(mixed()),
    }
}
