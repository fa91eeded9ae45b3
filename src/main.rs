//! Starts in milliseconds: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    camtrast::start()
}
