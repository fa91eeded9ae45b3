//! The invariants of docs/architecture.md that a machine can hold.

use std::fs;
use std::path::{Path, PathBuf};

const LIBRARIES: [&str; 8] =
    ["common", "pretrain", "fewshot", "detection", "segmentation", "analysis", "report", "interop"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten().map(|e| e.path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            found.push(entry);
        }
    }
}

#[test]
fn task_crates_depend_on_common_and_never_on_each_other() {
    for library in LIBRARIES {
        let manifest: toml::Table =
            fs::read_to_string(root().join(library).join("Cargo.toml")).unwrap().parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        let ours: Vec<&str> = LIBRARIES.into_iter().filter(|l| dependencies.contains_key(*l)).collect();
        let allowed: &[&str] = if library == "common" { &[] } else { &["common"] };
        assert_eq!(ours, allowed, "{library}/Cargo.toml");
    }
}

#[test]
fn libraries_neither_print_nor_exit() {
    let mut files = Vec::new();
    LIBRARIES.iter().for_each(|library| sources(&root().join(library).join("src"), &mut files));
    assert!(files.len() > 30, "the sources have moved: {}", files.len());
    // common/src/testing.rs is no library: it serves the golden tests, which report their worst errors.
    for file in files.into_iter().filter(|f| !f.ends_with("common/src/testing.rs")) {
        let text = fs::read_to_string(&file).unwrap();
        for word in ["println!", "eprintln!", "print!(", "dbg!", "process::exit"] {
            let line = text.lines().position(|l| l.contains(word) && !l.trim_start().starts_with("//"));
            assert_eq!(line, None, "{word} in {}", file.display());
        }
    }
}

#[test]
fn the_map_names_every_folder_and_every_named_file_exists() {
    let map = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for folder in LIBRARIES.into_iter().chain(["src", "recipes", "tests/cli", "tests/golden", "benches"]) {
        assert!(map.contains(&format!("{folder}/")), "docs/architecture.md does not name {folder}/");
        assert!(root().join(folder).is_dir(), "docs/architecture.md names {folder}/, which is not there");
    }
    let files = ["src/config_file.rs", "src/demo.rs", "src/screen.rs", "report/src/table.rs", "report/src/chart.rs"]
        .map(String::from)
        .into_iter();
    let common =
        ["native", "device", "nn", "resnet", "checkpoint", "tensor_file", "files", "engine", "optim", "schedule"];
    let common = common.map(|f| format!("common/src/{f}.rs")).into_iter();
    for file in files.chain(common) {
        assert!(map.contains(file.rsplit('/').next().unwrap()), "docs/architecture.md does not name {file}");
        assert!(root().join(&file).is_file(), "docs/architecture.md names {file}, which is not there");
    }
}
