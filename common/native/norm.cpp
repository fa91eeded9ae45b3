// Batch norm, the addition of a shortcut and ReLU as one operation on a CPU, with its gradient, by `norm_kernels.h`: each
// tensor is read and written once where libtorch's operations take turns. See `native::norm`.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "guard.h"
#include "norm_kernels.h"

namespace {
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::MemoryFormat layout(const Tensor &x) {
  return x.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

// The rows of a batch in groups with statistics of their own, each in parts that threads take. The parts do not depend
// on the number of threads, so neither do sums over them.
struct Rows {
  int64_t channels, groups, size, parts;
  bool half;

  Rows(const Tensor &x, int64_t groups)
      : channels(x.size(1)), groups(groups), size(x.numel() / channels / groups), half(x.scalar_type() == at::kBFloat16) {
    constexpr int64_t PART = 1 << 16, MOST = 16;
    parts = std::clamp<int64_t>(size * channels / PART, 1, MOST);
  }

  int64_t number() const { return groups * parts; }
  int64_t group(int64_t part) const { return part / parts; }
  int64_t first(int64_t part) const { return group(part) * size + size * (part % parts) / parts; }
  int64_t last(int64_t part) const { return group(part) * size + size * (part % parts + 1) / parts; }

  // `f` with each part and its rows.
  template <typename F>
  void for_parts(F f) const {
    at::parallel_for(0, number(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) f(part, first(part), last(part));
    });
  }
};

// What is kept of each group and channel, in one tensor [2, groups, channels].
struct Moments {
  Tensor both;
  float *mean, *invstd;
  explicit Moments(Tensor both) : both(both), mean(both.data_ptr<float>()), invstd(mean + both.stride(0)) {}
};

// Moments of the batch; the running statistics become the mean over groups of what each group alone would make of them.
void measure(const Tensor &x, const Rows &rows, float *running_mean, float *running_var, double momentum, double epsilon,
             Moments out) {
  int64_t channels = rows.channels;
  std::vector<double> means(rows.number() * channels), squares(means.size());
  auto *px = x.const_data_ptr();
  rows.for_parts([&](int64_t part, int64_t first, int64_t last) {
    norm::statistics(rows.half, px, channels, first, last, &means[part * channels], &squares[part * channels]);
  });
  double size = static_cast<double>(rows.size);
  for (int64_t c = 0; c < channels; ++c) {
    double mean_of_groups = 0, var_of_groups = 0;
    for (int64_t group = 0; group < rows.groups; ++group) {
      double mean = 0, square = 0, before = 0;
      for (int64_t part = group * rows.parts; part < (group + 1) * rows.parts; ++part) {
        double count = static_cast<double>(rows.last(part) - rows.first(part));
        double difference = means[part * channels + c] - mean, share = count / (before + count);
        mean += difference * share;
        square += squares[part * channels + c] + difference * difference * before * share;
        before += count;
      }
      out.mean[group * channels + c] = static_cast<float>(mean);
      out.invstd[group * channels + c] = static_cast<float>(1 / std::sqrt(square / size + epsilon));
      mean_of_groups += mean / rows.groups;
      var_of_groups += square / (size - 1) / rows.groups;
    }
    auto follow = [&](float &running, double value) {
      running = static_cast<float>((1 - momentum) * running + momentum * value);
    };
    follow(running_mean[c], mean_of_groups);
    follow(running_var[c], var_of_groups);
  }
}

// Adds up numbers of parts [parts, channels] of each group.
std::vector<double> of_groups(const std::vector<double> &of_parts, const Rows &rows) {
  std::vector<double> sums(rows.groups * rows.channels);
  for (int64_t part = 0; part < rows.number(); ++part) {
    for (int64_t c = 0; c < rows.channels; ++c) {
      sums[rows.group(part) * rows.channels + c] += of_parts[part * rows.channels + c];
    }
  }
  return sums;
}

const void *data(const Tensor &x) { return x.defined() ? x.const_data_ptr() : nullptr; }
const void *data(const std::optional<Tensor> &x) { return x ? x->const_data_ptr() : nullptr; }
void *mutable_data(const Tensor &x) { return x.defined() ? x.data_ptr() : nullptr; }
template <typename T>
const float *numbers(const T &x) {
  return static_cast<const float *>(data(x));
}

// Per channel, with mean m, s = 1 / sqrt(var + eps) of n rows and g = dy where y > 0:
//   y = relu(w s (x - m) + b + residual),  db = sum(g),  dw = s sum(g (x - m)),
//   dx = w s (g - sum(g) / n - (x - m) s^2 sum(g (x - m)) / n), with running statistics only w s g.
struct Norm : torch::autograd::Function<Norm> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const std::optional<Tensor> &weight,
                        const std::optional<Tensor> &bias, const std::optional<Tensor> &residual,
                        const Tensor &running_mean, const Tensor &running_var, int64_t groups, bool train,
                        double momentum, double epsilon, bool relu) {
    Rows rows(x, train ? groups : 1);
    int64_t channels = rows.channels;
    Moments moments(at::empty({2, rows.groups, channels}, x.options().dtype(at::kFloat)));
    auto *means = running_mean.data_ptr<float>(), *vars = running_var.data_ptr<float>();
    if (train) {
      measure(x, rows, means, vars, momentum, epsilon, moments);
    } else {
      for (int64_t c = 0; c < channels; ++c) {
        moments.mean[c] = means[c];
        moments.invstd[c] = static_cast<float>(1 / std::sqrt(vars[c] + epsilon));
      }
    }
    std::vector<float> scale(rows.groups * channels), shift(scale.size());
    auto *w = numbers(weight), *b = numbers(bias);
    for (int64_t i = 0; i < rows.groups * channels; ++i) {
      scale[i] = moments.invstd[i] * (w ? w[i % channels] : 1);
      shift[i] = (b ? b[i % channels] : 0) - moments.mean[i] * scale[i];
    }
    auto y = at::empty(x.sizes(), x.options(), layout(x));
    auto *px = data(x), *more = data(residual);
    auto *py = y.data_ptr();
    rows.for_parts([&](int64_t part, int64_t first, int64_t last) {
      int64_t at = rows.group(part) * channels;
      norm::normalise(rows.half, px, more, channels, first, last, &scale[at], &shift[at], relu, py);
    });
    ctx->save_for_backward({x, weight.value_or(Tensor()), moments.both, relu ? y : Tensor()});
    ctx->saved_data["train"] = train;
    // Among the tensors that are there.
    ctx->saved_data["place of residual"] = residual ? 1 + weight.has_value() + bias.has_value() : 0;
    return y;
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &y = saved[3];
    auto dy = grads[0].contiguous(layout(x));
    bool train = ctx->saved_data["train"].toBool();
    Rows rows(x, saved[2].size(1));
    Moments moments(saved[2]);
    int64_t channels = rows.channels, all = rows.groups * channels;
    auto place = ctx->saved_data["place of residual"].toInt();
    bool affine = weight.defined() && (ctx->needs_input_grad(1) || ctx->needs_input_grad(2));
    Tensor residual;
    // Its gradient is g, which is dy where nothing is clamped.
    if (place && ctx->needs_input_grad(place)) residual = y.defined() ? at::empty_like(x) : dy;
    auto *pdy = data(dy), *px = data(x), *py = data(y);
    auto *w = numbers(weight);
    auto *pg = y.defined() ? mutable_data(residual) : nullptr;
    std::vector<double> sum, product;
    bool summed = train || affine;
    if (summed) {
      std::vector<double> sums(rows.number() * channels), products(sums.size());
      rows.for_parts([&](int64_t part, int64_t first, int64_t last) {
        norm::gradient_sums(rows.half, pdy, py, px, channels, first, last, moments.mean + rows.group(part) * channels,
                            &sums[part * channels], &products[part * channels], pg);
      });
      sum = of_groups(sums, rows);
      product = of_groups(products, rows);
    }
    Tensor dx, dw, db;
    if (ctx->needs_input_grad(0)) {
      dx = at::empty_like(x);
      auto *pdx = dx.data_ptr();
      std::vector<float> scale(all), slope(all), shift(all);
      for (int64_t i = 0; i < all; ++i) {
        double s = moments.invstd[i], by = s * (w ? w[i % channels] : 1);
        scale[i] = static_cast<float>(by);
        slope[i] = train ? static_cast<float>(-by * s * s * product[i] / rows.size) : 0;
        shift[i] = train ? static_cast<float>(-by * sum[i] / rows.size) : 0;
      }
      // The sums have left g behind, where it was asked for.
      bool ready = summed && pg;
      auto *from = ready ? pg : pdy, *clamped = ready ? nullptr : py;
      rows.for_parts([&](int64_t part, int64_t first, int64_t last) {
        int64_t at = rows.group(part) * channels;
        norm::gradient(rows.half, from, clamped, train ? px : nullptr, channels, first, last, &scale[at],
                       moments.mean + at, &slope[at], &shift[at], pdx, ready ? nullptr : pg);
      });
    }
    if (affine) {
      dw = at::zeros({channels}, moments.both.options());
      db = at::zeros({channels}, moments.both.options());
      auto *pdw = dw.data_ptr<float>(), *pdb = db.data_ptr<float>();
      for (int64_t c = 0; c < channels; ++c) {
        double of_weight = 0, of_bias = 0;
        for (int64_t i = c; i < all; i += channels) {
          of_weight += product[i] * moments.invstd[i];
          of_bias += sum[i];
        }
        pdw[c] = static_cast<float>(of_weight);
        pdb[c] = static_cast<float>(of_bias);
      }
    }
    return {dx, dw, db, residual, {}, {}, {}, {}, {}, {}, {}};
  }
};

// Whether it is computed here: rows of whole panels of channels, more than one in a group, in one memory order.
bool is_ours(const Tensor &x, const Tensor &weight, const Tensor &bias, const Tensor &residual,
             const Tensor &running_mean, const Tensor &running_var, int64_t groups, bool train) {
  auto type = x.scalar_type();
  if (!x.device().is_cpu() || (type != at::kFloat && type != at::kBFloat16) || !norm::available()) return false;
  if ((x.dim() != 2 && x.dim() != 4) || x.numel() == 0 || x.size(1) % norm::PANEL) return false;
  if (!x.is_contiguous(layout(x)) || x.size(0) % groups) return false;
  if (train && x.numel() / x.size(1) / groups < 2) return false;
  for (auto *t : {&weight, &bias, &running_mean, &running_var}) {
    if (t->defined() && (t->scalar_type() != at::kFloat || !t->is_contiguous())) return false;
  }
  return !residual.defined() || (residual.scalar_type() == type && residual.sizes() == x.sizes());
}

Tensor maybe(void *tensor) { return tensor ? *static_cast<Tensor *>(tensor) : Tensor(); }
std::optional<Tensor> optional(const Tensor &x) { return x.defined() ? std::optional(x) : std::nullopt; }
}  // namespace

extern "C" {

// `weight`, `bias` and `residual` may be null. out: null when libtorch's operations must do it.
int camtrast_norm(void *input, void *weight, void *bias, void *residual, void *running_mean, void *running_var,
                  int64_t groups, int train, double momentum, double epsilon, int relu, void **out) {
  return guarded([&] {
    auto x = maybe(input), w = maybe(weight), b = maybe(bias), more = maybe(residual);
    auto mean = maybe(running_mean), var = maybe(running_var);
    *out = nullptr;
    if (!is_ours(x, w, b, more, mean, var, groups, train)) return;
    if (more.defined()) more = more.contiguous(layout(x));
    *out = new Tensor(Norm::apply(x, optional(w), optional(b), optional(more), mean, var, groups,
                                  static_cast<bool>(train), momentum, epsilon, static_cast<bool>(relu)));
  });
}
}
