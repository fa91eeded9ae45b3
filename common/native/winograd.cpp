// Convolutions of 3x3, stride 1, and their gradients by `winograd_kernels.h`: the numbers of conv2d up to rounding.
// See `nn::kernels::convolution`.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>

#include "convolution.h"
#include "guard.h"
#include "winograd_kernels.h"

namespace {
using namespace winograd;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Bias = std::optional<at::Tensor>;

Maps maps_of(const at::Tensor &x) { return {x.size(0), x.size(2), x.size(3), x.size(1)}; }

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
at::Tensor convolve(const at::Tensor &x, const at::Tensor &weight, bool turned, const Bias &bias) {
  auto from = maps_of(x), to = from;
  to.channels = weight.size(turned ? 1 : 0);
  auto y = at::empty({x.size(0), to.channels, x.size(2), x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  int64_t all = from.tiles(), at_once = tiles_at_once(from.channels, to.channels, all);
  Room inputs(at_once * from.channels, x), outputs(at_once * to.channels, x), kernel(from.channels * to.channels, x);
  auto *px = x.const_data_ptr<float>(), *pw = weight.const_data_ptr<float>();
  auto *pb = bias ? bias->const_data_ptr<float>() : nullptr;
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
      results(outputs.points, to, base, base + first, base + last, pb, py);
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

// [N, channels, H, W] to [channels].
at::Tensor bias_gradient(const at::Tensor &dy) {
  auto maps = maps_of(dy);
  auto db = at::empty({maps.channels}, dy.options());
  auto *pdy = dy.const_data_ptr<float>();
  auto *pdb = db.data_ptr<float>();
  parallel(maps.channels / PANEL, [&](int64_t first, int64_t last) {
    bias_gradients(pdy, maps.images * maps.height * maps.width, maps.channels, first, last, pdb);
  });
  return db;
}

// A dilated convolution is one without dilation of every `dilation`th row and column. `maps` [images, height, width,
// channels] become maps of those, [images dilation^2, height / dilation, width / dilation, channels], with zeros after
// the last rows and columns where that is not whole.
Maps parts_of(const Maps &maps, int64_t dilation) {
  auto part = [&](int64_t size) { return (size + dilation - 1) / dilation; };
  return {maps.images * dilation * dilation, part(maps.height), part(maps.width), maps.channels};
}

// `f` of every pixel of the maps and its place among the parts.
template <typename F>
void for_pixels(const Maps &maps, int64_t dilation, F f) {
  auto parts = parts_of(maps, dilation);
  parallel(maps.images * maps.height, [&](int64_t first, int64_t last) {
    for (int64_t line = first; line < last; line++) {
      int64_t image = line / maps.height, row = line % maps.height;
      for (int64_t column = 0; column < maps.width; column++) {
        int64_t part = (image * dilation + row % dilation) * dilation + column % dilation;
        f(line * maps.width + column, (part * parts.height + row / dilation) * parts.width + column / dilation);
      }
    }
  });
}

at::Tensor interleaved(const at::Tensor &x, int64_t dilation) {
  if (dilation == 1) return x;
  auto maps = maps_of(x), parts = parts_of(maps, dilation);
  int64_t channels = maps.channels;
  auto out = at::empty({parts.images, channels, parts.height, parts.width}, x.options(),
                       at::MemoryFormat::ChannelsLast);
  if (out.numel() > x.numel()) out.zero_();
  auto *from = x.const_data_ptr<float>();
  auto *to = out.data_ptr<float>();
  for_pixels(maps, dilation, [&](int64_t pixel, int64_t place) {
    std::copy_n(from + pixel * channels, channels, to + place * channels);
  });
  return out;
}

// Back to maps of the size of `like`.
at::Tensor woven(const at::Tensor &parts, int64_t dilation, const at::Tensor &like) {
  if (dilation == 1) return parts;
  int64_t channels = parts.size(1);
  auto out = at::empty({like.size(0), channels, like.size(2), like.size(3)}, parts.options(),
                       at::MemoryFormat::ChannelsLast);
  auto *from = parts.const_data_ptr<float>();
  auto *to = out.data_ptr<float>();
  for_pixels(maps_of(out), dilation, [&](int64_t pixel, int64_t place) {
    std::copy_n(from + place * channels, channels, to + pixel * channels);
  });
  return out;
}

// Whether it is the faster way for maps and their gradients: few enough multiplications for results that no pixel
// has. (Measured with AVX2: 1.5 to 1.9 times as fast as oneDNN on maps of 3, 6, 11 and 21 pixels, slower on those of 2
// and 4. The gradient of the weights is always faster, 1.2 to 5 times.)
bool fits_maps(const Maps &maps) {
  return 48 * maps.tiles() <= 9 * maps.images * maps.height * maps.width;
}

struct Convolution3x3 : torch::autograd::Function<Convolution3x3> {
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &x, const at::Tensor &weight,
                            const Bias &bias, int64_t dilation) {
    auto maps = interleaved(x, dilation);
    ctx->save_for_backward({maps, weight});
    ctx->saved_data["dilation"] = dilation;
    ctx->saved_data["biased"] = bias.has_value();
    if (!fits_maps(maps_of(maps))) return at::conv2d(x, weight, bias, 1, 1);
    return woven(convolve(maps, weight, false, bias), dilation, x);
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    auto saved = ctx->get_saved_variables();
    auto dilation = ctx->saved_data["dilation"].toInt();
    auto dy = channels_last(grads[0]);
    auto maps = interleaved(dy, dilation);
    at::Tensor dx, dw, db;
    if (ctx->needs_input_grad(0)) {
      dx = fits_maps(maps_of(maps))
               ? woven(convolve(maps, saved[1], true, {}), dilation, dy)
               : std::get<0>(at::convolution_backward(maps, saved[0], saved[1], c10::nullopt, {1, 1}, {1, 1}, {1, 1},
                                                      false, {0, 0}, 1, {true, false, false}));
    }
    if (ctx->needs_input_grad(1)) dw = weight_gradient(saved[0], maps, saved[1]);
    if (ctx->saved_data["biased"].toBool() && ctx->needs_input_grad(2)) db = bias_gradient(dy);
    return {dx, dw, db, {}};
  }
};

// Whether it is computed here: float32 on a CPU with AVX2, whole panels of channels, and tiles enough to be worth the
// transformation of the weights; with dilation only where tiles are faster for the results, too.
bool is_tiled(const at::Tensor &x, const at::Tensor &weight, int64_t dilation) {
  if (!is_measured(x, weight)) return false;
  constexpr int64_t FEWEST = 32;
  auto maps = parts_of(maps_of(x), dilation);
  if (dilation > 1 && !fits_maps(maps)) return false;
  return weight.size(0) % PANEL == 0 && weight.size(1) % PANEL == 0 && weight.size(1) == x.size(1) &&
         weight.size(2) == 3 && weight.size(3) == 3 && maps.tiles() >= FEWEST;
}
}  // namespace

extern "C" {

// A convolution with square kernel, without groups. The bias may be null.
int camtrast_convolution(void *x, void *weight, void *bias, int64_t stride, int64_t padding, int64_t dilation,
                         void **out) {
  return guarded([&] {
    auto input = *static_cast<at::Tensor *>(x), kernel = *static_cast<at::Tensor *>(weight);
    auto added = bias ? Bias(*static_cast<at::Tensor *>(bias)) : Bias();
    at::Tensor y;
    if (stride == 1 && padding == dilation && is_tiled(input, kernel, dilation))
      y = Convolution3x3::apply(channels_last(input), channels_last(kernel), added, dilation);
    else if (!bias && has_few_windows(input, kernel, stride, padding, dilation))
      y = windowed_convolution(input, kernel, stride, padding, dilation);
    else
      y = at::conv2d(input, kernel, added, stride, padding, dilation);
    *out = new at::Tensor(y);
  });
}
}
