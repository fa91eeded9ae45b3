// Convolutions of 3x3, stride 1, and their gradients by `winograd_kernels.h`: the same numbers as conv2d up to rounding.
// See `native::convolution_3x3`.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "guard.h"
#include "winograd_kernels.h"

namespace {
using namespace winograd;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Maps maps_of(const at::Tensor &x) { return {x.size(0), x.size(2), x.size(3), x.size(1)}; }

at::Tensor channels_last(const at::Tensor &x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

// Room for a matrix at each point. The points are not a power of two apart, which would put them all in the same places
// of the cache.
struct Room {
  at::Tensor memory;
  Points points;
  Room(int64_t numbers, const at::Tensor &like)
      : memory(at::empty({POINTS * (numbers + PANEL)}, like.options())),
        points{memory.data_ptr<float>(), numbers + PANEL} {}
};

// Tiles at a time: as many as stay in the second and third cache between the steps, and enough for matrix products.
int64_t tiles_at_once(int64_t inputs, int64_t outputs, int64_t all) {
  constexpr int64_t NUMBERS = 1 << 20, FEWEST = 126;
  int64_t tiles = NUMBERS / (POINTS * (inputs + outputs)) / 6 * 6;
  return std::min(std::max(tiles, FEWEST), all);
}

template <typename F>
void parallel(int64_t n, F f) {
  at::parallel_for(0, n, 1, f);
}

// [N, inputs, H, W] by weights [outputs, inputs, 3, 3]; turned: [N, outputs, H, W] to [N, inputs, H, W].
at::Tensor convolve(const at::Tensor &x, const at::Tensor &weight, bool turned) {
  auto from = maps_of(x), to = from;
  to.channels = weight.size(turned ? 1 : 0);
  auto y = at::empty({x.size(0), to.channels, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  int64_t all = from.tiles(), at_once = tiles_at_once(from.channels, to.channels, all);
  Room inputs(at_once * from.channels, x), outputs(at_once * to.channels, x), kernel(from.channels * to.channels, x);
  auto *px = x.const_data_ptr<float>(), *pw = weight.const_data_ptr<float>();
  auto *py = y.data_ptr<float>();
  int64_t panels = to.channels / PANEL;
  parallel(panels, [&](int64_t first, int64_t last) {
    weights(pw, to.channels, from.channels, turned, first, last, kernel.points);
  });
  for (int64_t base = 0; base < all; base += at_once) {
    int64_t tiles = std::min(at_once, all - base);
    parallel(tiles, [&](int64_t first, int64_t last) {
      winograd::inputs(px, from, base, base + first, base + last, inputs.points);
    });
    parallel(POINTS * panels, [&](int64_t first, int64_t last) {
      products(inputs.points, tiles, from.channels, kernel.points, to.channels, first, last, outputs.points);
    });
    parallel(tiles, [&](int64_t first, int64_t last) {
      results(outputs.points, to, base, base + first, base + last, py);
    });
  }
  return y;
}

at::Tensor weight_gradient(const at::Tensor &x, const at::Tensor &dy, const at::Tensor &weight) {
  auto from = maps_of(x), to = maps_of(dy);
  auto dw = at::empty_like(weight);
  int64_t all = from.tiles(), at_once = tiles_at_once(from.channels, to.channels, all);
  Room inputs(at_once * from.channels, x), outputs(at_once * to.channels, x), kernel(from.channels * to.channels, x);
  auto *px = x.const_data_ptr<float>(), *pdy = dy.const_data_ptr<float>();
  auto *pdw = dw.data_ptr<float>();
  for (int64_t base = 0; base < all; base += at_once) {
    int64_t tiles = std::min(at_once, all - base);
    parallel(tiles, [&](int64_t first, int64_t last) {
      winograd::inputs(px, from, base, base + first, base + last, inputs.points);
      gradients(pdy, to, base, base + first, base + last, outputs.points);
    });
    parallel(POINTS * (from.channels / PANEL), [&](int64_t first, int64_t last) {
      outer_products(outputs.points, inputs.points, tiles, to.channels, from.channels, first, last, kernel.points,
                     base > 0);
    });
  }
  parallel(to.channels, [&](int64_t first, int64_t last) {
    weight_gradients(kernel.points, from.channels, first, last, pdw);
  });
  return dw;
}

// Whether it is the faster way for maps and their gradients: few enough multiplications for results that no pixel
// has. (Measured with AVX2: 1.5 to 1.9 times as fast as oneDNN on maps of 3, 6, 11 and 21 pixels, slower on those of 2
// and 4. The gradient of the weights is always faster, 1.2 to 5 times.)
bool fits_maps(const at::Tensor &x) {
  auto maps = maps_of(x);
  return 48 * maps.tiles() <= 9 * maps.images * maps.height * maps.width;
}

struct Convolution3x3 : torch::autograd::Function<Convolution3x3> {
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &x, const at::Tensor &weight) {
    ctx->save_for_backward({x, weight});
    return fits_maps(x) ? convolve(x, weight, false) : at::conv2d(x, weight, {}, 1, 1);
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    auto saved = ctx->get_saved_variables();
    auto dy = channels_last(grads[0]);
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) {
      dx = fits_maps(dy) ? convolve(dy, saved[1], true)
                         : std::get<0>(at::convolution_backward(dy, saved[0], saved[1], c10::nullopt, {1, 1}, {1, 1},
                                                                {1, 1}, false, {0, 0}, 1, {true, false, false}));
    }
    if (ctx->needs_input_grad(1)) dw = weight_gradient(saved[0], dy, saved[1]);
    return {dx, dw};
  }
};

// Whether it is computed here: float32 on a CPU with AVX2, whole panels of channels, and tiles enough to be worth the
// transformation of the weights.
bool is_tiled(const at::Tensor &x, const at::Tensor &weight) {
  auto fits = [](const at::Tensor &t) { return t.device().is_cpu() && t.scalar_type() == at::kFloat && t.dim() == 4; };
  if (!fits(x) || !fits(weight) || at::autocast::is_autocast_enabled(at::kCPU)) return false;
  constexpr int64_t FEWEST = 32;
  return available() && weight.size(0) % PANEL == 0 && weight.size(1) % PANEL == 0 && weight.size(1) == x.size(1) &&
         weight.size(2) == 3 && weight.size(3) == 3 && maps_of(x).tiles() >= FEWEST;
}
}  // namespace

extern "C" {

// A convolution of 3x3, stride 1, padding 1, without bias, dilation and groups.
int camtrast_convolution_3x3(void *x, void *weight, void **out) {
  return guarded([&] {
    auto input = *static_cast<at::Tensor *>(x), kernel = *static_cast<at::Tensor *>(weight);
    auto y = is_tiled(input, kernel) ? Convolution3x3::apply(channels_last(input), channels_last(kernel))
                                     : at::conv2d(input, kernel, {}, 1, 1);
    *out = new at::Tensor(y);
  });
}
}
