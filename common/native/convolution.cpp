// Convolutions of small maps as matrix products, with their gradients: in bfloat16 oneDNN's own kernels are two to four
// times slower there. See `native::product_convolution`.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "guard.h"


namespace {
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// [N, C, H, W] channels-last to [N H W, C], without a copy.
at::Tensor rows(const at::Tensor &x) { return x.permute({0, 2, 3, 1}).reshape({-1, x.size(1)}); }

// The other way, for maps shaped as `like` with C channels.
at::Tensor maps(const at::Tensor &rows, const at::Tensor &like) {
  return rows.view({like.size(0), like.size(2), like.size(3), -1}).permute({0, 3, 1, 2});
}

// What each pixel of `y` sees of `x`: [N H' W', k k C].
at::Tensor windows(const at::Tensor &x, const at::Tensor &y, int64_t kernel, int64_t stride, int64_t padding) {
  auto padded = at::constant_pad_nd(x.permute({0, 2, 3, 1}), {0, 0, padding, padding, padding, padding});
  auto at = padded.strides();
  return padded
      .as_strided({y.size(0), y.size(2), y.size(3), kernel, kernel, x.size(1)},
                  {at[0], at[1] * stride, at[2] * stride, at[1], at[2], at[3]})
      .reshape({-1, kernel * kernel * x.size(1)});
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
                            int64_t padding) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    return at::conv2d(x, weight, {}, stride, padding);
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &dy = grads[0];
    int64_t stride = ctx->saved_data["stride"].toInt(), padding = ctx->saved_data["padding"].toInt();
    at::Tensor dx, dw;
    if (ctx->needs_input_grad(0)) {
      auto all = at::convolution_backward(dy, x, weight, c10::nullopt, {stride, stride}, {padding, padding}, {1, 1},
                                          false, {0, 0}, 1, {true, false, false});
      dx = std::get<0>(all);
    }
    if (ctx->needs_input_grad(1)) {
      int64_t kernel = weight.size(2);
      dw = at::mm(rows(dy).t(), windows(x, dy, kernel, stride, padding))
               .view({weight.size(0), kernel, kernel, weight.size(1)})
               .permute({0, 3, 1, 2});
    }
    return {dx, dw, {}, {}};
  }
};
}  // namespace

extern "C" {

// A convolution with square kernel, without bias, dilation and groups. In autocast both tensors are cast as conv2d would.
int camtrast_product_convolution(void *x, void *weight, int64_t stride, int64_t padding, void **out) {
  return guarded([&] {
    auto input = *static_cast<at::Tensor *>(x), kernel = *static_cast<at::Tensor *>(weight);
    if (at::autocast::is_autocast_enabled(at::kCPU)) {
      auto type = at::autocast::get_autocast_dtype(at::kCPU);
      input = at::autocast::cached_cast(type, input, at::kCPU);
      kernel = at::autocast::cached_cast(type, kernel, at::kCPU);
    }
    auto y = kernel.size(2) == 1 && stride == 1 ? Pointwise::apply(input, kernel)
                                                : Windowed::apply(input, kernel, stride, padding);
    *out = new at::Tensor(y);
  });
}
}
