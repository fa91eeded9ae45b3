//! Whether a backbone is tested on images or classes that it was trained on. The finding is stored with the
//! results, see [`camtrast_common::leakage`].

use crate::Pack;
use camtrast_common::checkpoint::BackboneInfo;
use std::collections::BTreeSet;

/// What training data and test data have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlap<'a> {
    /// They are of one pack.
    Pack,
    /// These classes of the test data are trained on, at least one.
    Classes(Vec<&'a str>),
}

/// A pack as both sides of a comparison know it: by its checksum and the names of the classes that are used.
/// Both are empty where they are not known.
#[derive(Debug, Clone, Copy)]
pub struct PackClasses<'a> {
    /// Checksum of the pack.
    pub sha256: &'a str,
    /// Names of the classes.
    pub names: &'a [String],
}

/// What two packs have in common; `None` for nothing.
///
/// Classes of different packs are the same when their names are. Names of digits alone do not count: they
/// are positions in a list, and class 3 of one data set is not class 3 of another.
pub fn between<'a>(trained: PackClasses, test: PackClasses<'a>) -> Option<Overlap<'a>> {
    if trained.sha256 == test.sha256 && !trained.sha256.is_empty() {
        return Some(Overlap::Pack);
    }
    let is_name = |name: &&str| !name.bytes().all(|byte| byte.is_ascii_digit());
    let shared: Vec<&str> = shared(trained, test).filter(is_name).collect();
    (!shared.is_empty()).then_some(Overlap::Classes(shared))
}

fn shared<'a>(trained: PackClasses, test: PackClasses<'a>) -> impl Iterator<Item = &'a str> {
    let trained: BTreeSet<&str> = trained.names.iter().map(String::as_str).collect();
    let names = test.names.iter().map(String::as_str);
    names.filter(move |name| trained.contains(name))
}

/// What a backbone's training has in common with a pack that it is to be tested on, as `the backbone was
/// trained on 8 of the 20 classes of test.pack, such as n01532829`, or `on this pack`; `None` when it has
/// nothing in common, when nothing was trained (`step` 0), or when nobody knows on what.
pub fn of_backbone(info: &BackboneInfo, test: &Pack) -> Option<String> {
    if info.step == 0 {
        return None;
    }
    let trained = PackClasses {
        sha256: &info.dataset_sha256,
        names: &info.class_names,
    };
    let tested = PackClasses {
        sha256: test.sha256(),
        names: test.class_names(),
    };
    let all = tested.names.len();
    let found = match between(trained, tested)? {
        Overlap::Pack => match shared(trained, tested).count() {
            count if !trained.names.is_empty() && count < all => {
                format!("this pack ({count} of its {all} classes)")
            }
            _ => "this pack".into(),
        },
        Overlap::Classes(shared) => {
            let pack = test.path().file_name().unwrap_or_default().to_string_lossy();
            let (count, first) = (shared.len(), shared[0]);
            format!("{count} of the {all} classes of {pack}, such as {first}")
        }
    };
    Some(format!("the backbone was trained on {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_overlap_in_names_and_not_in_numbers() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let (trained, test) = (names(&["0", "1", "cat", "dog9"]), names(&["1", "cow", "dog9"]));
        let found = |trained_sha256, test_sha256| {
            let pack = |sha256, names| PackClasses { sha256, names };
            between(pack(trained_sha256, &trained), pack(test_sha256, &test))
        };
        assert_eq!(found("a", "a"), Some(Overlap::Pack));
        assert_eq!(found("a", "b"), Some(Overlap::Classes(vec!["dog9"])));
        // Nobody knows the checksums: two unknown packs are not one.
        assert_eq!(found("", ""), Some(Overlap::Classes(vec!["dog9"])));
        let numbers = names(&["0", "1"]);
        let pack = |sha256| PackClasses {
            sha256,
            names: &numbers,
        };
        assert_eq!(between(pack("a"), pack("b")), None);
    }
}
