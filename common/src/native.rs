//! Safe wrappers of `native/shim.cpp`: functions of libtorch that tch lacks.

use crate::error::Result;
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
    fn camtrast_deterministic(enabled: i32) -> i32;
    fn camtrast_load_cuda() -> i32;
    fn camtrast_cuda_memory(index: i32, out: *mut i64) -> i32;
    fn camtrast_cuda_empty_cache() -> i32;
}

fn check(status: i32) -> Result<()> {
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

/// Asks libtorch for deterministic kernels where it has them, or (`false`) for the fastest.
///
/// # Errors
/// [`crate::Error::Torch`].
pub fn set_deterministic(enabled: bool) -> Result<()> {
    // SAFETY: plain call.
    check(unsafe { camtrast_deterministic(enabled as i32) })
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

/// Returns cached memory that no tensor uses to the device.
///
/// # Errors
/// [`crate::Error::Torch`] without CUDA.
pub fn cuda_empty_cache() -> Result<()> {
    // SAFETY: plain call.
    check(unsafe { camtrast_cuda_empty_cache() })
}
