//! Notes the commit being built, for the provenance of every run and checkpoint.

use std::path::Path;
use std::process::Command;

fn main() {
    let described = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    let commit =
        described.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    println!("cargo:rustc-env=CAMTRAST_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    // A file that is not there would make cargo run this every time.
    for watched in [".git/logs/HEAD", "Cargo.toml", "src", "common", "pretrain", "fewshot"] {
        if Path::new(watched).exists() {
            println!("cargo:rerun-if-changed={watched}");
        }
    }
}
