// Rotary embedding in place, with and without a norm over each head. Component i of a head turns with
// component i + D/2; `cos` and `sin` have a row of D/2 values for each row of x.
#include "common.cuh"

template <typename T> struct Pair;
template <> struct Pair<bf16> {
    typedef __nv_bfloat162 type;
};
template <> struct Pair<float> {
    typedef float2 type;
};
template <typename T> __device__ __forceinline__ float2 load_pair(const T* from) {
    const typename Pair<T>::type pair = *reinterpret_cast<const typename Pair<T>::type*>(from);
    return make_float2(to_float(pair.x), to_float(pair.y));
}
template <typename T> __device__ __forceinline__ void store_pair(T* to, float2 values) {
    typename Pair<T>::type pair;
    pair.x = from_float<T>(values.x);
    pair.y = from_float<T>(values.y);
    *reinterpret_cast<typename Pair<T>::type*>(to) = pair;
}

// A block a row: the first `queries` heads are scaled by wq, the next `keys` heads by wk after their RMSNorm. A head
// lies across size / N lanes, a vector each, a power of two of them and 32 at most; the lane with the component that
// turns with one's own is half as many lanes away.
template <typename T>
__device__ void norm_rope(T* x, const T* wq, const T* wk, const T* cos, const T* sin, int width, int queries,
                          int keys, int size, float eps) {
    constexpr int N = Vector<T>::N;
    const int lanes = size / N, half = size / 2, lane = threadIdx.x % lanes, at = lane * N;
    const bool low = at < half;
    x += (size_t)blockIdx.x * width;
    const int turned = low ? at : at - half;
    const Vector<T> c = load(cos + (size_t)blockIdx.x * half + turned);
    const Vector<T> s = load(sin + (size_t)blockIdx.x * half + turned);
    const int heads = queries + keys, step = blockDim.x / lanes;
    // Whole warps stay together: shuffles need all their lanes.
    for (int head = threadIdx.x / lanes; head - threadIdx.x % 32 / lanes < heads; head += step) {
        const bool present = head < heads;
        T* const values = x + (present ? head : 0) * size + at;
        const Vector<T> own = load(values);
        const Vector<T> weights = load((head < queries ? wq : wk) + at);
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < N; j++) sum += to_float(own.at[j]) * to_float(own.at[j]);
        for (int offset = lanes / 2; offset > 0; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
        const float scale = 1.0f / sqrtf(sum / size + eps);
        Vector<T> out;
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float normed = rounded<T>(rounded<T>(to_float(own.at[j]) * scale) * to_float(weights.at[j]));
            const float other = __shfl_xor_sync(0xffffffffu, normed, lanes / 2);
            const float sine = to_float(s.at[j]);
            out.at[j] = from_float<T>(normed * to_float(c.at[j]) + (low ? -other : other) * sine);
        }
        if (present) store(values, out);
    }
}

// A block a row: the first `heads` heads turn.
template <typename T>
__device__ void rope(T* x, const T* cos, const T* sin, int width, int heads, int size) {
    const int half = size / 2, pairs = half / 2;
    x += (size_t)blockIdx.x * width;
    cos += (size_t)blockIdx.x * half;
    sin += (size_t)blockIdx.x * half;
    for (int i = threadIdx.x; i < heads * pairs; i += blockDim.x) {
        const int head = i / pairs, at = 2 * (i % pairs);
        T* values = x + head * size;
        const float2 l = load_pair(values + at), h = load_pair(values + half + at);
        const float2 c = load_pair(cos + at), s = load_pair(sin + at);
        store_pair(values + at, make_float2(l.x * c.x - h.x * s.x, l.y * c.y - h.y * s.y));
        store_pair(values + half + at, make_float2(h.x * c.x + l.x * s.x, h.y * c.y + l.y * s.y));
    }
}

#define ROPES(T, SUFFIX)                                                                                     \
    extern "C" __global__ void norm_rope_##SUFFIX(T* x, const T* wq, const T* wk, const T* cos, const T* sin, \
                                                  int width, int queries, int keys, int size, float eps) {   \
        norm_rope<T>(x, wq, wk, cos, sin, width, queries, keys, size, eps);                                  \
    }                                                                                                        \
    extern "C" __global__ void rope_##SUFFIX(T* x, const T* cos, const T* sin, int width, int heads, int size) { \
        rope<T>(x, cos, sin, width, heads, size);                                                            \
    }
ROPES(bf16, bf16)
ROPES(float, f32)
