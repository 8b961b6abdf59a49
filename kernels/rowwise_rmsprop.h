// Row-wise RMSProp, for tables of which a batch touches few rows: RMSProp (Tieleman & Hinton 2012) with one second moment a row, as
// in the row-wise Adagrad of recommender models (Naumov et al. 2019, arXiv:1906.00091); beta 0.98:
//   g = gradient * clip    v_r = beta v_r + (1-beta) mean_E(g_r^2)    p_r = p_r - lr sqrt(1-beta) g_r / sqrt(v_r + 1e-24)
//
// v decays at every step, whether its row is touched or not: a rare row takes a whole step of rms lr, one that is always there
// steps of sqrt(1-beta) lr. There is no momentum and no bias correction, so rows without gradient stay: a touched row whose
// gradient is 0 is as one that is not touched.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/step_control.h"

namespace neurogen {

inline constexpr double kRowwiseBeta = 0.98, kRowwiseEpsilon = 1e-24;

// The rate is control.table_learning_rate. A step that a loss scale skips (loss_scale.h) changes nothing.
struct RowwiseRmsprop {
  TensorView control;  // StepControl
  TensorView norm;     // [2]: norm, clip factor (gradient_norm.h)
  TensorView rows;     // [U] i32, the touched rows, and
  TensorView count;    // [1] i32, how many of them are valid (embedding.h); both empty: all rows in order
  TensorView d_rows;   // [U, E]
  TensorView table;    // [rows, E] updated
  TensorView v;        // [rows] updated
};

void rowwise_rmsprop(CpuDevice& device, const RowwiseRmsprop& arguments);
void rowwise_rmsprop(CudaDevice& device, const RowwiseRmsprop& arguments);

}  // namespace neurogen
