// Compiled for AVX2: includes nothing of the standard library or libtorch whose code others could share.
#include "winograd_kernels.h"

#include "products.h"

namespace winograd {
namespace {
using V = __m256;
V fma(float a, V x, V y) { return _mm256_fmadd_ps(_mm256_set1_ps(a), x, y); }

// The matrices of the algorithm times a column of `x`, whose numbers are `s` apart, to one of `o`, `t` apart.
// B^T: five inputs to five points.
void of_inputs(const V *x, int s, V *o, int t) {
  V x0 = x[0], x1 = x[s], x2 = x[2 * s], x3 = x[3 * s], x4 = x[4 * s];
  o[0] = fma(-1.5f, x1 + x2, x0 + x3);
  o[t] = fma(-2, x1, x3 - x2);
  o[2 * t] = fma(-2.5f, x2, x1 + x3);
  o[3 * t] = fma(0.5f, x2 - x1, x3);
  o[4 * t] = fma(-1.5f, x2 + x3, x1 + x4);
}

// A: three results to five points.
void of_three(const V *x, int s, V *o, int t) {
  V x0 = x[0], x1 = x[s], x2 = x[2 * s];
  o[0] = x0;
  o[t] = fma(0.25f, x2, fma(0.5f, x1, x0));
  o[2 * t] = x0 - x1 + x2;
  o[3 * t] = fma(4, x2, fma(2, x1, x0));
  o[4 * t] = x2;
}

// A^T: five points to three results.
void of_points(const V *x, int s, V *o, int t) {
  V x0 = x[0], x1 = x[s], x2 = x[2 * s], x3 = x[3 * s], x4 = x[4 * s];
  o[0] = x0 + x1 + (x2 + x3);
  o[t] = fma(2, x3, fma(0.5f, x1, -x2));
  o[2 * t] = fma(4, x3, fma(0.25f, x1, x2 + x4));
}

// That of weights differs from A by a factor at each point.
constexpr float FACTOR[5] = {1, -8.f / 9, -2.f / 9, 1.f / 9, 1};

// Calls `f` with SIZE x SIZE pixels of each tile, from `before` above and left of it on, eight channels at a time. Outside
// of the map they are zero.
template <int SIZE, typename F>
void for_tiles(const float *x, const Maps &maps, int64_t before, int64_t first, int64_t last, F f) {
  static const float zeros[8] = {};
  auto [images, height, width, channels] = maps;
  int64_t down = (height + 2) / 3, across = (width + 2) / 3;
  for (int64_t tile = first; tile < last; ++tile) {
    int64_t image = tile / (down * across), row = tile / across % down * 3, column = tile % across * 3;
    const float *from[SIZE * SIZE];
    int64_t moves[SIZE * SIZE];
    for (int i = 0; i < SIZE * SIZE; ++i) {
      int64_t r = row + i / SIZE - before, c = column + i % SIZE - before;
      moves[i] = r >= 0 && r < height && c >= 0 && c < width;
      from[i] = moves[i] ? x + ((image * height + r) * width + c) * channels : zeros;
    }
    for (int64_t c = 0; c < channels; c += 8) {
      V pixels[SIZE * SIZE];
      for (int i = 0; i < SIZE * SIZE; ++i) pixels[i] = _mm256_loadu_ps(from[i] + c * moves[i]);
      f(pixels, tile, c);
    }
  }
}

// Both dimensions of SIZE x SIZE pixels by `matrix`, to 25 points from `place` of `out` on.
template <int SIZE, typename F>
void to_points(const V *pixels, F matrix, Points out, int64_t place) {
  V columns[5 * SIZE];
  for (int j = 0; j < SIZE; ++j) matrix(pixels + j, SIZE, columns + j, SIZE);
  for (int i = 0; i < 5; ++i) {
    V points[5];
    matrix(columns + SIZE * i, 1, points, 1);
    for (int j = 0; j < 5; ++j) _mm256_storeu_ps(out.at(5 * i + j) + place, points[j]);
  }
}

// 25 points from `place` of `in` on to 3 x 3 numbers, after factors of the points.
void from_points(Points in, int64_t place, const float *factor, V *out) {
  V columns[15];
  for (int j = 0; j < 5; ++j) {
    V points[5];
    for (int i = 0; i < 5; ++i) {
      points[i] = _mm256_loadu_ps(in.at(5 * i + j) + place);
      if (factor) points[i] = _mm256_set1_ps(factor[i] * factor[j]) * points[i];
    }
    of_points(points, 1, columns + j, 5);
  }
  for (int i = 0; i < 3; ++i) of_points(columns + 5 * i, 1, out + 3 * i, 1);
}
}  // namespace

bool available() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && !__builtin_cpu_supports("avx512f");
}

void inputs(const float *x, const Maps &maps, int64_t base, int64_t first, int64_t last, Points out) {
  for_tiles<5>(x, maps, 1, first, last, [&](const V *pixels, int64_t tile, int64_t c) {
    to_points<5>(pixels, of_inputs, out, (tile - base) * maps.channels + c);
  });
}

void gradients(const float *dy, const Maps &maps, int64_t base, int64_t first, int64_t last, Points out) {
  for_tiles<3>(dy, maps, 0, first, last, [&](const V *pixels, int64_t tile, int64_t c) {
    to_points<3>(pixels, of_three, out, (tile - base) * maps.channels + c);
  });
}

void results(Points in, const Maps &maps, int64_t base, int64_t first, int64_t last, const float *bias, float *y) {
  auto [images, height, width, channels] = maps;
  int64_t down = (height + 2) / 3, across = (width + 2) / 3;
  for (int64_t tile = first; tile < last; ++tile) {
    int64_t image = tile / (down * across), row = tile / across % down * 3, column = tile % across * 3;
    int64_t rows = height - row < 3 ? height - row : 3, columns = width - column < 3 ? width - column : 3;
    float *to = y + ((image * height + row) * width + column) * channels;
    for (int64_t c = 0; c < channels; c += 8) {
      V out[9];
      from_points(in, (tile - base) * channels + c, nullptr, out);
      V added = bias ? _mm256_loadu_ps(bias + c) : _mm256_setzero_ps();
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < columns; ++j) _mm256_storeu_ps(to + (i * width + j) * channels + c, out[3 * i + j] + added);
    }
  }
}

void weights(const float *w, int64_t outputs, int64_t inputs, bool turned, int64_t first, int64_t last, Points out) {
  for (int64_t panel = first; panel < last; ++panel) {
    for (int64_t in = 0; in < inputs; ++in) {
      float taps[9][PANEL];
      for (int tap = 0; tap < 9; ++tap) {
        const float *from = turned ? w + (in * 9 + 8 - tap) * outputs + panel * PANEL
                                   : w + (panel * PANEL * 9 + tap) * inputs + in;
        int64_t step = turned ? 1 : 9 * inputs;
        for (int o = 0; o < PANEL; ++o) taps[tap][o] = from[o * step];
      }
      for (int half = 0; half < PANEL; half += 8) {
        V pixels[9];
        for (int i = 0; i < 9; ++i) pixels[i] = _mm256_loadu_ps(taps[i] + half);
        auto matrix = [](const V *x, int s, V *o, int t) {
          of_three(x, s, o, t);
          for (int i = 1; i < 4; ++i) o[i * t] = _mm256_set1_ps(FACTOR[i]) * o[i * t];
        };
        to_points<3>(pixels, matrix, out, (panel * inputs + in) * PANEL + half);
      }
    }
  }
}

void products(Points x, int64_t tiles, int64_t inputs, Points weights, int64_t outputs, int64_t first, int64_t last,
              Points out) {
  int64_t panels = outputs / PANEL;
  for (int64_t i = first; i < last; ++i) {
    int64_t point = i / panels, panel = i % panels;
    multiply({x.at(point), inputs, 1}, {weights.at(point) + panel * inputs * PANEL, PANEL}, tiles, inputs,
             out.at(point) + panel * PANEL, outputs, false);
  }
}

void outer_products(Points dy, Points x, int64_t tiles, int64_t outputs, int64_t inputs, int64_t first, int64_t last,
                    Points out, bool add) {
  int64_t panels = inputs / PANEL;
  for (int64_t i = first; i < last; ++i) {
    int64_t point = i / panels, panel = i % panels;
    multiply({dy.at(point), 1, outputs}, {x.at(point) + panel * PANEL, inputs}, outputs, tiles,
             out.at(point) + panel * PANEL, inputs, add);
  }
}

void weight_gradients(Points in, int64_t inputs, int64_t first, int64_t last, float *dw) {
  for (int64_t o = first; o < last; ++o) {
    for (int64_t c = 0; c < inputs; c += 8) {
      V out[9];
      from_points(in, o * inputs + c, FACTOR, out);
      for (int i = 0; i < 9; ++i) _mm256_storeu_ps(dw + (o * 9 + i) * inputs + c, out[i]);
    }
  }
}

void bias_gradients(const float *dy, int64_t pixels, int64_t channels, int64_t first, int64_t last, float *db) {
  for (int64_t c = first * PANEL; c < last * PANEL; c += 4) {
    __m256d sum = _mm256_setzero_pd();
    for (int64_t pixel = 0; pixel < pixels; ++pixel) sum += _mm256_cvtps_pd(_mm_loadu_ps(dy + pixel * channels + c));
    _mm_storeu_ps(db + c, _mm256_cvtpd_ps(sum));
  }
}
}  // namespace winograd
