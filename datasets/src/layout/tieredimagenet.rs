//! tieredImageNet: `train|val|test/<wnid>/` folders of images. The general categories (the 34 of Ren et al.)
//! are built in.

use super::folders::{self, Classes, official_folders};
use super::listing::{Facts, Listing};
use camtrast_common::error::{Error, Result};
use std::path::Path;

pub(super) fn list(from: &Path, split: &str) -> Result<Listing> {
    let root = from.join(split);
    if !root.is_dir() {
        let remedy = "give the folder that holds train/, val/ and test/ with a folder for each class";
        return Err(Error::file(from, format!("holds no folder {split}"), remedy));
    }
    let pairs = official(split);
    let known: Vec<&str> = pairs.iter().map(|(class, _)| *class).collect();
    // A class of another split here would leak test classes into pretraining.
    if let Some(foreign) = folders::subfolders(&root)?
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        let problem = format!("is not a {split} class of tieredImageNet");
        return Err(Error::file(
            root.join(foreign),
            problem,
            "remove it, or prepare the folder as imagefolder",
        ));
    }
    let (classes, notes) = official_folders(&root, &known, split);
    let Classes {
        named,
        ignored,
        empty,
    } = folders::list_classes(classes)?;
    let category = pairs
        .iter()
        .map(|(class, category)| ((*class).to_owned(), (*category).to_owned()))
        .collect();
    let listing = Listing::assemble(
        split,
        named,
        &Facts {
            category,
            ..Facts::default()
        },
        &root,
    )?;
    Ok(Listing {
        ignored,
        empty,
        notes,
        ..listing
    })
}

/// (class, general category) of a split, both WordNet ids.
pub(super) fn official(split: &str) -> Vec<(&'static str, &'static str)> {
    let list = match split {
        "train" => include_str!("../splits/tieredimagenet_train.csv"),
        "val" => include_str!("../splits/tieredimagenet_val.csv"),
        "test" => include_str!("../splits/tieredimagenet_test.csv"),
        _ => "",
    };
    list.lines().filter_map(|line| line.split_once(',')).collect()
}

#[cfg(test)]
mod tests {
    use super::official;
    use std::collections::BTreeSet;

    #[test]
    fn official_classes_and_categories_are_disjoint_between_splits() {
        let splits = ["train", "val", "test"].map(official);
        assert_eq!(splits.each_ref().map(Vec::len), [351, 97, 160]);
        let classes: BTreeSet<_> = splits.iter().flatten().map(|(class, _)| class).collect();
        assert_eq!(classes.len(), 608);
        let categories = splits
            .each_ref()
            .map(|pairs| pairs.iter().map(|(_, c)| c).collect::<BTreeSet<_>>());
        assert_eq!(categories.each_ref().map(BTreeSet::len), [20, 6, 8]);
        assert_eq!(categories.iter().flatten().collect::<BTreeSet<_>>().len(), 34);
    }
}
