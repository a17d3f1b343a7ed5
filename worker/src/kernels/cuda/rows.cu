// Whole rows of matrices: gathered, added, interpolated; and pixels cut into rows.
#include "common.cuh"

// Row r of the output is row `source[r]` of the table, or row `-source[r] - 1` of `extra` where that is
// negative.
template <typename T>
__device__ void gather_rows(const T* table, const T* extra, const int* source, T* out, int size) {
    constexpr int N = Vector<T>::N;
    const int from = source[blockIdx.x];
    const T* row = from >= 0 ? table + (size_t)from * size : extra + (size_t)(-from - 1) * size;
    out += (size_t)blockIdx.x * size;
    for (int at = threadIdx.x * N; at < size; at += blockDim.x * N) store(out + at, load(row + at));
}

// Row r of `added` is added to row `places[r]` of x; no place comes twice.
template <typename T> __device__ void add_rows(T* x, const T* added, const int* places, int size) {
    constexpr int N = Vector<T>::N;
    x += (size_t)places[blockIdx.x] * size;
    added += (size_t)blockIdx.x * size;
    for (int at = threadIdx.x * N; at < size; at += blockDim.x * N) {
        Vector<T> sum = load(x + at);
        const Vector<T> more = load(added + at);
#pragma unroll
        for (int j = 0; j < N; j++) sum.at[j] = from_float<T>(to_float(sum.at[j]) + to_float(more.at[j]));
        store(x + at, sum);
    }
}

// To row r of x is added the sum of four rows of the table: row `taps[r][i]`, `weights[r][i]` times.
template <typename T>
__device__ void add_interpolated(T* x, const T* table, const int* taps, const float* weights, int size) {
    constexpr int N = Vector<T>::N;
    x += (size_t)blockIdx.x * size;
    const int4 rows = reinterpret_cast<const int4*>(taps)[blockIdx.x];
    const float4 shares = reinterpret_cast<const float4*>(weights)[blockIdx.x];
    for (int at = threadIdx.x * N; at < size; at += blockDim.x * N) {
        Vector<T> sum = load(x + at);
        const Vector<T> a = load(table + (size_t)rows.x * size + at), b = load(table + (size_t)rows.y * size + at);
        const Vector<T> c = load(table + (size_t)rows.z * size + at), d = load(table + (size_t)rows.w * size + at);
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float position = shares.x * to_float(a.at[j]) + shares.y * to_float(b.at[j]) +
                                   shares.z * to_float(c.at[j]) + shares.w * to_float(d.at[j]);
            sum.at[j] = from_float<T>(to_float(sum.at[j]) + rounded<T>(position));
        }
        store(x + at, sum);
    }
}

// A block a patch: 3 channels x 2 equal frames x 16 x 16 values (byte - 127.5) / 127.5. `places[r]` is
// the offset of the patch's first byte and the bytes of a line of its picture.
template <typename T> __device__ void patch_rows(const uint8_t* pixels, const int64_t* places, T* out) {
    constexpr int N = Vector<T>::N, SIDE = 16, FRAME = SIDE * SIDE;
    const int64_t first = places[2 * blockIdx.x], line = places[2 * blockIdx.x + 1];
    out += (size_t)blockIdx.x * 6 * FRAME;
    for (int at = threadIdx.x * N; at < 3 * FRAME; at += blockDim.x * N) {
        const int channel = at / FRAME, row = at % FRAME / SIDE, column = at % SIDE;
        const uint8_t* from = pixels + first + row * line + column * 3 + channel;
        Vector<T> values;
#pragma unroll
        for (int j = 0; j < N; j++) values.at[j] = from_float<T>(((float)from[3 * j] - 127.5f) / 127.5f);
        T* to = out + channel * 2 * FRAME + row * SIDE + column;
        store(to, values);
        store(to + FRAME, values);
    }
}

#define ROWS(T, SUFFIX)                                                                                      \
    extern "C" __global__ void gather_rows_##SUFFIX(const T* table, const T* extra, const int* source, T* out, \
                                                    int size) {                                              \
        gather_rows<T>(table, extra, source, out, size);                                                     \
    }                                                                                                        \
    extern "C" __global__ void add_rows_##SUFFIX(T* x, const T* added, const int* places, int size) {        \
        add_rows<T>(x, added, places, size);                                                                 \
    }                                                                                                        \
    extern "C" __global__ void add_interpolated_##SUFFIX(T* x, const T* table, const int* taps,              \
                                                         const float* weights, int size) {                   \
        add_interpolated<T>(x, table, taps, weights, size);                                                  \
    }                                                                                                        \
    extern "C" __global__ void patch_rows_##SUFFIX(const uint8_t* pixels, const int64_t* places, T* out) {   \
        patch_rows<T>(pixels, places, out);                                                                  \
    }
ROWS(bf16, bf16)
ROWS(float, f32)
