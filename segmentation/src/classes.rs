//! The classes, the file ids that stand for them, and the ids left out of training and evaluation. There are
//! three numberings: *file ids*, the values in label PNGs (Cityscapes: 0..33); *train ids*, dense from 0 to K
//! - 1 in the order of the network's outputs; and [`IGNORE`], which is neither trained nor counted.

use camtrast_common::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Train id of pixels that are neither trained nor counted.
pub const IGNORE: u8 = 255;

/// The meaning of a file id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The class of this train id.
    Class(u8),
    /// Neither trained on nor evaluated.
    Ignored,
    /// Not an id of this data set.
    Unknown,
}

/// A class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Its file id.
    pub id: u8,
    /// Its colour in pictures, RGB.
    pub colour: [u8; 3],
    /// The category it belongs to, if the data set has categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
}

/// The classes of a data set in the order of their train ids, and the file ids that are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassSet {
    classes: Vec<Class>,
    ignored: BTreeSet<u8>,
}

impl ClassSet {
    /// Cityscapes: 34 file ids, of which 19 are trained and evaluated (cityscapesScripts
    /// `helpers/labels.py`).
    pub fn cityscapes() -> Self {
        let class = |&(name, id, colour, category): &(&str, u8, [u8; 3], &str)| Class {
            name: name.into(),
            id,
            colour,
            category: Some(category.into()),
        };
        let classes: Vec<Class> = CITYSCAPES.iter().map(class).collect();
        let ignored = (0..CITYSCAPES_IDS)
            .filter(|id| classes.iter().all(|c| c.id != *id))
            .collect();
        ClassSet { classes, ignored }
    }

    /// Classes whose file ids are their positions in a list of names; `ignored` are additional file ids.
    /// Colours are PASCAL VOC's.
    ///
    /// # Errors
    /// [`Error::Settings`] when there are no names, too many, or two equal ones.
    pub fn named(names: &[String], ignored: &[u8]) -> Result<Self> {
        let remedy = "give one name per line, at most 255";
        if names.is_empty() || names.len() > usize::from(IGNORE) {
            return Err(Error::settings(
                format!("there are {} class names", names.len()),
                remedy,
            ));
        }
        if let Some((i, name)) = names
            .iter()
            .enumerate()
            .find(|(i, name)| names[..*i].contains(name))
        {
            return Err(Error::settings(
                format!("class name {name:?} occurs twice (again in line {})", i + 1),
                remedy,
            ));
        }
        let class = |(i, name): (usize, &String)| {
            let id = i as u8;
            Class {
                name: name.clone(),
                id,
                colour: voc_colour(id),
                category: None,
            }
        };
        let classes: Vec<Class> = names.iter().enumerate().map(class).collect();
        // If a class's own id is ignored, the class is removed.
        let ignored: BTreeSet<u8> = ignored.iter().copied().collect();
        let classes = classes.into_iter().filter(|c| !ignored.contains(&c.id)).collect();
        Ok(ClassSet { classes, ignored })
    }

    /// As [`ClassSet::named`], from a text file with one name a line.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::File`] for unusable names.
    pub fn read(path: &Path, ignored: &[u8]) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        let names: Vec<String> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .map(String::from)
            .collect();
        Self::named(&names, ignored).map_err(|error| match error {
            Error::Settings { problem, remedy } => Error::file(path, problem, remedy),
            other => other,
        })
    }

    /// The classes, by train id.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// K, the number of classes.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is no class at all.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The meaning of each of the 256 possible file ids.
    pub fn meanings(&self) -> [Meaning; 256] {
        let mut meanings = [Meaning::Unknown; 256];
        self.ignored
            .iter()
            .for_each(|&id| meanings[usize::from(id)] = Meaning::Ignored);
        self.classes
            .iter()
            .enumerate()
            .for_each(|(train, c)| meanings[usize::from(c.id)] = Meaning::Class(train as u8));
        meanings
    }

    /// The file id of each train id, for writing predictions. [`IGNORE`] is not changed.
    pub fn file_ids(&self) -> [u8; 256] {
        let mut ids = [IGNORE; 256];
        self.classes
            .iter()
            .zip(&mut ids)
            .for_each(|(class, id)| *id = class.id);
        ids
    }

    /// The ids that a label file may contain, as a text.
    pub fn known_ids(&self) -> String {
        let mut known: BTreeSet<u8> = self.ignored.clone();
        known.extend(self.classes.iter().map(|c| c.id));
        let mut ranges: Vec<(u8, u8)> = Vec::new();
        for id in known {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == id => *last = id,
                _ => ranges.push((id, id)),
            }
        }
        let range = |&(a, b): &(u8, u8)| {
            if a == b {
                a.to_string()
            } else {
                format!("{a}..{b}")
            }
        };
        ranges.iter().map(range).collect::<Vec<_>>().join(" and ")
    }

    /// Names of the categories in the order in which they first occur.
    pub fn categories(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self.classes.iter().filter_map(|c| c.category.clone()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

const CITYSCAPES_IDS: u8 = 34;

// cityscapesScripts `helpers/labels.py`: the labels with a trainId, which are those without ignoreInEval.
const CITYSCAPES: [(&str, u8, [u8; 3], &str); 19] = [
    ("road", 7, [128, 64, 128], "flat"),
    ("sidewalk", 8, [244, 35, 232], "flat"),
    ("building", 11, [70, 70, 70], "construction"),
    ("wall", 12, [102, 102, 156], "construction"),
    ("fence", 13, [190, 153, 153], "construction"),
    ("pole", 17, [153, 153, 153], "object"),
    ("traffic light", 19, [250, 170, 30], "object"),
    ("traffic sign", 20, [220, 220, 0], "object"),
    ("vegetation", 21, [107, 142, 35], "nature"),
    ("terrain", 22, [152, 251, 152], "nature"),
    ("sky", 23, [70, 130, 180], "sky"),
    ("person", 24, [220, 20, 60], "human"),
    ("rider", 25, [255, 0, 0], "human"),
    ("car", 26, [0, 0, 142], "vehicle"),
    ("truck", 27, [0, 0, 70], "vehicle"),
    ("bus", 28, [0, 60, 100], "vehicle"),
    ("train", 31, [0, 80, 100], "vehicle"),
    ("motorcycle", 32, [0, 0, 230], "vehicle"),
    ("bicycle", 33, [119, 11, 32], "vehicle"),
];

// The VOC devkit's colour map: the bits of the id, distributed to red, green and blue from the highest bit
// down.
fn voc_colour(id: u8) -> [u8; 3] {
    [0, 1, 2].map(|c| {
        (c..8)
            .step_by(3)
            .zip(0..)
            .fold(0, |value, (bit, i)| value | (id >> bit & 1) << (7 - i))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cityscapes_ids_go_to_train_ids_and_back() {
        let set = ClassSet::cityscapes();
        let (meanings, ids) = (set.meanings(), set.file_ids());
        for (train, class) in set.classes().iter().enumerate() {
            assert_eq!(meanings[usize::from(class.id)], Meaning::Class(train as u8));
            assert_eq!(ids[train], class.id);
        }
        assert_eq!(meanings.iter().filter(|m| **m == Meaning::Ignored).count(), 15);
        assert_eq!(meanings[34], Meaning::Unknown);
        assert_eq!((set.known_ids(), set.categories().len()), ("0..33".into(), 7));
    }

    #[test]
    fn named_classes_have_vocs_colours_and_may_ignore() {
        let names: Vec<String> = ["background", "aeroplane", "bicycle", "bird"]
            .map(String::from)
            .into();
        let set = ClassSet::named(&names, &[255, 2]).unwrap();
        let colours: Vec<_> = set
            .classes()
            .iter()
            .map(|c| (c.name.as_str(), c.id, c.colour))
            .collect();
        let expected = [
            ("background", 0, [0, 0, 0]),
            ("aeroplane", 1, [128, 0, 0]),
            ("bird", 3, [128, 128, 0]),
        ];
        assert_eq!(colours, expected);
        assert_eq!(voc_colour(20), [0, 64, 128]);
        assert_eq!(voc_colour(255), [224, 224, 192]);
        assert_eq!(set.meanings()[2], Meaning::Ignored);
        assert_eq!(set.known_ids(), "0..3 and 255");
        assert!(ClassSet::named(&[], &[]).is_err());
        assert!(ClassSet::named(&["a".into(), "a".into()], &[]).is_err());
    }
}
