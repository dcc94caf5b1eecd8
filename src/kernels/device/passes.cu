// CUDA kernels for passes through blocks, behind those of `common.cu`.

// ---- Elements ------------------------------------------------------------------------------------------------------

// An element as it is stored, and as an f32. Conversions are written out, since the toolkit's headers are not at hand
// where these kernels are compiled.
struct F32 {
    typedef float Stored;
    static __device__ float wide(float x) { return x; }
    static __device__ float narrow(float x) { return x; }
};

struct F16 {
    typedef unsigned short Stored;
    static __device__ float wide(unsigned short x) {
        float wide;
        asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x));
        return wide;
    }
    static __device__ unsigned short narrow(float x) {
        unsigned short narrow;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow) : "f"(x));
        return narrow;
    }
};

struct BF16 {
    typedef unsigned short Stored;
    static __device__ float wide(unsigned short x) { return __uint_as_float((u32)x << 16); }
    static __device__ unsigned short narrow(float x) {
        u32 bits = __float_as_uint(x);
        // What is no number keeps a bit that says so.
        if (x != x) return (unsigned short)(bits >> 16 | 0x40u);
        return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
};

// A kernel for every kind of element, with the kind behind its name.
#define FOR_EVERY_ELEMENT(DEFINE) DEFINE(f32, F32) DEFINE(f16, F16) DEFINE(bf16, BF16)

// ---- Attention -----------------------------------------------------------------------------------------------------

#define INFINITE __uint_as_float(0x7f800000u)

// The softmax of scores in their place, [heads, queries, stride], of which a row's first `keys` are scores. A query sees
// the keys up to `first` plus its own number, of these the last `window` (0: all). Scores are multiplied by `scale`, and
// then capped where `cap` is not 0. `sinks` are one more score for every head, or null. A warp takes a row.
template <typename E>
__device__ void softmax_row(
    typename E::Stored *scores, u64 rows, int queries, int stride, int keys, int first, int window, float scale,
    float cap, const float *sinks
) {
    int lane = threadIdx.x % 32;
    u64 row = (blockIdx.x * (u64)blockDim.x + threadIdx.x) / 32;
    if (row >= rows) return;
    scores += row * stride;
    int end = min(first + (int)(row % queries) + 1, keys);
    int begin = window > 0 ? max(end - window, 0) : 0;
    float sink = sinks ? sinks[row / queries] : -INFINITE;

    float most = sink;
    #pragma unroll 4
    for (int j = begin + lane; j < end; j += 32) {
        float score = E::wide(scores[j]) * scale;
        if (cap != 0.0f) score = tanhf(score / cap) * cap;
        most = fmaxf(most, score);
    }
    for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(WHOLE_WARP, most, step));
    float sum = 0.0f;
    #pragma unroll 4
    for (int j = begin + lane; j < end; j += 32) {
        float score = E::wide(scores[j]) * scale;
        if (cap != 0.0f) score = tanhf(score / cap) * cap;
        sum += expf(score - most);
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(WHOLE_WARP, sum, step);
    if (sinks) sum += expf(sink - most);
    float share = 1.0f / sum;
    #pragma unroll 4
    for (int j = lane; j < keys; j += 32) {
        float weight = 0.0f;
        if (j >= begin && j < end) {
            float score = E::wide(scores[j]) * scale;
            if (cap != 0.0f) score = tanhf(score / cap) * cap;
            weight = expf(score - most) * share;
        }
        scores[j] = E::narrow(weight);
    }
}

#define SOFTMAX(kind, E)                                                                                               \
    extern "C" __global__ void softmax_##kind(                                                                         \
        E::Stored *scores, u64 rows, int queries, int stride, int keys, int first, int window, float scale, float cap, \
        const float *sinks                                                                                             \
    ) {                                                                                                                \
        softmax_row<E>(scores, rows, queries, stride, keys, first, window, scale, cap, sinks);                         \
    }
FOR_EVERY_ELEMENT(SOFTMAX)

// ---- Sums of squares -----------------------------------------------------------------------------------------------

// Rows whose squares are summed in f32, as SQUARED_ROWS in cuda_passes.rs.
#define SQUARED_ROWS 128

// The sum of squares of every column over some rows, [parts, columns]. A thread takes a column, `blockIdx.y` is the part.
template <typename E>
__device__ void square_sums_of_part(const typename E::Stored *x, int rows, int columns, float *sums) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    int row = blockIdx.y * SQUARED_ROWS, end = min(rows, row + SQUARED_ROWS);
    float sum = 0.0f;
    #pragma unroll 8
    for (; row < end; row++) {
        float value = E::wide(x[(u64)row * columns + column]);
        sum = fmaf(value, value, sum);
    }
    sums[(u64)blockIdx.y * columns + column] = sum;
}

#define SQUARE_SUMS(kind, E)                                                                                           \
    extern "C" __global__ void square_sums_##kind(const E::Stored *x, int rows, int columns, float *sums) {            \
        square_sums_of_part<E>(x, rows, columns, sums);                                                                \
    }
FOR_EVERY_ELEMENT(SQUARE_SUMS)

// Adds what `parts` parts have of every column, always in the same order.
extern "C" __global__ void add_parts(const float *sums, int parts, int columns, double *total) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    double sum = 0.0;
    for (int part = 0; part < parts; part++) sum += (double)sums[(u64)part * columns + column];
    total[column] += sum;
}
