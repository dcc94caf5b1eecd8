//! Arithmetic on the host: slices of `f32` in, slices of `f32` out, every core used.
//!
//! These loops know neither models nor tensors; [`device`] has some of them for tensors. They are compiled for several
//! instruction sets and choose one when they run (`pulp`); matrix products are `faer`'s, which are faster here than any other in pure Rust. Everything is
//! deterministic: sums are taken in an order that depends on sizes alone, never on which thread came first.

pub(crate) mod activation;
pub(crate) mod attention;
pub mod codes;
pub(crate) mod delta;
pub(crate) mod device;
pub(crate) mod elementwise;
pub mod ggml;
pub mod math;
pub mod matmul;
pub(crate) mod routing;
pub(crate) mod scratch;
pub(crate) mod select;
pub mod sparse;
pub(crate) mod turn;

/// Runs a closure compiled for the best instruction set that this machine has.
///
/// Only code that is inlined into the closure benefits: functions called in it want `#[inline(always)]`.
pub fn simd<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}
