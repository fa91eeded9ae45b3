// Batch norm, an addition and ReLU over rows of channels in pieces: `norm.cpp` puts them together.
//
// Symbols: x input, y result, dy its gradient, [rows, channels] in float32 or bfloat16 (`half`); `first` to `last` are
// rows. Numbers of each channel are float32, sums float64.
#pragma once
#include <cstdint>

namespace norm {
// Channels are processed so many at a time.
constexpr int64_t PANEL = 8;

// Whether the processor has the instructions.
bool available();

// Mean and sum of squared deviations of each channel, of rows in blocks that stay in the cache, so that the deviations
// are from a mean nearby (Chan et al. 1979).
void statistics(bool half, const void *x, int64_t channels, int64_t first, int64_t last, double *mean, double *squares);

// y = x scale + shift (+ residual), then clamped at zero; `residual` may be null.
void normalise(bool half, const void *x, const void *residual, int64_t channels, int64_t first, int64_t last,
               const float *scale, const float *shift, bool relu, void *y);

// Sums over rows of g and g (x - mean), where g is dy, or zero where y was clamped; `y` may be null: nothing was. g is
// also written, unless `g` is null.
void gradient_sums(bool half, const void *dy, const void *y, const void *x, int64_t channels, int64_t first, int64_t last,
                   const float *mean, double *sum, double *product, void *g);

// dx = g scale + (x - mean) slope + shift. Without `x` only the first term.
void gradient(bool half, const void *dy, const void *y, const void *x, int64_t channels, int64_t first, int64_t last,
              const float *scale, const float *mean, const float *slope, const float *shift, void *dx, void *g);
}  // namespace norm
