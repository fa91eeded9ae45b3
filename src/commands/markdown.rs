//! The reference of every command in Markdown, from the same definitions as `--help`.

use anyhow::Result;
use camtrast_common::Error;
use clap::{Arg, ArgAction, Command};
use std::fmt::Write;
use std::path::Path;

/// Writes a page for each of `root`'s commands, `pretrain.md`, with its own commands as sections.
pub fn pages(mut root: Command, out: &Path) -> Result<()> {
    root.build();
    for command in shown_commands(&root) {
        let path = out.join(format!("{}.md", command.get_name()));
        let mut page = String::new();
        section(command, 1, &mut page)?;
        std::fs::write(&path, page).map_err(Error::io(&path, "write"))?;
    }
    Ok(())
}

fn shown_commands(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|c| !c.is_hide_set() && c.get_name() != "help")
}

fn section(command: &Command, level: usize, page: &mut String) -> Result<()> {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    writeln!(page, "{} {name}\n", "#".repeat(level))?;
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        writeln!(page, "{}\n", escaped(&about.to_string()))?;
    }
    if command.has_subcommands() {
        for below in shown_commands(command) {
            section(below, level + 1, page)?;
        }
        return Ok(());
    }
    let usage = command.clone().render_usage().to_string();
    writeln!(page, "```text\n{}\n```\n", usage.trim_start_matches("Usage: "))?;
    let shown = |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    for argument in command.get_arguments().filter(shown) {
        line(argument, page)?;
    }
    writeln!(page)?;
    Ok(())
}

/// `- **--arch** ARCH: the network. One of ... Default: ...`
fn line(argument: &Arg, page: &mut String) -> Result<()> {
    let flag = argument.get_long().map(|long| format!("--{long}"));
    let values = match argument.get_action() {
        ArgAction::Set | ArgAction::Append => argument.get_value_names().unwrap_or_default(),
        _ => &[],
    };
    let words: Vec<String> = flag
        .into_iter()
        .chain(values.iter().map(|value| value.to_string()))
        .collect();
    write!(page, "- `{}`", words.join(" "))?;
    if argument.is_required_set() {
        write!(page, " (required)")?;
    }
    if let Some(help) = argument.get_long_help().or(argument.get_help()) {
        write!(page, ": {}", escaped(&help.to_string()))?;
    }
    let code = |words: Vec<String>| {
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        words.join(", ")
    };
    let possible = argument.get_possible_values();
    if !possible.is_empty() && !values.is_empty() {
        let names = possible.iter().map(|value| value.get_name().to_owned());
        write!(page, ". One of {}", code(names.collect()))?;
    }
    let defaults = argument.get_default_values();
    if !defaults.is_empty() && !values.is_empty() {
        let texts = defaults.iter().map(|text| text.to_string_lossy().into_owned());
        write!(page, ". Default: {}", code(texts.collect()))?;
    }
    writeln!(page)?;
    Ok(())
}

/// Text in which Markdown sees no markup: `<` would begin a tag, and lines of one paragraph are indented.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;")
        .replace('*', "\\*")
        .replace('\n', "\n  ")
}
