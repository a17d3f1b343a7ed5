// RMSNorm and LayerNorm over the rows of a matrix: one block a row, the row in registers.
// Rows are a multiple of one vector wide and at most VECTORS vectors a thread.
#include "common.cuh"

constexpr int VECTORS = 4;

// A thread's vectors of a row into registers, and the sum of what `measure` makes of its values.
template <typename T, typename Measure>
__device__ __forceinline__ float read_row(const T* x, float (&row)[VECTORS][Vector<T>::N], int vectors,
                                          Measure measure) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        const int at = threadIdx.x + i * blockDim.x;
        if (at < vectors) {
            const Vector<T> values = load(x + at * Vector<T>::N);
#pragma unroll
            for (int j = 0; j < Vector<T>::N; j++) {
                row[i][j] = to_float(values.at[j]);
                sum += measure(row[i][j]);
            }
        }
    }
    return sum;
}

// y = round(x / sqrt(mean(x^2) + eps)) * w
template <typename T>
__device__ void rms_norm(const T* x, const T* w, T* y, int size, float eps) {
    __shared__ float scratch[32];
    constexpr int N = Vector<T>::N;
    const int vectors = size / N;
    x += (size_t)blockIdx.x * size;
    y += (size_t)blockIdx.x * size;
    float row[VECTORS][N];
    const float sum = read_row<T>(x, row, vectors, [](float value) { return value * value; });
    const float scale = 1.0f / sqrtf(block_sum(sum, scratch) / size + eps);
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        const int at = threadIdx.x + i * blockDim.x;
        if (at < vectors) {
            const Vector<T> weights = load(w + at * N);
            Vector<T> out;
#pragma unroll
            for (int j = 0; j < N; j++)
                out.at[j] = from_float<T>(rounded<T>(row[i][j] * scale) * to_float(weights.at[j]));
            store(y + at * N, out);
        }
    }
}

// y = (x - mean) / sqrt(var + eps) * w + b
template <typename T>
__device__ void layer_norm(const T* x, const T* w, const T* b, T* y, int size, float eps) {
    __shared__ float scratch[32];
    constexpr int N = Vector<T>::N;
    const int vectors = size / N;
    x += (size_t)blockIdx.x * size;
    y += (size_t)blockIdx.x * size;
    float row[VECTORS][N];
    const float sum = read_row<T>(x, row, vectors, [](float value) { return value; });
    const float mean = block_sum(sum, scratch) / size;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        if (threadIdx.x + i * blockDim.x < vectors) {
#pragma unroll
            for (int j = 0; j < N; j++) squares += (row[i][j] - mean) * (row[i][j] - mean);
        }
    }
    const float scale = 1.0f / sqrtf(block_sum(squares, scratch) / size + eps);
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        const int at = threadIdx.x + i * blockDim.x;
        if (at < vectors) {
            const Vector<T> weights = load(w + at * N), biases = load(b + at * N);
            Vector<T> out;
#pragma unroll
            for (int j = 0; j < N; j++)
                out.at[j] =
                    from_float<T>((row[i][j] - mean) * scale * to_float(weights.at[j]) + to_float(biases.at[j]));
            store(y + at * N, out);
        }
    }
}

#define NORMS(T, SUFFIX)                                                                                     \
    extern "C" __global__ void rms_norm_##SUFFIX(const T* x, const T* w, T* y, int size, float eps) {        \
        rms_norm<T>(x, w, y, size, eps);                                                                     \
    }                                                                                                        \
    extern "C" __global__ void layer_norm_##SUFFIX(const T* x, const T* w, const T* b, T* y, int size,       \
                                                   float eps) {                                              \
        layer_norm<T>(x, w, b, y, size, eps);                                                                \
    }
NORMS(bf16, bf16)
NORMS(float, f32)
