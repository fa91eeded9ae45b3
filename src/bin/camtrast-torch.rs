//! Every command, with libtorch and OpenCV: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    camtrast::run()
}
