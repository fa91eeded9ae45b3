//! Memory that runs out: how libtorch says so.

use crate::error::{Error, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What libtorch could not get when `text`, its message, says that a device or the host has no memory left,
/// as `tried to allocate 20.00 MiB`; `None` for any other message.
pub fn exhausted(text: &str) -> Option<String> {
    let missing = [
        "out of memory",
        "can't allocate memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
    ];
    if !missing.iter().any(|words| text.contains(words)) {
        return None;
    }
    let tried = text
        .split_once("ried to allocate ")
        .map(|(_, rest)| rest.split(". ").next().unwrap_or(rest).trim_end_matches('.'));
    Some(match tried {
        Some(size) => format!("tried to allocate {}", size.lines().next().unwrap_or(size)),
        None => "libtorch does not say how much was asked for".into(),
    })
}

/// The text of a panic.
pub fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied())
        .unwrap_or("unknown cause")
}

/// Runs `work`; where it ends because memory has run out, as an error or as a panic, which most of libtorch's
/// errors are, the error is what `explain` makes of [`exhausted`].
///
/// # Errors
/// Those of `work`.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>, explain: impl FnOnce(String) -> Error) -> Result<T> {
    let (text, otherwise): (String, Box<dyn FnOnce() -> Error>) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Err(error @ Error::Torch(_))) => (error.to_string(), Box::new(|| error)),
        Ok(result) => return result,
        Err(panic) => (panic_text(&*panic).to_owned(), Box::new(|| resume_unwind(panic))),
    };
    Err(exhausted(&text).map_or_else(otherwise, explain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorchs_ways_to_say_it_are_known() {
        let cuda = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to \
                    allocate 392.00 MiB. GPU 0 has a total capacity of 79.10 GiB of which 12.25 MiB is free. \
                    Including non-PyTorch memory, it has 79.07 GiB in use.\\nException raised from\")";
        assert_eq!(exhausted(cuda).unwrap(), "tried to allocate 392.00 MiB");
        let cpu = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: \
                   you tried to allocate 8388608 bytes. Error code 12 (Cannot allocate memory)";
        assert_eq!(exhausted(cpu).unwrap(), "tried to allocate 8388608 bytes");
        let plain = exhausted("CUDA error: out of memory").unwrap();
        assert_eq!(plain, "libtorch does not say how much was asked for");
        assert_eq!(
            exhausted("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
            None
        );
    }

    #[test]
    fn an_error_of_libtorch_counts_like_a_panic() {
        let torch = |text: &str| Error::Torch(tch::TchError::Torch(text.into()));
        let explain = |what| Error::settings(what, "lower something");
        let of = |text: &str| {
            guarded(|| Err::<(), _>(torch(text)), explain)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            of("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
            "tried to allocate 2.00 GiB; lower something"
        );
        assert_eq!(
            of("no such device"),
            "libtorch: Internal torch error: no such device"
        );
    }
}
