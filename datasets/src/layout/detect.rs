//! Which layout a folder has, for `data info`.

use super::folders::subfolders;
use super::{Layout, imagefolder, tieredimagenet};
use camtrast_common::error::{Error, Result};
use std::path::Path;

impl Layout {
    /// Recognises the layout of a data set folder, or of a CIFAR-100 archive.
    ///
    /// # Errors
    /// [`Error::File`] when no layout matches, [`Error::Io`] when it cannot be read.
    pub fn detect(from: &Path) -> Result<Layout> {
        let has = |name: &str| from.join(name).exists();
        let cifar = ["cifar-100-python", "cifar-100-binary"]
            .iter()
            .any(|name| has(name))
            || ["meta", "train.bin"].iter().any(|name| from.join(name).is_file());
        if from.is_file() || cifar {
            return Ok(Layout::CifarFs);
        }
        if has("wnids.txt") {
            return Ok(Layout::TinyImagenet);
        }
        if has("images") && ["train.csv", "val.csv", "test.csv"].iter().any(|n| has(n)) {
            return Ok(Layout::MiniImagenet);
        }
        let all = subfolders(from)?;
        let splits: Vec<&String> = all
            .iter()
            .filter(|name| imagefolder::SPLITS.contains(&name.as_str()))
            .collect();
        let tiered = |split: &&String| {
            let classes = subfolders(&from.join(split)).unwrap_or_default();
            let official = tieredimagenet::official(split);
            !classes.is_empty()
                && classes
                    .iter()
                    .all(|class| official.iter().any(|(o, _)| o == class))
        };
        if !splits.is_empty() && splits.iter().all(tiered) {
            return Ok(Layout::TieredImagenet);
        }
        if all.is_empty() {
            let known = Layout::ALL.map(Layout::name).join(", ");
            return Err(Error::file(
                from,
                "does not look like a known data set",
                format!("known layouts are {known}"),
            ));
        }
        Ok(Layout::Imagefolder)
    }

    /// The splits that a data set of this layout can have, as [`Layout::list`] takes them.
    pub fn splits(self, from: &Path) -> Vec<Option<&'static str>> {
        let there = |split: &&str| from.join(split).is_dir() || from.join(format!("{split}.csv")).is_file();
        match self {
            Layout::CifarFs => vec![Some("train"), Some("val"), Some("test")],
            Layout::TinyImagenet => ["train", "val"].into_iter().filter(there).map(Some).collect(),
            Layout::MiniImagenet | Layout::TieredImagenet | Layout::Imagefolder => {
                let splits: Vec<_> = imagefolder::SPLITS.into_iter().filter(there).map(Some).collect();
                if splits.is_empty() { vec![None] } else { splits }
            }
        }
    }
}
