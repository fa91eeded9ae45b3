//! `camtrast demo`.
use anyhow::Result;
use clap::Args;
#[derive(Args)]
pub struct DemoArgs {
    #[command(flatten)]
    common: crate::commands::Common,
}
pub fn run(_args: DemoArgs) -> Result<()> {
    Ok(())
}
