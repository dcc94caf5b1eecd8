// What all CUDA kernels begin with. They are compiled when they are first used, for the GPU that is there.
// `src/kernels/device/*.rs` has the same composed of operations on tensors.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define WHOLE_WARP 0xffffffffu

