//! `camtrast report`.

use super::Common;
use crate::suite::board::say;
use anyhow::Result;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct ReportArgs {
    /// Output folders of `camtrast suite run`, or run folders of training and evaluation commands
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Folder for report.html, .md, .csv, .json and .tex (default: the first DIR)
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: ReportArgs) -> Result<()> {
    let out = args.out.as_ref().unwrap_or(&args.folders[0]);
    show(&args.folders, out, args.common.quiet)
}

/// Writes the report of result folders into `out`, and prints its main table (unless quiet) and its path.
pub fn show(folders: &[PathBuf], out: &Path, quiet: bool) -> Result<()> {
    let written = camtrast_report::write(folders, out)?;
    if !quiet {
        say(&format!("{}\n", written.table));
    }
    written
        .files
        .iter()
        .for_each(|path| say(&path.display().to_string()));
    Ok(())
}
