//! Parts of a split for training and testing on the same classes.

use crate::layout::Listing;
use camtrast_common::error::{Error, Result};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Fold `number` of `of`: of each class the images at places number, number + of, .. of the list; or, with
/// `without`, all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// From 1.
    pub number: usize,
    /// Number of folds, 2 or more.
    pub of: usize,
    /// The images of all other folds.
    pub without: bool,
}

impl Fold {
    /// All images that this fold does not hold.
    pub fn others(self) -> Fold {
        Fold {
            without: true,
            ..self
        }
    }

    /// Keeps its images of a listing, and says so in the name of the split.
    ///
    /// # Errors
    /// [`Error::File`] where a class has fewer images than there are folds.
    pub fn keep(self, listing: &mut Listing, from: &Path) -> Result<()> {
        let mut counts = vec![0; listing.class_names.len()];
        listing.images.retain(|(_, label)| {
            let place = counts[*label] % self.of;
            counts[*label] += 1;
            (place + 1 == self.number) != self.without
        });
        if let Some(label) = counts.iter().position(|&count| count < self.of) {
            let (name, count) = (&listing.class_names[label], counts[label]);
            let problem = format!(
                "has {count} images of class {name:?}, fewer than {} folds",
                self.of
            );
            return Err(Error::file(from, problem, "take fewer folds"));
        }
        listing.split += &format!(" {self}");
        Ok(())
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let without = if self.without { "without " } else { "" };
        write!(f, "{without}fold {}/{}", self.number, self.of)
    }
}

impl FromStr for Fold {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| {
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (of >= 2 && (1..=of).contains(&number)).then_some((number, of))
        });
        let (number, of) = numbers.ok_or("it is a number and a count of folds, such as 1/5 or 5/5")?;
        Ok(Fold {
            number,
            of,
            without: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Layout, Source};
    use std::fs;

    #[test]
    fn folds_divide_every_class() {
        let folder = tempfile::tempdir().unwrap();
        for (class, count) in [("a", 5), ("b", 3)] {
            fs::create_dir(folder.path().join(class)).unwrap();
            for i in 0..count {
                fs::write(folder.path().join(class).join(format!("{i}.png")), "").unwrap();
            }
        }
        let names = |text: &str, without| {
            let fold: Fold = text.parse().unwrap();
            let fold = if without { fold.others() } else { fold };
            let mut listing = Layout::Imagefolder.list(folder.path(), None)?;
            fold.keep(&mut listing, folder.path())?;
            let names = listing.images.iter().map(|(source, _)| match source {
                Source::File(path) => path.strip_prefix(folder.path()).unwrap().display().to_string(),
                Source::Row(_) => unreachable!(),
            });
            Ok::<_, Error>(names.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names("1/3", false).unwrap(), "a/0.png a/3.png b/0.png");
        assert_eq!(
            names("1/3", true).unwrap(),
            "a/1.png a/2.png a/4.png b/1.png b/2.png"
        );
        assert_eq!(names("3/3", false).unwrap(), "a/2.png b/2.png");
        let error = names("4/4", false).unwrap_err().to_string();
        assert!(
            error.contains("3 images of class \"b\", fewer than 4 folds"),
            "{error}"
        );
        for wrong in ["0/3", "4/3", "1/1", "1", "a/3", "1/3/2"] {
            assert!(wrong.parse::<Fold>().is_err(), "{wrong}");
        }
    }
}
