//! A split of one VOC folder, as in `2007:trainval`.

use crate::image_file;
use crate::problems::Problems;
use camtrast_common::{Error, Result};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A list of images: `2007:trainval` is `VOC2007/ImageSets/Main/trainval.txt`, `BCCD:test` that of the folder
/// `BCCD` (or `VOCBCCD`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VocSplit {
    /// The year, or the name of the folder.
    pub folder: String,
    /// Name of the list, without `.txt`.
    pub name: String,
}

impl FromStr for VocSplit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some((folder, name)) if [folder, name].iter().all(|part| image_file::is_plain_name(part)) => {
                Ok(VocSplit {
                    folder: folder.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(Error::Usage {
                problem: format!("{text:?} is not a split of a VOCdevkit folder"),
                remedy: "write YEAR:SPLIT or FOLDER:SPLIT, as in 2007:trainval".into(),
            }),
        }
    }
}

impl fmt::Display for VocSplit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.folder, self.name)
    }
}

impl VocSplit {
    /// The folder below `root`.
    pub(super) fn folder(&self, root: &Path) -> Result<PathBuf> {
        let candidates = [format!("VOC{}", self.folder), self.folder.clone()].map(|name| root.join(name));
        candidates
            .into_iter()
            .find(|folder| folder.is_dir())
            .ok_or_else(|| {
                let problem = format!("has no folder VOC{0} or {0}", self.folder);
                Error::file(root, problem, "give the VOCdevkit folder that contains it")
            })
    }

    /// VOC's lists `train` and `val` in place of `trainval`, which are its parts, if the folder has them.
    pub fn halves(&self, root: &Path) -> Option<[VocSplit; 2]> {
        let folder = self.folder(root).ok().filter(|_| self.name == "trainval")?;
        let halves = ["train", "val"].map(|name| VocSplit {
            folder: self.folder.clone(),
            name: name.into(),
        });
        halves
            .iter()
            .all(|half| half.list(&folder).is_file())
            .then_some(halves)
    }

    /// The list's file in that folder.
    pub(super) fn list(&self, folder: &Path) -> PathBuf {
        folder.join("ImageSets/Main").join(format!("{}.txt", self.name))
    }

    /// The ids that `list` names, each once.
    pub(super) fn ids(&self, list: &Path, problems: &mut Problems) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(list).map_err(Error::io(list, "read"))?;
        let mut line_of: HashMap<&str, usize> = HashMap::new();
        let mut ids = Vec::new();
        let lines = text
            .trim_start_matches('\u{feff}')
            .lines()
            .map(str::trim)
            .enumerate();
        for (number, id) in lines.filter(|(_, id)| !id.is_empty()) {
            let line = number + 1;
            let problem = if !image_file::stays_inside(Path::new(id)) {
                Some((
                    format!("line {line}: {id:?} leads out of the data set"),
                    "name images by their id",
                ))
            } else {
                let earlier = line_of.get(id);
                earlier.map(|earlier| {
                    (
                        format!("line {line}: {id:?} is listed in line {earlier}"),
                        "name it once",
                    )
                })
            };
            let id = problem.map_or(Ok(id), |(problem, remedy)| {
                Err(Error::file(list, problem, remedy))
            });
            if let Some(id) = problems.keep(id)? {
                line_of.insert(id, line);
                ids.push(id.to_owned());
            }
        }
        if ids.is_empty() {
            return Err(Error::file(
                list,
                "names no images",
                "write one image id in each line",
            ));
        }
        Ok(ids)
    }
}
