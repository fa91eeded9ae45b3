//! From a layout to a pack and back.

use super::fixtures::*;
use super::*;
use crate::progress::Silent;
use std::fs;
use std::path::Path;

fn options(layout: &str, root: &Path) -> PrepareOptions {
    PrepareOptions { size: 8, ..PrepareOptions::new(layout.parse().unwrap(), root, root.join("out.pack")) }
}

fn failure(options: &PrepareOptions) -> String {
    let message = prepare(options, &Silent).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    assert!(!options.out.exists());
    let parts = fs::read_dir(options.out.parent().unwrap()).unwrap();
    let parts = parts.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "part"));
    assert_eq!(parts.count(), 0, "a part is left behind");
    message
}

#[test]
fn miniimagenet_becomes_a_pack_that_verifies() {
    let root = tempfile::tempdir().unwrap();
    miniimagenet(root.path());
    let report = prepare(&options("miniimagenet", root.path()), &Silent).unwrap();
    assert_eq!((report.images, report.classes, report.categories), (13, 3, Some(2)));
    let pack = Pack::open(&report.path).unwrap();
    assert_eq!((pack.len(), pack.height(), pack.width()), (13, 8, 8));
    assert_eq!(pack.pixels().len(), 13 * 8 * 8 * 3);
    // Rows keep the order of the list; labels follow the sorted names.
    assert_eq!(pack.labels(), [2, 2, 2, 2, 2, 0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(pack.categories().unwrap(), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(pack.class_names(), ["a", "b", "c"]);
    assert_eq!(pack.class_titles(), ["ant", "bee", "car"]);
    assert_eq!(pack.category_names().unwrap(), ["w", "x"]);
    assert_eq!((pack.layout(), pack.split()), ("miniimagenet", "train"));
    assert_eq!(pack.sha256(), report.sha256);
    pack.verify().unwrap();

    let again =
        prepare(&PrepareOptions { out: root.path().join("again"), ..options("miniimagenet", root.path()) }, &Silent);
    assert_eq!(fs::read(&report.path).unwrap(), fs::read(again.unwrap().path).unwrap());
}

#[test]
fn damaged_pack_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    miniimagenet(root.path());
    let path = prepare(&options("miniimagenet", root.path()), &Silent).unwrap().path;
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - 100;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(Pack::open(&path).unwrap().verify().unwrap_err().to_string().contains("is damaged"));
}

#[test]
fn bad_image_fails_or_is_skipped() {
    let root = tempfile::tempdir().unwrap();
    miniimagenet(root.path());
    let whole = encoded(".jpg", 20, 30, 1);
    put(root.path().join("images/a1.jpg"), &whole[..whole.len() - 40]);
    let mut options = options("miniimagenet", root.path());
    let message = failure(&options);
    assert!(message.contains("a1.jpg") && message.contains("cut off"), "{message}");

    options.skip_bad = true;
    let report = prepare(&options, &Silent).unwrap();
    assert_eq!((report.images, report.skipped.len()), (12, 1));
    let pack = Pack::open(&report.path).unwrap();
    assert_eq!(pack.labels(), [2, 2, 2, 2, 2, 0, 0, 0, 1, 1, 1, 1]);
    pack.verify().unwrap();
}
