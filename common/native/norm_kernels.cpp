// Compiled for AVX2: includes nothing of the standard library or libtorch whose code others could share.
#include "norm_kernels.h"

#include <immintrin.h>

namespace norm {
namespace {
using V = __m256;

struct Float {
  using Number = float;
  static V load(const float *p) { return _mm256_loadu_ps(p); }
  static void store(float *p, V x) { _mm256_storeu_ps(p, x); }
};

struct BFloat16 {
  using Number = uint16_t;
  static V load(const uint16_t *p) {
    auto bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  }
  // Rounded to nearest, ties to even; a NaN stays one.
  static void store(uint16_t *p, V x) {
    auto bits = _mm256_castps_si256(x);
    auto even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    auto rounded = _mm256_add_epi32(bits, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
    auto nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), nan), 16);
    auto packed = _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(p), packed);
  }
};

// `f` with the kind of numbers that `half` says.
template <typename F>
void with_kind(bool half, F f) {
  if (half) {
    f(BFloat16());
  } else {
    f(Float());
  }
}

V load(const float *p) { return _mm256_loadu_ps(p); }
void add(double *to, V x) {
  _mm256_storeu_pd(to, _mm256_loadu_pd(to) + _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
  _mm256_storeu_pd(to + 4, _mm256_loadu_pd(to + 4) + _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
}

// dy, or zero where y is (not where it is NaN).
V unclamped(V dy, V y) { return _mm256_and_ps(dy, _mm256_cmp_ps(y, _mm256_setzero_ps(), _CMP_NLE_UQ)); }

// Columns of a block of rows are summed in registers, so many vectors at a time.
constexpr int WIDE = 4;
// Numbers of a block, about what the second cache holds beside others.
constexpr int64_t BLOCK = 16384;

int64_t rows_of_block(int64_t channels) { return BLOCK / channels > 8 ? BLOCK / channels : 8; }

// `f` with the first channel of each group of WIDE vectors, and of each of the rest.
template <typename F>
void for_columns(int64_t channels, F f) {
  int64_t c = 0;
  for (; c + WIDE * PANEL <= channels; c += WIDE * PANEL) f(c, [](auto column) {
    for (int i = 0; i < WIDE; ++i) column(i);
  });
  for (; c < channels; c += PANEL) f(c, [](auto column) { column(0); });
}
}  // namespace

bool available() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

void statistics(bool half, const void *from, int64_t channels, int64_t first, int64_t last, double *mean,
                double *squares) {
  for (int64_t c = 0; c < channels; ++c) mean[c] = squares[c] = 0;
  with_kind(half, [&](auto kind) {
    using Kind = decltype(kind);
    auto *x = static_cast<const typename Kind::Number *>(from);
    for (int64_t row = first, size; row < last; row += size) {
      size = rows_of_block(channels);
      if (size > last - row) size = last - row;
      // Of the rows before and these: the share of these, and what the squares gain by the difference of the means.
      const double before = row - first, share = size / (before + size), gain = before * share;
      for_columns(channels, [&](int64_t c, auto columns) {
        V sums[WIDE], rests[WIDE], deviations[WIDE];
        auto *block = x + row * channels + c;
        columns([&](int i) { sums[i] = rests[i] = deviations[i] = _mm256_setzero_ps(); });
        for (int64_t r = 0; r < size; ++r) columns([&](int i) { sums[i] += Kind::load(block + r * channels + i * PANEL); });
        columns([&](int i) { sums[i] *= _mm256_set1_ps(1.f / size); });
        for (int64_t r = 0; r < size; ++r) columns([&](int i) {
          V deviation = Kind::load(block + r * channels + i * PANEL) - sums[i];
          rests[i] += deviation;
          deviations[i] = _mm256_fmadd_ps(deviation, deviation, deviations[i]);
        });
        columns([&](int i) {
          for (int j = 0; j < PANEL; ++j) {
            int64_t at = c + i * PANEL + j;
            // By which the mean of the block was rounded.
            double rest = static_cast<double>(rests[i][j]) / size;
            double difference = sums[i][j] + rest - mean[at];
            mean[at] += difference * share;
            squares[at] += deviations[i][j] - rest * rest * size + difference * difference * gain;
          }
        });
      });
    }
  });
}

void normalise(bool half, const void *from, const void *residual, int64_t channels, int64_t first, int64_t last,
               const float *scale, const float *shift, bool relu, void *to) {
  with_kind(half, [&](auto kind) {
    using Kind = decltype(kind);
    using Number = typename Kind::Number;
    auto *x = static_cast<const Number *>(from), *more = static_cast<const Number *>(residual);
    auto *y = static_cast<Number *>(to);
    for (int64_t row = first * channels; row < last * channels; row += channels) {
      for (int64_t c = 0; c < channels; c += PANEL) {
        V result = _mm256_fmadd_ps(Kind::load(x + row + c), load(scale + c), load(shift + c));
        if (more) result += Kind::load(more + row + c);
        // In this order a NaN stays one.
        if (relu) result = _mm256_max_ps(_mm256_setzero_ps(), result);
        Kind::store(y + row + c, result);
      }
    }
  });
}

void gradient_sums(bool half, const void *of_result, const void *result, const void *from, int64_t channels,
                   int64_t first, int64_t last, const float *mean, double *sum, double *product, void *to) {
  for (int64_t c = 0; c < channels; ++c) sum[c] = product[c] = 0;
  with_kind(half, [&](auto kind) {
    using Kind = decltype(kind);
    using Number = typename Kind::Number;
    auto *dy = static_cast<const Number *>(of_result), *y = static_cast<const Number *>(result);
    auto *x = static_cast<const Number *>(from);
    auto *out = static_cast<Number *>(to);
    for (int64_t row = first, size; row < last; row += size) {
      size = rows_of_block(channels);
      if (size > last - row) size = last - row;
      for_columns(channels, [&](int64_t c, auto columns) {
        V sums[WIDE], products[WIDE], means[WIDE];
        columns([&](int i) {
          sums[i] = products[i] = _mm256_setzero_ps();
          means[i] = load(mean + c + i * PANEL);
        });
        for (int64_t at = row * channels + c; at < (row + size) * channels; at += channels) columns([&](int i) {
          int64_t place = at + i * PANEL;
          V g = Kind::load(dy + place);
          if (y) g = unclamped(g, Kind::load(y + place));
          if (out) Kind::store(out + place, g);
          sums[i] += g;
          products[i] = _mm256_fmadd_ps(g, Kind::load(x + place) - means[i], products[i]);
        });
        columns([&](int i) {
          add(sum + c + i * PANEL, sums[i]);
          add(product + c + i * PANEL, products[i]);
        });
      });
    }
  });
}

void gradient(bool half, const void *of_result, const void *result, const void *from, int64_t channels, int64_t first,
              int64_t last, const float *scale, const float *mean, const float *slope, const float *shift, void *to,
              void *of_residual) {
  with_kind(half, [&](auto kind) {
    using Kind = decltype(kind);
    using Number = typename Kind::Number;
    auto *dy = static_cast<const Number *>(of_result), *y = static_cast<const Number *>(result);
    auto *x = static_cast<const Number *>(from);
    auto *dx = static_cast<Number *>(to), *out = static_cast<Number *>(of_residual);
    for (int64_t row = first * channels; row < last * channels; row += channels) {
      for (int64_t c = 0; c < channels; c += PANEL) {
        V g = Kind::load(dy + row + c);
        if (y) g = unclamped(g, Kind::load(y + row + c));
        if (out) Kind::store(out + row + c, g);
        V value = g * load(scale + c);
        if (x) value += _mm256_fmadd_ps(Kind::load(x + row + c) - load(mean + c), load(slope + c), load(shift + c));
        Kind::store(dx + row + c, value);
      }
    }
  });
}
}  // namespace norm
