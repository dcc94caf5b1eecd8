//! The kernels of `rows.cu`, started with what they need.
#![allow(
    unsafe_code,
    reason = "a kernel's arguments cannot be checked by the compiler; each start says what holds"
)]

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{DType, Result, Tensor};
use half::{bf16, f16};

use super::cuda::{PASS_KERNELS, THREADS, grid, tensor};
use super::cuda_passes::{PassElement, with_rows};

/// Elements that a thread takes together, as `Four` of `rows.cu` has them.
const TOGETHER: usize = 4;
/// Threads that go over a row of logits.
const LOGIT_THREADS: u32 = 512;
/// Numbers of a position.
const COMPARED: usize = 5;

/// Calls a function with the type of a tensor's elements.
macro_rules! in_precision_of {
    ($x:expr, $function:ident($($argument:expr),*)) => {
        match $x.dtype() {
            DType::F32 => $function::<f32>($($argument),*),
            DType::F16 => $function::<f16>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            other => candle_core::bail!("rows are not computed in {other:?}"),
        }
    };
}

/// As a matrix whose elements begin where a thread can read several at once.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(1);
    let x = x.contiguous()?.reshape(((), width))?;
    let first = x.storage_and_layout().1.start_offset();
    if first.is_multiple_of(TOGETHER) { Ok(x) } else { x.force_contiguous() }
}

/// The kernel of this name for two tensors of one shape, which four elements at a time fill.
pub(super) fn of_pairs(name: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    in_precision_of!(a, of_pairs_in(name, a, b))
}

fn of_pairs_in<T: PassElement>(name: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let shape = a.shape().clone();
    with_rows::<T, _>(&aligned(a)?, |device, a| {
        with_rows::<T, _>(&aligned(b)?, |_, b| {
            let (fours, count) = ((shape.elem_count() / TOGETHER) as u64, shape.elem_count());
            if a.elements.len() != count || b.elements.len() != count || !count.is_multiple_of(TOGETHER) {
                candle_core::bail!("{name} of {shape:?}");
            }
            let function = PASS_KERNELS.kernel(device, &format!("{name}_{}", T::SUFFIX))?;
            // SAFETY: the kernel writes all of it.
            let mut out = unsafe { device.alloc::<T>(count) }?;
            let mut start = function.builder();
            start.arg(&a.elements).arg(&b.elements).arg(&fours).arg(&mut out);
            // SAFETY: all three have four times `fours` elements, and begin at a multiple of four.
            unsafe { start.launch(grid((fours as usize).div_ceil(THREADS as usize), THREADS)) }.w()?;
            Ok(tensor(out, device, shape))
        })
    })
}

/// As [`super::rows::take_rows`].
pub(super) fn take_rows(table: &Tensor, rows: &[u32]) -> Result<Tensor> {
    in_precision_of!(table, take_rows_in(table, rows))
}

fn take_rows_in<T: PassElement>(table: &Tensor, rows: &[u32]) -> Result<Tensor> {
    with_rows::<T, _>(&aligned(table)?, |device, table| {
        let width = table.width;
        if rows.iter().any(|row| *row as usize >= table.rows) || !width.is_multiple_of(TOGETHER) {
            candle_core::bail!("rows of {width} features beyond the {} of a table", table.rows);
        }
        let function = PASS_KERNELS.kernel(device, &format!("take_rows_{}", T::SUFFIX))?;
        let (numbers, fours) = (device.clone_htod(rows)?, width / TOGETHER);
        // SAFETY: the kernel writes all of it.
        let mut out = unsafe { device.alloc::<T>(rows.len() * width) }?;
        let (count, each) = ((rows.len() * fours) as u64, fours as i32);
        let mut start = function.builder();
        start.arg(&table.elements).arg(&numbers).arg(&count).arg(&each).arg(&mut out);
        // SAFETY: `table` has every row that is asked for, of four times `fours` elements as those of `out`; both begin at a
        // multiple of four.
        unsafe { start.launch(grid((count as usize).div_ceil(THREADS as usize), THREADS)) }.w()?;
        Ok(tensor(out, device, (rows.len(), width)))
    })
}

/// As [`super::rows::rms_norm`].
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    in_precision_of!(x, rms_norm_in(x, weight, eps))
}

fn rms_norm_in<T: PassElement>(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let shape = x.shape().clone();
    with_rows::<T, _>(&aligned(x)?, |device, x| {
        with_rows::<T, _>(&aligned(&weight.unsqueeze(0)?)?, |_, weight| {
            if weight.elements.len() != x.width || !x.width.is_multiple_of(TOGETHER) {
                candle_core::bail!("a norm of {} features with {} weights", x.width, weight.elements.len());
            }
            let function = PASS_KERNELS.kernel(device, &format!("rms_norm_{}", T::SUFFIX))?;
            // SAFETY: the kernel writes all of it.
            let mut out = unsafe { device.alloc::<T>(x.rows * x.width) }?;
            let fours = (x.width / TOGETHER) as i32;
            let mut start = function.builder();
            start.arg(&x.elements).arg(&weight.elements).arg(&fours).arg(&eps).arg(&mut out);
            // SAFETY: `x` and `out` have a row of four times `fours` elements for every block, `weight` one; all begin at
            // a multiple of four.
            unsafe { start.launch(grid(x.rows, THREADS)) }.w()?;
            Ok(tensor(out, device, shape))
        })
    })
}

/// As [`super::rows::rotate`].
pub(super) fn rotate(
    x: &Tensor,
    positions: &[u32],
    (cos, sin): (&Tensor, &Tensor),
    (heads, turned): (usize, usize),
) -> Result<Tensor> {
    in_precision_of!(x, rotate_in(x, positions, (cos, sin), (heads, turned)))
}

fn rotate_in<T: PassElement>(
    x: &Tensor,
    positions: &[u32],
    (cos, sin): (&Tensor, &Tensor),
    (heads, turned): (usize, usize),
) -> Result<Tensor> {
    with_rows::<T, _>(x, |device, x| {
        with_rows::<T, _>(cos, |_, cos| {
            with_rows::<T, _>(sin, |_, sin| {
                let dim = x.width / heads.max(1);
                let last = positions.iter().max().map_or(0, |last| *last as usize + 1);
                let fits = dim * heads == x.width && turned <= dim && turned.is_multiple_of(2);
                let has_angles = |angles: usize, width: usize| angles >= last && width == turned / 2;
                if !fits || positions.len() != x.rows || !has_angles(cos.rows.min(sin.rows), cos.width) {
                    candle_core::bail!("{turned} of {dim} features do not turn by {} angles", cos.width);
                }
                let function = PASS_KERNELS.kernel(device, &format!("rotate_{}", T::SUFFIX))?;
                let positions = device.clone_htod(positions)?;
                // SAFETY: the kernel writes all of it.
                let mut out = unsafe { device.alloc::<T>(x.rows * x.width) }?;
                let count = (x.rows * heads * (dim - turned / 2)) as u64;
                let [heads, dim, turned] = [heads, dim, turned].map(|n| n as i32);
                let mut start = function.builder();
                start.arg(&x.elements).arg(&positions).arg(&cos.elements).arg(&sin.elements);
                start.arg(&count).arg(&heads).arg(&dim).arg(&turned).arg(&mut out);
                // SAFETY: `x` and `out` have a row of `heads` times `dim` elements for every position, cosines and sines a
                // row of `turned / 2` numbers for all of them; a pair for each thread.
                unsafe { start.launch(grid((count as usize).div_ceil(THREADS as usize), THREADS)) }.w()?;
                Ok(tensor(out, device, (x.rows, x.width)))
            })
        })
    })
}

/// Five numbers for every row of logits, as `compare` of `rows.cu` has them.
pub(super) fn compare(cell: &Tensor, base: Option<&Tensor>, targets: &[u32]) -> Result<Vec<f32>> {
    in_precision_of!(cell, compare_in(cell, base, targets))
}

fn compare_in<T: PassElement>(cell: &Tensor, base: Option<&Tensor>, targets: &[u32]) -> Result<Vec<f32>> {
    // In the place of a base that is not there stands the cell, and is not read.
    with_rows::<T, _>(base.unwrap_or(cell), |_, other| {
        with_rows::<T, _>(cell, |device, cell| {
            let (rows, columns) = (cell.rows, cell.width);
            let fits = other.rows == rows && other.width == columns && targets.len() == rows;
            if !fits || targets.iter().any(|target| *target as usize >= columns) {
                candle_core::bail!("{rows} rows of {columns} logits do not fit {} targets", targets.len());
            }
            let function = PASS_KERNELS.kernel(device, &format!("compare_{}", T::SUFFIX))?;
            let targets = device.clone_htod(targets)?;
            let mut out = device.alloc_zeros::<f32>(rows * COMPARED)?;
            let (width, none) = (columns as i32, 0u64);
            let mut start = function.builder();
            start.arg(&cell.elements);
            match base {
                Some(_) => start.arg(&other.elements),
                None => start.arg(&none),
            };
            start.arg(&targets).arg(&width).arg(&mut out);
            // SAFETY: `cell` has a row of `width` elements for every block, and so has the base where there is one; every
            // target is a column, and `out` has five numbers for each row.
            unsafe { start.launch(grid(rows, LOGIT_THREADS)) }.w()?;
            device.clone_dtoh(&out)
        })
    })
}
