// Batch norm with statistics over the batches of all processes, and its gradient, which tch cannot define.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <stdexcept>

#include "guard.h"

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {
// Replaces a tensor by the sum of all processes' tensors; 0 when it worked.
using Sum = int (*)(void *group, const Tensor *tensor);

void sum_over_processes(int64_t sum, int64_t group, const Tensor &tensor) {
  if (reinterpret_cast<Sum>(sum)(reinterpret_cast<void *>(group), &tensor)) {
    throw std::runtime_error("the processes of a training lost each other");
  }
}

// The shape in which a number for each channel of `x` fits it.
std::vector<int64_t> per_channel(const Tensor &x) {
  std::vector<int64_t> shape(x.dim(), 1);
  shape[1] = x.size(1);
  return shape;
}

// With N positions in all processes, mean m, variance v and s = 1 / sqrt(v + eps), per channel:
//   xhat = (x - m) s,  y = w xhat + b,
//   dx = w s (dy - sum(dy) / N - xhat sum(dy xhat) / N), sums over all processes.
struct SyncBatchNorm : torch::autograd::Function<SyncBatchNorm> {
  static Tensor forward(AutogradContext *ctx, const Tensor &input, const std::optional<Tensor> &weight,
                        const std::optional<Tensor> &bias, Tensor running_mean, Tensor running_var, double momentum,
                        double epsilon, int64_t sum, int64_t group) {
    auto x = input.to(at::kFloat);
    auto [own_mean, own_var] = at::batch_norm_update_stats(x, {}, {}, 0);
    auto own = static_cast<double>(x.numel() / x.size(1));
    own_mean = own_mean.to(at::kDouble);
    // Count, sum and sum of squares; in double precision, because the variance is a difference.
    auto sums = at::cat({own_mean * own, (own_var.to(at::kDouble) + own_mean.square()) * own,
                         at::full({1}, own, own_mean.options())});
    sum_over_processes(sum, group, sums);
    auto channels = x.size(1);
    auto count = sums[2 * channels];
    auto mean = sums.slice(0, 0, channels) / count;
    auto var = (sums.slice(0, channels, 2 * channels) / count - mean.square()).clamp_min(0);
    {
      at::NoGradGuard no_grad;
      running_mean.mul_(1 - momentum).add_(mean.to(running_mean.scalar_type()), momentum);
      auto unbiased = var * (count / (count - 1).clamp_min(1));
      running_var.mul_(1 - momentum).add_(unbiased.to(running_var.scalar_type()), momentum);
    }
    // As libtorch rounds them on one device.
    auto invstd = (var + epsilon).rsqrt().to(at::kFloat);
    mean = mean.to(at::kFloat);
    auto scale = weight ? *weight * invstd : invstd;
    auto shift = (bias ? *bias : at::zeros_like(mean)) - mean * scale;
    auto shape = per_channel(x);
    auto y = at::addcmul(shift.view(shape), x, scale.view(shape));
    ctx->save_for_backward({x, weight.value_or(Tensor()), mean, invstd, count});
    ctx->saved_data["sum"] = sum;
    ctx->saved_data["group"] = group;
    return y.to(input.scalar_type());
  }

  static variable_list backward(AutogradContext *ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    auto x = saved[0], weight = saved[1], mean = saved[2], invstd = saved[3], count = saved[4];
    auto dy = grads[0].to(at::kFloat);
    auto channels = x.size(1);
    auto shape = per_channel(x);
    auto w = weight.defined() ? weight : at::ones_like(mean);
    // Of this process alone; gradients of parameters are averaged over processes with all others.
    auto [none, dw, db] = at::native_batch_norm_backward(dy, x, w, {}, {}, mean, invstd, /*train=*/true, /*eps=*/0,
                                                         {false, true, true});
    auto sums = at::cat({db, dw});
    sum_over_processes(ctx->saved_data["sum"].toInt(), ctx->saved_data["group"].toInt(), sums);
    sums = sums / count.to(at::kFloat);
    auto of_all = sums.slice(0, 0, channels), of_xhat = sums.slice(0, channels, 2 * channels);
    auto dx = (x - mean.view(shape)).mul_((of_xhat * invstd).view(shape)).add_(of_all.view(shape));
    dx = (dy - dx).mul_((w * invstd).view(shape));
    auto affine = weight.defined();
    return {dx.to(grads[0].scalar_type()), affine ? dw : Tensor(), affine ? db : Tensor(), {}, {}, {}, {}, {}, {}};
  }
};

std::optional<Tensor> optional(void *tensor) {
  return tensor ? std::optional<Tensor>(*static_cast<Tensor *>(tensor)) : std::nullopt;
}
}  // namespace

extern "C" {

// `weight` and `bias` may be null. `sum` is called with `group`, here and in the backward pass.
int camtrast_sync_batch_norm(void *input, void *weight, void *bias, void *running_mean, void *running_var,
                             double momentum, double epsilon, Sum sum, void *group, void **out) {
  return guarded([&] {
    auto of = [](void *tensor) { return *static_cast<Tensor *>(tensor); };
    *out = new Tensor(SyncBatchNorm::apply(of(input), optional(weight), optional(bias), of(running_mean),
                                           of(running_var), momentum, epsilon, reinterpret_cast<int64_t>(sum),
                                           reinterpret_cast<int64_t>(group)));
  });
}
}
