//! The CUDA kernels: compiled, and those of `kernels.cu` started with what they need.
//!
//! Nothing here waits for the GPU but where a number comes back to the host.
#![allow(
    unsafe_code,
    reason = "a kernel's arguments cannot be checked by the compiler; each start says what holds"
)]

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t::CUBLAS_OP_N;
use candle_core::cuda_backend::cudarc::cublas::{Gemm, GemmConfig};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, CudaView, LaunchArgs, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::compile_ptx;
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, Storage, Tensor};

use super::grid::{Grids, largest};
use super::limits::{LEAF, MOST_NEIGHBOURS};
use super::projection::{GridTarget, Projection, Solved, Tile, Zeros};
use crate::error::Error;
use crate::kernels::codes::{Grid, packed_row_bytes};

/// As the constants of these names in `kernels.cu`.
const SOLVE_WARPS: usize = 4;
const ROW_THREADS: u32 = 256;
const PICK_THREADS: u32 = 1024;
const BINS: usize = 2048;
const MOST_COLUMNS: usize = 128;
const ZEROS_NONE: i32 = 0;
const ZEROS_KEPT: i32 = 1;
const ZEROS_UP_TO: i32 = 2;
const ZEROS_OF_GROUPS: i32 = 3;
/// Threads of a block where a kernel leaves their number open.
pub(super) const THREADS: u32 = 256;
/// Blocks that count magnitudes: enough for every GPU, few enough that adding up their counts costs little.
const COUNT_BLOCKS: usize = 512;

/// Kernels that are compiled together.
pub(super) struct KernelSet {
    name: &'static str,
    source: &'static str,
    /// As PTX, which a driver translates for the GPU that it drives, and keeps what comes of it.
    ptx: OnceLock<std::result::Result<String, String>>,
}

/// Those that methods use.
static METHOD_KERNELS: KernelSet =
    KernelSet::new("methods", concat!(include_str!("common.cu"), include_str!("kernels.cu")));

/// Those that passes use: few, since the first study on a machine waits for them.
pub(super) static PASS_KERNELS: KernelSet = KernelSet::new(
    "passes",
    concat!(include_str!("common.cu"), include_str!("passes.cu"), include_str!("rows.cu")),
);

impl KernelSet {
    const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, ptx: OnceLock::new() }
    }

    fn ptx(&self) -> Result<&str> {
        let ptx = self
            .ptx
            .get_or_init(|| compile_ptx(self.source).map(|ptx| ptx.to_src()).map_err(|e| e.to_string()));
        ptx.as_deref().map_err(|e| candle_core::Error::Msg(format!("the CUDA kernels do not compile: {e}")))
    }

    /// A kernel of the set on a device, where all are loaded with the first.
    pub fn kernel(&self, device: &CudaDevice, name: &str) -> Result<Kernel> {
        let function = device.get_or_load_custom_func(name, self.name, self.ptx()?)?.into_cuda_function();
        Ok(Kernel { function, stream: device.cuda_stream() })
    }
}

/// A kernel on a device.
pub(super) struct Kernel {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl Kernel {
    pub(super) fn builder(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }
}

fn kernel(device: &CudaDevice, name: &str) -> Result<Kernel> {
    METHOD_KERNELS.kernel(device, name)
}

/// `blocks` blocks of `threads` threads.
pub(super) fn grid(blocks: usize, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// Calls `f` with the elements of a tensor of `f32` on a GPU.
fn with_floats<R, E: From<candle_core::Error>>(
    x: &Tensor,
    f: impl FnOnce(&CudaDevice, CudaView<f32>) -> std::result::Result<R, E>,
) -> std::result::Result<R, E> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(candle_core::Error::Msg("a tensor on a GPU is needed".into()).into());
    };
    let first = layout.start_offset();
    let elements = storage.as_cuda_slice::<f32>()?.slice(first..first + x.elem_count());
    f(&storage.device, elements)
}

pub(super) fn tensor<T: CudaDType>(
    elements: CudaSlice<T>,
    device: &CudaDevice,
    shape: impl Into<Shape>,
) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(elements, device.clone()));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

pub(super) fn kth_smallest_magnitude(x: &Tensor, k: usize) -> Result<Tensor> {
    with_floats(x, |device, x| Ok(tensor(kth_of(device, &x, k)?, device, ())))
}

/// The bits that a pass finds, and how many lie to their right.
const PASSES: [(i32, i32); 3] = [(11, 20), (10, 10), (10, 0)];

fn kth_of(device: &CudaDevice, x: &CudaView<f32>, k: usize) -> Result<CudaSlice<f32>> {
    if k >= x.len() || x.len() > u32::MAX as usize {
        candle_core::bail!("rank {k} of {} values", x.len());
    }
    let (count, pick) = (kernel(device, "count_magnitudes")?, kernel(device, "pick_magnitude")?);
    let mut state = device.clone_htod(&[0, k as u32])?;
    let mut counts = device.alloc_zeros::<u32>(PASSES.len() * BINS)?;
    let mut value = device.alloc_zeros::<f32>(1)?;
    let blocks = x.len().div_ceil(THREADS as usize).min(COUNT_BLOCKS);
    for (pass, (bits, shift)) in PASSES.iter().enumerate() {
        let mut counts = counts.slice_mut(pass * BINS..(pass + 1) * BINS);
        let len = x.len() as u64;
        let mut start = count.builder();
        start.arg(x).arg(&len).arg(shift).arg(bits).arg(&state).arg(&mut counts);
        // SAFETY: `x` has `len` elements, `counts` a bin for every value of `bits` bits.
        unsafe { start.launch(grid(blocks, THREADS)) }.w()?;
        let mut start = pick.builder();
        let counts = counts.as_view();
        start.arg(&counts).arg(bits).arg(&mut state).arg(&mut value);
        // SAFETY: `counts` has BINS elements, `state` two, `value` one.
        unsafe { start.launch(grid(1, PICK_THREADS)) }.w()?;
    }
    Ok(value)
}

pub(super) fn lowest_of_rows(scores: &Tensor, count: usize) -> Result<Tensor> {
    let (rows, columns) = scores.dims2()?;
    if count == 0 || count > columns {
        candle_core::bail!("{count} of {columns} columns");
    }
    with_floats(scores, |device, scores| {
        let function = kernel(device, "lowest_of_rows")?;
        let mut flags = device.alloc_zeros::<u8>(scores.len())?;
        let (width, count) = (columns as i32, count as u32);
        let mut start = function.builder();
        start.arg(&scores).arg(&width).arg(&count).arg(&mut flags);
        // SAFETY: both matrices have a row of `width` elements for every block; 1 ≤ `count` ≤ `width`.
        unsafe { start.launch(grid(rows, ROW_THREADS)) }.w()?;
        Ok(tensor(flags, device, (rows, columns)))
    })
}

pub(super) fn lowest_of_groups(
    storage: &CudaStorage,
    layout: &Layout,
    n: usize,
    m: usize,
) -> Result<(CudaStorage, Shape)> {
    check_neighbours(m)?;
    let numel = layout.shape().elem_count();
    if !layout.is_contiguous() || !numel.is_multiple_of(m) {
        candle_core::bail!("groups of {m} do not fill {numel} elements in a row");
    }
    let (device, first) = (&storage.device, layout.start_offset());
    let scores = storage.as_cuda_slice::<f32>()?.slice(first..first + numel);
    let function = kernel(device, "lowest_of_groups")?;
    let mut flags = device.alloc_zeros::<u8>(numel)?;
    let (groups, n, m) = ((numel / m) as u64, n as i32, m as i32);
    let mut start = function.builder();
    start.arg(&scores).arg(&groups).arg(&n).arg(&m).arg(&mut flags);
    // SAFETY: both have `groups` times `m` elements, and `m` fits a thread's arrays.
    unsafe { start.launch(grid((groups as usize).div_ceil(THREADS as usize), THREADS)) }.w()?;
    Ok((CudaStorage::wrap_cuda_slice(flags, device.clone()), layout.shape().clone()))
}

fn check_neighbours(m: usize) -> Result<()> {
    if (1..=MOST_NEIGHBOURS).contains(&m) {
        return Ok(());
    }
    candle_core::bail!("groups of {m}: a GPU chooses among up to {MOST_NEIGHBOURS} neighbours")
}

pub(super) fn factor_leaf(h: &Tensor) -> crate::Result<Tensor> {
    let n = h.dim(0)?;
    if n > LEAF || h.dims() != [n, n] {
        return Err(Error::failure(format!("a block of {:?} on the diagonal", h.dims())));
    }
    with_floats(h, |device, h| {
        let function = kernel(device, "factor_leaf")?;
        let mut upper = device.alloc_zeros::<f32>(n * n)?;
        let size = n as i32;
        let mut start = function.builder();
        start.arg(&h).arg(&size).arg(&mut upper);
        // SAFETY: both matrices have `size`² elements, and `size` fits the kernel's own.
        unsafe { start.launch(grid(1, THREADS)) }.w()?;
        Ok(tensor(upper, device, (n, n)))
    })
}

/// As [`super::pack::pack_codes`], of codes in `u8`.
pub(super) fn pack_codes(codes: &Tensor, bits: u8) -> Result<Tensor> {
    let (rows, columns) = codes.dims2()?;
    let codes = codes.contiguous()?;
    let (storage, layout) = codes.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { candle_core::bail!("codes on a GPU are needed") };
    let (device, first) = (&storage.device, layout.start_offset());
    let elements = storage.as_cuda_slice::<u8>()?.slice(first..first + rows * columns);
    let bytes = packed_row_bytes(columns, usize::from(bits));
    let function = kernel(device, "pack_codes")?;
    let mut packed = device.alloc_zeros::<u8>(rows * bytes)?;
    let (count, [width, row_bytes, bits]) =
        ((rows * bytes) as u64, [columns, bytes, usize::from(bits)].map(|n| n as i32));
    let mut start = function.builder();
    start.arg(&elements).arg(&count).arg(&width).arg(&row_bytes).arg(&bits).arg(&mut packed);
    // SAFETY: `codes` has a row of `width` elements for every `row_bytes` of the `count` bytes of `packed`.
    unsafe { start.launch(grid((rows * bytes).div_ceil(THREADS as usize), THREADS)) }.w()?;
    Ok(tensor(packed, device, (rows, bytes)))
}

/// As [`super::fit::fit_grids`].
pub(super) fn fit_grids(weights: &Tensor, grid: Grid) -> crate::Result<Grids> {
    let (rows, columns) = weights.dims2()?;
    with_floats(weights, |device, weights| {
        let mut groups = GroupGrids::new(device, rows, columns, grid)?;
        groups.fit(device, &weights, 0..grid.groups(columns))?;
        Ok(groups.into_grids(device))
    })
}

/// The grids of a matrix in the making.
struct GroupGrids {
    grid: Grid,
    rows: usize,
    columns: usize,
    /// `[rows, groups]`
    scales: CudaSlice<f32>,
    /// `[rows, groups]`
    zeros: CudaSlice<f32>,
}

impl GroupGrids {
    fn new(device: &CudaDevice, rows: usize, columns: usize, grid: Grid) -> Result<Self> {
        let numel = rows * grid.groups(columns);
        let (scales, zeros) = (device.alloc_zeros(numel)?, device.alloc_zeros(numel)?);
        Ok(Self { grid, rows, columns, scales, zeros })
    }

    /// Those that were found before, to write on in a copy.
    fn of(device: &CudaDevice, grids: &Grids, columns: usize) -> Result<Self> {
        let stream = device.cuda_stream();
        let copy = |x: &Tensor| with_floats(x, |_, x| stream.clone_dtod(&x).w());
        let (scales, zeros) = (copy(&grids.scales)?, copy(&grids.zeros)?);
        Ok(Self { grid: grids.grid, rows: grids.scales.dim(0)?, columns, scales, zeros })
    }

    /// Finds the grids of some groups, which have to fill the rows.
    fn fit(&mut self, device: &CudaDevice, weights: &CudaView<f32>, groups: Range<usize>) -> Result<()> {
        let tasks = self.rows * groups.len();
        if tasks == 0 {
            return Ok(());
        }
        let function = kernel(device, "fit_groups")?;
        let [columns, size, first, count, symmetric] =
            [self.columns, self.grid.group, groups.start, groups.len(), usize::from(self.grid.symmetric)]
                .map(|v| v as i32);
        let precision = match self.grid.scale_dtype {
            DType::F16 => 1i32,
            DType::BF16 => 2,
            _ => 0,
        };
        let (largest, count_of_tasks) = (largest(self.grid), tasks as u64);
        let mut start = function.builder();
        start.arg(weights).arg(&count_of_tasks).arg(&columns).arg(&size).arg(&first).arg(&count);
        start.arg(&largest).arg(&symmetric).arg(&precision).arg(&mut self.scales).arg(&mut self.zeros);
        // SAFETY: `weights` has `rows` rows of `columns` elements, which groups of `size` fill; `groups` are some of a
        // row's, and both outputs have an element for each of those.
        unsafe { start.launch(grid(tasks.div_ceil(THREADS as usize / 32), THREADS)) }.w()?;
        Ok(())
    }

    fn into_grids(self, device: &CudaDevice) -> Grids {
        let shape = (self.rows, self.grid.groups(self.columns));
        Grids {
            grid: self.grid,
            scales: tensor(self.scales, device, shape),
            zeros: tensor(self.zeros, device, shape),
        }
    }
}

/// A matrix on its way to a grid.
struct CodesOnDevice {
    grids: GroupGrids,
    /// The group of every column.
    group_of: CudaSlice<i32>,
    /// `[rows, columns]`
    codes: CudaSlice<u8>,
}

impl CodesOnDevice {
    fn new(device: &CudaDevice, target: &GridTarget<'_>, rows: usize, columns: usize) -> Result<Self> {
        let grids = match &target.fitted {
            Some(grids) => GroupGrids::of(device, grids, columns)?,
            None => GroupGrids::new(device, rows, columns, target.grid)?,
        };
        if grids.scales.len() != rows * target.grid.groups(columns) {
            candle_core::bail!("{} grids for {rows} rows of {columns}", grids.scales.len());
        }
        let group_of: Vec<i32> = (0..columns).map(|column| target.group_of(column) as i32).collect();
        let codes = device.alloc_zeros(rows * columns)?;
        Ok(Self { grids, group_of: device.clone_htod(&group_of)?, codes })
    }

    /// What takes the place of one where there is no grid: the kernel looks at none of it.
    fn none(device: &CudaDevice) -> Result<Self> {
        let grid = Grid { bits: 0, group: 1, symmetric: false, scale_dtype: DType::F32 };
        let grids = GroupGrids::new(device, 1, 1, grid)?;
        Ok(Self { grids, group_of: device.alloc_zeros(1)?, codes: device.alloc_zeros(1)? })
    }
}

/// As [`super::columns::solve`]: the weights are solved in place in a copy of them, and only the loss comes back.
pub(super) fn solve(
    weights: &Tensor,
    upper: &Tensor,
    projection: &Projection<'_>,
    stop: &dyn Fn() -> bool,
) -> crate::Result<Solved> {
    let (rows, columns) = weights.dims2()?;
    if upper.dims() != [columns, columns] || upper.dtype() != DType::F32 {
        return Err(Error::failure(format!("a factor of {:?} for {columns} columns", upper.dims())));
    }
    if let Zeros::OfGroups { m, .. } = projection.zeros {
        check_neighbours(m)?;
        if !columns.is_multiple_of(m) {
            return Err(Error::failure(format!("groups of {m} do not fill {columns} columns")));
        }
    }
    with_floats(weights, |device, before| {
        with_floats(upper, |_, upper| {
            let target = projection.grid.as_ref();
            let mut columns_left = ColumnLoop {
                device,
                weights: device.cuda_stream().clone_dtod(&before).w()?,
                before,
                upper,
                errors: device.alloc_zeros::<f32>(rows * projection.tile().min(columns))?,
                losses: device.alloc_zeros::<f64>(rows)?,
                scores: device.alloc_zeros::<f32>(1)?,
                threshold: device.alloc_zeros::<f32>(1)?,
                quantised: match target {
                    Some(target) => CodesOnDevice::new(device, target, rows, columns)?,
                    None => CodesOnDevice::none(device)?,
                },
                rows,
                columns,
            };
            for tile in projection.tiles(columns) {
                if stop() {
                    return Err(Error::Cancelled);
                }
                if let Some(target) = target {
                    let weights = columns_left.weights.as_view();
                    columns_left.quantised.grids.fit(device, &weights, target.groups_to_fit(tile))?;
                }
                if let (Zeros::Share(share), 0) = (projection.zeros, tile.in_block) {
                    columns_left.choose(tile, share)?;
                }
                columns_left.solve(tile, projection)?;
                columns_left.pass_on(tile)?;
            }
            let loss = device.clone_dtoh(&columns_left.losses)?.iter().sum();
            let ColumnLoop { weights, quantised: CodesOnDevice { grids, codes, .. }, .. } = columns_left;
            let codes = target.map(|_| (tensor(codes, device, (rows, columns)), grids.into_grids(device)));
            Ok(Solved { weights: tensor(weights, device, (rows, columns)), loss, codes })
        })
    })
}

/// A matrix while its columns are solved.
struct ColumnLoop<'a> {
    device: &'a CudaDevice,
    weights: CudaSlice<f32>,
    /// The weights as they came.
    before: CudaView<'a, f32>,
    upper: CudaView<'a, f32>,
    /// Of the tile.
    errors: CudaSlice<f32>,
    /// Of the rows.
    losses: CudaSlice<f64>,
    /// Of the block.
    scores: CudaSlice<f32>,
    /// Of the block.
    threshold: CudaSlice<f32>,
    quantised: CodesOnDevice,
    rows: usize,
    columns: usize,
}

impl ColumnLoop<'_> {
    /// Scores of the block that begins at a tile, and the one at the share's rank.
    fn choose(&mut self, tile: Tile, share: f64) -> Result<()> {
        let numel = self.rows * tile.block;
        if self.scores.len() != numel {
            self.scores = self.device.alloc_zeros::<f32>(numel)?;
        }
        let function = kernel(self.device, "score_block")?;
        let (columns, first, block, len) =
            (self.columns as i32, tile.first as i32, tile.block as i32, numel as u64);
        let mut start = function.builder();
        start.arg(&self.weights).arg(&self.upper).arg(&len).arg(&columns).arg(&first).arg(&block);
        start.arg(&mut self.scores);
        // SAFETY: the block's columns lie in the matrix, and `scores` has one element for each of its weights.
        unsafe { start.launch(grid(numel.div_ceil(THREADS as usize), THREADS)) }.w()?;
        let rank = (numel as f64 * share).floor() as usize;
        self.threshold = kth_of(self.device, &self.scores.as_view(), rank)?;
        Ok(())
    }

    fn solve(&mut self, tile: Tile, projection: &Projection<'_>) -> Result<()> {
        let function = kernel(self.device, "solve_tile")?;
        let (zeroing, n, m) = match projection.zeros {
            Zeros::None => (ZEROS_NONE, 0, 0),
            Zeros::Kept => (ZEROS_KEPT, 0, 0),
            Zeros::Share(_) => (ZEROS_UP_TO, 0, 0),
            Zeros::OfGroups { n, m } => (ZEROS_OF_GROUPS, n as i32, m as i32),
        };
        assert!(tile.width <= MOST_COLUMNS, "a warp holds {MOST_COLUMNS} columns");
        let [rows, columns, first, width, block, in_block] =
            [self.rows, self.columns, tile.first, tile.width, tile.block, tile.in_block].map(|v| v as i32);
        let CodesOnDevice { grids, group_of, codes } = &mut self.quantised;
        // 0 says that there is no grid.
        let largest = projection.grid.as_ref().map_or(0.0, |target| largest(target.grid));
        let groups = grids.grid.groups(self.columns) as i32;
        let mut start = function.builder();
        start
            .arg(&mut self.weights)
            .arg(&self.before)
            .arg(&self.upper)
            .arg(&self.scores)
            .arg(&self.threshold);
        start.arg(&rows).arg(&columns).arg(&first).arg(&width).arg(&block).arg(&in_block);
        start.arg(&zeroing).arg(&n).arg(&m).arg(&largest).arg(&*group_of).arg(&groups);
        start.arg(&grids.scales).arg(&grids.zeros).arg(&mut self.errors).arg(codes).arg(&mut self.losses);
        // SAFETY: the tile's columns lie in the matrix and in its block, whose scores were computed before where a
        // threshold chooses; `errors` has room for a tile, `losses` for every row. With a grid, `group_of` and `codes`
        // have an element for every column and weight, and the grids one for every group of every row, found by now.
        unsafe { start.launch(grid(self.rows.div_ceil(SOLVE_WARPS), 32 * SOLVE_WARPS as u32)) }.w()?;
        Ok(())
    }

    /// Takes what a tile's columns could not hold from all later columns: `W −= E·U`.
    fn pass_on(&mut self, tile: Tile) -> Result<()> {
        let end = tile.first + tile.width;
        let rest = self.columns - end;
        if rest == 0 {
            return Ok(());
        }
        // cuBLAS counts columns first: it sees the transposed matrices.
        let config = GemmConfig {
            transa: CUBLAS_OP_N,
            transb: CUBLAS_OP_N,
            m: rest as i32,
            n: self.rows as i32,
            k: tile.width as i32,
            alpha: -1.0,
            lda: self.columns as i32,
            ldb: tile.width as i32,
            beta: 1.0,
            ldc: self.columns as i32,
        };
        let upper = self.upper.slice(tile.first * self.columns + end..);
        let mut later = self.weights.slice_mut(end..);
        // SAFETY: all three lie inside their matrices, rows `lda`, `ldb` and `ldc` elements apart.
        unsafe { self.device.cublas_handle().gemm(config, &upper, &self.errors, &mut later) }.w()?;
        Ok(())
    }
}
