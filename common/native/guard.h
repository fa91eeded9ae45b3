// Errors of C++ as plain C.
#pragma once
#include <c10/util/Exception.h>

#include <exception>
#include <string>

// The message of the last failure of this thread, for camtrast_last_error().
inline thread_local std::string last_error;

// Runs `f`; 0, or 1 after storing the message of what it threw.
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
