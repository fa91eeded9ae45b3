//! `camtrast track`: runs that are there, for MLflow or for tools that import tables.

use crate::track::{Target, track};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct TrackArgs {
    /// Run folders: of a training, or of an evaluation
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// mlflow:DIR (MLflow's file store), mlflow:http://HOST:PORT (a server) or csv:DIR
    #[arg(long, value_name = "TARGET")]
    to: Target,
}

/// Tracks them one after the other; the first that fails ends it.
pub fn run(args: TrackArgs) -> Result<()> {
    for run in &args.runs {
        track(run, &args.to)?;
        println!("{}", run.display());
    }
    Ok(())
}
