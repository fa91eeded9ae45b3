//! Safe wrappers of `native/c10d.cpp`: PyTorch's store and Gloo.

use super::collectives::Collectives;
use crate::device;
use crate::error::Result;
use crate::native::check;
use std::ffi::{CString, c_char, c_void};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::ptr::null_mut;
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
    fn camtrast_gloo_open(store: Handle, rank: i32, world: i32, timeout_ms: i64, out: *mut Handle) -> i32;
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

/// Keys and values that all processes see (`c10d::TCPStore`).
pub(super) struct Store(Handle);

// SAFETY: the store locks itself.
unsafe impl Send for Store {}
unsafe impl Sync for Store {}

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
        Ok(Store(store))
    }

    /// A connection of its own, for another thread.
    pub(super) fn again(&self) -> Result<Self> {
        let mut store = null_mut();
        // SAFETY: a live store.
        check(unsafe { camtrast_store_clone(self.0, &mut store) })?;
        Ok(Store(store))
    }

    pub(super) fn set(&self, key: &str, value: &str) -> Result<()> {
        let key = text(key);
        // SAFETY: a live store; key and value outlive the call.
        check(unsafe { camtrast_store_set(self.0, key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// The value of a key, waited for.
    pub(super) fn get(&self, key: &str, timeout: Duration) -> Result<String> {
        let (key, mut value, mut length) = (text(key), std::ptr::null(), 0);
        // SAFETY: a live store; the value is copied before this thread reads another.
        let bytes = unsafe {
            check(camtrast_store_get(
                self.0,
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
    }

    /// The value of a key, if it is there.
    pub(super) fn look(&self, key: &str) -> Result<Option<String>> {
        let (name, mut found) = (text(key), 0);
        // SAFETY: a live store.
        check(unsafe { camtrast_store_has(self.0, name.as_ptr(), &mut found) })?;
        (found != 0)
            .then(|| self.get(key, Duration::from_secs(5)))
            .transpose()
    }

    /// Adds to a number, which begins at 0; returns the sum.
    pub(super) fn add(&self, key: &str, amount: i64) -> Result<i64> {
        let (key, mut sum) = (text(key), 0);
        // SAFETY: a live store.
        check(unsafe { camtrast_store_add(self.0, key.as_ptr(), amount, &mut sum) })?;
        Ok(sum)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by `open` or `again`, and closed once.
        unsafe { camtrast_store_close(self.0) }
    }
}

/// Gloo's collectives, over TCP. Tensors on other devices pass through the host.
pub(super) struct Gloo(Handle);

// SAFETY: used behind a lock.
unsafe impl Send for Gloo {}

impl Gloo {
    pub(super) fn open(store: &Store, rank: u64, world: u64, timeout: Duration) -> Result<Self> {
        let mut gloo = null_mut();
        // SAFETY: a live store.
        check(unsafe {
            camtrast_gloo_open(
                store.0,
                rank as i32,
                world as i32,
                milliseconds(timeout),
                &mut gloo,
            )
        })?;
        Ok(Gloo(gloo))
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
