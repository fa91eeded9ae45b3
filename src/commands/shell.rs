//! `camtrast completions` and `camtrast man`: what a shell and `man` want to know of the command line.

use super::markdown;
use anyhow::Result;
use camtrast_common::Error;
use clap::Args;
use clap_complete::{Shell, generate};
use std::path::PathBuf;

#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell that the script is for
    shell: Shell,
}

#[derive(Args)]
pub struct ManArgs {
    /// Folder for the pages, one for each command: camtrast.1, camtrast-pretrain.1, ...
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pages in Markdown instead, one for each command with all those below it: pretrain.md, ...
    #[arg(long)]
    markdown: bool,
}

/// Prints the script that makes a shell complete camtrast's commands, flags and their values.
pub fn completions(args: CompletionsArgs, mut root: clap::Command) -> Result<()> {
    let name = root.get_name().to_owned();
    let mut script = Vec::new();
    generate(args.shell, &mut root, name, &mut script);
    println!("{}", String::from_utf8(script)?.trim_end());
    Ok(())
}

/// Writes a page for every command, and prints the folder.
pub fn man(args: ManArgs, root: clap::Command) -> Result<()> {
    let out = &args.out;
    std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    if args.markdown {
        markdown::pages(root, out)?;
    } else {
        clap_mangen::generate_to(root, out).map_err(Error::io(out, "write a page into"))?;
    }
    println!("{}", out.display());
    Ok(())
}
