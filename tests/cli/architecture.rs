//! The invariants of docs/architecture.md that a machine can hold.

mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// Every library, and the libraries that it may depend on: nothing above or beside it that is not named here.
const LIBRARIES: [(&str, &[&str]); 14] = [
    ("common", &[]),
    ("images", &["common"]),
    ("pickle", &["common"]),
    ("datasets", &["common", "images", "pickle"]),
    ("world", &["common", "images"]),
    ("analysis", &["common", "images", "datasets"]),
    ("pretrain", &["common", "datasets", "analysis"]),
    ("fewshot", &["common", "datasets"]),
    ("finetune", &["common"]),
    ("probe", &["common", "datasets", "finetune"]),
    ("detection", &["common", "finetune", "images"]),
    ("segmentation", &["common", "finetune", "images"]),
    ("report", &["common", "images"]),
    ("interop", &["common", "pickle"]),
];

fn libraries() -> impl Iterator<Item = &'static str> {
    LIBRARIES.into_iter().map(|(name, _)| name)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    files_ending_in("rs", folder, found);
}

fn files_ending_in(extension: &str, folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten().map(|e| e.path()) {
        if entry.is_dir() {
            files_ending_in(extension, &entry, found);
        } else if entry.extension().is_some_and(|e| e == extension) {
            found.push(entry);
        }
    }
}

#[test]
fn crates_depend_on_those_below_them_only() {
    for (library, allowed) in LIBRARIES {
        let manifest: toml::Table = fs::read_to_string(root().join(library).join("Cargo.toml"))
            .unwrap()
            .parse()
            .unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        let uses = |name: &&str| dependencies.contains_key(&format!("camtrast-{name}"));
        let ours: Vec<&str> = libraries().filter(uses).collect();
        let surplus: Vec<&&str> = ours.iter().filter(|name| !allowed.contains(name)).collect();
        assert!(surplus.is_empty(), "{library}/Cargo.toml depends on {surplus:?}");
        assert_eq!(
            ours.len(),
            allowed.len(),
            "{library} no longer needs all of {allowed:?}: take them off"
        );
    }
    let workspace: toml::Table = fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        workspace["workspace"]["members"].as_array().unwrap().len(),
        LIBRARIES.len()
    );
}

#[test]
fn every_library_says_and_shows_what_it_is_for() {
    for library in libraries() {
        let read = |file: &str| fs::read_to_string(root().join(library).join(file)).unwrap();
        let page = read("src/lib.rs");
        let page: Vec<&str> = page.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(
            page.contains(&"//! ```"),
            "{library}/src/lib.rs begins without an example"
        );
        let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
        for key in ["description", "readme", "keywords", "categories"] {
            assert!(
                manifest["package"].get(key).is_some(),
                "{library}/Cargo.toml has no {key}"
            );
        }
    }
}

#[test]
fn libraries_neither_print_nor_exit() {
    let mut files = Vec::new();
    libraries().for_each(|library| sources(&root().join(library).join("src"), &mut files));
    assert!(files.len() > 30, "the sources have moved: {}", files.len());
    // common/src/testing.rs is not library code: it serves the golden tests, which report their worst errors.
    for file in files
        .into_iter()
        .filter(|f| !f.ends_with("common/src/testing.rs"))
    {
        let text = fs::read_to_string(&file).unwrap();
        for word in ["println!", "eprintln!", "print!(", "dbg!", "process::exit"] {
            let line = text
                .lines()
                .position(|l| l.contains(word) && !l.trim_start().starts_with("//"));
            assert_eq!(line, None, "{word} in {}", file.display());
        }
    }
}

/// A copy that is not `device::send`, `device::to_host` or `device::on_host` stops the host of a GPU, and no
/// count on a CPU shows it.
#[test]
fn copies_between_host_and_device_go_through_one_file() {
    let allowed = [
        "common/src/device.rs",
        // A whole pack, once before training, and too large to pin.
        "pretrain/src/driver.rs",
    ];
    let mut files = Vec::new();
    libraries().for_each(|library| sources(&root().join(library).join("src"), &mut files));
    sources(&root().join("src"), &mut files);
    let copies = |file: &PathBuf| fs::read_to_string(file).unwrap().contains("to_device");
    let found: Vec<PathBuf> = files.into_iter().filter(copies).collect();
    let expected: Vec<PathBuf> = allowed.iter().map(|file| root().join(file)).collect();
    let surplus: Vec<&PathBuf> = found.iter().filter(|file| !expected.contains(file)).collect();
    assert!(
        surplus.is_empty(),
        "to_device in {surplus:?}: use device::send, device::to_host or device::on_host"
    );
    assert_eq!(
        found.len(),
        allowed.len(),
        "one of {allowed:?} no longer copies: take it off"
    );
}

/// Cargo must run the build script again, which finds out whether the commit is `-dirty`, after a change in
/// any of these: the script's own output lists them.
#[test]
fn a_change_in_any_crate_is_seen_by_the_build_script() {
    let said = fs::read_to_string(Path::new(env!("OUT_DIR")).with_file_name("output")).unwrap();
    for folder in libraries().chain(["src", "Cargo.toml", "Cargo.lock", "build.rs"]) {
        assert!(
            said.lines()
                .any(|line| line == format!("cargo:rerun-if-changed={folder}")),
            "{folder}: {said}"
        );
    }
}

/// Whether a path that may hold `*`, `<name>` or a shell's `$name` leads somewhere, as far as it is plain.
fn leads_somewhere(path: &Path) -> bool {
    let plain =
        |part: &std::path::Component| !part.as_os_str().to_string_lossy().contains(['*', '<', '{', '$']);
    path.components().take_while(plain).collect::<PathBuf>().exists()
}

#[test]
fn every_file_that_the_documents_name_is_there() {
    let folder = |name: &str| {
        fs::read_dir(root().join(name))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
    };
    let documents = folder("docs")
        .chain(folder("."))
        .filter(|path| path.extension().is_some_and(|e| e == "md"));
    let top: Vec<String> = folder(".")
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let (mut named, mut linked, mut missing) = (0, 0, Vec::new());
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let ends = |c: char| c.is_whitespace() || "`()[],;\"'|".contains(c);
        for word in text.split(ends).map(|word| word.trim_end_matches(['.', ':'])) {
            // Metrics such as detection/AP look like paths, but end otherwise.
            let endings = [
                ".rs",
                ".md",
                ".toml",
                ".py",
                ".sh",
                ".js",
                ".json",
                ".csv",
                ".txt",
                ".safetensors",
                "/",
            ];
            let begins = word
                .split_once('/')
                .is_some_and(|(first, _)| top.iter().any(|name| name == first));
            if begins && endings.iter().any(|ending| word.ends_with(ending)) {
                named += 1;
                if !leads_somewhere(&root().join(word)) {
                    missing.push(format!("{}: {word}", document.display()));
                }
            }
        }
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
        {
            if !link.is_empty() && !link.contains("://") {
                linked += 1;
                if !document.with_file_name(link).exists() {
                    missing.push(format!("{}: the link to {link}", document.display()));
                }
            }
        }
    }
    assert!(
        named > 30 && linked > 20,
        "the documents are read no more: {named} files, {linked} links"
    );
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_file_of_the_map_is_there() {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let map = text.split("```").nth(1).unwrap();
    let (mut folder, mut named, mut missing) = (PathBuf::new(), 0, Vec::new());
    for line in map.lines() {
        if !line.starts_with(' ') {
            folder = root().join(line.split_whitespace().next().unwrap_or_default());
        }
        let mut files = Vec::new();
        sources(&folder, &mut files);
        for word in line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')) {
            if word.ends_with(".rs") && word.len() > 3 {
                named += 1;
                if !files
                    .iter()
                    .any(|file| file.file_name().is_some_and(|name| name == word))
                {
                    missing.push(format!("{}: {word}", folder.display()));
                }
            }
        }
    }
    assert!(named > 50, "the map is read no more: {named}");
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_map_names_every_folder_and_every_named_file_exists() {
    let map = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for folder in libraries().chain([
        "src",
        "recipes",
        "tests/cli",
        "tests/fuzz",
        "tests/golden",
        "benches",
    ]) {
        assert!(
            map.contains(&format!("{folder}/")),
            "docs/architecture.md does not name {folder}/"
        );
        assert!(
            root().join(folder).is_dir(),
            "docs/architecture.md names {folder}/, which is not there"
        );
    }
    let files = [
        "src/config_file.rs",
        "src/demo.rs",
        "src/screen.rs",
        "report/src/table.rs",
        "report/src/chart.rs",
    ]
    .map(String::from)
    .into_iter();
    let common = [
        "native",
        "device",
        "nn",
        "resnet",
        "checkpoint",
        "tensor_file",
        "files",
        "engine",
        "optim",
        "schedule",
    ];
    let common = common.map(|f| format!("common/src/{f}.rs")).into_iter();
    for file in files.chain(common) {
        assert!(
            map.contains(file.rsplit('/').next().unwrap()),
            "docs/architecture.md does not name {file}"
        );
        assert!(
            root().join(&file).is_file(),
            "docs/architecture.md names {file}, which is not there"
        );
    }
}

/// Invariant 9: what differs between methods is said by `Method` and in their own files, so that no other
/// file has to learn of a new one. Presets are each of one method.
#[test]
fn no_file_beside_the_list_asks_which_method_it_is() {
    let list = root().join("pretrain/src/methods.rs");
    let text = fs::read_to_string(&list).unwrap();
    let variants: Vec<&str> = text
        .split_once("pub enum Method {")
        .and_then(|(_, rest)| rest.split_once('}'))
        .unwrap()
        .0
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .collect();
    assert!(variants.contains(&"Moco") && variants.len() > 7, "{variants:?}");
    // As on the command line: CamtrastMoco is camtrast-moco.
    let kebab = |variant: &str| {
        let separated = variant.chars().map(|c| match c.is_uppercase() {
            true => format!("-{}", c.to_lowercase()),
            false => c.to_string(),
        });
        separated.collect::<String>().trim_start_matches('-').to_owned()
    };
    let own_files: Vec<PathBuf> = text
        .lines()
        .find_map(|line| line.strip_prefix("use crate::{")?.strip_suffix("};"))
        .unwrap()
        .split(", ")
        .map(|module| root().join(format!("pretrain/src/{module}.rs")))
        .collect();
    assert!(own_files.iter().all(|file| file.is_file()), "{own_files:?}");

    let words: Vec<String> = variants
        .iter()
        .flat_map(|variant| [format!("Method::{variant}"), format!("\"{}\"", kebab(variant))])
        .collect();
    let mut files = Vec::new();
    sources(&root().join("pretrain/src"), &mut files);
    sources(&root().join("src"), &mut files);
    files.retain(|file| *file != list && !file.ends_with("preset.rs") && !own_files.contains(file));
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let comment = line.trim_start().starts_with("//");
            if !comment && words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    assert_eq!(found, [""; 0]);
}

/// rustfmt breaks code, but neither comments nor strings.
#[test]
fn lines_have_at_most_110_columns() {
    let mut long = vec![];
    let mut files = vec![root().join("build.rs")];
    for folder in libraries().chain(["src", "tests"]) {
        sources(&root().join(folder), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text
            .lines()
            .zip(1..)
            .filter(|(line, _)| line.chars().count() > 110);
        long.extend(lines.map(|(_, number)| format!("{}:{number}", file.display())));
    }
    assert!(long.is_empty(), "longer than 110 columns: {long:#?}");
}

/// Whether a line of Markdown could be broken: a table's row, a heading and one long word cannot.
fn can_be_broken(line: &str) -> bool {
    let text = line.trim_start();
    let text = text.strip_prefix("- ").unwrap_or(text);
    !text.starts_with(['|', '#']) && text.contains(' ')
}

#[test]
fn markdown_has_at_most_110_columns_outside_tables_and_code() {
    let (mut files, mut long) = (vec![], vec![]);
    for folder in ["docs", "recipes", "benches", "tests"] {
        files_ending_in("md", &root().join(folder), &mut files);
    }
    files.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    assert!(files.len() > 15, "the documents have moved: {}", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut in_code = false;
        for (line, number) in text.lines().zip(1..) {
            in_code ^= line.trim_start().starts_with("```");
            if !in_code && line.chars().count() > 110 && can_be_broken(line) {
                long.push(format!("{}:{number}", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "longer than 110 columns: {long:#?}");
}
