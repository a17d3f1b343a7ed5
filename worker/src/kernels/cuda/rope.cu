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

// A warp a head, a block a row: the first `queries` heads are scaled by wq, the next `keys` heads by wk
// after their RMSNorm. Heads have at most 256 components, a multiple of 4.
template <typename T>
__device__ void norm_rope(T* x, const T* wq, const T* wk, const T* cos, const T* sin, int width, int queries,
                          int keys, int size, float eps) {
    constexpr int STEPS = 2;
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, half = size / 2;
    x += (size_t)blockIdx.x * width;
    cos += (size_t)blockIdx.x * half;
    sin += (size_t)blockIdx.x * half;
    for (int head = warp; head < queries + keys; head += blockDim.x >> 5) {
        T* values = x + head * size;
        const T* w = head < queries ? wq : wk;
        float2 low[STEPS], high[STEPS];
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            const int at = 2 * (lane + 32 * i);
            if (at < half) {
                low[i] = load_pair(values + at);
                high[i] = load_pair(values + half + at);
                sum += low[i].x * low[i].x + low[i].y * low[i].y + high[i].x * high[i].x + high[i].y * high[i].y;
            }
        }
        const float scale = 1.0f / sqrtf(warp_sum(sum) / size + eps);
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            const int at = 2 * (lane + 32 * i);
            if (at < half) {
                const float2 wl = load_pair(w + at), wh = load_pair(w + half + at);
                const float2 c = load_pair(cos + at), s = load_pair(sin + at);
                const float2 l = make_float2(rounded<T>(rounded<T>(low[i].x * scale) * wl.x),
                                             rounded<T>(rounded<T>(low[i].y * scale) * wl.y));
                const float2 h = make_float2(rounded<T>(rounded<T>(high[i].x * scale) * wh.x),
                                             rounded<T>(rounded<T>(high[i].y * scale) * wh.y));
                store_pair(values + at, make_float2(l.x * c.x - h.x * s.x, l.y * c.y - h.y * s.y));
                store_pair(values + half + at, make_float2(h.x * c.x + l.x * s.x, h.y * c.y + l.y * s.y));
            }
        }
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
