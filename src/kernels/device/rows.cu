// CUDA kernels for rows of activations and logits, behind those of `passes.cu`.

// ---- Element by element --------------------------------------------------------------------------------------------

// A thread takes four elements, which lie together.
template <typename E>
struct alignas(4 * sizeof(typename E::Stored)) Four {
    typename E::Stored x[4];
};

// out = a + b
template <typename E>
__device__ void sums_of(const Four<E> *a, const Four<E> *b, u64 fours, Four<E> *out) {
    u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x;
    if (i >= fours) return;
    Four<E> left = a[i], right = b[i], sum;
    #pragma unroll
    for (int k = 0; k < 4; k++) sum.x[k] = E::narrow(E::wide(left.x[k]) + E::wide(right.x[k]));
    out[i] = sum;
}

// out = silu(gate) · up
template <typename E>
__device__ void gated_of(const Four<E> *gate, const Four<E> *up, u64 fours, Four<E> *out) {
    u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x;
    if (i >= fours) return;
    Four<E> g = gate[i], u = up[i], product;
    #pragma unroll
    for (int k = 0; k < 4; k++) {
        float x = E::wide(g.x[k]);
        product.x[k] = E::narrow(x / (1.0f + expf(-x)) * E::wide(u.x[k]));
    }
    out[i] = product;
}

#define PAIRS(kind, E)                                                                                                 \
    extern "C" __global__ void add_##kind(const Four<E> *a, const Four<E> *b, u64 fours, Four<E> *out) {               \
        sums_of<E>(a, b, fours, out);                                                                                  \
    }                                                                                                                  \
    extern "C" __global__ void silu_mul_##kind(const Four<E> *gate, const Four<E> *up, u64 fours, Four<E> *out) {      \
        gated_of<E>(gate, up, fours, out);                                                                             \
    }
FOR_EVERY_ELEMENT(PAIRS)

// Some rows of a table, `fours` times four elements each.
template <typename E>
__device__ void rows_of(const Four<E> *table, const u32 *rows, u64 count, int fours, Four<E> *out) {
    u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x;
    if (i < count) out[i] = table[(u64)rows[i / fours] * fours + i % fours];
}

#define TAKE_ROWS(kind, E)                                                                                             \
    extern "C" __global__ void take_rows_##kind(                                                                       \
        const Four<E> *table, const u32 *rows, u64 count, int fours, Four<E> *out                                      \
    ) {                                                                                                                \
        rows_of<E>(table, rows, count, fours, out);                                                                    \
    }
FOR_EVERY_ELEMENT(TAKE_ROWS)

// ---- Norms ---------------------------------------------------------------------------------------------------------

#define NORM_THREADS 256

// The sum of `own` over all threads of a block of whole warps; every thread gets it.
__device__ float block_sum(float own) {
    __shared__ float sums[32];
    for (int step = 16; step > 0; step /= 2) own += __shfl_xor_sync(WHOLE_WARP, own, step);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = own;
    __syncthreads();
    float sum = 0.0f;
    for (int warp = 0; warp < (int)blockDim.x / 32; warp++) sum += sums[warp];
    __syncthreads();
    return sum;
}

// x / sqrt(mean(x²) + eps) · weight. A block takes a row of `fours` times four elements.
template <typename E>
__device__ void rms_norm_of(const Four<E> *x, const Four<E> *weight, int fours, float eps, Four<E> *out) {
    x += blockIdx.x * (u64)fours;
    out += blockIdx.x * (u64)fours;
    float own = 0.0f;
    for (int i = threadIdx.x; i < fours; i += blockDim.x) {
        Four<E> four = x[i];
        #pragma unroll
        for (int k = 0; k < 4; k++) own = fmaf(E::wide(four.x[k]), E::wide(four.x[k]), own);
    }
    float scale = rsqrtf(block_sum(own) / (4.0f * fours) + eps);
    for (int i = threadIdx.x; i < fours; i += blockDim.x) {
        Four<E> four = x[i], w = weight[i];
        #pragma unroll
        for (int k = 0; k < 4; k++) four.x[k] = E::narrow(scale * E::wide(four.x[k]) * E::wide(w.x[k]));
        out[i] = four;
    }
}

#define RMS_NORM(kind, E)                                                                                              \
    extern "C" __global__ void rms_norm_##kind(                                                                        \
        const Four<E> *x, const Four<E> *weight, int fours, float eps, Four<E> *out                                    \
    ) {                                                                                                                \
        rms_norm_of<E>(x, weight, fours, eps, out);                                                                    \
    }
FOR_EVERY_ELEMENT(RMS_NORM)

// ---- Rotation ------------------------------------------------------------------------------------------------------

// Rotates the first `turned` of the `dim` features of every head, feature i with feature i + turned / 2, by the position
// of its row; the others stay. `cos` and `sin` have a row of turned / 2 numbers for every position. A thread takes two
// features, `count` of them.
template <typename E>
__device__ void rotated_of(
    const typename E::Stored *x, const u32 *positions, const typename E::Stored *cos, const typename E::Stored *sin,
    u64 count, int heads, int dim, int turned, typename E::Stored *out
) {
    u64 at = blockIdx.x * (u64)blockDim.x + threadIdx.x;
    if (at >= count) return;
    int half = turned / 2, pairs = dim - half;
    u64 head = at / pairs;
    int i = (int)(at % pairs);
    x += head * dim;
    out += head * dim;
    if (i >= half) {
        out[i + half] = x[i + half];
        return;
    }
    u64 angle = (u64)positions[head / heads] * half + i;
    float c = E::wide(cos[angle]), s = E::wide(sin[angle]);
    float first = E::wide(x[i]), second = E::wide(x[i + half]);
    out[i] = E::narrow(first * c - second * s);
    out[i + half] = E::narrow(first * s + second * c);
}

#define ROTATE(kind, E)                                                                                                \
    extern "C" __global__ void rotate_##kind(                                                                          \
        const E::Stored *x, const u32 *positions, const E::Stored *cos, const E::Stored *sin, u64 count, int heads,    \
        int dim, int turned, E::Stored *out                                                                            \
    ) {                                                                                                                \
        rotated_of<E>(x, positions, cos, sin, count, heads, dim, turned, out);                                         \
    }
FOR_EVERY_ELEMENT(ROTATE)

// ---- Two distributions over the next token -------------------------------------------------------------------------

// What is known of a row of logits: the greatest, its first column, and the sum of exponentials relative to it.
struct Peak {
    float most;
    int column;
    float sum;
};

__device__ Peak joined(Peak a, Peak b) {
    bool first = a.most > b.most || (a.most == b.most && a.column <= b.column);
    Peak high = first ? a : b, low = first ? b : a;
    if (low.sum > 0.0f) high.sum += low.sum * expf(low.most - high.most);
    return high;
}

// The same of a whole row; every thread of the block gets it.
template <typename E>
__device__ Peak peak_of_row(const typename E::Stored *row, int columns) {
    __shared__ Peak peaks[32];
    Peak own = {-INFINITE, 0x7fffffff, 0.0f};
    for (int j = threadIdx.x; j < columns; j += blockDim.x) {
        float x = E::wide(row[j]);
        if (x > own.most) {
            own.sum = own.sum * expf(own.most - x) + 1.0f;
            own.most = x;
            own.column = j;
        } else {
            // What is no number stays in the sum.
            own.sum += expf(x - own.most);
        }
    }
    for (int step = 16; step > 0; step /= 2) {
        Peak other;
        other.most = __shfl_xor_sync(WHOLE_WARP, own.most, step);
        other.column = __shfl_xor_sync(WHOLE_WARP, own.column, step);
        other.sum = __shfl_xor_sync(WHOLE_WARP, own.sum, step);
        own = joined(own, other);
    }
    if (threadIdx.x % 32 == 0) peaks[threadIdx.x / 32] = own;
    __syncthreads();
    Peak all = peaks[0];
    for (int warp = 1; warp < (int)blockDim.x / 32; warp++) all = joined(all, peaks[warp]);
    __syncthreads();
    return all;
}

// Of every row of a cell's logits and, where there are some, of the base's (else null), five numbers: what the target
// costs the cell and the base in nats, JS and KL in nats, and 1 where the same token is the likeliest. A block takes a row.
template <typename E>
__device__ void compared_of(
    const typename E::Stored *cell, const typename E::Stored *base, const u32 *targets, int columns, float *out
) {
    u64 row = blockIdx.x;
    cell += row * columns;
    out += row * 5;
    u32 target = targets[row];
    Peak q = peak_of_row<E>(cell, columns);
    float log_q = q.most + logf(q.sum);
    if (threadIdx.x == 0) out[0] = log_q - E::wide(cell[target]);
    if (!base) return;
    base += row * columns;
    Peak p = peak_of_row<E>(base, columns);
    float log_p = p.most + logf(p.sum);
    float js = 0.0f, kl = 0.0f;
    for (int j = threadIdx.x; j < columns; j += blockDim.x) {
        float of_q = E::wide(cell[j]) - log_q, of_p = E::wide(base[j]) - log_p;
        float share_q = expf(of_q), share_p = expf(of_p);
        float of_both = logf(fmaxf(0.5f * (share_q + share_p), __uint_as_float(0x00800000u)));
        js += share_p * (of_p - of_both) + share_q * (of_q - of_both);
        kl += share_p * (of_p - of_q);
    }
    js = block_sum(js);
    kl = block_sum(kl);
    if (threadIdx.x == 0) {
        out[1] = log_p - E::wide(base[target]);
        out[2] = js / 2.0f;
        out[3] = kl;
        out[4] = p.column == q.column ? 1.0f : 0.0f;
    }
}

#define COMPARE(kind, E)                                                                                               \
    extern "C" __global__ void compare_##kind(                                                                         \
        const E::Stored *cell, const E::Stored *base, const u32 *targets, int columns, float *out                      \
    ) {                                                                                                                \
        compared_of<E>(cell, base, targets, columns, out);                                                             \
    }
FOR_EVERY_ELEMENT(COMPARE)
