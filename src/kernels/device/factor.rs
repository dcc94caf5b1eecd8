//! The factor of an inverse that the solver needs, by products of blocks.

use candle_core::Tensor;

use super::limits::LEAF;
use crate::error::Result;

/// The upper triangle `U` with `UᵀU = H⁻¹` of a symmetric `H`, `[n, n]` in `f32`; `None` where `H` is not positive
/// definite.
///
/// With `H = R Rᵀ`, `R` an upper triangle, `U` is `R⁻¹`. The two halves of `H = [A B; Bᵀ D]` give
/// `U = [U₁ −U₁XU₂; 0 U₂]`, where `U₂` belongs to `D`, `X` is `BU₂ᵀ` and `U₁` belongs to `A − XXᵀ`: apart from small
/// blocks on the diagonal, there are only products.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn inverse_factor(h: Tensor) -> Result<Option<Tensor>> {
    let upper = factor_blocks(h)?;
    // Where a block is not positive definite its factor is NaN, and so is what is computed from it.
    let finite = upper.sum(1)?.to_vec1::<f32>()?.iter().all(|v| v.is_finite());
    Ok(finite.then_some(upper))
}

/// Takes the matrix by value, so that what was copied out of it makes room.
fn factor_blocks(h: Tensor) -> Result<Tensor> {
    let n = h.dim(0)?;
    if n <= LEAF {
        return factor_leaf(&h);
    }
    let first = n.div_ceil(LEAF).div_ceil(2) * LEAF;
    let second = n - first;
    let block = |row: usize, column: usize, rows: usize, columns: usize| {
        h.narrow(0, row, rows)?.narrow(1, column, columns)?.contiguous()
    };
    let (a, b, d) =
        (block(0, 0, first, first)?, block(0, first, first, second)?, block(first, first, second, second)?);
    drop(h);
    let u2 = factor_blocks(d)?;
    let x = b.matmul(&u2.t()?)?;
    let u1 = factor_blocks((a - x.matmul(&x.t()?)?)?)?;
    let corner = u1.matmul(&x)?.matmul(&u2)?.neg()?;
    let zeroes = Tensor::zeros((second, first), u2.dtype(), u2.device())?;
    Ok(Tensor::cat(&[Tensor::cat(&[u1, corner], 1)?, Tensor::cat(&[zeroes, u2], 1)?], 0)?)
}

/// `U` of a block on the diagonal; NaN where it is not positive definite.
fn factor_leaf(h: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if h.device().is_cuda() {
        return super::cuda::factor_leaf(h);
    }
    let n = h.dim(0)?;
    let values = h.flatten_all()?.to_vec1::<f32>()?;
    let upper = factor_small(&values, n).unwrap_or_else(|| vec![f32::NAN; n * n]);
    Ok(Tensor::from_vec(upper, (n, n), h.device())?)
}

/// `R` with `R Rᵀ = H`, column by column from the last one, and its inverse; `None` where `H` is not positive definite.
fn factor_small(h: &[f32], n: usize) -> Option<Vec<f32>> {
    let mut r = h.to_vec();
    for j in (0..n).rev() {
        let diagonal = r[j * n + j].sqrt();
        if !(diagonal > 0.0 && diagonal.is_finite()) {
            return None;
        }
        r[j * n + j] = diagonal;
        for i in 0..j {
            r[i * n + j] /= diagonal;
        }
        for i in 0..j {
            for k in i..j {
                r[i * n + k] -= r[i * n + j] * r[k * n + j];
            }
        }
    }
    let mut upper = vec![0f32; n * n];
    for j in 0..n {
        upper[j * n + j] = 1.0 / r[j * n + j];
        for i in (0..j).rev() {
            let sum: f32 = (i + 1..=j).map(|k| r[i * n + k] * upper[k * n + j]).sum();
            upper[i * n + j] = -sum / r[i * n + i];
        }
    }
    Some(upper)
}

/// The diagonal of a square matrix, on the host.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn diagonal_of(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.gather(&diagonal_index(x)?, 1)?.flatten_all()?.to_vec1()?)
}

/// A square matrix with `values` added to its diagonal.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn add_to_diagonal(x: &Tensor, values: &[f32]) -> Result<Tensor> {
    let values = Tensor::from_slice(values, (values.len(), 1), x.device())?;
    Ok(x.scatter_add(&diagonal_index(x)?, &values, 1)?)
}

fn diagonal_index(x: &Tensor) -> Result<Tensor> {
    let n = x.dim(0)?;
    Ok(Tensor::arange(0, n as u32, x.device())?.reshape((n, 1))?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// `H` as inputs of very different sizes give it, with something on the diagonal.
    fn hessian(n: usize, random: &mut rand_chacha::ChaCha8Rng) -> Vec<f64> {
        let sizes: Vec<f64> = (0..n).map(|_| random.random_range(-2f64..2.0).exp()).collect();
        let mut h = vec![0f64; n * n];
        for _ in 0..n {
            let shared = random.random_range(-1f64..1.0);
            let x: Vec<f64> =
                sizes.iter().map(|s| s * (random.random_range(-1f64..1.0) + 0.4 * shared)).collect();
            for i in 0..n {
                for j in 0..n {
                    h[i * n + j] += x[i] * x[j];
                }
            }
        }
        let mean = (0..n).map(|i| h[i * n + i]).sum::<f64>() / n as f64;
        for i in 0..n {
            h[i * n + i] += 0.01 * mean;
        }
        h
    }

    fn tensor(h: &[f64]) -> Tensor {
        let n = h.len().isqrt();
        let h = h.iter().map(|&v| v as f32).collect();
        Tensor::from_vec(h, (n, n), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_factor_times_itself_is_the_inverse() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for n in [1, 2, 63, 64, 65, 130, 200, 300] {
            let h = hessian(n, &mut random);
            let upper = inverse_factor(tensor(&h)).unwrap().unwrap();
            let u: Vec<f64> =
                upper.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect();
            for i in 0..n {
                assert!((0..i).all(|j| u[i * n + j] == 0.0), "{n}: row {i} is no triangle's");
                // U H Uᵀ = 1: column j of H Uᵀ, then row i of U.
                let j = (i * 7 + 3) % n;
                for j in [i, j] {
                    let hu = |k: usize| (j..n).map(|l| h[k * n + l] * u[j * n + l]).sum::<f64>();
                    let one: f64 = (i..n).map(|k| u[i * n + k] * hu(k)).sum();
                    assert!((one - f64::from(u8::from(i == j))).abs() < 1e-3, "{n}: {i},{j}: {one}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        for (n, at) in [(3, 1), (100, 99), (200, 0), (200, 130)] {
            let mut h = hessian(n, &mut random);
            h[at * n + at] = -1.0;
            assert!(inverse_factor(tensor(&h)).unwrap().is_none(), "{n}, {at}");
        }
    }

    #[test]
    fn diagonals_are_read_and_added_to() {
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        assert_eq!(diagonal_of(&x).unwrap(), [1.0, 4.0]);
        let x = add_to_diagonal(&x, &[10.0, 0.5]).unwrap();
        assert_eq!(x.to_vec2::<f32>().unwrap(), [[11.0, 2.0], [3.0, 4.5]]);
    }
}
