// The gradients of a training's parameters in one buffer, where they become the averages over its processes. Errors are
// as in shim.cpp.
#include <ATen/ATen.h>
#include <ATen/ScalarOps.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <memory>
#include <vector>

#include "guard.h"

using at::Tensor;
using c10d::ProcessGroupGloo;
using torch::autograd::PostAccumulateGradHook;

namespace {
using GlooRef = c10::intrusive_ptr<ProcessGroupGloo>;

// A backward pass writes each gradient once: as this process's share of the average, to its place in the buffer, which
// is the parameter's gradient from then on. The buffer begins with the last parameter, which the backward pass reaches
// first. With Gloo, a piece of it is summed over the processes as soon as it is complete, while the backward pass goes
// on; pieces begin in the order of the buffer, so that all processes sum the same.
class Gradients {
 public:
  Gradients(std::vector<Tensor> parameters, const Tensor &buffer, int64_t world, int64_t piece, GlooRef gloo)
      : parameters_(std::move(parameters)), places_(parameters_.size()), piece_of_(parameters_.size()),
        share_(at::native::wrapped_scalar_tensor(1.0 / static_cast<double>(world))), gloo_(std::move(gloo)) {
    int64_t at = 0, begin = 0;
    size_t members = 0;
    for (size_t i = parameters_.size(); i-- > 0;) {
      const auto &parameter = parameters_[i];
      places_[i] = buffer.as_strided(parameter.sizes(), parameter.strides(), at);
      piece_of_[i] = pieces_.size();
      at += parameter.numel();
      ++members;
      if (at - begin >= piece || i == 0) {
        pieces_.push_back({buffer.slice(0, begin, at), members});
        begin = at;
        members = 0;
      }
      torch::autograd::impl::set_post_acc_grad_hooks(parameter, std::make_unique<Hook>(*this, i));
    }
  }

  ~Gradients() {
    for (const auto &parameter : parameters_) torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
  }

  // The gradients of the next backward pass are those to average.
  void expect() {
    for (auto &piece : pieces_) piece.missing = piece.members;
    arrived_.assign(parameters_.size(), false);
    begun_ = 0;
    expecting_ = true;
  }

  // A parameter that took no part counts as zero, and has no gradient afterwards either.
  void complete() {
    expecting_ = false;
    for (size_t i = parameters_.size(); i-- > 0;) {
      if (arrived_[i]) continue;
      places_[i].zero_();
      arrive(i);
    }
  }

  void wait() {
    for (auto &piece : pieces_) piece.sum->wait();
  }

 private:
  struct Hook : PostAccumulateGradHook {
    Hook(Gradients &all, size_t i) : all(all), i(i) {}
    void operator()(const Tensor &parameter) override {
      if (!all.expecting_) return;
      at::NoGradGuard no_grad;
      auto &gradient = parameter.mutable_grad();
      at::mul_out(all.places_[i], gradient, all.share_);
      gradient = all.places_[i];
      all.arrive(i);
    }
    Gradients &all;
    size_t i;
  };

  struct Piece {
    Tensor numbers;
    size_t members, missing = 0;
    c10::intrusive_ptr<c10d::Work> sum = {};
  };

  void arrive(size_t i) {
    arrived_[i] = true;
    --pieces_[piece_of_[i]].missing;
    for (; gloo_ && begun_ < pieces_.size() && pieces_[begun_].missing == 0; ++begun_) {
      std::vector<Tensor> numbers{pieces_[begun_].numbers};
      pieces_[begun_].sum = gloo_->allreduce(numbers);
    }
  }

  std::vector<Tensor> parameters_, places_;
  std::vector<size_t> piece_of_;
  std::vector<bool> arrived_;
  std::vector<Piece> pieces_;
  Tensor share_;
  GlooRef gloo_;
  size_t begun_ = 0;
  bool expecting_ = false;
};

Gradients &gradients_of(void *gradients) { return *static_cast<Gradients *>(gradients); }
}  // namespace

extern "C" {

// `buffer` has as many numbers as all parameters together, in pieces of about `piece` numbers. Without `gloo` nothing
// is summed.
int camtrast_gradients_open(void *const *parameters, size_t n, void *buffer, int64_t world, int64_t piece, void *gloo,
                            void **out) {
  return guarded([&] {
    std::vector<Tensor> all;
    for (size_t i = 0; i < n; ++i) all.push_back(*static_cast<Tensor *>(parameters[i]));
    auto reference = gloo ? *static_cast<GlooRef *>(gloo) : GlooRef();
    *out = new Gradients(std::move(all), *static_cast<Tensor *>(buffer), world, piece, std::move(reference));
  });
}

int camtrast_gradients_expect(void *gradients) {
  return guarded([&] { gradients_of(gradients).expect(); });
}

int camtrast_gradients_complete(void *gradients) {
  return guarded([&] { gradients_of(gradients).complete(); });
}

// For the sums of all pieces.
int camtrast_gradients_wait(void *gradients) {
  return guarded([&] { gradients_of(gradients).wait(); });
}

void camtrast_gradients_close(void *gradients) {
  guarded([&] { delete static_cast<Gradients *>(gradients); });
}
}
