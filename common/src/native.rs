//! Safe wrappers of `native/shim.cpp`: functions of libtorch that tch lacks.

use crate::error::Result;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use tch::{Device, TchError, Tensor};

type Handles = *const *const c_void;

unsafe extern "C" {
    fn camtrast_last_error() -> *const c_char;
    fn camtrast_autocast_bf16(cuda: i32, enabled: i32) -> i32;
    #[rustfmt::skip]
    fn camtrast_fused_sgd(
        params: Handles,
        grads: Handles,
        buffers: Handles,
        n: usize,
        lr: f64,
        momentum: f64,
        weight_decay: f64,
        nesterov: i32,
    ) -> i32;
    #[rustfmt::skip]
    fn camtrast_fused_adam(
        params: Handles,
        grads: Handles,
        exp_avgs: Handles,
        exp_avg_sqs: Handles,
        steps: Handles,
        n: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
        decoupled: i32,
    ) -> i32;
    fn camtrast_load_cuda() -> i32;
    fn camtrast_count_start() -> i32;
    fn camtrast_count_stop(out: *mut i64) -> i32;
    fn camtrast_forget_gradients(tensors: Handles, n: usize) -> i32;
    fn camtrast_ema(averages: Handles, followed: Handles, n: usize, momentum: f64) -> i32;
    fn camtrast_cuda_memory(index: i32, out: *mut i64) -> i32;
}

/// The result of a call of the shim.
pub(crate) fn check(status: i32) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the shim keeps the message alive in this thread until its next failure.
    let message = unsafe { CStr::from_ptr(camtrast_last_error()) }
        .to_string_lossy()
        .into_owned();
    Err(TchError::Torch(message).into())
}

fn handles(tensors: &[Tensor]) -> Vec<*const c_void> {
    tensors.iter().map(|t| t.as_ptr() as *const c_void).collect()
}

/// While this value lives, libtorch runs convolutions and matrix products of this thread in bfloat16; weights
/// and losses stay float32.
pub struct Autocast {
    cuda: i32,
}

impl Autocast {
    /// Begins bfloat16 autocast for one kind of device.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] when the device kind has no autocast.
    pub fn bf16(device: Device) -> Result<Self> {
        let cuda = device.is_cuda() as i32;
        // SAFETY: plain call.
        check(unsafe { camtrast_autocast_bf16(cuda, 1) })?;
        Ok(Autocast { cuda })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: undoes the call in `bf16`. Nothing can be done about a failure here.
        let _ = unsafe { camtrast_autocast_bf16(self.cuda, 0) };
    }
}

/// One step of SGD over a list of tensors at once (`torch.optim.SGD(fused=True)`, dampening 0).
///
/// `buffers` are the momentum buffers, shaped as `params`, zero before the first step.
///
/// # Errors
/// [`crate::Error::Torch`] when shapes or devices do not fit.
pub fn fused_sgd(
    params: &[Tensor],
    grads: &[Tensor],
    buffers: &[Tensor],
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    nesterov: bool,
) -> Result<()> {
    assert!(params.len() == grads.len() && params.len() == buffers.len());
    let (p, g, b) = (handles(params), handles(grads), handles(buffers));
    // SAFETY: three lists of live tensors of one length.
    check(unsafe {
        camtrast_fused_sgd(
            p.as_ptr(),
            g.as_ptr(),
            b.as_ptr(),
            p.len(),
            lr,
            momentum,
            weight_decay,
            nesterov as i32,
        )
    })
}

/// The settings of [`fused_adam`].
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Weight decay.
    pub weight_decay: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// AdamW: weight decay apart from the gradient.
    pub decoupled: bool,
}

/// One step of Adam or AdamW over a list of tensors at once (`torch.optim.Adam(fused=True)`). `steps` are
/// float32 scalars, one per parameter, raised by one here.
///
/// # Errors
/// [`crate::Error::Torch`] when shapes or devices do not fit.
pub fn fused_adam(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    steps: &[Tensor],
    settings: AdamStep,
) -> Result<()> {
    let n = params.len();
    assert!([grads.len(), exp_avgs.len(), exp_avg_sqs.len(), steps.len()] == [n; 4]);
    let [p, g, m, v, s] = [params, grads, exp_avgs, exp_avg_sqs, steps].map(handles);
    let AdamStep {
        lr,
        betas,
        weight_decay,
        eps,
        decoupled,
    } = settings;
    // SAFETY: five lists of live tensors of one length.
    check(unsafe {
        camtrast_fused_adam(
            p.as_ptr(),
            g.as_ptr(),
            m.as_ptr(),
            v.as_ptr(),
            s.as_ptr(),
            n,
            lr,
            betas.0,
            betas.1,
            weight_decay,
            eps,
            decoupled as i32,
        )
    })
}

/// Drops the gradients of tensors, so that the next backward pass writes new ones instead of adding to them.
pub fn forget_gradients(tensors: &[Tensor]) {
    let handles = handles(tensors);
    // SAFETY: a list of live tensors.
    check(unsafe { camtrast_forget_gradients(handles.as_ptr(), handles.len()) })
        .expect("defined tensors can forget their gradients");
}

/// `average <- momentum average + (1 - momentum) followed` for a list of tensors at once.
///
/// # Errors
/// [`crate::Error::Torch`] when shapes or devices do not fit.
pub fn ema(averages: &[Tensor], followed: &[Tensor], momentum: f64) -> Result<()> {
    assert!(averages.len() == followed.len());
    let (averages, followed) = (handles(averages), handles(followed));
    // SAFETY: two lists of live tensors of one length.
    check(unsafe { camtrast_ema(averages.as_ptr(), followed.as_ptr(), averages.len(), momentum) })
}

/// Operations of libtorch in one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations {
    /// All, those inside others included.
    pub all: i64,
    /// Those after which the host of a GPU waits for it: reads of a value, and operations whose result
    /// decides a shape.
    pub waits: i64,
}

thread_local! {
    /// Tensors read by [`crate::device::to_host`], which no operation shows on a CPU.
    static READS: Cell<i64> = const { Cell::new(0) };
}

/// Counts one read of a tensor by the host.
pub(crate) fn count_read() {
    READS.set(READS.get() + 1);
}

/// Counts the operations that `work` runs on this thread, backward passes on a CPU included.
///
/// # Errors
/// [`crate::Error::Torch`].
pub fn count_operations<T>(work: impl FnOnce() -> T) -> Result<(T, Operations)> {
    let reads = READS.get();
    let mut out = [0i64; 2];
    // SAFETY: plain calls; `out` has the two places the shim fills.
    check(unsafe { camtrast_count_start() })?;
    let result = work();
    check(unsafe { camtrast_count_stop(out.as_mut_ptr()) })?;
    let [all, waits] = out;
    let waits = waits + READS.get() - reads;
    Ok((result, Operations { all, waits }))
}

/// Loads libtorch's CUDA half. Must come before the process's first libtorch call.
///
/// # Errors
/// [`crate::Error::Torch`] with the loader's message when there is none.
pub fn load_cuda() -> Result<()> {
    // SAFETY: loads a library whose initialisers libtorch itself runs.
    check(unsafe { camtrast_load_cuda() })
}

/// Memory of a CUDA device, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct CudaMemory {
    /// Held by tensors now.
    pub allocated: i64,
    /// The most that tensors held at one time.
    pub peak: i64,
    /// Free on the device.
    pub free: i64,
    /// The device's total.
    pub total: i64,
}

/// Memory of a CUDA device.
///
/// # Errors
/// [`crate::Error::Torch`] without CUDA.
pub fn cuda_memory(index: usize) -> Result<CudaMemory> {
    let mut out = [0i64; 4];
    // SAFETY: `out` has the four places the shim fills.
    check(unsafe { camtrast_cuda_memory(index as i32, out.as_mut_ptr()) })?;
    let [allocated, peak, free, total] = out;
    Ok(CudaMemory {
        allocated,
        peak,
        free,
        total,
    })
}
