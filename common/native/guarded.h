// Failures of libtorch as a status and a message.
#pragma once
#include <c10/util/Exception.h>

#include <string>

namespace camtrast {
extern thread_local std::string last_error;

// Runs `f`: 0, or 1 after storing the message that camtrast_last_error() hands out.
template <typename F>
int guarded(F &&f) {
  try {
    f();
    return 0;
  } catch (const c10::Error &e) {
    last_error = e.what_without_backtrace();
  } catch (const std::exception &e) {
    last_error = e.what();
  }
  return 1;
}
}  // namespace camtrast
