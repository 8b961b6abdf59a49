// Small matrix products inside a warp: operands in shared memory, accumulators in registers, on tensor cores if these support the
// type, else by plain multiplication. Also 16-byte copies into shared memory that overlap with arithmetic.
//
// Accumulators have the tensor cores' layout (PTX ISA, mma.m16n8k16): element e of acc[i][j] is
//   row 16 i + lane / 4 + 8 (e / 2)     column 8 j + 2 (lane % 4) + e % 2
#pragma once
#include "kernels/base/cuda_kernel.cuh"

namespace neurogen {

// Operands pass through shared memory in chunks of 64 bytes along the summed dimension.
template <typename T>
inline constexpr int kChunk = 64 / static_cast<int>(sizeof(T));
template <typename T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));  // elements in one 16-byte access
// Elements from row to row of a tile: the 16 extra bytes put eight rows into different banks.
template <typename T>
__host__ __device__ constexpr int pitch_of(int columns) {
  return columns + kVector<T>;
}

template <int M, int N>
using Accumulators = float[M][N][4];

template <int M, int N>
__device__ inline void clear_accumulators(Accumulators<M, N>& acc) {
#pragma unroll
  for (int i = 0; i < M; ++i)
#pragma unroll
    for (int j = 0; j < N; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[i][j][e] = 0.0f;
}

__device__ inline int row_of(int i, int e) { return 16 * i + static_cast<int>(threadIdx.x % 32) / 4 + 8 * (e / 2); }
__device__ inline int column_of(int j) { return 8 * j + 2 * static_cast<int>(threadIdx.x % 4); }

// Whether an operand's rows run along the summed dimension (A [m][k], B [n][k]) or across it (A [k][m], B [k][n]).
enum class Along : bool { sum, across };

__device__ inline std::uint32_t shared_address(const void* p) { return static_cast<std::uint32_t>(__cvta_generic_to_shared(p)); }

// `row`: shared-memory address of this lane's row of the four matrices.
template <bool transposed>
__device__ inline void load_matrices(std::uint32_t (&r)[4], std::uint32_t row) {
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}
template <bool transposed>
__device__ inline void load_matrices(std::uint32_t (&r)[4], const void* row) {
  load_matrices<transposed>(r, shared_address(row));
}

// Two matrices, whose rows lanes 0 to 15 address.
__device__ inline void load_matrices(std::uint32_t (&r)[2], std::uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(row) : "memory");
}

template <typename T>
__device__ inline void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, __half>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif __CUDA_ARCH__ >= 750
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

template <typename T>
__device__ constexpr bool on_tensor_cores() {
#if __CUDA_ARCH__ >= 800
  return sizeof(T) == 2;
#else
  return std::is_same_v<T, __half>;
#endif
}

// Each lane addresses one row of the four 8 x 8 matrices: for A (k 0-7: rows 0-7, 8-15; k 8-15: likewise), for B (columns 0-7: k
// 0-7, 8-15; columns 8-15: likewise).
template <Along along, typename T>
__device__ inline const T* row_of_a(const T* a, int pitch) {
  const int lane = static_cast<int>(threadIdx.x % 32), near = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
  return along == Along::sum ? a + (near + second) * pitch + third : a + (near + third) * pitch + second;
}
template <Along along, typename T>
__device__ inline const T* row_of_b(const T* b, int pitch) {
  const int lane = static_cast<int>(threadIdx.x % 32), near = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
  return along == Along::sum ? b + (near + third) * pitch + second : b + (near + second) * pitch + third;
}

// acc += A B over 16 summed elements: A in registers, B from this lane's row of its first matrices on.
template <Along along, typename T, int M, int N>
__device__ inline void multiply_fragments(Accumulators<M, N>& acc, const std::uint32_t (&fragments)[M][4], const T* b, int pitch) {
#pragma unroll
  for (int j = 0; j < N; j += 2) {
    std::uint32_t columns[4];
    load_matrices<along == Along::across>(columns, b + (along == Along::sum ? 8 * j * pitch : 8 * j));
#pragma unroll
    for (int i = 0; i < M; ++i) {
      multiply_add<T>(acc[i][j], fragments[i], columns[0], columns[1]);
      multiply_add<T>(acc[i][j + 1], fragments[i], columns[2], columns[3]);
    }
  }
}

// acc += A B for tiles A of 16 M rows and B of 8 N columns (N even), summed over K (a multiple of 16).
template <typename T, int M, int N, int K, Along a_along, Along b_along>
__device__ inline void multiply(Accumulators<M, N>& acc, const T* a, int a_pitch, const T* b, int b_pitch) {
  static_assert(N % 2 == 0 && K % 16 == 0);
  if constexpr (on_tensor_cores<T>()) {
    const T *const a_lane = row_of_a<a_along>(a, a_pitch), *const b_lane = row_of_b<b_along>(b, b_pitch);
#pragma unroll(M* N >= 20 ? 1 : K / 16)  // large tiles leave no registers to read ahead
    for (int k = 0; k < K; k += 16) {
      std::uint32_t fragments[M][4];
#pragma unroll
      for (int i = 0; i < M; ++i)
        load_matrices<a_along == Along::across>(fragments[i],
                                                a_lane + (a_along == Along::sum ? 16 * i * a_pitch + k : k * a_pitch + 16 * i));
      multiply_fragments<b_along>(acc, fragments, b_lane + (b_along == Along::sum ? k : k * b_pitch), b_pitch);
    }
  } else {
#pragma unroll(M* N >= 20 ? 1 : 2)
    for (int k = 0; k < K; ++k) {
      float rows[M][2];
#pragma unroll
      for (int i = 0; i < M; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int m = row_of(i, 2 * half);
          rows[i][half] = to_float(a_along == Along::sum ? a[m * a_pitch + k] : a[k * a_pitch + m]);
        }
#pragma unroll
      for (int j = 0; j < N; ++j)
#pragma unroll
        for (int side = 0; side < 2; ++side) {
          const int n = column_of(j) + side;
          const float column = to_float(b_along == Along::sum ? b[n * b_pitch + k] : b[k * b_pitch + n]);
#pragma unroll
          for (int i = 0; i < M; ++i) {
            acc[i][j][side] += rows[i][0] * column;
            acc[i][j][2 + side] += rows[i][1] * column;
          }
        }
    }
  }
}

// Copies 16 bytes asynchronously, or writes zeros if not `present` (even then `from` must be valid). `to`: in shared memory.
__device__ inline void copy_behind(std::uint32_t to, const void* from, bool present) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(present ? 16 : 0) : "memory");
#else
  *static_cast<uint4*>(__cvta_shared_to_generic(to)) = present ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
#endif
}
__device__ inline void copy_behind(void* to, const void* from, bool present) { copy_behind(shared_address(to), from, present); }
template <typename T>
__device__ inline void copy_word_behind(T* to, const T* from, bool present = true) {
  static_assert(sizeof(T) == 4);
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(present ? 4 : 0)
               : "memory");
#else
  *to = present ? *from : T{};
#endif
}
// Closes the stage of the copies begun since the last call.
__device__ inline void close_stage() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits for all of this thread's stages except the latest `open`.
template <int open>
__device__ inline void await_stages() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(open) : "memory");
#endif
}

// Runs multiply(stage) for `count` chunks in order while load(stage) fills the stages of later ones; each is called once per chunk.
// Every thread of the block takes part.
template <int stages, typename Load, typename Multiply>
__device__ inline void pipeline(int count, Load&& load, Multiply&& multiply) {
#pragma unroll
  for (int c = 0; c < stages - 1; ++c) {
    if (c < count) load(c);
    close_stage();
  }
  for (int c = 0, full = 0, empty = stages - 1; c < count; ++c) {
    await_stages<stages - 2>();
    __syncthreads();  // this chunk is loaded, and all threads have read the stage that is filled next
    if (c + stages - 1 < count) load(empty);
    close_stage();
    multiply(full);
    full = full + 1 == stages ? 0 : full + 1;
    empty = empty + 1 == stages ? 0 : empty + 1;
  }
}

extern __shared__ __align__(16) unsigned char shared_memory[];

// More than 48 KB of shared memory per block, including the kernel's own static part, must be requested.
template <typename... Parameters, typename... Arguments>
void launch_with(CudaDevice& device, const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
                 Arguments... arguments) {
  if (shared > device.shared_memory()) {
    throw Error({std::string(name) + ": this GPU has too little shared memory: use ", Field("compute"), " fp16, or ",
                 Field("device"), " cpu"});
  }
  if (shared > 40 * 1024)
    require_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)), name);
  launch(device, name, kernel, grid, block, shared, arguments...);
}

}  // namespace neurogen
