//! The kernels of `passes.cu` and cuBLAS's products, started with what they need: attention, and sums over activations.
#![allow(
    unsafe_code,
    reason = "arguments of kernels and products cannot be checked by the compiler; each start says what holds"
)]

use std::ffi::c_void;
use std::ptr::from_ref;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::cublas::result::gemm_strided_batched_ex;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
use candle_core::cuda_backend::cudarc::cublas::sys::cudaDataType_t::{
    self, CUDA_R_16BF, CUDA_R_16F, CUDA_R_32F,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaView, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::{CpuStorage, CudaDevice, CudaStorage, DType, InplaceOp2, Layout, Result, Storage, Tensor};
use half::{bf16, f16};

use super::cuda::{PASS_KERNELS, THREADS, grid, tensor};
use crate::kernels::attention::{AttentionShape, Segment};

/// Queries of a sequence whose scores live at the same time: so few that scores of many heads stay in the GPU's cache
/// until the next product reads them.
const TILE: usize = 256;
/// Scores of a row begin at a multiple of so many elements: cuBLAS is slow where they do not.
const ALIGNMENT: usize = 8;
/// Threads of a block whose warps take a row each.
const WARPS: usize = 8;
/// As the constant of this name in `passes.cu`.
const SQUARED_ROWS: usize = 128;

/// What passes are computed in.
pub(super) trait PassElement: CudaDType + DeviceRepr {
    /// How kernels for it end.
    const SUFFIX: &str;
    const DATA: cudaDataType_t;
}

impl PassElement for f32 {
    const SUFFIX: &str = "f32";
    const DATA: cudaDataType_t = CUDA_R_32F;
}

impl PassElement for f16 {
    const SUFFIX: &str = "f16";
    const DATA: cudaDataType_t = CUDA_R_16F;
}

impl PassElement for bf16 {
    const SUFFIX: &str = "bf16";
    const DATA: cudaDataType_t = CUDA_R_16BF;
}

/// One of the matrices of a batch of products: as cuBLAS sees it, columns first, or transposed.
#[derive(Clone, Copy)]
struct Operand {
    address: u64,
    data: cudaDataType_t,
    transposed: bool,
    /// Elements from one column to the next.
    leading: usize,
    /// Elements from one matrix of the batch to the next.
    step: usize,
}

impl Operand {
    /// Of elements `T`, from element `first` on.
    fn of<T: PassElement>(x: u64, first: usize, leading: usize, step: usize) -> Self {
        let address = x + (first * size_of::<T>()) as u64;
        Self { address, data: T::DATA, transposed: false, leading, step }
    }

    fn transposed(self) -> Self {
        Self { transposed: true, ..self }
    }
}

/// `C = A·B + beta·C` for every matrix of a batch, `C` being `[m, n]` and `k` the sum's length; in `f32` until it is stored.
///
/// # Safety
/// All elements of all matrices lie in memory of the device, and nothing else uses `C`.
unsafe fn multiply(
    device: &CudaDevice,
    [a, b, c]: [Operand; 3],
    (m, n, k): (usize, usize, usize),
    beta: f32,
    batch: usize,
) -> Result<()> {
    let (blas, alpha) = (device.cublas_handle(), 1f32);
    let pointer = |x: &f32| from_ref(x).cast::<c_void>();
    let operation = |x: Operand| if x.transposed { CUBLAS_OP_T } else { CUBLAS_OP_N };
    // SAFETY: the caller's; the factors live until the call returns, which is when cuBLAS has read them.
    unsafe {
        gemm_strided_batched_ex(
            *blas.handle(),
            operation(a),
            operation(b),
            m as i32,
            n as i32,
            k as i32,
            pointer(&alpha),
            a.address as *const c_void,
            a.data,
            a.leading as i32,
            a.step as i64,
            b.address as *const c_void,
            b.data,
            b.leading as i32,
            b.step as i64,
            pointer(&beta),
            c.address as *mut c_void,
            c.data,
            c.leading as i32,
            c.step as i64,
            batch as i32,
            CUBLAS_COMPUTE_32F,
            CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
    }
    .w()
}

/// Rows of features on a GPU.
pub(super) struct DeviceRows<'a, T> {
    pub elements: CudaView<'a, T>,
    pub rows: usize,
    pub width: usize,
}

/// Calls `f` with the elements of a matrix.
pub(super) fn with_rows<T: PassElement, R>(
    x: &Tensor,
    f: impl FnOnce(&CudaDevice, DeviceRows<'_, T>) -> Result<R>,
) -> Result<R> {
    let x = x.contiguous()?;
    let (rows, width) = x.dims2()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { candle_core::bail!("a tensor on a GPU is needed") };
    let first = layout.start_offset();
    let elements = storage.as_cuda_slice::<T>()?.slice(first..first + rows * width);
    f(&storage.device, DeviceRows { elements, rows, width })
}

/// Attention of some sequences, as [`crate::kernels::attention::causal`] has it: `[queries of all segments, width]`.
/// `sinks` are one `f32` for every query head.
pub(super) fn attend(
    q: &Tensor,
    (k, v): (&Tensor, &Tensor),
    segments: &[Segment],
    shape: AttentionShape,
    sinks: Option<&Tensor>,
) -> Result<Tensor> {
    match q.dtype() {
        DType::F32 => attend_in::<f32>(q, (k, v), segments, shape, sinks),
        DType::F16 => attend_in::<f16>(q, (k, v), segments, shape, sinks),
        DType::BF16 => attend_in::<bf16>(q, (k, v), segments, shape, sinks),
        other => candle_core::bail!("attention is not computed in {other:?}"),
    }
}

fn attend_in<T: PassElement>(
    q: &Tensor,
    (k, v): (&Tensor, &Tensor),
    segments: &[Segment],
    shape: AttentionShape,
    sinks: Option<&Tensor>,
) -> Result<Tensor> {
    let sinks = sinks.map(|sinks| sinks.to_dtype(DType::F32)?.flatten_all()?.unsqueeze(0)).transpose()?;
    with_rows::<T, _>(q, |device, q| {
        with_rows::<T, _>(k, |_, k| {
            with_rows::<T, _>(v, |_, v| match &sinks {
                None => SequenceAttention { device, q, k, v, shape, sinks: None }.of(segments),
                Some(sinks) => with_rows::<f32, _>(sinks, |_, sinks| {
                    let sinks = Some(sinks.elements);
                    SequenceAttention { device, q, k, v, shape, sinks }.of(segments)
                }),
            })
        })
    })
}

/// Attention in the making.
struct SequenceAttention<'a, T> {
    device: &'a CudaDevice,
    q: DeviceRows<'a, T>,
    k: DeviceRows<'a, T>,
    v: DeviceRows<'a, T>,
    shape: AttentionShape,
    sinks: Option<CudaView<'a, f32>>,
}

/// Some queries of a sequence, and the keys that the last of them sees.
#[derive(Clone, Copy)]
struct ScoreTile {
    query_row: usize,
    queries: usize,
    key_row: usize,
    keys: usize,
    /// Elements from one row of scores to the next.
    stride: usize,
}

impl<T: PassElement> SequenceAttention<'_, T> {
    fn of(&self, segments: &[Segment]) -> Result<Tensor> {
        let AttentionShape { query: heads, key: key_heads, dim, .. } = self.shape;
        let queries: usize = segments.iter().map(|segment| segment.queries).sum();
        let ends = segments.iter().map(|s| (s.query_row + s.queries, s.key_row + s.keys));
        let (last_query, last_key) = ends.fold((0, 0), |(a, b), (q, k)| (a.max(q), b.max(k)));
        let (keys, values) = (&self.k, &self.v);
        if self.q.width != heads * dim
            || keys.width != key_heads * dim
            || values.width != keys.width
            || last_query > self.q.rows
            || last_key > keys.rows.min(values.rows)
            || self.sinks.as_ref().is_some_and(|sinks| sinks.len() != heads)
        {
            candle_core::bail!("queries, keys and values do not fit {:?}", self.shape);
        }
        let tiles: Vec<ScoreTile> = segments.iter().flat_map(tiles).collect();
        let most = tiles.iter().map(|tile| heads * tile.queries * tile.stride).max().unwrap_or(0);
        // SAFETY: every element of `out` and every score is written before it is read.
        let (mut out, mut scores) =
            unsafe { (self.device.alloc::<T>(queries * self.q.width)?, self.device.alloc::<T>(most)?) };
        let mut row = 0;
        for tile in tiles {
            self.score(tile, &mut scores)?;
            self.soften(tile, &mut scores)?;
            self.weigh(tile, &scores, &mut out, row)?;
            row += tile.queries;
        }
        Ok(tensor(out, self.device, (queries, self.q.width)))
    }

    /// How many query heads share a key head.
    fn shared(&self) -> usize {
        self.shape.query / self.shape.key
    }

    /// `[query heads, queries, stride]`: products of queries and keys.
    fn score(&self, tile: ScoreTile, scores: &mut CudaSlice<T>) -> Result<()> {
        let (stream, dim, shared) = (self.device.cuda_stream(), self.shape.dim, self.shared());
        let ((q, _q), (k, _k)) = (self.q.elements.device_ptr(&stream), self.k.elements.device_ptr(&stream));
        let (out, _out) = scores.device_ptr_mut(&stream);
        for nth in 0..shared {
            let query = tile.query_row * self.q.width + nth * dim;
            let operands = [
                Operand::of::<T>(k, tile.key_row * self.k.width, self.k.width, dim).transposed(),
                Operand::of::<T>(q, query, self.q.width, shared * dim),
                Operand::of::<T>(
                    out,
                    nth * tile.queries * tile.stride,
                    tile.stride,
                    shared * tile.queries * tile.stride,
                ),
            ];
            // SAFETY: the rows of the tile lie in `q` and `k`, which was checked, and `scores` has room for all heads.
            unsafe { multiply(self.device, operands, (tile.keys, tile.queries, dim), 0.0, self.shape.key) }?;
        }
        Ok(())
    }

    /// The softmax of scores in their place.
    fn soften(&self, tile: ScoreTile, scores: &mut CudaSlice<T>) -> Result<()> {
        let shape = self.shape;
        let function = PASS_KERNELS.kernel(self.device, &format!("softmax_{}", T::SUFFIX))?;
        let rows = shape.query * tile.queries;
        let [queries, stride, keys, first, window] =
            [tile.queries, tile.stride, tile.keys, tile.keys - tile.queries, shape.window.unwrap_or(0)]
                .map(|n| n as i32);
        let scale = shape.scale.unwrap_or_else(|| 1.0 / (shape.dim as f64).sqrt()) as f32;
        let cap = shape.softcap.unwrap_or(0.0) as f32;
        let (count, none) = (rows as u64, 0u64);
        let mut start = function.builder();
        start.arg(scores).arg(&count).arg(&queries).arg(&stride).arg(&keys).arg(&first).arg(&window);
        start.arg(&scale).arg(&cap);
        match &self.sinks {
            Some(sinks) => start.arg(sinks),
            None => start.arg(&none),
        };
        // SAFETY: `scores` has `rows` rows of `stride` elements, of which `keys` are scores, and `sinks`, if there are
        // some, has an element for every head.
        unsafe { start.launch(grid(rows.div_ceil(WARPS), 32 * WARPS as u32)) }.w()?;
        Ok(())
    }

    /// Sums of values by their weights, from row `row` of `out` on.
    fn weigh(
        &self,
        tile: ScoreTile,
        scores: &CudaSlice<T>,
        out: &mut CudaSlice<T>,
        row: usize,
    ) -> Result<()> {
        let (stream, dim, shared) = (self.device.cuda_stream(), self.shape.dim, self.shared());
        let ((weights, _weights), (v, _v)) =
            (scores.device_ptr(&stream), self.v.elements.device_ptr(&stream));
        let (out, _out) = out.device_ptr_mut(&stream);
        for nth in 0..shared {
            let operands = [
                Operand::of::<T>(v, tile.key_row * self.v.width, self.v.width, dim),
                Operand::of::<T>(
                    weights,
                    nth * tile.queries * tile.stride,
                    tile.stride,
                    shared * tile.queries * tile.stride,
                ),
                Operand::of::<T>(out, row * self.q.width + nth * dim, self.q.width, shared * dim),
            ];
            // SAFETY: as in `score`; `out` has a row for every query of all tiles.
            unsafe { multiply(self.device, operands, (dim, tile.queries, tile.keys), 0.0, self.shape.key) }?;
        }
        Ok(())
    }
}

fn tiles(segment: &Segment) -> impl Iterator<Item = ScoreTile> + use<> {
    let Segment { query_row, queries, key_row, keys } = *segment;
    (0..queries).step_by(TILE).map(move |start| {
        let count = TILE.min(queries - start);
        let seen = keys - queries + start + count;
        ScoreTile {
            query_row: query_row + start,
            queries: count,
            key_row,
            keys: seen,
            stride: seen.next_multiple_of(ALIGNMENT),
        }
    })
}

/// Adds `xᵀ·x` to a matrix, in `f32`. Halves are multiplied as they are: their products are exact in `f32`.
pub(super) struct AddGram;

impl InplaceOp2 for AddGram {
    fn name(&self) -> &'static str {
        "add-gram"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<()> {
        candle_core::bail!("{} is for a GPU", self.name())
    }

    fn cuda_fwd(&self, gram: &mut CudaStorage, at: &Layout, x: &CudaStorage, layout: &Layout) -> Result<()> {
        match x.dtype() {
            DType::F32 => add_gram::<f32>((gram, at), (x, layout)),
            DType::F16 => add_gram::<f16>((gram, at), (x, layout)),
            DType::BF16 => add_gram::<bf16>((gram, at), (x, layout)),
            other => candle_core::bail!("sums over activations in {other:?}"),
        }
    }
}

/// The elements of a matrix with rows one after the other.
fn whole_rows<'a, T: PassElement>(storage: &'a CudaStorage, layout: &Layout) -> Result<DeviceRows<'a, T>> {
    let (rows, width) = layout.shape().dims2()?;
    let Some((first, end)) = layout.contiguous_offsets() else { candle_core::bail!("rows with gaps") };
    Ok(DeviceRows { elements: storage.as_cuda_slice::<T>()?.slice(first..end), rows, width })
}

fn add_gram<T: PassElement>(
    (gram, at): (&mut CudaStorage, &Layout),
    (x, layout): (&CudaStorage, &Layout),
) -> Result<()> {
    let x_rows = whole_rows::<T>(x, layout)?;
    let (rows, width) = (x_rows.rows, x_rows.width);
    if !at.is_contiguous() || at.start_offset() != 0 || at.shape().dims() != [width, width] {
        candle_core::bail!("sums of {width} features in {:?}", at.shape());
    }
    let (device, stream) = (x.device.clone(), x.device.cuda_stream());
    let (x, _x) = x_rows.elements.device_ptr(&stream);
    let (gram, _gram) = gram.as_cuda_slice_mut::<f32>()?.device_ptr_mut(&stream);
    // cuBLAS sees `xᵀ`, and the sums are the same either way.
    let x = Operand::of::<T>(x, 0, width, 0);
    let operands = [x, x.transposed(), Operand::of::<f32>(gram, 0, width, 0)];
    // SAFETY: `x` has `rows` rows of `width` elements, `gram` has `width` of them.
    unsafe { multiply(&device, operands, (width, width, rows), 1.0, 1) }
}

/// Adds the sum of squares of every column to a vector of `f64`.
pub(super) struct AddSquares;

impl InplaceOp2 for AddSquares {
    fn name(&self) -> &'static str {
        "add-squares"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<()> {
        candle_core::bail!("{} is for a GPU", self.name())
    }

    fn cuda_fwd(&self, sums: &mut CudaStorage, at: &Layout, x: &CudaStorage, layout: &Layout) -> Result<()> {
        match x.dtype() {
            DType::F32 => add_squares::<f32>((sums, at), (x, layout)),
            DType::F16 => add_squares::<f16>((sums, at), (x, layout)),
            DType::BF16 => add_squares::<bf16>((sums, at), (x, layout)),
            other => candle_core::bail!("sums over activations in {other:?}"),
        }
    }
}

fn add_squares<T: PassElement>(
    (sums, at): (&mut CudaStorage, &Layout),
    (x, layout): (&CudaStorage, &Layout),
) -> Result<()> {
    let DeviceRows { elements, rows, width } = whole_rows::<T>(x, layout)?;
    if !at.is_contiguous() || at.start_offset() != 0 || at.shape().dims() != [width] {
        candle_core::bail!("sums of {width} features in {:?}", at.shape());
    }
    let (device, parts) = (&x.device, rows.div_ceil(SQUARED_ROWS));
    let of_parts = PASS_KERNELS.kernel(device, &format!("square_sums_{}", T::SUFFIX))?;
    let add = PASS_KERNELS.kernel(device, "add_parts")?;
    // SAFETY: the first kernel writes all of it.
    let mut partial = unsafe { device.alloc::<f32>(parts * width)? };
    let [height, columns, count] = [rows, width, parts].map(|n| n as i32);
    let over_columns = grid(width.div_ceil(THREADS as usize), THREADS);
    let mut start = of_parts.builder();
    start.arg(&elements).arg(&height).arg(&columns).arg(&mut partial);
    let (blocks, ..) = over_columns.grid_dim;
    // SAFETY: `x` has `rows` rows of `width` elements, `partial` one row for each part, which is the grid's second number.
    unsafe { start.launch(LaunchConfig { grid_dim: (blocks, parts as u32, 1), ..over_columns }) }.w()?;
    let mut start = add.builder();
    start.arg(&partial).arg(&count).arg(&columns).arg(sums.as_cuda_slice_mut::<f64>()?);
    // SAFETY: `partial` has `parts` rows of `width` elements, the sums one.
    unsafe { start.launch(over_columns) }.w()?;
    Ok(())
}
