// softmax(q k^T scale) v within segments of flat tokens, bf16 with f32 sums, scores never in memory.
//
// A block of four warps takes 64 queries of one head (block `tile * heads + head`) and walks over the keys in runs of 64, as
// FlashAttention-2 does (Dao, 2023): a warp owns 16 queries, keeps their output and running softmax in
// registers, and the next keys are copied while the values are multiplied. Products are
// mma.sync.m16n8k16, so the kernel runs on compute capability 8.0 and up.
#include "common.cuh"

// Queries a block takes, and keys it takes at a time.
constexpr int RUN = 64;
constexpr int THREADS = 128;

// 64 queries or fewer of one segment.
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

// D components a head, stored padded to a multiple of 16 in rows that no eight of share a bank.
template <int D> struct Shape {
    static constexpr int PADDED = (D + 15) / 16 * 16;
    static constexpr int ROW = PADDED + 8;
};

// Copies up to 64 rows of one head; rows past `rows` become zeros.
template <int D>
__device__ __forceinline__ void copy_rows(bf16* to, const bf16* from, int stride, int rows) {
    constexpr int CHUNKS = D / 8;
#pragma unroll
    for (int i = threadIdx.x; i < RUN * CHUNKS; i += THREADS) {
        const int row = i / CHUNKS, column = i % CHUNKS * 8;
        const bool present = row < rows;
        copy_async(to + row * Shape<D>::ROW + column, from + (present ? (size_t)row * stride : 0) + column, present);
    }
}

template <int D>
__device__ void attention(const bf16* q, const bf16* k, const bf16* v, bf16* out, const Tile* tiles, int heads,
                          int group, int q_stride, int kv_stride, int out_stride, float scale) {
    constexpr int PADDED = Shape<D>::PADDED, ROW = Shape<D>::ROW, STEPS = PADDED / 16;
    extern __shared__ __align__(16) bf16 memory[];
    bf16 *const shared_q = memory, *const shared_k = memory + RUN * ROW, *const shared_v = memory + 2 * RUN * ROW;
    const int head = blockIdx.x % heads, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    const Tile tile = tiles[blockIdx.x / heads];
    q += (size_t)tile.query_row * q_stride + head * D;
    k += (size_t)tile.key_row * kv_stride + head / group * D;
    v += (size_t)tile.key_row * kv_stride + head / group * D;
    out += (size_t)tile.query_row * out_stride + head * D;

    if constexpr (PADDED > D) {
        // Components that no copy writes: zeros in all three.
        for (int row = threadIdx.x; row < 3 * RUN; row += THREADS)
#pragma unroll
            for (int i = D; i < PADDED; i++) memory[row * ROW + i] = __float2bfloat16(0.0f);
    }
    copy_rows<D>(shared_q, q, q_stride, tile.queries);
    copy_rows<D>(shared_k, k, kv_stride, tile.keys);
    commit();
    copy_rows<D>(shared_v, v, kv_stride, tile.keys);
    commit();
    wait<1>();
    __syncthreads();

    // Queries are read from shared memory at each step: in registers they would cost a block a multiprocessor.
    const bf16* own_q = shared_q + (warp * 16 + (lane & 15)) * ROW + (lane >> 4) * 8;

    float output[PADDED / 8][4] = {};
    float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
    const int first_query = warp * 16 + (lane >> 2), runs = (tile.keys + RUN - 1) / RUN;
    for (int run = 0; run < runs; run++) {
        if (run > 0) {
            wait<1>();
            __syncthreads();
        }
        float scores[RUN / 8][4] = {};
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            uint32_t queries[4];
            load_matrices(queries, own_q + step * 16);
#pragma unroll
            for (int pair = 0; pair < RUN / 16; pair++) {
                uint32_t keys[4];
                load_matrices(keys, shared_k + (pair * 16 + (lane & 7) + (lane >> 4) * 8) * ROW + step * 16 +
                                        (lane >> 3 & 1) * 8);
                multiply(scores[2 * pair], queries, keys[0], keys[1]);
                multiply(scores[2 * pair + 1], queries, keys[2], keys[3]);
            }
        }
        __syncthreads();
        const int next = (run + 1) * RUN;
        if (next < tile.keys) copy_rows<D>(shared_k, k + (size_t)next * kv_stride, kv_stride, tile.keys - next);
        commit();

        // Only the last runs hold keys that some query does not see.
        if (next > min(tile.keys, tile.last + 1)) {
#pragma unroll
            for (int i = 0; i < RUN / 8; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const int key = run * RUN + i * 8 + (lane & 3) * 2 + (j & 1);
                    const int seen = min(tile.keys - 1, tile.last + first_query + (j >> 1) * 8);
                    if (key > seen) scores[i][j] = -INFINITY;
                }
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float top = largest[half];
#pragma unroll
            for (int i = 0; i < RUN / 8; i++) top = fmaxf(top, fmaxf(scores[i][2 * half], scores[i][2 * half + 1]));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
            const float shrink = exp2_fast((largest[half] - top) * scale);
            largest[half] = top;
            float sum = 0.0f;
#pragma unroll
            for (int i = 0; i < RUN / 8; i++) {
#pragma unroll
                for (int j = 2 * half; j < 2 * half + 2; j++) {
                    scores[i][j] = exp2_fast(scores[i][j] * scale - top * scale);
                    sum += scores[i][j];
                }
            }
            total[half] = total[half] * shrink + sum;
#pragma unroll
            for (int i = 0; i < PADDED / 8; i++) {
                output[i][2 * half] *= shrink;
                output[i][2 * half + 1] *= shrink;
            }
        }
        wait<1>();
        __syncthreads();
#pragma unroll
        for (int step = 0; step < RUN / 16; step++) {
            const uint32_t weights[4] = {pack(scores[2 * step][0], scores[2 * step][1]),
                                         pack(scores[2 * step][2], scores[2 * step][3]),
                                         pack(scores[2 * step + 1][0], scores[2 * step + 1][1]),
                                         pack(scores[2 * step + 1][2], scores[2 * step + 1][3])};
#pragma unroll
            for (int pair = 0; pair < STEPS; pair++) {
                uint32_t values[4];
                load_matrices_transposed(values,
                                         shared_v + (step * 16 + (lane & 15)) * ROW + pair * 16 + (lane >> 4) * 8);
                multiply(output[2 * pair], weights, values[0], values[1]);
                multiply(output[2 * pair + 1], weights, values[2], values[3]);
            }
        }
        __syncthreads();
        if (next < tile.keys) copy_rows<D>(shared_v, v + (size_t)next * kv_stride, kv_stride, tile.keys - next);
        commit();
    }

    // Through shared memory, so that rows leave in 16-byte pieces; a warp reads only what it wrote.
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = total[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        const float share = 1.0f / sum;
        bf16* row = shared_q + (first_query + half * 8) * ROW + (lane & 3) * 2;
#pragma unroll
        for (int i = 0; i < PADDED / 8; i++)
            *reinterpret_cast<uint32_t*>(row + i * 8) =
                pack(output[i][2 * half] * share, output[i][2 * half + 1] * share);
    }
    __syncwarp();
    constexpr int CHUNKS = D / 8;
    for (int i = lane; i < 16 * CHUNKS; i += 32) {
        const int row = warp * 16 + i / CHUNKS, column = i % CHUNKS * 8;
        if (row < tile.queries)
            *reinterpret_cast<uint4*>(out + (size_t)row * out_stride + column) =
                *reinterpret_cast<const uint4*>(shared_q + row * ROW + column);
    }
}

#define ATTENTION(D)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, D > 80 ? 3 : 4) attention_##D(                     \
        const bf16* q, const bf16* k, const bf16* v, bf16* out, const Tile* tiles, int heads, int group,     \
        int q_stride, int kv_stride, int out_stride, float scale) {                                          \
        attention<D>(q, k, v, out, tiles, heads, group, q_stride, kv_stride, out_stride, scale);             \
    }
ATTENTION(16)
ATTENTION(32)
ATTENTION(64)
ATTENTION(72)
ATTENTION(128)
