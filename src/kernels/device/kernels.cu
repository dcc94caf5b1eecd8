// CUDA kernels for what methods do with matrices, behind those of `common.cu`.

#define MAGNITUDE 0x7fffffffu
// Columns that a lane holds of a row of a tile: 4 · 32 = 128 columns.
#define HELD 4
// As MOST_NEIGHBOURS in select.rs.
#define MOST_NEIGHBOURS 32
#define SOLVE_WARPS 4
#define ROW_THREADS 256
#define PICK_THREADS 1024
#define BINS 2048
#define LEAF 64

// ---- The value at a rank -------------------------------------------------------------------------------------------
// Magnitudes sort as their bits do. Three passes find 11, 10 and 10 of the 31 bits: one kernel counts the values that
// share the bits found so far by the next ones, the other picks the bin of the rank. `state` holds those bits, and the
// rank among the values that share them.

extern "C" __global__ void count_magnitudes(const float *x, u64 n, int shift, int bits, const u32 *state, u32 *counts) {
    __shared__ u32 local[BINS];
    for (int bin = threadIdx.x; bin < BINS; bin += blockDim.x) local[bin] = 0;
    __syncthreads();
    u32 found = state[0];
    u32 last_bin = (1u << bits) - 1;
    for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        u32 magnitude = __float_as_uint(x[i]) & MAGNITUDE;
        if (magnitude >> (shift + bits) == found) atomicAdd(&local[(magnitude >> shift) & last_bin], 1u);
    }
    __syncthreads();
    for (int bin = threadIdx.x; bin < BINS; bin += blockDim.x) {
        if (local[bin] > 0) atomicAdd(&counts[bin], local[bin]);
    }
}

// The sum of `own` over all threads before this one; every thread of the block takes part. `sums` has room for all.
__device__ u32 sum_before(u32 own, u32 *sums) {
    u32 thread = threadIdx.x;
    sums[thread] = own;
    __syncthreads();
    for (u32 step = 1; step < blockDim.x; step *= 2) {
        u32 other = thread >= step ? sums[thread - step] : 0;
        __syncthreads();
        sums[thread] += other;
        __syncthreads();
    }
    u32 before = sums[thread] - own;
    __syncthreads();
    return before;
}

extern "C" __global__ void pick_magnitude(const u32 *counts, int bits, u32 *state, float *value) {
    __shared__ u32 sums[PICK_THREADS];
    u32 found = state[0], rank = state[1];
    int each = BINS / PICK_THREADS;
    int first = threadIdx.x * each;
    u32 own = 0;
    for (int bin = first; bin < first + each; bin++) own += counts[bin];
    u32 before = sum_before(own, sums);
    if (rank < before || rank >= before + own) return;
    // One thread comes here: the rank lies in its bins.
    int bin = first;
    while (rank >= before + counts[bin]) before += counts[bin++];
    state[0] = found << bits | (u32)bin;
    state[1] = rank - before;
    *value = __uint_as_float(state[0]);
}

// ---- The lowest of every row ---------------------------------------------------------------------------------------
// A block takes a row. Scores are not negative, so they sort as their bits do: four passes of eight bits find the score
// at the rank; those below it go, and of those equal to it the first ones.

extern "C" __global__ void lowest_of_rows(const float *scores, int columns, u32 count, u8 *flags) {
    __shared__ u32 counts[ROW_THREADS];
    __shared__ u32 sums[ROW_THREADS];
    __shared__ u32 state[2];
    u32 thread = threadIdx.x;
    scores += (u64)blockIdx.x * columns;
    flags += (u64)blockIdx.x * columns;
    if (thread == 0) {
        state[0] = 0;
        state[1] = count - 1;
    }
    for (int shift = 24; shift >= 0; shift -= 8) {
        counts[thread] = 0;
        __syncthreads();
        u32 found = state[0], rank = state[1];
        for (int j = thread; j < columns; j += ROW_THREADS) {
            u32 score = __float_as_uint(scores[j]) & MAGNITUDE;
            if ((u64)score >> (shift + 8) == found) atomicAdd(&counts[(score >> shift) & 255], 1u);
        }
        __syncthreads();
        u32 own = counts[thread];
        u32 before = sum_before(own, sums);
        if (rank >= before && rank < before + own) {
            state[0] = found << 8 | thread;
            state[1] = rank - before;
        }
        __syncthreads();
    }
    u32 limit = state[0], equal_that_go = state[1] + 1;
    int each = (columns + ROW_THREADS - 1) / ROW_THREADS;
    int first = min(columns, (int)thread * each), end = min(columns, first + each);
    u32 equal = 0;
    for (int j = first; j < end; j++) equal += (__float_as_uint(scores[j]) & MAGNITUDE) == limit;
    u32 seen = sum_before(equal, sums);
    for (int j = first; j < end; j++) {
        u32 score = __float_as_uint(scores[j]) & MAGNITUDE;
        flags[j] = score < limit || (score == limit && seen < equal_that_go);
        seen += score == limit;
    }
}

// ---- The lowest of every few neighbours ----------------------------------------------------------------------------

// NaN counts as the greatest.
__device__ bool is_less(float a, float b) { return a < b || (a == a && b != b); }

// Bits of the `n` smallest of `m` values. Of equal values those go that `mark_smallest` in src/kernels/select.rs takes:
// the steps are the same. `values` is put in another order, `places` is overwritten.
__device__ u32 mark_smallest(float *values, int *places, int n, int m) {
    if (n <= 0) return 0;
    for (int i = 0; i < m; i++) places[i] = i;
    int nth = min(n, m) - 1, first = 0, last = m;
    while (last - first > 3) {
        int a = first + 1, b = first + (last - first) / 2, c = last - 1, median;
        if (is_less(values[a], values[b])) {
            median = is_less(values[b], values[c]) ? b : is_less(values[a], values[c]) ? c : a;
        } else {
            median = is_less(values[a], values[c]) ? a : is_less(values[b], values[c]) ? c : b;
        }
        float pivot = values[median];
        int place = places[median];
        values[median] = values[first];
        places[median] = places[first];
        values[first] = pivot;
        places[first] = place;
        int low = first + 1, high = last;
        while (true) {
            while (is_less(values[low], pivot)) low++;
            high--;
            while (is_less(pivot, values[high])) high--;
            if (low >= high) break;
            float value = values[low];
            values[low] = values[high];
            values[high] = value;
            place = places[low];
            places[low] = places[high];
            places[high] = place;
            low++;
        }
        if (low <= nth) first = low;
        else last = low;
    }
    for (int i = first + 1; i < last; i++) {
        float value = values[i];
        int place = places[i], at = i;
        for (; at > first && is_less(value, values[at - 1]); at--) {
            values[at] = values[at - 1];
            places[at] = places[at - 1];
        }
        values[at] = value;
        places[at] = place;
    }
    u32 marks = 0;
    for (int i = 0; i <= nth; i++) marks |= 1u << places[i];
    return marks;
}

// A thread takes a group.
extern "C" __global__ void lowest_of_groups(const float *scores, u64 groups, int n, int m, u8 *flags) {
    u64 group = blockIdx.x * (u64)blockDim.x + threadIdx.x;
    if (group >= groups) return;
    float values[MOST_NEIGHBOURS];
    int places[MOST_NEIGHBOURS];
    for (int i = 0; i < m; i++) values[i] = scores[group * m + i];
    u32 marks = mark_smallest(values, places, n, m);
    for (int i = 0; i < m; i++) flags[group * m + i] = marks >> i & 1;
}

// ---- The column loop -----------------------------------------------------------------------------------------------

// Scores of a block of columns, w² / U_ii².
extern "C" __global__ void score_block(
    const float *weights, const float *upper, u64 numel, int columns, int first, int block, float *scores
) {
    u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x;
    if (i >= numel) return;
    u64 row = i / block;
    int column = first + (int)(i % block);
    float w = weights[row * columns + column], d = upper[(u64)column * columns + column];
    scores[i] = w * w * (1.0f / (d * d));
}

// ---- Grids ---------------------------------------------------------------------------------------------------------

// A scale as an export holds it, in f32 (0), f16 (1) or bf16 (2); never 0.
__device__ float round_scale(float scale, int precision) {
    if (precision == 1) {
        unsigned short half;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(scale));
        asm("cvt.f32.f16 %0, %1;" : "=f"(scale) : "h"(half));
        return fmaxf(scale, __uint_as_float(0x33800000u));
    }
    if (precision == 2) {
        u32 bits = __float_as_uint(scale);
        bits += 0x7fffu + (bits >> 16 & 1u);
        return fmaxf(__uint_as_float(bits & 0xffff0000u), __uint_as_float(0x00010000u));
    }
    return fmaxf(scale, __uint_as_float(1u));
}

// The grids of the `count` groups of a row from the group `first` on. A warp takes a group of `size` columns; `tasks` are
// the groups of all rows.
extern "C" __global__ void fit_groups(
    const float *weights, u64 tasks, int columns, int size, int first, int count, float largest, int symmetric,
    int precision, float *scales, float *zeros
) {
    int lane = threadIdx.x % 32;
    u64 task = (blockIdx.x * (u64)blockDim.x + threadIdx.x) / 32;
    if (task >= tasks) return;
    u64 row = task / count;
    int group = first + (int)(task % count);
    weights += row * columns + (u64)group * size;
    float low = 0.0f, high = 0.0f;
    for (int j = lane; j < size; j += 32) {
        low = fminf(low, weights[j]);
        high = fmaxf(high, weights[j]);
    }
    for (int step = 16; step > 0; step /= 2) {
        low = fminf(low, __shfl_xor_sync(WHOLE_WARP, low, step));
        high = fmaxf(high, __shfl_xor_sync(WHOLE_WARP, high, step));
    }
    if (lane != 0) return;
    if (symmetric) {
        high = fmaxf(high, -low);
        low = -high;
    }
    if (low == 0.0f && high == 0.0f) {
        low = -1.0f;
        high = 1.0f;
    }
    float scale = round_scale((high - low) / largest, precision);
    u64 at = row * (columns / size) + group;
    scales[at] = scale;
    zeros[at] = symmetric ? (largest + 1.0f) / 2.0f : fminf(fmaxf(rintf(-low / scale), 0.0f), largest);
}

// Codes of `bits` bits, one string of bits for every row of `columns` of them, the first in the lowest; filled up to
// `row_bytes` bytes. A thread makes a byte.
extern "C" __global__ void pack_codes(
    const u8 *codes, u64 count, int columns, int row_bytes, int bits, u8 *packed
) {
    u64 at = blockIdx.x * (u64)blockDim.x + threadIdx.x;
    if (at >= count) return;
    codes += at / row_bytes * columns;
    int first = (int)(at % row_bytes) * 8;
    u32 byte = 0;
    for (int code = first / bits; code < columns && code * bits < first + 8; code++) {
        int shift = code * bits - first;
        byte |= shift >= 0 ? (u32)codes[code] << shift : (u32)codes[code] >> -shift;
    }
    packed[at] = (u8)byte;
}

// ---- A tile of columns ---------------------------------------------------------------------------------------------

// How it is known what goes: as `Zeros` of projection.rs.
#define ZEROS_NONE 0
#define ZEROS_KEPT 1
#define ZEROS_UP_TO 2
#define ZEROS_OF_GROUPS 3

// A tile of at most 128 columns. A warp takes a row and holds it in registers, lane `l` columns l, l + 32, l + 64 and
// l + 96. What goes is what is zero in `before`, or what `scores` and `threshold` say, or the `n` lowest of `m`
// neighbours, as they are when the loop reaches the first of them. Where `largest` is not 0, what stays goes on a grid:
// scale and zero of a column are those of its group, of which a row has `groups`.
extern "C" __global__ void solve_tile(
    float *weights, const float *before, const float *upper, const float *scores, const float *threshold, int rows,
    int columns, int first, int width, int block, int in_block, int zeroing, int n, int m, float largest,
    const int *group_of, int groups, const float *scales, const float *zeros, float *errors, u8 *codes, double *losses
) {
    __shared__ float values[SOLVE_WARPS][MOST_NEIGHBOURS];
    __shared__ int places[SOLVE_WARPS][MOST_NEIGHBOURS];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int row = blockIdx.x * SOLVE_WARPS + warp;
    if (row >= rows) return;
    weights += (u64)row * columns + first;
    before += (u64)row * columns + first;
    errors += (u64)row * width;
    const float *corner = upper + (u64)first * columns + first;

    float x[HELD], error[HELD], inverse[HELD], inverse_squared[HELD], scale[HELD], zero[HELD], code[HELD];
    bool gone[HELD];
    #pragma unroll
    for (int c = 0; c < HELD; c++) {
        int j = c * 32 + lane;
        bool inside = j < width;
        float d = inside ? corner[(u64)j * columns + j] : 1.0f;
        x[c] = inside ? weights[j] : 0.0f;
        error[c] = 0.0f;
        code[c] = 0.0f;
        inverse[c] = 1.0f / d;
        inverse_squared[c] = 1.0f / (d * d);
        gone[c] = false;
        if (inside && zeroing == ZEROS_KEPT) gone[c] = before[j] == 0.0f;
        if (inside && zeroing == ZEROS_UP_TO) gone[c] = scores[(u64)row * block + in_block + j] <= *threshold;
        bool on_grid = inside && largest > 0.0f;
        u64 group = on_grid ? (u64)row * groups + group_of[first + j] : 0;
        scale[c] = on_grid ? scales[group] : 1.0f;
        zero[c] = on_grid ? zeros[group] : 0.0f;
    }

    int next_group = 0;
    #pragma unroll
    for (int c = 0; c < HELD; c++) {
        for (int l = 0; l < 32 && c * 32 + l < width; l++) {
            int i = c * 32 + l;
            if (zeroing == ZEROS_OF_GROUPS && i == next_group) {
                #pragma unroll
                for (int k = 0; k < HELD; k++) {
                    int at = k * 32 + lane - i;
                    if (at >= 0 && at < m) values[warp][at] = x[k] * x[k] * inverse_squared[k];
                }
                __syncwarp();
                u32 marks = lane == 0 ? mark_smallest(values[warp], places[warp], n, m) : 0;
                marks = __shfl_sync(WHOLE_WARP, marks, 0);
                #pragma unroll
                for (int k = 0; k < HELD; k++) {
                    int at = k * 32 + lane - i;
                    if (at >= 0 && at < m) gone[k] = marks >> at & 1;
                }
                next_group += m;
            }
            // Every lane projects its own column; that of lane `l` is the one whose turn it is. What is rounded here is not
            // fused with the difference, as on the host.
            float projected = gone[c] ? 0.0f : x[c];
            float own_code = 0.0f;
            if (largest > 0.0f) {
                own_code = fminf(fmaxf(rintf(projected / scale[c]) + zero[c], 0.0f), largest);
                projected = __fmul_rn(scale[c], own_code - zero[c]);
            }
            float own = (x[c] - projected) * inverse[c];
            float missing = __shfl_sync(WHOLE_WARP, own, l);
            if (lane == l) {
                x[c] = projected;
                error[c] = own;
                code[c] = own_code;
            }
            // The same for all lanes.
            if (missing == 0.0f) continue;
            const float *behind = corner + (u64)i * columns;
            #pragma unroll
            for (int k = c; k < HELD; k++) {
                int j = k * 32 + lane;
                if (j > i && j < width) x[k] = fmaf(__ldg(behind + j), -missing, x[k]);
            }
        }
    }

    double loss = 0.0;
    #pragma unroll
    for (int c = 0; c < HELD; c++) {
        int j = c * 32 + lane;
        if (j >= width) continue;
        weights[j] = x[c];
        errors[j] = error[c];
        if (largest > 0.0f) codes[(u64)row * columns + first + j] = (u8)code[c];
        loss += (double)error[c] * error[c] / 2.0;
    }
    for (int step = 16; step > 0; step /= 2) loss += __shfl_down_sync(WHOLE_WARP, loss, step);
    if (lane == 0) losses[row] += loss;
}

// ---- A block on the diagonal ---------------------------------------------------------------------------------------

// U = R⁻¹ of `h` = R Rᵀ, R an upper triangle, [n, n] with n ≤ 64; not finite where `h` is not positive definite. One
// block of threads.
extern "C" __global__ void factor_leaf(const float *h, int n, float *upper) {
    __shared__ float r[LEAF][LEAF + 1];
    int threads = blockDim.x;
    for (int i = threadIdx.x; i < n * n; i += threads) r[i / n][i % n] = h[i];
    __syncthreads();
    for (int j = n - 1; j >= 0; j--) {
        if (threadIdx.x == 0) r[j][j] = sqrtf(r[j][j]);
        __syncthreads();
        for (int i = threadIdx.x; i < j; i += threads) r[i][j] /= r[j][j];
        __syncthreads();
        for (int at = threadIdx.x; at < j * j; at += threads) {
            int i = at / j, k = at % j;
            if (i <= k) r[i][k] -= r[i][j] * r[k][j];
        }
        __syncthreads();
    }
    // A thread takes a column of the inverse, from its diagonal upwards.
    __shared__ float inverse[LEAF][LEAF + 1];
    for (int j = threadIdx.x; j < n; j += threads) {
        inverse[j][j] = 1.0f / r[j][j];
        for (int i = j - 1; i >= 0; i--) {
            float sum = 0.0f;
            for (int k = i + 1; k <= j; k++) sum = fmaf(r[i][k], inverse[k][j], sum);
            inverse[i][j] = -sum / r[i][i];
        }
    }
    __syncthreads();
    for (int at = threadIdx.x; at < n * n; at += threads) {
        int i = at / n, j = at % n;
        upper[at] = i <= j ? inverse[i][j] : 0.0f;
    }
}
