//! No file depends on a file that depends on it: each can be read after those that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A crate's modules by their paths: `[]` is lib.rs, `["pack"]` is pack.rs.
type Modules = BTreeMap<Vec<String>, Module>;

/// What a file, or a `mod name { .. }` in it, declares and names.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// Functions, types, constants and so on.
    items: BTreeSet<String>,
    /// Names that `use` brings in, and the paths that they stand for.
    imports: BTreeMap<String, Vec<String>>,
    /// The paths before `::*`.
    globs: Vec<Vec<String>>,
    /// All paths of two names and more, those of `use` too.
    paths: Vec<Vec<String>>,
}

/// The names and signs of Rust source without comments, texts, and items that are compiled for tests only.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens: Vec<String> = Vec::new();
    let mut at = 0;
    let starts = |at: usize, word: &str| {
        word.chars()
            .enumerate()
            .all(|(i, c)| chars.get(at + i) == Some(&c))
    };
    while at < chars.len() {
        let c = chars[at];
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            while !starts(at, "*/") {
                at += 1;
            }
            at += 2;
        } else if c == 'r' && (starts(at + 1, "\"") || starts(at + 1, "#\"") || starts(at + 1, "##\"")) {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            let end = format!("\"{}", "#".repeat(hashes));
            at += hashes + 2;
            while !starts(at, &end) {
                at += 1;
            }
            at += end.len();
        } else if c == '"' {
            at += 1;
            while chars[at] != '"' {
                at += 1 + usize::from(chars[at] == '\\');
            }
            at += 1;
        } else if c == '\'' && (chars[at + 1] == '\\' || chars[at + 2] == '\'') {
            at += 2 + usize::from(chars[at + 1] == '\\');
            while chars[at] != '\'' {
                at += 1;
            }
            at += 1;
        } else if c.is_alphanumeric() || c == '_' {
            let name: String = chars[at..]
                .iter()
                .take_while(|c| c.is_alphanumeric() || **c == '_')
                .collect();
            at += name.chars().count();
            tokens.push(name);
        } else if starts(at, "::") {
            tokens.push("::".into());
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.into());
            }
            at += 1;
        }
    }
    without_tests(&tokens)
}

fn without_tests(tokens: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].starts_with(&["#", "[", "cfg", "(", "test", ")", "]"].map(String::from)) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        // The item ends with its first `;` outside of brackets, or with the brace that closes its body.
        let mut depth = 0;
        at += 7;
        loop {
            match tokens[at].as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(tokens[at - 1].as_str(), ";" | "}") {
                break;
            }
        }
    }
    kept
}

/// Reads the module `name`, the items of which are `tokens[at..]` to the end or to the brace that closes it.
/// Returns where it ends.
fn read(tokens: &[String], mut at: usize, name: &[String], file: &Path, modules: &mut Modules) -> usize {
    let mut module = Module {
        file: file.into(),
        ..Module::default()
    };
    let mut depth = 0;
    while at < tokens.len() {
        let word = tokens[at].as_str();
        let next = tokens.get(at + 1).cloned().unwrap_or_default();
        match word {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "mod" if depth == 0 => {
                let child = [name, std::slice::from_ref(&next)].concat();
                module.items.insert(next.clone());
                if tokens[at + 2] == "{" {
                    at = read(tokens, at + 3, &child, file, modules);
                } else {
                    let folder = match name {
                        [] => file.parent().unwrap().into(),
                        _ => file.with_extension(""),
                    };
                    read_file(&folder.join(format!("{next}.rs")), &child, modules);
                    at += 2;
                }
            }
            "use" => {
                at = read_use(tokens, at + 1, &[], &mut module);
            }
            "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "macro_rules" => {
                let named = if next == "!" { &tokens[at + 2] } else { &next };
                module.items.insert(named.clone());
            }
            "::" => {}
            // A path begins; what follows `>::` or `)::` belongs to a type and not to a module.
            _ if next == "::" && (at == 0 || tokens[at - 1] != "::") => {
                let mut path = vec![word.to_owned()];
                while tokens.get(at + 1).is_some_and(|token| token == "::")
                    && tokens[at + 2].starts_with(|c: char| c.is_alphabetic() || c == '_')
                {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                module.paths.push(path);
            }
            _ => {}
        }
        at += 1;
    }
    modules.insert(name.into(), module);
    at
}

fn read_file(file: &Path, name: &[String], modules: &mut Modules) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    read(&tokens(&text), 0, name, file, modules);
}

/// Reads one tree of a `use`, from `tokens[at]` on. Returns where the sign behind it stands.
fn read_use(tokens: &[String], mut at: usize, before: &[String], module: &mut Module) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens[at].as_str() {
            "{" => {
                while tokens[at] != "}" {
                    at += 1;
                    if tokens[at] != "}" {
                        at = read_use(tokens, at, &path, module);
                    }
                }
                return at + 1;
            }
            "*" => {
                module.globs.push(path.clone());
                module.paths.push(path);
                return at + 1;
            }
            "::" => at += 1,
            "," | ";" | "}" | "as" => break,
            "self" if !path.is_empty() => at += 1,
            name => {
                path.push(name.into());
                at += 1;
            }
        }
    }
    let mut called = path.last().unwrap().clone();
    if tokens[at] == "as" {
        called = tokens[at + 1].clone();
        at += 2;
    }
    module.imports.insert(called, path.clone());
    module.paths.push(path);
    at
}

/// The module that holds what `path` means in the module `from`: that of the definition, whatever re-exports
/// it has passed. `None` for what is no crate's own.
fn definition(modules: &Modules, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
    // Two imports of one name can lead to each other only where the name is another crate's.
    if depth > 20 {
        return None;
    }
    let (first, rest) = path.split_first()?;
    let mut at = match first.as_str() {
        "crate" => Vec::new(),
        "self" => from.to_vec(),
        "super" => from[..from.len().checked_sub(1)?].to_vec(),
        _ => return member(modules, from, path, depth),
    };
    let mut rest = rest;
    while rest.first().is_some_and(|name| name == "super") {
        at.pop();
        rest = &rest[1..];
    }
    if rest.is_empty() {
        return Some(at);
    }
    member(modules, &at, rest, depth)
}

/// The same for a path that begins with a name in the module `at`.
fn member(modules: &Modules, at: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
    let Some((first, rest)) = path.split_first() else {
        return Some(at.to_vec());
    };
    let child = [at, std::slice::from_ref(first)].concat();
    if modules.contains_key(&child) {
        return member(modules, &child, rest, depth);
    }
    let module = modules.get(at)?;
    if let Some(import) = module.imports.get(first).filter(|import| *import != path) {
        let whole = [import.as_slice(), rest].concat();
        return definition(modules, at, &whole, depth + 1);
    }
    if module.items.contains(first) {
        return Some(at.to_vec());
    }
    let globs = module.globs.iter();
    globs
        .filter_map(|glob| definition(modules, at, glob, depth + 1))
        .filter(|module| module != at)
        .find_map(|module| member(modules, &module, path, depth + 1))
}

/// Which files of a crate each of its files names, by their paths below `src`.
fn edges(root: &Path) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let mut modules = Modules::new();
    read_file(root, &[], &mut modules);
    let below = |file: &Path| file.strip_prefix(root.parent().unwrap()).unwrap().to_owned();
    let mut edges: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for (name, module) in &modules {
        let named = edges.entry(below(&module.file)).or_default();
        for path in &module.paths {
            if let Some(target) = definition(&modules, name, path, 0) {
                named.insert(below(&modules[&target].file));
            }
        }
        named.remove(&below(&module.file));
    }
    edges
}

/// The sets of files that reach one another: the strongly connected components of more than one file.
fn circles(edges: &BTreeMap<PathBuf, BTreeSet<PathBuf>>) -> BTreeSet<BTreeSet<&PathBuf>> {
    let mut reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = BTreeMap::new();
    for file in edges.keys() {
        let mut open: Vec<&PathBuf> = edges[file].iter().collect();
        while let Some(next) = open.pop() {
            if reached.entry(file).or_default().insert(next) {
                open.extend(&edges[next]);
            }
        }
    }
    let mut circles = BTreeSet::new();
    for (file, others) in &reached {
        let mut circle = others.clone();
        circle.retain(|other| reached.get(other).is_some_and(|others| others.contains(file)));
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles
}

/// A file depends on those in which the things are defined that it names outside of its tests, by `use` or
/// by a path (`super::Thing`, `module::function`), through whatever re-exports. So `mod child;` alone makes
/// no parent depend on its child, `use child::Thing` and `pub use child::Thing` do; and a child depends on
/// its parent if it takes `super::Thing` that is defined there, but not if the parent only re-exports it.
/// What a parent and its children share stands in a file of its own. Names of the standard library, of other
/// crates, and of methods behind a dot make no dependence.
#[test]
fn no_file_depends_on_one_that_depends_on_it() {
    let mut found = Vec::new();
    let mut files = 0;
    for folder in super::libraries().chain([""]) {
        let source = super::root().join(folder).join("src");
        let main = if folder.is_empty() { "main.rs" } else { "lib.rs" };
        let edges = edges(&source.join(main));
        files += edges.len();
        for circle in circles(&edges) {
            let inside = |file: &&PathBuf| {
                let to: Vec<_> = edges[*file].iter().filter(|to| circle.contains(to)).collect();
                format!("{folder}/src: {} -> {to:?}", file.display())
            };
            found.extend(circle.iter().map(inside));
            found.push(String::new());
        }
    }
    assert!(files > 150, "the sources are read no more: {files}");
    assert!(found.is_empty(), "files that depend on each other: {found:#?}");
}

/// The test above sees a circle through a re-export, a glob and an inline module, and neither one in tests
/// nor one through a child that is only declared.
#[test]
fn circles_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), text).unwrap();
    };
    write(
        "lib.rs",
        "mod a; mod b; mod only_declared; pub use a::Shape; pub fn unit() {}",
    );
    write(
        "a.rs",
        "use crate::b::{self, inner::Deep as D};\npub struct Shape; // crate::only_declared::x()",
    );
    write("b.rs", "pub mod inner { pub struct Deep(super::super::Shape); }");
    write(
        "only_declared.rs",
        "fn f() { crate::unit(); }\n#[cfg(test)]\nmod tests { use crate::a::x; }",
    );
    let seen = edges(&folder.path().join("lib.rs"));
    let circle: BTreeSet<PathBuf> = ["a.rs", "b.rs"].map(PathBuf::from).into();
    assert_eq!(circles(&seen), [circle.iter().collect()].into(), "{seen:?}");
    assert_eq!(
        seen[Path::new("only_declared.rs")],
        [PathBuf::from("lib.rs")].into()
    );

    write(
        "b.rs",
        "use super::*; pub mod inner { pub struct Deep; } fn f(_: Shape) {}",
    );
    let seen = edges(&folder.path().join("lib.rs"));
    assert_eq!(circles(&seen).len(), 1, "{seen:?}");
}
