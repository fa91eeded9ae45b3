//! Safe wrappers of `native/`: functions of libtorch that tch lacks.

use crate::error::Result;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
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
    #[rustfmt::skip]
    fn camtrast_product_convolution(
        x: *const c_void,
        weight: *const c_void,
        stride: i64,
        padding: i64,
        out: *mut *mut c_void,
    ) -> i32;
    fn camtrast_cuda_memory(index: i32, out: *mut i64) -> i32;
    fn camtrast_profile_start() -> i32;
    fn camtrast_profile_stop(path: *const c_char) -> i32;
    fn camtrast_set_arithmetic(tf32: i32, deterministic: i32, benchmark: i32) -> i32;
    fn camtrast_get_arithmetic(out: *mut i32) -> i32;
    fn camtrast_cuda_card(index: i32, name: *mut c_char, capability: *mut i32) -> i32;
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

/// A tensor as the shim takes it.
pub(crate) fn handle(tensor: &Tensor) -> *mut c_void {
    tensor.as_ptr().cast_mut().cast()
}

/// The tensors as the shim takes them.
pub(crate) fn handles(tensors: &[Tensor]) -> Vec<*const c_void> {
    tensors.iter().map(|t| handle(t).cast_const()).collect()
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

/// A convolution of `x` [N, in, H, W] with `weight` [out, in, k, k] as matrix products: for k = 1 and stride
/// 1 its result and both gradients, otherwise only the gradient of the weights. In autocast both are cast
/// first, as by `conv2d`. Rounding aside it equals `conv2d`; where it is faster, [`crate::nn::Conv2d`] knows.
///
/// # Errors
/// [`crate::Error::Torch`] when shapes or types do not fit.
pub fn product_convolution(x: &Tensor, weight: &Tensor, stride: i64, padding: i64) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    let (x, weight) = (handle(x), handle(weight));
    // SAFETY: live tensors; the shim stores a new tensor, which is owned here.
    check(unsafe { camtrast_product_convolution(x, weight, stride, padding, &mut out) })?;
    // SAFETY: as above.
    Ok(unsafe { Tensor::from_ptr(out.cast()) })
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

/// Records what libtorch does while `work` runs, on the host and on GPUs, and writes a trace that
/// chrome://tracing and Perfetto show.
///
/// # Errors
/// Those of `work`; [`crate::Error::Torch`].
pub fn profiled<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path has no zero in it");
    // SAFETY: plain call.
    check(unsafe { camtrast_profile_start() })?;
    let result = work();
    // SAFETY: the path lives through the call.
    check(unsafe { camtrast_profile_stop(path.as_ptr()) })?;
    result
}

/// How libtorch computes, for the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// TF32 in matrix products and convolutions of a GPU.
    pub tf32: bool,
    /// Only operations that give the same bytes again; others fail.
    pub deterministic: bool,
    /// Whether cuDNN tries its algorithms on every new shape and keeps the fastest.
    pub benchmark: bool,
}

impl Settings {
    /// Makes libtorch compute like this.
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub fn set(self) -> Result<()> {
        let [tf32, deterministic, benchmark] = [self.tf32, self.deterministic, self.benchmark].map(i32::from);
        // SAFETY: plain call.
        check(unsafe { camtrast_set_arithmetic(tf32, deterministic, benchmark) })
    }

    /// How libtorch computes now; TF32 counts when it is on for both.
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub fn now() -> Result<Self> {
        let mut out = [0; 4];
        // SAFETY: `out` has the four places the shim fills.
        check(unsafe { camtrast_get_arithmetic(out.as_mut_ptr()) })?;
        let [convolutions, products, deterministic, benchmark] = out.map(|flag| flag != 0);
        Ok(Settings {
            tf32: convolutions && products,
            deterministic,
            benchmark,
        })
    }
}

/// An NVIDIA GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its name, as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Its compute capability, as (9, 0).
    pub capability: (i32, i32),
}

/// A CUDA device's card, as the driver describes it.
///
/// # Errors
/// [`crate::Error::Torch`] without a driver.
pub fn cuda_card(index: usize) -> Result<Card> {
    let (mut name, mut capability) = ([0 as c_char; 256], [0; 2]);
    // SAFETY: the places that the shim fills, of the sizes it fills.
    check(unsafe { camtrast_cuda_card(index as i32, name.as_mut_ptr(), capability.as_mut_ptr()) })?;
    // SAFETY: the driver ends the name with a zero.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Ok(Card {
        name: name.to_string_lossy().into_owned(),
        capability: capability.into(),
    })
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
