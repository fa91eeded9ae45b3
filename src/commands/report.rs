//! `camtrast report`.

use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct ReportArgs {
    /// Folders of `camtrast suite run`, or run folders of the training commands
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Folder for report.html, .md, .csv, .json and .tex; the first DIR when left out
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn run(args: ReportArgs) -> Result<()> {
    let out = args.out.as_ref().unwrap_or(&args.folders[0]);
    show(&args.folders, out)
}

/// Writes the report of result folders into `out`, and prints its headline and where it is.
pub fn show(folders: &[PathBuf], out: &Path) -> Result<()> {
    let written = report::write(folders, out)?;
    println!("{}\n", written.table);
    written.files.iter().for_each(|path| println!("{}", path.display()));
    Ok(())
}
