//! Notes the commit being built, for the provenance of every run and checkpoint.

use std::path::Path;
use std::process::Command;

fn main() {
    let commit = git(&["describe", "--always", "--dirty", "--abbrev=12"]);
    println!(
        "cargo:rustc-env=CAMTRAST_COMMIT={}",
        commit.as_deref().unwrap_or("unknown")
    );
    // What libraries export, the linker has to keep, and with it libtorch.
    println!("cargo:rustc-link-arg-bin=camtrast=-Wl,--exclude-libs,ALL");
    // In a linked worktree it is not below .git/.
    let head = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    let ours = ["build.rs", "Cargo.toml", "Cargo.lock", "src", "recipes"].map(String::from);
    for watched in head.into_iter().chain(ours).chain(crates()) {
        // A file that is not there would make cargo run this every time.
        if Path::new(&watched).exists() {
            println!("cargo:rerun-if-changed={watched}");
        }
    }
}

/// The folders here that are crates: a change in any of them makes the commit `-dirty`.
fn crates() -> Vec<String> {
    let names = std::fs::read_dir(".").into_iter().flatten().flatten();
    let names = names.filter(|entry| entry.path().join("Cargo.toml").exists());
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
