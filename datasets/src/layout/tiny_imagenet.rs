//! Tiny-ImageNet: `wnids.txt`, `words.txt`, `train/<wnid>/images/*.JPEG`, and `val/images/` with
//! `val/val_annotations.txt`.

use super::folders::{self, Classes};
use super::listing::{Facts, Listing, Source};
use camtrast_common::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) fn list(from: &Path, split: &str) -> Result<Listing> {
    let path = from.join("wnids.txt");
    let classes: BTreeSet<String> = lines(&path)?
        .into_iter()
        .map(|(_, line)| line.trim().to_owned())
        .collect();
    let Classes {
        named,
        ignored,
        empty,
    } = match split {
        "train" => train(from, &classes)?,
        _ => Classes {
            named: val(from, &classes)?,
            ..Classes::default()
        },
    };
    let facts = Facts {
        class_titles: titles(from, &classes)?,
        ..Facts::default()
    };
    let listing = Listing::assemble(split, named, &facts, &path)?;
    let notes = if listing.class_names.len() < classes.len() {
        vec![format!(
            "{} of the {} classes in wnids.txt have images",
            listing.class_names.len(),
            classes.len()
        )]
    } else {
        Vec::new()
    };
    Ok(Listing {
        ignored,
        empty,
        notes,
        ..listing
    })
}

fn train(from: &Path, classes: &BTreeSet<String>) -> Result<Classes> {
    let root = from.join("train");
    let folder = |class: &String| {
        let folder = root.join(class).join("images");
        if folder.is_dir() {
            return Ok((class.clone(), folder));
        }
        Err(Error::file(
            folder,
            "is missing, but its class is in wnids.txt",
            "unpack the data set again",
        ))
    };
    folders::list_classes(
        classes
            .iter()
            .map(folder)
            .collect::<Result<Vec<(String, PathBuf)>>>()?,
    )
}

fn val(from: &Path, classes: &BTreeSet<String>) -> Result<Vec<(Source, String)>> {
    let path = from.join("val/val_annotations.txt");
    let folder = from.join("val/images");
    let mut seen = BTreeSet::new();
    let mut named = Vec::new();
    for (number, line) in lines(&path)? {
        let error =
            |problem: &str, remedy: &str| Error::file(&path, format!("line {number}: {problem}"), remedy);
        let mut fields = line.split('\t');
        let (Some(name), Some(class)) = (fields.next(), fields.next()) else {
            return Err(error(
                "has fewer than two fields",
                "each line must be a file name, a tab, a class, ...",
            ));
        };
        if !classes.contains(class) {
            return Err(error(
                &format!("class {class:?} is not in wnids.txt"),
                "unpack the data set again",
            ));
        }
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(error(
                &format!("{name:?} leads out of val/images/"),
                "use plain file names",
            ));
        }
        if !seen.insert(name.to_owned()) {
            return Err(error(
                &format!("{name:?} is listed twice"),
                "remove one of the lines",
            ));
        }
        let image = folder.join(name);
        if !image.is_file() {
            return Err(error(
                &format!("{name:?} is not in {}", folder.display()),
                "unpack the data set again",
            ));
        }
        named.push((Source::File(image), class.to_owned()));
    }
    Ok(named)
}

// words.txt: class, tab, words. It lists all of WordNet; only the data set's classes are used.
fn titles(from: &Path, classes: &BTreeSet<String>) -> Result<BTreeMap<String, String>> {
    let path = from.join("words.txt");
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let pair = |line: &str| {
        line.split_once('\t')
            .map(|(class, words)| (class.to_owned(), words.trim().to_owned()))
    };
    let pairs = lines(&path)?.into_iter().filter_map(|(_, line)| pair(&line));
    Ok(pairs.filter(|(class, _)| classes.contains(class)).collect())
}

// Lines that are not blank, with their numbers (1-based).
fn lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let text = fs::read(path).map_err(Error::io(path, "read"))?;
    let text = String::from_utf8_lossy(&text);
    let numbered = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    Ok(numbered.map(|(i, line)| (i + 1, line.to_owned())).collect())
}
