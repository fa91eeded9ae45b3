// Convolutions of small maps as matrix products, with their gradients: oneDNN's own kernels are slower there. See
// `native::product_convolution` and `convolution.h`.
#include "convolution.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <cstring>

#include "guard.h"
#include "winograd_kernels.h"

namespace {
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// [N, C, H, W] channels-last to [N H W, C], without a copy.
at::Tensor rows(const at::Tensor &x) { return x.permute({0, 2, 3, 1}).reshape({-1, x.size(1)}); }

// The other way, for maps shaped as `like` with C channels.
at::Tensor maps(const at::Tensor &rows, const at::Tensor &like) {
  return rows.view({like.size(0), like.size(2), like.size(3), -1}).permute({0, 3, 1, 2});
}

// A tensor's memory as [rows, columns], with the steps between rows and within one; without an operation of libtorch.
at::Tensor matrix(const at::Tensor &of, int64_t rows, int64_t columns, int64_t row, int64_t step) {
  return at::from_blob(of.data_ptr(), {rows, columns}, {row, step}, of.options());
}

struct Steps {
  int64_t stride, padding, dilation;
};

// What each pixel of `y` sees of `x`, both channels-last: [N H' W', k k C].
at::Tensor windows(const at::Tensor &x, const at::Tensor &y, int64_t kernel, Steps steps) {
  int64_t channels = x.size(1), height = x.size(2), width = x.size(3), down = y.size(2), across = y.size(3);
  auto out = at::empty({y.size(0) * down * across, kernel * kernel * channels}, x.options());
  auto bytes = static_cast<size_t>(channels * x.element_size());
  auto *from = static_cast<const char *>(x.const_data_ptr());
  auto *to = static_cast<char *>(out.data_ptr());
  at::parallel_for(0, y.size(0) * down, 1, [&](int64_t first, int64_t last) {
    for (int64_t line = first; line < last; ++line) {
      for (int64_t i = 0; i < across * kernel * kernel; ++i) {
        int64_t column = i / (kernel * kernel), tap = i % (kernel * kernel);
        int64_t r = line % down * steps.stride - steps.padding + tap / kernel * steps.dilation;
        int64_t c = column * steps.stride - steps.padding + tap % kernel * steps.dilation;
        auto *place = to + (line * across * kernel * kernel + i) * bytes;
        if (r < 0 || r >= height || c < 0 || c >= width) std::memset(place, 0, bytes);
        else std::memcpy(place, from + ((line / down * height + r) * width + c) * bytes, bytes);
      }
    }
  });
  return out;
}

// 1x1, stride 1: everything is a product.
struct Pointwise : torch::autograd::Function<Pointwise> {
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &x, const at::Tensor &weight) {
    ctx->save_for_backward({x, weight});
    return maps(at::mm(rows(x), weight.flatten(1).t()), x);
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    auto dy = rows(grads[0]);
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) dx = maps(at::mm(dy, weight.flatten(1)), x);
    if (ctx->needs_input_grad(1)) dw = at::mm(dy.t(), rows(x)).view_as(weight);
    return {dx, dw};
  }
};

// Any kernel: only the gradient of the weights is a product.
struct Windowed : torch::autograd::Function<Windowed> {
  static at::Tensor forward(AutogradContext *ctx, const at::Tensor &x, const at::Tensor &weight, int64_t stride,
                            int64_t padding, int64_t dilation) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["dilation"] = dilation;
    return at::conv2d(x, weight, {}, stride, padding, dilation);
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    auto dy = channels_last(grads[0]);
    auto number = [&](const char *name) { return ctx->saved_data[name].toInt(); };
    Steps steps{number("stride"), number("padding"), number("dilation")};
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) {
      auto pair = [](int64_t n) { return std::array<int64_t, 2>{n, n}; };
      auto all = at::convolution_backward(dy, x, weight, c10::nullopt, pair(steps.stride), pair(steps.padding),
                                          pair(steps.dilation), false, {0, 0}, 1, {true, false, false});
      dx = std::get<0>(all);
    }
    if (ctx->needs_input_grad(1)) {
      int64_t outputs = weight.size(0), columns = weight.numel() / outputs, pixels = dy.numel() / outputs;
      auto seen = windows(x, dy, weight.size(2), steps);
      dw = at::empty(weight.sizes(), weight.options(), at::MemoryFormat::ChannelsLast);
      auto out = matrix(dw, outputs, columns, columns, 1);
      at::mm_out(out, matrix(dy, outputs, pixels, 1, outputs), seen);
    }
    return {dx, dw, {}, {}, {}};
  }
};
}  // namespace

bool is_measured(const at::Tensor &x, const at::Tensor &weight) {
  auto fits = [](const at::Tensor &t) { return t.device().is_cpu() && t.scalar_type() == at::kFloat && t.dim() == 4; };
  return fits(x) && fits(weight) && winograd::available() && !at::autocast::is_autocast_enabled(at::kCPU);
}

bool has_few_windows(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding,
                     int64_t dilation) {
  if (!is_measured(x, weight)) return false;
  constexpr int64_t LEAST_INPUTS = 64, MOST_NUMBERS = 1 << 23;
  int64_t kernel = weight.size(2), inputs = weight.size(1);
  auto places = [&](int64_t size) { return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1; };
  int64_t numbers = x.size(0) * places(x.size(2)) * places(x.size(3)) * kernel * kernel * inputs;
  return inputs >= LEAST_INPUTS && inputs == x.size(1) && kernel <= 3 && kernel * stride > 1 && numbers <= MOST_NUMBERS;
}

at::Tensor windowed_convolution(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding,
                                int64_t dilation) {
  return Windowed::apply(channels_last(x), weight, stride, padding, dilation);
}

extern "C" {

// A convolution with square kernel, without bias, dilation and groups. In autocast both tensors are cast as by conv2d.
int camtrast_product_convolution(void *x, void *weight, int64_t stride, int64_t padding, void **out) {
  return guarded([&] {
    auto input = *static_cast<at::Tensor *>(x), kernel = *static_cast<at::Tensor *>(weight);
    if (at::autocast::is_autocast_enabled(at::kCPU)) {
      auto type = at::autocast::get_autocast_dtype(at::kCPU);
      input = at::autocast::cached_cast(type, input, at::kCPU);
      kernel = at::autocast::cached_cast(type, kernel, at::kCPU);
    }
    auto y = kernel.size(2) == 1 && stride == 1 ? Pointwise::apply(input, kernel)
                                                : windowed_convolution(input, kernel, stride, padding, 1);
    *out = new at::Tensor(y);
  });
}
}
