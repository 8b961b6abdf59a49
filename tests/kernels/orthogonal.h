// Newton-Schulz orthogonalization in float64 (Jordan et al. 2024), to compare Muon with.
#pragma once
#include <cmath>
#include <vector>

namespace neurogen {

using Matrix = std::vector<std::vector<double>>;

inline Matrix transposed(const Matrix& x) {
  Matrix out(x[0].size(), std::vector<double>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i)
    for (std::size_t j = 0; j < x[0].size(); ++j) out[j][i] = x[i][j];
  return out;
}
inline Matrix product(const Matrix& x, const Matrix& y) {
  Matrix out(x.size(), std::vector<double>(y[0].size(), 0));
  for (std::size_t i = 0; i < x.size(); ++i)
    for (std::size_t k = 0; k < y.size(); ++k)
      for (std::size_t j = 0; j < y[0].size(); ++j) out[i][j] += x[i][k] * y[k][j];
  return out;
}

// By the definition in the paper: the shorter side as rows, products from the left.
inline Matrix orthogonal(const Matrix& u) {
  const bool high = u.size() > u[0].size();
  Matrix x = high ? transposed(u) : u;
  double squares = 0;
  for (const auto& row : x)
    for (const double value : row) squares += value * value;
  for (auto& row : x)
    for (double& value : row) value /= std::sqrt(squares) + 1e-7;
  for (int step = 0; step < 5; ++step) {
    const Matrix a = product(x, transposed(x)), aax = product(product(a, a), x), ax = product(a, x);
    for (std::size_t i = 0; i < x.size(); ++i)
      for (std::size_t j = 0; j < x[0].size(); ++j) x[i][j] = 3.4445 * x[i][j] - 4.7750 * ax[i][j] + 2.0315 * aax[i][j];
  }
  return high ? transposed(x) : x;
}

}  // namespace neurogen
