// softmax(q k^T scale) v within segments of flat tokens, bf16 with f32 sums, scores never in memory.
//
// A block of four warps takes 128 query rows: 128 tokens of one head, or 64 tokens of two heads that read the same
// keys. It walks over the keys as FlashAttention-2 does (Dao, 2023): a warp owns 32 rows, keeps their output and
// running softmax in registers, and uses what it loads of keys and values for two products of 16 rows, since shared
// memory is what limits it; the next 64 keys and values are copied meanwhile. Products are mma.sync.m16n8k16, so the
// kernel runs on compute capability 8.0 and up.
//
// Block `tile * (heads / HEADS) + i` takes heads `i * HEADS` and on.
#include "common.cuh"

// Query rows a block takes, and keys it copies at a time.
constexpr int ROWS = 128;
constexpr int RUN = 64;
constexpr int THREADS = 128;

// Queries of one segment: 128 / HEADS tokens or fewer.
struct Tile {
    int query_row;  // its first row in q and in the output
    int queries;    // rows of it
    int key_row;    // the first key of the segment
    int keys;       // keys that some query of the tile sees, counted from the first
    int last;       // the last key its first query sees; each further query sees one more, up to `keys`
};

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return (uint32_t)__cvta_generic_to_shared(pointer);
}
// 16 bytes from global to shared memory, or zeros.
__device__ __forceinline__ void copy_async(bf16* to, const bf16* from, bool present) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from),
                 "r"(present ? 16 : 0));
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;\n" ::); }
template <int PENDING> __device__ __forceinline__ void wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING));
}
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const bf16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(from)));
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const bf16* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(from)));
}
__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm volatile("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
}

// Rows of D components a head in shared memory, so laid out that the same 16 bytes of eight rows that follow each
// other lie in different banks: rows of 128 by exchanging their pieces, others by padding to an odd number of pieces.
// All of a block's rows fit 99 KiB, what cards of compute capability 8.6 and 8.9 give it.
template <int D> struct Shape {
    static constexpr int PADDED = (D + 15) / 16 * 16;
    static constexpr bool EXCHANGED = PADDED % 128 == 0;
    static constexpr int ROW = EXCHANGED ? PADDED : PADDED + 8;
};
// Where a component of a row lies.
template <int D> __device__ __forceinline__ int place(int row, int column) {
    return row * Shape<D>::ROW + (Shape<D>::EXCHANGED ? column ^ (row & 7) << 3 : column);
}

// Copies RUN rows of one head; rows past `rows` become zeros.
template <int D>
__device__ __forceinline__ void copy_keys(bf16* to, const bf16* from, int stride, int rows) {
    constexpr int CHUNKS = D / 8;
#pragma unroll
    for (int i = threadIdx.x; i < RUN * CHUNKS; i += THREADS) {
        const int row = i / CHUNKS, column = i % CHUNKS * 8;
        const bool present = row < rows;
        copy_async(to + place<D>(row, column), from + (present ? (size_t)row * stride : 0) + column, present);
    }
}

// Where row r of a block's 128 query rows comes from: 16 rows of a head are a warp's first product, the next 16 its
// second.
template <int HEADS> __device__ __forceinline__ int token_of(int row) {
    return HEADS == 2 ? row / 32 * 16 + row % 16 : row;
}
template <int HEADS> __device__ __forceinline__ int head_of(int row) { return HEADS == 2 ? row / 16 % 2 : 0; }

template <int D, int HEADS>
__device__ void attention(const bf16* q, const bf16* k, const bf16* v, bf16* out, const Tile* tiles, int heads,
                          int group, int q_stride, int kv_stride, int out_stride, float scale) {
    constexpr int PADDED = Shape<D>::PADDED, ROW = Shape<D>::ROW, STEPS = PADDED / 16, CHUNKS = D / 8;
    // Keys multiplied at a time: more save work, and cost registers that smaller heads spend better on a third block.
    constexpr int PART = D > 80 ? 64 : 32;
    extern __shared__ __align__(16) bf16 memory[];
    bf16* const shared_q = memory;
    const int blocks = heads / HEADS;
    const int head = blockIdx.x % blocks * HEADS, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const Tile tile = tiles[blockIdx.x / blocks];
    q += (size_t)tile.query_row * q_stride + head * D;
    k += (size_t)tile.key_row * kv_stride + head / group * D;
    v += (size_t)tile.key_row * kv_stride + head / group * D;
    out += (size_t)tile.query_row * out_stride + head * D;

    if constexpr (PADDED > D) {
        // Components that no copy writes: zeros.
        for (int row = threadIdx.x; row < ROWS + 4 * RUN; row += THREADS)
#pragma unroll
            for (int i = D; i < PADDED; i++) memory[row * ROW + i] = __float2bfloat16(0.0f);
    }
#pragma unroll
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        const int row = i / CHUNKS, column = i % CHUNKS * 8, token = token_of<HEADS>(row);
        const bool present = token < tile.queries;
        const bf16* from = q + (present ? (size_t)token * q_stride : 0) + head_of<HEADS>(row) * D + column;
        copy_async(shared_q + place<D>(row, column), from, present);
    }
    const auto copy_run = [&](int run) {
        bf16* const to = memory + (ROWS + run % 2 * 2 * RUN) * ROW;
        const size_t first = (size_t)run * RUN * kv_stride;
        copy_keys<D>(to, k + first, kv_stride, tile.keys - run * RUN);
        copy_keys<D>(to + RUN * ROW, v + first, kv_stride, tile.keys - run * RUN);
    };
    copy_run(0);
    commit();

    const int own_row = warp * 32 + (lane & 15);
    const int first_token = token_of<HEADS>(warp * 32), last_token = token_of<HEADS>(warp * 32 + 31);
    // Keys that the first and the last query of this warp see.
    const int all_see = min(tile.keys, tile.last + first_token + 1);
    const int any_sees = first_token < tile.queries ? min(tile.keys, tile.last + last_token + 1) : 0;
    float output[2][PADDED / 8][4] = {};
    float largest[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}}, total[2][2] = {};
    const int runs = (tile.keys + RUN - 1) / RUN;
    for (int run = 0; run < runs; run++) {
        if (run + 1 < runs) copy_run(run + 1);
        commit();
        wait<1>();
        __syncthreads();
        const bf16* const shared_k = memory + (ROWS + run % 2 * 2 * RUN) * ROW;
        const bf16* const shared_v = shared_k + RUN * ROW;
#pragma unroll 1
        for (int part = 0; part < RUN; part += PART) {
            const int first_key = run * RUN + part;
            if (first_key >= any_sees) break;
            float scores[2][PART / 8][4] = {};
#pragma unroll
            for (int step = 0; step < STEPS; step++) {
                uint32_t queries[2][4];
                load_matrices(queries[0], shared_q + place<D>(own_row, step * 16 + (lane >> 4) * 8));
                load_matrices(queries[1], shared_q + place<D>(own_row + 16, step * 16 + (lane >> 4) * 8));
#pragma unroll
                for (int pair = 0; pair < PART / 16; pair++) {
                    uint32_t keys[4];
                    load_matrices(keys, shared_k + place<D>(part + pair * 16 + (lane & 7) + (lane >> 4) * 8,
                                                            step * 16 + (lane >> 3 & 1) * 8));
#pragma unroll
                    for (int m = 0; m < 2; m++) {
                        multiply(scores[m][2 * pair], queries[m], keys[0], keys[1]);
                        multiply(scores[m][2 * pair + 1], queries[m], keys[2], keys[3]);
                    }
                }
            }
            // Only the last keys are unseen by some query.
            if (first_key + PART > all_see) {
#pragma unroll
                for (int m = 0; m < 2; m++)
#pragma unroll
                    for (int i = 0; i < PART / 8; i++)
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            const int key = first_key + i * 8 + (lane & 3) * 2 + (j & 1);
                            const int token = token_of<HEADS>(warp * 32 + m * 16 + (lane >> 2) + (j >> 1) * 8);
                            if (key >= min(tile.keys, tile.last + token + 1)) scores[m][i][j] = -INFINITY;
                        }
            }
#pragma unroll
            for (int m = 0; m < 2; m++) {
                float shrink[2];
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float top = largest[m][half];
#pragma unroll
                    for (int i = 0; i < PART / 8; i++)
                        top = fmaxf(top, fmaxf(scores[m][i][2 * half], scores[m][i][2 * half + 1]));
                    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
                    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
                    shrink[half] = exp2_fast((largest[m][half] - top) * scale);
                    largest[m][half] = top;
                    float sum = 0.0f;
#pragma unroll
                    for (int i = 0; i < PART / 8; i++) {
#pragma unroll
                        for (int j = 2 * half; j < 2 * half + 2; j++) {
                            scores[m][i][j] = exp2_fast(scores[m][i][j] * scale - top * scale);
                            sum += scores[m][i][j];
                        }
                    }
                    total[m][half] = total[m][half] * shrink[half] + sum;
                }
                if (__any_sync(0xffffffffu, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
#pragma unroll
                    for (int i = 0; i < PADDED / 8; i++)
#pragma unroll
                        for (int j = 0; j < 4; j++) output[m][i][j] *= shrink[j >> 1];
                }
            }
#pragma unroll
            for (int step = 0; step < PART / 16; step++) {
                uint32_t weights[2][4];
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    weights[m][0] = pack(scores[m][2 * step][0], scores[m][2 * step][1]);
                    weights[m][1] = pack(scores[m][2 * step][2], scores[m][2 * step][3]);
                    weights[m][2] = pack(scores[m][2 * step + 1][0], scores[m][2 * step + 1][1]);
                    weights[m][3] = pack(scores[m][2 * step + 1][2], scores[m][2 * step + 1][3]);
                }
#pragma unroll
                for (int pair = 0; pair < STEPS; pair++) {
                    uint32_t values[4];
                    load_matrices_transposed(
                        values,
                        shared_v + place<D>(part + step * 16 + (lane & 15), pair * 16 + (lane >> 4) * 8));
#pragma unroll
                    for (int m = 0; m < 2; m++) {
                        multiply(output[m][2 * pair], weights[m], values[0], values[1]);
                        multiply(output[m][2 * pair + 1], weights[m], values[2], values[3]);
                    }
                }
            }
        }
        __syncthreads();
    }

    // Through shared memory, so that rows leave in 16-byte pieces; a warp reads only what it wrote.
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = total[m][half];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            const float share = 1.0f / sum;
            const int row = warp * 32 + m * 16 + (lane >> 2) + half * 8;
#pragma unroll
            for (int i = 0; i < PADDED / 8; i++)
                *reinterpret_cast<uint32_t*>(shared_q + place<D>(row, i * 8 + (lane & 3) * 2)) =
                    pack(output[m][i][2 * half] * share, output[m][i][2 * half + 1] * share);
        }
    __syncwarp();
    for (int i = lane; i < 32 * CHUNKS; i += 32) {
        const int row = warp * 32 + i / CHUNKS, column = i % CHUNKS * 8, token = token_of<HEADS>(row);
        if (token < tile.queries)
            *reinterpret_cast<uint4*>(out + (size_t)token * out_stride + head_of<HEADS>(row) * D + column) =
                *reinterpret_cast<const uint4*>(shared_q + place<D>(row, column));
    }
}

#define ATTENTION(D, HEADS)                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS, D > 80 ? 2 : 3) attention_##D(                     \
        const bf16* q, const bf16* k, const bf16* v, bf16* out, const Tile* tiles, int heads, int group,     \
        int q_stride, int kv_stride, int out_stride, float scale) {                                          \
        attention<D, HEADS>(q, k, v, out, tiles, heads, group, q_stride, kv_stride, out_stride, scale);      \
    }
ATTENTION(16, 1)
ATTENTION(32, 2)
ATTENTION(64, 1)
ATTENTION(72, 1)
ATTENTION(128, 2)
