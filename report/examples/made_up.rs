//! `cargo run -p camtrast-report --example made_up -- DIR` lays out a suite that nobody ran and writes its
//! report: for looking at, and for tests/browser.

#[path = "../tests/made_up/mod.rs"]
mod made_up;

use std::path::PathBuf;

fn main() -> camtrast_common::Result<()> {
    let root = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "made-up".into()));
    let _ = std::fs::remove_dir_all(root.join("runs"));
    made_up::MadeUp::of_everything(&root);
    camtrast_report::write(std::slice::from_ref(&root), &root)?;
    Ok(())
}
