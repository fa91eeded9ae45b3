//! `--config file.toml`: a TOML file's keys become flags placed before the user's own, so that flags win and
//! an unknown key is an unknown flag.

use camtrast_common::{Error, Result};
use clap::Command;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use toml::Value;

/// Tables of a run's config.toml that only describe it and are not settings.
const DESCRIPTIONS: [&str; 5] = ["dataset", "build", "network", "episodes", "extended"];

/// Puts the keys of the file named by `--config`, if any, right after the (sub)command's name.
///
/// # Errors
/// [`Error::Usage`] for a file that is not TOML or has keys that are not flags of this command, [`Error::Io`]
/// when unreadable.
pub fn expand(arguments: Vec<OsString>, root: &Command) -> Result<Vec<OsString>> {
    let Some(path) = config_path(&arguments) else {
        return Ok(arguments);
    };
    let (mut command, mut position) = (root, 1);
    while let Some(sub) = arguments.get(position).and_then(|a| command.find_subcommand(a)) {
        (command, position) = (sub, position + 1);
    }
    let path = Path::new(&path);
    let text = fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    let usage = |problem: String, remedy: &str| Error::Usage {
        problem: format!("{}: {problem}", path.display()),
        remedy: remedy.into(),
    };
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e
            .span()
            .map_or(0, |span| text[..span.start].lines().count().max(1));
        usage(format!("line {line}: {}", e.message()), "correct the TOML")
    })?;
    let table: toml::Table = table
        .into_iter()
        .filter(|(key, value)| !(DESCRIPTIONS.contains(&key.as_str()) && is_tables(value)))
        .collect();
    let flags = flags(table, command).map_err(|(problem, remedy)| usage(problem, &remedy))?;
    let mut expanded = arguments;
    expanded.splice(position..position, flags);
    Ok(expanded)
}

/// The flags of a command for the keys of a table; the error is a problem and its remedy.
pub fn flags(table: toml::Table, command: &Command) -> std::result::Result<Vec<OsString>, (String, String)> {
    let mut flags = Vec::new();
    for (key, value) in table {
        let flag = key.replace('_', "-");
        let known = command
            .get_arguments()
            .find(|a| a.get_long() == Some(&flag) && flag != "config");
        let Some(argument) = known else {
            let known: Vec<&str> = command.get_arguments().filter_map(|a| a.get_long()).collect();
            let near = nearest(&flag, &known)
                .map(|n| format!("did you mean {n:?}?"))
                .unwrap_or_default();
            let remedy = format!("{near} `camtrast {} --help` lists the keys", command.get_name());
            return Err((format!("unknown key {key:?}"), remedy.trim().to_owned()));
        };
        match value {
            Value::Boolean(true) if !argument.get_action().takes_values() => {
                flags.push(format!("--{flag}").into())
            }
            Value::Boolean(false) if !argument.get_action().takes_values() => {}
            value => {
                let Some(text) = plain(&value) else {
                    return Err((format!("key {key:?} is a table"), "give a plain value".into()));
                };
                flags.push(format!("--{flag}={text}").into());
            }
        }
    }
    Ok(flags)
}

fn is_tables(value: &Value) -> bool {
    let all = |items: &Vec<Value>| items.iter().all(Value::is_table);
    value.is_table() || value.as_array().is_some_and(all)
}

fn config_path(arguments: &[OsString]) -> Option<OsString> {
    let mut found = None;
    for (i, argument) in arguments.iter().enumerate() {
        if argument == "--config" {
            found = arguments.get(i + 1).cloned();
        } else if let Some(path) = argument.to_str().and_then(|a| a.strip_prefix("--config=")) {
            found = Some(path.into());
        }
    }
    found
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => items
            .iter()
            .map(plain)
            .collect::<Option<Vec<_>>>()
            .map(|parts| parts.join(",")),
        Value::Table(_) => None,
        number => Some(number.to_string()),
    }
}

fn nearest<'a>(flag: &str, known: &[&'a str]) -> Option<&'a str> {
    let shared = |other: &str| {
        flag.chars()
            .zip(other.chars())
            .take_while(|(a, b)| a == b)
            .count()
    };
    known
        .iter()
        .copied()
        .max_by_key(|k| shared(k))
        .filter(|k| shared(k) >= 3)
}
