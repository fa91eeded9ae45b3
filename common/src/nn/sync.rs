//! Batch norm over the batches of all processes, by `native/sync_batch_norm.cpp`.

use crate::distributed::Group;
use crate::error::{Error, Result};
use crate::native::{check, handle};
use std::ffi::c_void;
use std::panic::panic_any;
use std::ptr::null_mut;
use std::sync::Mutex;
use tch::Tensor;

type Handle = *mut c_void;

unsafe extern "C" {
    fn camtrast_sync_batch_norm(
        input: Handle,
        weight: Handle,
        bias: Handle,
        running_mean: Handle,
        running_var: Handle,
        momentum: f64,
        epsilon: f64,
        sum: extern "C" fn(Handle, Handle) -> i32,
        group: Handle,
        out: *mut Handle,
    ) -> i32;
}

/// Scale and shift, and the running statistics, `[C]` each.
pub(super) struct Tensors<'a> {
    pub(super) weight: Option<&'a Tensor>,
    pub(super) bias: Option<&'a Tensor>,
    pub(super) running_mean: &'a Tensor,
    pub(super) running_var: &'a Tensor,
}

/// Normalises [N, C] or [N, C, H, W] by mean and variance over the batches of all processes, which need not
/// be of one size, and updates the running statistics alike in every process. The gradient flows through the
/// statistics of all processes.
///
/// # Panics
/// With the [`Error`] as payload when another process is lost.
pub(super) fn normalise(x: &Tensor, tensors: Tensors, momentum: f64, epsilon: f64, group: Group) -> Tensor {
    let Tensors {
        weight,
        bias,
        running_mean,
        running_var,
    } = tensors;
    let maybe = |tensor: Option<&Tensor>| tensor.map_or(null_mut(), handle);
    let mut out = null_mut();
    // SAFETY: live tensors; the group outlives the process's last backward pass.
    let done = check(unsafe {
        camtrast_sync_batch_norm(
            handle(x),
            maybe(weight),
            maybe(bias),
            handle(running_mean),
            handle(running_var),
            momentum,
            epsilon,
            sum,
            group.as_pointer().cast_mut().cast(),
            &mut out,
        )
    });
    if let Err(error) = done {
        panic_any(failure().unwrap_or(error));
    }
    // SAFETY: the shim gives the tensor away.
    unsafe { Tensor::from_ptr(out.cast()) }
}

// Not of a thread: on a GPU the backward pass has one of its own.
static FAILURE: Mutex<Option<Error>> = Mutex::new(None);

/// Why the last forward or backward pass failed, if another process was lost in it.
pub(crate) fn failure() -> Option<Error> {
    FAILURE.lock().expect("nothing panics here").take()
}

extern "C" fn sum(group: Handle, tensor: Handle) -> i32 {
    // SAFETY: the shim returns the pointer that it was given, and a live tensor.
    let done: Result<()> = unsafe {
        let tensor = Tensor::clone_from_ptr(tensor.cast());
        Group::from_pointer(group.cast_const().cast()).all_reduce(&tensor)
    };
    done.map_or_else(
        |error| {
            *FAILURE.lock().expect("nothing panics here") = Some(error);
            1
        },
        |()| 0,
    )
}
