//! The `--help` of every command is the text in `tests/cli/help/<command>.txt`, so that a changed word is
//! seen in review. The commands are found by walking the help itself; none can be left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const RENEW: &str = "CAMTRAST_RENEW=1 cargo test --workspace --test cli every_help_text";

fn help(command: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_camtrast"))
        .args(command)
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert!(done.status.success(), "camtrast {command:?} --help fails");
    String::from_utf8(done.stdout).unwrap()
}

/// The names under `Commands:`, whose lines are indented by two; the lines of a wrapped text by more.
fn subcommands(help: &str) -> Vec<&str> {
    let Some((_, list)) = help.split_once("\nCommands:\n") else {
        return vec![];
    };
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')))
        .map(|line| line.split_whitespace().next().unwrap())
        .filter(|name| *name != "help")
        .collect()
}

/// The help of a command and of all below it, by the name of its file.
fn walk(command: &[&str], texts: &mut BTreeMap<String, String>) {
    let text = help(command);
    for name in subcommands(&text) {
        walk(&[command, &[name]].concat(), texts);
    }
    texts.insert(
        format!("{}.txt", [&["camtrast"], command].concat().join("-")),
        text,
    );
}

fn stored(folder: &Path) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect()
}

#[test]
fn every_help_text_is_the_stored_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/help");
    let mut texts = BTreeMap::new();
    walk(&[], &mut texts);
    assert!(
        texts.len() > 20,
        "the help lists its commands in another way: {:?}",
        texts.keys()
    );
    if std::env::var_os("CAMTRAST_RENEW").is_some() {
        for (name, path) in stored(&folder) {
            if !texts.contains_key(&name) {
                fs::remove_file(path).unwrap();
            }
        }
        for (name, text) in &texts {
            fs::write(folder.join(name), text).unwrap();
        }
        return;
    }
    let stored = stored(&folder);
    let mut wrong = vec![];
    for (name, text) in &texts {
        match stored.get(name).map(|path| fs::read_to_string(path).unwrap()) {
            None => wrong.push(format!("{name}: not stored")),
            Some(old) if old != *text => wrong.push(first_difference(name, &old, text)),
            Some(_) => {}
        }
    }
    let stale = stored.keys().filter(|name| !texts.contains_key(*name));
    wrong.extend(stale.map(|name| format!("{name}: no such command")));
    assert!(
        wrong.is_empty(),
        "{}\ntests/cli/help differs from --help; if this is meant, renew it: {RENEW}",
        wrong.join("\n")
    );
}

fn first_difference(name: &str, old: &str, new: &str) -> String {
    let same = old.lines().zip(new.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(end)").to_owned();
    format!(
        "{name}:{}\n  stored: {}\n  --help: {}",
        same + 1,
        line(old),
        line(new)
    )
}
