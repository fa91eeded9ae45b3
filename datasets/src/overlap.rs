//! Whether a backbone is tested on images or classes that it was trained on. The finding is stored with the
//! results, see [`camtrast_common::leakage`].

use crate::Pack;
use camtrast_common::checkpoint::BackboneInfo;
use std::collections::BTreeSet;

/// What a backbone's training has in common with a pack that it is to be tested on, as
/// `the backbone was trained on 8 of the 20 classes`; `None` when it has nothing in common, when it was not
/// trained (`step` 0), or when its training data is not known.
pub fn of_backbone(info: &BackboneInfo, test: &Pack) -> Option<String> {
    if info.step == 0 {
        return None;
    }
    let found = overlap(&info.dataset_sha256, &info.class_names, test)?;
    Some(format!("the backbone was trained on {found}"))
}

/// What training data, known by the checksum of its pack and the names of its classes (empty where not
/// known), has in common with a test pack: `this pack`, or `8 of the 20 classes of test.pack, such as
/// n01532829`; `None` for nothing.
pub fn overlap(dataset_sha256: &str, class_names: &[String], test: &Pack) -> Option<String> {
    let trained: BTreeSet<&String> = class_names.iter().collect();
    let shared: Vec<&String> = test
        .class_names()
        .iter()
        .filter(|name| trained.contains(name))
        .collect();
    let all = test.class_names().len();
    if dataset_sha256 == test.sha256() && !dataset_sha256.is_empty() {
        let part = !class_names.is_empty() && shared.len() < all;
        return Some(if part {
            format!("this pack ({} of its {all} classes)", shared.len())
        } else {
            "this pack".into()
        });
    }
    let first = shared.first()?;
    let pack = test.path().file_name().unwrap_or_default().to_string_lossy();
    Some(format!(
        "{} of the {all} classes of {pack}, such as {first}",
        shared.len()
    ))
}
