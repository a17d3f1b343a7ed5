// Shared by all kernels: element types, 16-byte vectors, reductions.
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }

template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

// What a value becomes when it is stored and read again.
template <typename T> __device__ __forceinline__ float rounded(float x) { return to_float(from_float<T>(x)); }

// 16 bytes of T, the widest access of a thread.
template <typename T> struct alignas(16) Vector {
    static constexpr int N = 16 / sizeof(T);
    T at[N];
};

template <typename T> __device__ __forceinline__ Vector<T> load(const T* from) {
    return *reinterpret_cast<const Vector<T>*>(from);
}
template <typename T> __device__ __forceinline__ void store(T* to, const Vector<T>& vector) {
    *reinterpret_cast<Vector<T>*>(to) = vector;
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

// The sum over a block of at most 32 whole warps, the same in every thread.
__device__ __forceinline__ float block_sum(float x, float* scratch) {
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    x = warp_sum(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    x = lane < (blockDim.x >> 5) ? scratch[lane] : 0.0f;
    x = warp_sum(x);
    __syncthreads();
    return x;
}
