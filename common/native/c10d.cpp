// PyTorch's c10d as plain C: the store in which processes find each other, and Gloo's collectives between them. Both
// are inside libtorch_cpu.so. Errors are as in shim.cpp. Tensors are `torch::Tensor*`, contiguous and on the CPU.
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "guard.h"

C10_DECLARE_int(caffe2_log_level);

using c10d::PrefixStore;
using c10d::ProcessGroupGloo;
using c10d::TCPStore;
using std::chrono::milliseconds;

namespace {
using StoreRef = c10::intrusive_ptr<c10d::Store>;
using GlooRef = c10::intrusive_ptr<ProcessGroupGloo>;

c10d::Store &store_of(void *store) { return **static_cast<StoreRef *>(store); }
ProcessGroupGloo &gloo_of(void *gloo) { return **static_cast<GlooRef *>(gloo); }
at::Tensor &tensor_of(void *tensor) { return *static_cast<at::Tensor *>(tensor); }

thread_local std::vector<uint8_t> last_value;
}  // namespace

extern "C" {

// Connects to the store at `host`:`port`. With a listening socket `listener` >= 0, of which it takes possession, this
// process serves the store itself. All keys begin with `prefix`.
int camtrast_store_open(const char *host, uint16_t port, int listener, const char *prefix, int64_t timeout_ms,
                        void **out) {
  return guarded([&] {
    // c10d logs connections that fail, which our own errors report.
    FLAGS_caffe2_log_level = 3;
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = listener >= 0;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout_ms);
    if (listener >= 0) options.masterListenFd = listener;
    auto store = c10::make_intrusive<TCPStore>(host, options);
    *out = new StoreRef(c10::make_intrusive<PrefixStore>(prefix, std::move(store)));
  });
}

// Another connection to the same store.
int camtrast_store_clone(void *store, void **out) {
  return guarded([&] { *out = new StoreRef(store_of(store).clone()); });
}

void camtrast_store_close(void *store) {
  guarded([&] { delete static_cast<StoreRef *>(store); });
}

int camtrast_store_set(void *store, const char *key, const uint8_t *value, size_t length) {
  return guarded([&] { store_of(store).set(key, std::vector<uint8_t>(value, value + length)); });
}

// Waits for a key. The value stays valid until this thread reads another.
int camtrast_store_get(void *store, const char *key, int64_t timeout_ms, const uint8_t **value, size_t *length) {
  return guarded([&] {
    store_of(store).wait({key}, milliseconds(timeout_ms));
    last_value = store_of(store).get(key);
    *value = last_value.data();
    *length = last_value.size();
  });
}

int camtrast_store_has(void *store, const char *key, int *out) {
  return guarded([&] { *out = store_of(store).check({key}); });
}

int camtrast_store_add(void *store, const char *key, int64_t amount, int64_t *out) {
  return guarded([&] { *out = store_of(store).add(key, amount); });
}

// The stream in which a tensor's GPU works, and whether it has done everything. The GPU becomes the thread's own. The
// CPU has no stream, and is always done.
int camtrast_stream(void *tensor, void **stream, int *done) {
  return guarded([&] {
    auto device = tensor_of(tensor).device();
    *stream = nullptr;
    *done = 1;
    if (device.is_cpu()) return;
    c10::impl::VirtualGuardImpl guard(device.type());
    guard.setDevice(device);
    auto current = guard.getStream(device);
    *stream = current.native_handle();
    *done = current.query();
  });
}

// Processes meet under `name`, which is different for each of several groups.
int camtrast_gloo_open(void *store, const char *name, int rank, int world, int64_t timeout_ms, void **out) {
  return guarded([&] {
    auto options = ProcessGroupGloo::Options::create_default(milliseconds(timeout_ms));
    auto keys = c10::make_intrusive<PrefixStore>(name, *static_cast<StoreRef *>(store));
    *out = new GlooRef(c10::make_intrusive<ProcessGroupGloo>(std::move(keys), rank, world, options));
  });
}

void camtrast_gloo_close(void *gloo) {
  guarded([&] { delete static_cast<GlooRef *>(gloo); });
}

// The sum of all processes' tensors takes the place of each.
int camtrast_gloo_all_reduce(void *gloo, void *tensor) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{tensor_of(tensor).detach()};
    gloo_of(gloo).allreduce(tensors)->wait();
  });
}

int camtrast_gloo_broadcast(void *gloo, void *tensor) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{tensor_of(tensor).detach()};
    gloo_of(gloo).broadcast(tensors)->wait();
  });
}

// `output` [world, ..] gets every process's `input` [..], in the order of ranks.
int camtrast_gloo_all_gather(void *gloo, void *input, void *output) {
  return guarded([&] {
    std::vector<at::Tensor> inputs{tensor_of(input).detach()};
    std::vector<std::vector<at::Tensor>> outputs{tensor_of(output).unbind(0)};
    gloo_of(gloo).allgather(outputs, inputs)->wait();
  });
}
}
