//! Safe wrappers of `native/c10d.cpp`: PyTorch's store and Gloo.

use super::collectives::Collectives;
use crate::device;
use crate::error::{Error, Result};
use crate::native::check;
use std::ffi::{CString, c_char, c_void};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::Builder;
use std::time::Duration;
use tch::{Device, Tensor};

type Handle = *mut c_void;

unsafe extern "C" {
    fn camtrast_store_open(
        host: *const c_char,
        port: u16,
        listener: i32,
        prefix: *const c_char,
        timeout_ms: i64,
        out: *mut Handle,
    ) -> i32;
    fn camtrast_store_clone(store: Handle, out: *mut Handle) -> i32;
    fn camtrast_store_close(store: Handle);
    fn camtrast_store_set(store: Handle, key: *const c_char, value: *const u8, length: usize) -> i32;
    fn camtrast_store_get(
        store: Handle,
        key: *const c_char,
        timeout_ms: i64,
        value: *mut *const u8,
        length: *mut usize,
    ) -> i32;
    fn camtrast_store_has(store: Handle, key: *const c_char, out: *mut i32) -> i32;
    fn camtrast_store_add(store: Handle, key: *const c_char, amount: i64, out: *mut i64) -> i32;
    fn camtrast_gloo_open(
        store: Handle,
        name: *const c_char,
        rank: i32,
        world: i32,
        timeout_ms: i64,
        out: *mut Handle,
    ) -> i32;
    fn camtrast_gloo_close(gloo: Handle);
    fn camtrast_gloo_all_reduce(gloo: Handle, tensor: *const c_void) -> i32;
    fn camtrast_gloo_broadcast(gloo: Handle, tensor: *const c_void) -> i32;
    fn camtrast_gloo_all_gather(gloo: Handle, input: *const c_void, output: *const c_void) -> i32;
}

fn text(text: &str) -> CString {
    CString::new(text).expect("keys and host names have no zero bytes")
}

fn milliseconds(time: Duration) -> i64 {
    time.as_millis() as i64
}

/// How long the store may take to answer, on a busy machine too.
const ANSWER: Duration = Duration::from_secs(10);

/// Keys and values that all processes see (`c10d::TCPStore`).
///
/// c10d waits for ever for an answer of a host that is cut off, and meanwhile keeps the store locked. Each
/// question is therefore asked by a thread of its own, and the store is given up when one gets no answer.
pub(super) struct Store {
    handle: Shared,
    silent: AtomicBool,
}

#[derive(Clone, Copy)]
struct Shared(Handle);

// SAFETY: the store locks itself.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Store {
    /// Connects to the store at an address, or serves it on a `listener` there. Keys begin with `prefix`.
    pub(super) fn open(
        (host, port): (&str, u16),
        listener: Option<TcpListener>,
        prefix: &str,
        timeout: Duration,
    ) -> Result<Self> {
        let (host, prefix, mut store) = (text(host), text(prefix), null_mut());
        let listener = listener.map_or(-1, IntoRawFd::into_raw_fd);
        // SAFETY: strings outlive the call; the store owns the listener from now on.
        check(unsafe {
            camtrast_store_open(
                host.as_ptr(),
                port,
                listener,
                prefix.as_ptr(),
                milliseconds(timeout),
                &mut store,
            )
        })?;
        Ok(Self::of(store))
    }

    fn of(handle: Handle) -> Self {
        Store {
            handle: Shared(handle),
            silent: AtomicBool::new(false),
        }
    }

    /// A connection of its own, for another thread.
    pub(super) fn again(&self) -> Result<Self> {
        let mut store = null_mut();
        // SAFETY: a live store.
        check(unsafe { camtrast_store_clone(self.handle.0, &mut store) })?;
        Ok(Self::of(store))
    }

    /// Whether a question got no answer. All others fail at once.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        question: impl FnOnce(Handle) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, heard) = mpsc::channel();
        if !self.is_silent() {
            let handle = self.handle;
            let asking = move || drop(answer.send(question({ handle }.0)));
            Builder::new().spawn(asking).map_err(Error::thread)?;
        }
        heard.recv_timeout(patience).unwrap_or_else(|_| {
            self.silent.store(true, Ordering::Relaxed);
            Err(Error::Lost {
                problem: "the store of the processes does not answer".into(),
                remedy: "see that the hosts reach each other".into(),
                reported: false,
            })
        })
    }

    pub(super) fn set(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (text(key), value.to_owned());
        // SAFETY: a live store; key and value outlive the call.
        self.ask(ANSWER, move |store| {
            check(unsafe { camtrast_store_set(store, key.as_ptr(), value.as_ptr(), value.len()) })
        })
    }

    /// The value of a key, waited for.
    pub(super) fn get(&self, key: &str, timeout: Duration) -> Result<String> {
        let key = text(key);
        self.ask(timeout + ANSWER, move |store| {
            let (mut value, mut length) = (null(), 0);
            // SAFETY: a live store; the value is copied before this thread reads another.
            let bytes = unsafe {
                check(camtrast_store_get(
                    store,
                    key.as_ptr(),
                    milliseconds(timeout),
                    &mut value,
                    &mut length,
                ))?;
                match length {
                    0 => &[][..], // without an address
                    _ => std::slice::from_raw_parts(value, length),
                }
            };
            Ok(String::from_utf8_lossy(bytes).into_owned())
        })
    }

    /// The value of a key, if it is there.
    pub(super) fn look(&self, key: &str) -> Result<Option<String>> {
        let name = text(key);
        let found = self.ask(ANSWER, move |store| {
            let mut found = 0;
            // SAFETY: a live store.
            check(unsafe { camtrast_store_has(store, name.as_ptr(), &mut found) })?;
            Ok(found != 0)
        })?;
        found.then(|| self.get(key, Duration::from_secs(5))).transpose()
    }

    /// Adds to a number, which begins at 0; returns the sum.
    pub(super) fn add(&self, key: &str, amount: i64) -> Result<i64> {
        let key = text(key);
        self.ask(ANSWER, move |store| {
            let mut sum = 0;
            // SAFETY: a live store.
            check(unsafe { camtrast_store_add(store, key.as_ptr(), amount, &mut sum) })?;
            Ok(sum)
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // A thread still waits in a silent store.
        if !self.is_silent() {
            // SAFETY: made by `open` or `again`, and closed once.
            unsafe { camtrast_store_close(self.handle.0) }
        }
    }
}

/// Gloo's collectives, over TCP. Tensors on other devices pass through the host.
pub(super) struct Gloo(Handle);

// SAFETY: used behind a lock.
unsafe impl Send for Gloo {}

impl Gloo {
    /// Joins the others under a name; exchanges under different names do not disturb each other.
    pub(super) fn open(
        store: &Store,
        name: &str,
        (rank, world): (u64, u64),
        timeout: Duration,
    ) -> Result<Self> {
        let (name, mut gloo) = (text(name), null_mut());
        // SAFETY: a live store.
        check(unsafe {
            camtrast_gloo_open(
                store.handle.0,
                name.as_ptr(),
                rank as i32,
                world as i32,
                milliseconds(timeout),
                &mut gloo,
            )
        })?;
        Ok(Gloo(gloo))
    }

    /// For native code, which keeps a reference of its own.
    pub(super) fn as_pointer(&self) -> *mut c_void {
        self.0
    }

    // Runs `work` on a dense copy on the host where the tensor is not one, and copies the result back.
    fn on_host(tensor: &Tensor, work: impl FnOnce(&Tensor) -> Result<()>) -> Result<()> {
        if tensor.device() == Device::Cpu && tensor.is_contiguous() {
            return work(tensor);
        }
        let host = device::on_host(tensor);
        work(&host)?;
        tch::no_grad(|| tensor.shallow_clone().f_copy_(&host))?;
        Ok(())
    }
}

impl Collectives for Gloo {
    fn all_reduce(&self, tensor: &Tensor) -> Result<()> {
        // SAFETY: a live tensor, contiguous and on the host.
        Self::on_host(tensor, |host| {
            check(unsafe { camtrast_gloo_all_reduce(self.0, host.as_ptr().cast()) })
        })
    }

    fn broadcast(&self, tensor: &Tensor) -> Result<()> {
        // SAFETY: as above.
        Self::on_host(tensor, |host| {
            check(unsafe { camtrast_gloo_broadcast(self.0, host.as_ptr().cast()) })
        })
    }

    fn all_gather(&self, input: &Tensor, output: &Tensor) -> Result<()> {
        let input = device::on_host(input);
        // SAFETY: as above; `output` is the larger by the number of processes.
        Self::on_host(output, |host| {
            check(unsafe { camtrast_gloo_all_gather(self.0, input.as_ptr().cast(), host.as_ptr().cast()) })
        })
    }
}

impl Drop for Gloo {
    fn drop(&mut self) {
        // SAFETY: made by `open`, and closed once.
        unsafe { camtrast_gloo_close(self.0) }
    }
}
