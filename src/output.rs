//! `println!` and `eprintln!` of this program. Those of std panic when a stream is closed or its disk is
//! full; here, the program continues.
//!
//! `main.rs` names this module first and with `#[macro_use]`, so that these replace std's in all modules
//! after it.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why results could not be printed, if so. A reader that stops early (`| head`) is not a failure.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Whether another process prints the results.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Prints no results from now on: another process does.
pub fn silence() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Writes results to standard output.
pub fn print(text: Arguments) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            *FAILED.lock().expect("nothing panics here") = Some(error)
        }
        _ => {}
    }
}

/// Writes progress and notes to standard error.
pub fn eprint(text: Arguments) {
    // At once: other processes may write lines, too. There is no other place to report a failure.
    let _ = io::stderr().lock().write_all(text.to_string().as_bytes());
}

/// Whether all results could be printed.
///
/// # Errors
/// The failure of standard output, unless its reader has closed it.
pub fn finish() -> io::Result<()> {
    FAILED
        .lock()
        .expect("nothing panics here")
        .take()
        .map_or(Ok(()), Err)
}

macro_rules! println {
    () => { $crate::output::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::eprint(format_args!("{}\n", format_args!($($text)*))) };
}
