//! `println!` and `eprintln!` of this program: std's panic when a stream is closed or its disk is full, and
//! what cannot be shown is no reason to stop working.
//!
//! `main.rs` names this module first and with `#[macro_use]`, so that these stand in for std's everywhere
//! below.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::Mutex;

/// Why results could not be printed, if so. Readers that have seen enough (`| head`) are no failure.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes results to standard output.
pub fn print(text: Arguments) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            *FAILED.lock().expect("nothing panics here") = Some(error)
        }
        _ => {}
    }
}

/// Writes news to standard error.
pub fn eprint(text: Arguments) {
    // There is nowhere to complain.
    let _ = io::stderr().lock().write_fmt(text);
}

/// What became of all that was printed.
///
/// # Errors
/// Whatever kept results from standard output, but for its reader's end.
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
