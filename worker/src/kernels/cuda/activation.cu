// Activations, one vector a thread.
#include "common.cuh"

// y = silu(gate) * up, where a row of x is the gates and then the ups, `size` each.
template <typename T> __device__ void silu_mul(const T* x, T* y, int size) {
    constexpr int N = Vector<T>::N;
    const int at = (blockIdx.y * blockDim.x + threadIdx.x) * N;
    if (at >= size) return;
    const T* row = x + (size_t)blockIdx.x * 2 * size;
    const Vector<T> gates = load(row + at), ups = load(row + size + at);
    Vector<T> out;
#pragma unroll
    for (int j = 0; j < N; j++) {
        const float gate = to_float(gates.at[j]);
        out.at[j] = from_float<T>(rounded<T>(gate / (1.0f + __expf(-gate))) * to_float(ups.at[j]));
    }
    store(y + (size_t)blockIdx.x * size + at, out);
}

// x (1 + erf(x / sqrt 2)) / 2, in place.
template <typename T> __device__ void gelu_erf(T* x, int64_t vectors) {
    constexpr int N = Vector<T>::N;
    const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= vectors) return;
    Vector<T> values = load(x + at * N);
#pragma unroll
    for (int j = 0; j < N; j++) {
        const float value = to_float(values.at[j]);
        values.at[j] = from_float<T>(0.5f * value * (1.0f + erff(value * 0.70710678118654752f)));
    }
    store(x + at * N, values);
}

#define ACTIVATIONS(T, SUFFIX)                                                                               \
    extern "C" __global__ void silu_mul_##SUFFIX(const T* x, T* y, int size) { silu_mul<T>(x, y, size); }    \
    extern "C" __global__ void gelu_erf_##SUFFIX(T* x, int64_t vectors) { gelu_erf<T>(x, vectors); }
ACTIVATIONS(bf16, bf16)
ACTIVATIONS(float, f32)
