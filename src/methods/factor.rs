//! What the Hessian of a module's inputs becomes before columns are solved.

use faer::MatMut;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::prelude::{Reborrow, ReborrowMut};
use rayon::prelude::*;

use super::{Arguments, ModuleWarning, Parameter, ParameterKind, RoutedTokens};
use crate::error::{Error, Result};
use crate::kernels::matmul::parallel;
use crate::number::NamedNumbers;

/// Most damping that a Cholesky factorisation is retried with.
const MOST_DAMPING: f64 = 1.0;
/// What is tried next where no damping at all was asked for and does not do.
const FIRST_DAMPING: f64 = 0.01;

/// Share of the Hessian's mean diagonal that is added to its diagonal.
pub(super) const DAMPING: Parameter = Parameter {
    name: "damping",
    about: "share of the Hessian's mean diagonal that is added to its diagonal",
    kind: ParameterKind::Number { default: 0.01, least: 0.0, most: 1000.0 },
};

/// Name of the detail that says with which damping the factorisation succeeded.
pub(super) const DAMPING_USED: &str = "damping";

/// What the solver needs of the Hessian `H = (2/n)·Σ x xᵀ` of an input.
#[derive(Debug, Clone)]
pub struct Factor {
    /// Row-major upper triangle `U` with `UᵀU = H⁻¹`, `[in, in]`.
    pub upper: Vec<f32>,
    /// The damping that the factorisation went through with.
    pub damping: f64,
    /// Features that were zero in every calibration token.
    pub dead: Vec<bool>,
    /// Diagonal that was added: damping times the mean diagonal.
    pub(super) added: f32,
}

impl Factor {
    /// Factorises `H⁻¹` from the lower triangle of `Σ x xᵀ` (`[width, width]`) over `sequences` sequences.
    ///
    /// `U` comes from one Cholesky factorisation and one triangular inverse: with `J` the reversal of rows and
    /// columns, `J H J = M Mᵀ` gives `H = R Rᵀ` for the upper triangle `R = J M J`, so that `U = R⁻¹ = J M⁻¹ J`
    /// satisfies `UᵀU = R⁻ᵀR⁻¹ = H⁻¹`. The references invert `H` and factorise once more.
    ///
    /// A factorisation that fails is retried with ten times the damping, up to 1.
    ///
    /// # Errors
    /// [`Error::Failure`] when activations were not finite, or no damping up to 1 makes `H` positive definite.
    pub fn new(gram: &[f32], width: usize, sequences: usize, damping: f64) -> Result<Self> {
        let scale = 2.0 / sequences.max(1) as f32;
        let mut diagonal: Vec<f32> = (0..width).map(|i| gram[i * width + i] * scale).collect();
        let dead: Vec<bool> = diagonal.iter().map(|&d| d == 0.0).collect();
        for (d, _) in diagonal.iter_mut().zip(&dead).filter(|(_, dead)| **dead) {
            *d = 1.0;
        }
        let mean = mean_diagonal(&diagonal)?;
        let mut attempt = damping;
        loop {
            let added = (attempt * mean) as f32;
            if let Some(upper) = factorise(gram, width, scale, &diagonal, added) {
                return Ok(Self { upper, damping: attempt, dead, added });
            }
            attempt = next_damping(attempt)?;
        }
    }
}

/// The mean of a Hessian's diagonal.
///
/// # Errors
/// [`Error::Failure`] where it is not finite: a broken activation shows in its feature's sum of squares.
pub(super) fn mean_diagonal(diagonal: &[f32]) -> Result<f64> {
    let mean = diagonal.iter().map(|&d| f64::from(d)).sum::<f64>() / diagonal.len() as f64;
    if mean.is_finite() {
        return Ok(mean);
    }
    Err(Error::failure(
        "the Hessian of the calibration inputs is not finite: the model's activations hold NaN or \
         infinite values",
    ))
}

/// The damping to try after one that failed: ten times as much, up to 1.
///
/// # Errors
/// [`Error::Failure`] where there is no more.
pub(super) fn next_damping(failed: f64) -> Result<f64> {
    if failed >= MOST_DAMPING {
        return Err(Error::failure(format!(
            "the Hessian of the calibration inputs is not positive definite even with damping {failed}"
        )));
    }
    Ok(if failed > 0.0 { (failed * 10.0).min(MOST_DAMPING) } else { FIRST_DAMPING })
}

/// `U` for one damping; `None` where the matrix is not positive definite.
fn factorise(gram: &[f32], width: usize, scale: f32, diagonal: &[f32], added: f32) -> Option<Vec<f32>> {
    let last = width - 1;
    // Column-major lower triangle of J H J: entry (r, c) is H[last − r, last − c], whose mirror image
    // H[last − c, last − r] lies in the lower triangle that was collected.
    let mut flipped = vec![0f32; width * width];
    flipped.par_chunks_mut(width).enumerate().for_each(|(c, column)| {
        let row = &gram[(last - c) * width..(last - c + 1) * width];
        for r in c + 1..width {
            column[r] = row[last - r] * scale;
        }
        column[c] = diagonal[last - c] + added;
    });
    let mut memory =
        MemBuffer::new(cholesky_in_place_scratch::<f32>(width, parallel(), faer::Spec::default()));
    let mut matrix = MatMut::from_column_major_slice_mut(&mut flipped, width, width);
    cholesky_in_place(
        matrix.rb_mut(),
        faer::linalg::cholesky::llt::factor::LltRegularization::default(),
        parallel(),
        MemStack::new(&mut memory),
        faer::Spec::default(),
    )
    .ok()?;
    let mut inverse = vec![0f32; width * width];
    invert_lower_triangular(
        MatMut::from_column_major_slice_mut(&mut inverse, width, width),
        matrix.rb(),
        parallel(),
    );
    drop(flipped);
    // U[i, j] = M⁻¹[last − i, last − j], which stands at column last − j.
    let mut upper = vec![0f32; width * width];
    upper.par_chunks_mut(width).enumerate().for_each(|(i, row)| {
        for j in i..width {
            row[j] = inverse[(last - j) * width + last - i];
        }
    });
    upper.iter().all(|v| v.is_finite()).then_some(upper)
}

/// What a person should know of the damping that it took.
pub(super) fn warning(details: &NamedNumbers, arguments: &Arguments) -> Option<ModuleWarning> {
    // An expert that saw few tokens begins with more, of which it is told by itself.
    let factor = RoutedTokens::of(details).map_or(1.0, RoutedTokens::damping_factor);
    let asked = arguments.number(&DAMPING) * factor;
    let used = details.get(DAMPING_USED).filter(|used| *used > asked)?;
    let text = format!("the Hessian was not positive definite; damping was raised from {asked} to {used}");
    Some(ModuleWarning::Sentence(text))
}
