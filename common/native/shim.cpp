// What tch 0.24 lacks of libtorch, as plain C. Every function returns 0, or 1 after storing a message that
// camtrast_last_error() hands out. Tensors are `torch::Tensor*`, as tch holds them.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/record_function.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <memory>
#include <set>
#include <string_view>
#include <vector>

#include "guard.h"

namespace {
std::vector<at::Tensor> list(void *const *tensors, size_t n) {
  std::vector<at::Tensor> out;
  out.reserve(n);
  for (size_t i = 0; i < n; ++i) out.push_back(*static_cast<at::Tensor *>(tensors[i]));
  return out;
}

at::DeviceType device_type(int cuda) { return cuda ? at::kCUDA : at::kCPU; }

// Operations after which the host of a GPU waits for it: their results decide shapes or are read.
bool is_wait(std::string_view name) {
  for (auto wait : {"aten::_local_scalar_dense", "aten::nonzero", "aten::_unique", "aten::_unique2", "aten::unique_dim",
                    "aten::unique_consecutive", "aten::masked_select", "aten::equal", "aten::bincount"}) {
    if (name == wait) return true;
  }
  return false;
}

thread_local int64_t operations = 0, waits = 0;
thread_local at::CallbackHandle counter = 0;

std::unique_ptr<at::ObserverContext> count(const at::RecordFunction &function) {
  ++operations;
  if (is_wait(function.name())) ++waits;
  return nullptr;
}
}  // namespace

extern "C" {

const char *camtrast_last_error() { return last_error.c_str(); }

// Autocast to bfloat16 in this thread. Leaving it drops the cached casts of the weights.
int camtrast_autocast_bf16(int cuda, int enabled) {
  return guarded([&] {
    at::autocast::set_autocast_dtype(device_type(cuda), at::kBFloat16);
    at::autocast::set_autocast_enabled(device_type(cuda), enabled);
    at::autocast::set_autocast_cache_enabled(true);
    if (enabled) {
      at::autocast::increment_nesting();
    } else if (at::autocast::decrement_nesting() == 0) {
      at::autocast::clear_cache();
    }
  });
}

int camtrast_fused_sgd(void *const *params, void *const *grads, void *const *buffers, size_t n, double lr,
                       double momentum, double weight_decay, int nesterov) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    // Without momentum libtorch wants no buffers at all. Buffers that begin at zero make the first step like any other.
    at::_fused_sgd_(list(params, n), list(grads, n), list(buffers, momentum == 0 ? 0 : n), weight_decay, momentum, lr,
                    /*dampening=*/0, nesterov, /*maximize=*/false, /*is_first_step=*/false);
  });
}

int camtrast_fused_adam(void *const *params, void *const *grads, void *const *exp_avgs, void *const *exp_avg_sqs,
                        void *const *steps, size_t n, double lr, double beta1, double beta2, double weight_decay,
                        double eps, int decoupled) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto step_list = list(steps, n);
    at::_foreach_add_(step_list, 1);
    auto update = [&](auto kernel) {
      kernel(list(params, n), list(grads, n), list(exp_avgs, n), list(exp_avg_sqs, n), at::TensorList{}, step_list, lr,
             beta1, beta2, weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false);
    };
    if (decoupled) {
      update([](auto &&...a) { at::_fused_adamw_(a...); });
    } else {
      update([](auto &&...a) { at::_fused_adam_(a...); });
    }
  });
}

// Gives a program that was linked without CUDA its CUDA devices. libtorch caches its CUDA hooks at first use, so this
// must come before any other call.
int camtrast_load_cuda() {
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) return 0;
  last_error = dlerror();
  return 1;
}

// Records what libtorch does from now on, on the host and on GPUs.
int camtrast_profile_start() {
  return guarded([] {
    using namespace torch::profiler::impl;
    const ProfilerConfig config(ProfilerState::KINETO);
    const std::set<ActivityType> activities{ActivityType::CPU, ActivityType::CUDA};
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities);
  });
}

// Ends it, and writes a trace for chrome://tracing and Perfetto.
int camtrast_profile_stop(const char *path) {
  return guarded([&] { torch::autograd::profiler::disableProfiler()->save(path); });
}

// How a device computes from now on. TF32 is set for matrix products and convolutions alike.
int camtrast_set_arithmetic(int tf32, int deterministic, int benchmark) {
  return guarded([&] {
    auto &context = at::globalContext();
    context.setAllowTF32CuBLAS(tf32);
    context.setAllowTF32CuDNN(tf32);
    context.setBenchmarkCuDNN(benchmark);
    context.setDeterministicCuDNN(deterministic);
    context.setDeterministicMkldnn(deterministic);
    context.setDeterministicAlgorithms(deterministic, /*warn_only=*/false);
    // Nothing here reads memory that it has not written.
    context.setDeterministicFillUninitializedMemory(false);
    // cuBLAS asks for it, unless the user has chosen another one.
    if (deterministic) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  });
}

// out: TF32 in convolutions, TF32 in matrix products, deterministic algorithms, cuDNN's benchmark.
int camtrast_get_arithmetic(int *out) {
  return guarded([&] {
    auto &context = at::globalContext();
    out[0] = context.allowTF32CuDNN();
    out[1] = context.allowTF32CuBLAS();
    out[2] = context.deterministicAlgorithms();
    out[3] = context.benchmarkCuDNN();
  });
}

// Name (256 bytes) and compute capability of a CUDA device, from the driver: libtorch's own function for it is not
// linked. The driver is loaded when libtorch has seen a device.
int camtrast_cuda_card(int index, char *name, int *capability) {
  return guarded([&] {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    TORCH_CHECK(driver, dlerror());
    auto call = [&](const char *function, auto... arguments) {
      auto pointer = reinterpret_cast<int (*)(decltype(arguments)...)>(dlsym(driver, function));
      TORCH_CHECK(pointer && pointer(arguments...) == 0, function, " fails");
    };
    int device = 0;
    call("cuInit", 0u);
    call("cuDeviceGet", &device, index);
    call("cuDeviceGetName", name, 256, device);
    const int major = 75, minor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
    call("cuDeviceGetAttribute", &capability[0], major, device);
    call("cuDeviceGetAttribute", &capability[1], minor, device);
  });
}

// out: bytes allocated now, allocated at peak, free on the device, the device's total.
int camtrast_cuda_memory(int index, int64_t *out) {
  return guarded([&] {
    auto *allocator = c10::getDeviceAllocator(at::kCUDA);
    auto bytes = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index)).allocated_bytes[0];
    auto [available, total] = allocator->getMemoryInfo(static_cast<c10::DeviceIndex>(index));
    out[0] = bytes.current;
    out[1] = bytes.peak;
    out[2] = static_cast<int64_t>(available);
    out[3] = static_cast<int64_t>(total);
  });
}

// Counts this thread's operations from now on.
int camtrast_count_start() {
  return guarded([] {
    operations = waits = 0;
    counter = at::addThreadLocalCallback(at::RecordFunctionCallback(count).scopes({at::RecordScope::FUNCTION}));
  });
}

// Ends it. out: operations, and those after which a GPU's host waits.
int camtrast_count_stop(int64_t *out) {
  return guarded([&] {
    at::removeCallback(counter);
    out[0] = operations;
    out[1] = waits;
  });
}

// The next backward pass makes new gradients instead of adding to these.
int camtrast_forget_gradients(void *const *tensors, size_t n) {
  return guarded([&] {
    for (size_t i = 0; i < n; ++i) static_cast<at::Tensor *>(tensors[i])->mutable_grad().reset();
  });
}

// averages <- momentum averages + (1 - momentum) followed.
int camtrast_ema(void *const *averages, void *const *followed, size_t n, double momentum) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto all = list(averages, n);
    at::_foreach_mul_(all, momentum);
    at::_foreach_add_(all, at::_foreach_mul(list(followed, n), 1 - momentum));
  });
}

}
