// Marks functions that both devices compile.
#pragma once

#ifdef __CUDACC__
#define NEUROGEN_BOTH __host__ __device__
#else
#define NEUROGEN_BOTH
#endif
