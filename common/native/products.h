// Products of matrices for AVX2, sixteen columns at a time: libtorch's take 1.5 times as long on processors of AMD.
// Included only by files that are compiled for it.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace {
// Number r, i of the left matrix is data[r * row + i * step].
struct Left {
  const float *data;
  int64_t row, step;
};

// Row i of the right matrix is the sixteen numbers from data[i * step] on.
struct Right {
  const float *data;
  int64_t step;
};

// ROWS rows of out, `out_row` apart: (+)= the sum over i < n of left[r, i] right[i].
template <int ROWS>
void multiply_rows(Left left, Right right, int64_t n, float *out, int64_t out_row, bool add) {
  const float *a = left.data, *b = right.data;
  __m256 sums[ROWS][2];
#pragma GCC unroll 6
  for (int r = 0; r < ROWS; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
  for (int64_t i = 0; i < n; ++i, a += left.step, b += right.step) {
    const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 6
    for (int r = 0; r < ROWS; ++r) {
      const __m256 x = _mm256_broadcast_ss(a + r * left.row);
      sums[r][0] = _mm256_fmadd_ps(x, b0, sums[r][0]);
      sums[r][1] = _mm256_fmadd_ps(x, b1, sums[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < ROWS; ++r, out += out_row) {
    if (add) {
      sums[r][0] += _mm256_loadu_ps(out);
      sums[r][1] += _mm256_loadu_ps(out + 8);
    }
    _mm256_storeu_ps(out, sums[r][0]);
    _mm256_storeu_ps(out + 8, sums[r][1]);
  }
}

// The same for any number of rows.
inline void multiply(Left left, Right right, int64_t rows, int64_t n, float *out, int64_t out_row, bool add) {
  auto some = [&](auto kernel, int64_t count) {
    kernel(left, right, n, out, out_row, add);
    left.data += count * left.row;
    out += count * out_row;
    rows -= count;
  };
  while (rows >= 6) some(multiply_rows<6>, 6);
  if (rows >= 4) some(multiply_rows<4>, 4);
  if (rows >= 2) some(multiply_rows<2>, 2);
  if (rows == 1) some(multiply_rows<1>, 1);
}
}  // namespace
