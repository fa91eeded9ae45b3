//! Files of detections: there and back, and every way in which they can be wrong.

use super::*;
use crate::Annotated;
use crate::fixtures::{put, voc as put_voc};
use crate::voc::{VocOptions, read as read_dataset};
use serde_json::Value;

fn dataset(root: &Path) -> Dataset {
    put_voc(root);
    let classes = ["dog", "hot_dog", "cat"].map(str::to_owned).to_vec();
    let splits = vec!["2007:test".parse().unwrap()];
    read_dataset(&VocOptions {
        root: root.to_owned(),
        splits,
        classes,
        skip_bad: false,
    })
    .unwrap()
}

fn some() -> Results {
    let found = |image, class, score, bbox| Detection {
        image,
        class,
        score,
        bbox,
    };
    Results {
        found: vec![
            found(2, 0, 0.1 + 0.2, [0.0, 1.5, 30.1, 40.0]),
            found(0, 0, 1e-9, [1.0 / 3.0, 2.0, 4.0, 5.0]),
            found(0, 1, 0.5, [1.0, 1.0, 1.0, 9.0]),
            found(1, 2, -3.0, [-5.0, 0.0, 100.0, 50.0]),
        ],
        ..Results::default()
    }
}

// Boxes go through other numbers: one is added and taken off again.
fn assert_same(a: &Results, b: &Results) {
    assert_eq!(a.found.len(), b.found.len());
    for (a, b) in a.found.iter().zip(&b.found) {
        assert_eq!((a.image, a.class, a.score), (b.image, b.class, b.score));
        assert!(
            a.bbox.iter().zip(&b.bbox).all(|(a, b)| (a - b).abs() < 1e-12),
            "{a:?} {b:?}"
        );
    }
}

#[test]
fn both_formats_return_what_was_written() {
    let root = tempfile::tempdir().unwrap();
    let (dataset, results) = (dataset(root.path()), some());
    let (folder, json) = (root.path().join("devkit"), root.path().join("results.json"));
    write_voc(&folder, "test", &dataset, &results).unwrap();
    write_coco(&json, &dataset, &results).unwrap();
    assert_same(&Results::read(&folder, &dataset, false).unwrap(), &results);
    assert_same(&Results::read(&json, &dataset, false).unwrap(), &results);
    let text = std::fs::read_to_string(folder.join("comp4_det_test_hot_dog.txt")).unwrap();
    assert_eq!(text, "a 0.5 2 2 1 9\n");
}

#[test]
fn instances_are_those_of_the_convention() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let path = root.path().join("instances.json");
    write_instances(&path, &dataset).unwrap();
    let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    // The ids are no numbers.
    assert_eq!(
        json["images"][1],
        serde_json::json!({"id": 2, "file_name": "b.jpg", "width": 60, "height": 40})
    );
    assert_eq!(json["categories"][2], serde_json::json!({"id": 3, "name": "cat"}));
    let cat = r#"{"id": 2, "image_id": 2, "category_id": 3,
        "bbox": [4.0, 4.0, 10.0, 20.0], "area": 200.0, "iscrowd": 1}"#;
    assert_eq!(
        json["annotations"][1],
        serde_json::from_str::<Value>(cat).unwrap()
    );
    // And COCO's reader takes it back.
    let options = crate::coco::CocoOptions {
        instances: path,
        images: Some(root.path().join("VOC2007/JPEGImages")),
        skip_bad: false,
    };
    let again = crate::coco::read(&options).unwrap();
    assert_eq!(
        (again.classes, again.category_ids),
        (dataset.classes, dataset.category_ids)
    );
    let boxes = |images: &[Annotated]| -> Vec<_> {
        images
            .iter()
            .flat_map(|image| &image.objects)
            .map(|object| (object.class, object.bbox, object.difficult))
            .collect()
    };
    assert_eq!(boxes(&again.images), boxes(&dataset.images));
}

#[test]
fn images_are_numbered_by_their_digits_where_that_tells_them_apart() {
    let root = tempfile::tempdir().unwrap();
    let mut dataset = dataset(root.path());
    let mut numbers = |ids: [&str; 3]| {
        dataset
            .images
            .iter_mut()
            .zip(ids)
            .for_each(|(image, id)| image.id = id.into());
        image_ids(&dataset)
    };
    assert_eq!(numbers(["2007_000645", "000005", "12"]), [2007000645, 5, 12]);
    assert_eq!(numbers(["005", "05", "12"]), [1, 2, 3]);
    assert_eq!(numbers(["1", "2", "VOC2012_3"]), [1, 2, 3]);
    assert_eq!(numbers(["9", "8", "_"]), [1, 2, 3]);
}

#[test]
fn bad_devkit_files_are_refused_or_skipped() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    for (name, text, expected) in [
        (
            "comp4_det_test_dog.txt",
            "a 0.5 1 1 9\n",
            "line 1: is not: image score x1 y1 x2 y2",
        ),
        ("comp4_det_test_dog.txt", "\na 0.5 1 1 9 x\n", "line 2: is not"),
        (
            "comp4_det_test_dog.txt",
            "z 0.5 1 1 9 9\n",
            "line 1: the image \"z\" is not in the data set",
        ),
        (
            "comp4_det_test_dog.txt",
            "a nan 1 1 9 9\n",
            "line 1: the score is NaN or infinite",
        ),
        (
            "comp4_det_test_dog.txt",
            "a 0.5 1 inf 9 9\n",
            "line 1: the box is NaN or infinite",
        ),
        (
            "comp4_det_test_dog.txt",
            "a 0.5 11 1 9 9\n",
            "line 1: the box is inverted",
        ),
        (
            "comp4_det_test_dog.txt",
            "a inf 1 1 9 9\n",
            "line 1: the score is NaN or infinite",
        ),
        (
            "comp4_det_test_dog.txt",
            "a 1e999 1 1 9 9\n",
            "line 1: the score is NaN or infinite",
        ),
        (
            "comp3_det_test_cat.txt",
            "a 0.5 1 1 9 9\n",
            "is for the same class as",
        ),
        (
            "comp4_det_val_dog.txt",
            "a 0.5 1 1 9 9\n",
            "is of the split \"val\", but",
        ),
    ] {
        let folder = tempfile::tempdir_in(root.path()).unwrap();
        put(
            folder.path().join("comp4_det_test_cat.txt"),
            "b  0.5 1 1\t9 9\r\n\r\n",
        );
        put(folder.path().join("notes.txt"), "passed over");
        put(folder.path().join(name), text);
        let message = read_voc(folder.path(), &dataset, false).unwrap_err().to_string();
        assert!(
            message.contains(expected) && message.contains(".txt") && !message.contains('\n'),
            "{message}"
        );
        let results = read_voc(folder.path(), &dataset, true).unwrap();
        assert_eq!((results.found.len(), &results.problems), (1, &vec![message]));
        assert_eq!(results.found[0].class, 2);
    }
    let message = Results::read(&root.path().join("VOC2007"), &dataset, true)
        .unwrap_err()
        .to_string();
    assert!(message.contains("holds no VOC devkit result files"), "{message}");
    let message = Results::read(&root.path().join("none"), &dataset, true)
        .unwrap_err()
        .to_string();
    assert!(message.contains("none: cannot read: no such file"), "{message}");
}

#[test]
fn bad_json_is_refused_or_skipped() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let path = root.path().join("results.json");
    let good = r#"{"image_id": 2, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 0.5, "extra": [1]}"#;
    for (bad, expected) in [
        (
            good.replace("0.5", "NaN"),
            "detection 2: the score is NaN or infinite",
        ),
        (
            good.replace("0.5", "null"),
            "detection 2: the score is NaN or infinite",
        ),
        (
            good.replace("0.5", "-Infinity"),
            "detection 2: the score is NaN or infinite",
        ),
        (
            good.replace("9, 9", "9, -Infinity"),
            "detection 2: the box is NaN or infinite",
        ),
        (good.replace("9, 9", "9, -1"), "detection 2: the box is inverted"),
        (
            good.replace(": 2,", ": 20,"),
            "detection 2: image 20 is not in the data set",
        ),
        (
            good.replace(": 2,", ": \"NaN\","),
            "detection 2: image \"NaN\" is not in the data set",
        ),
        (
            good.replace(": 3,", ": 4,"),
            "detection 2: category 4 is not in the data set",
        ),
    ] {
        put(&path, format!("[{},{bad}]", good.replace(": 2,", ": \"b\",")));
        let message = read_coco(&path, &dataset, false).unwrap_err().to_string();
        assert!(
            message.contains(expected) && message.contains("results.json"),
            "{message}"
        );
        let results = read_coco(&path, &dataset, true).unwrap();
        assert_eq!((results.found.len(), &results.problems), (1, &vec![message]));
        assert_eq!((results.found[0].image, results.found[0].class), (1, 2));
    }
    for text in [
        "",
        "{}",
        "[{]",
        r#"[{"image_id": 1}]"#,
        &good.replace("9, 9", "9"),
    ] {
        put(&path, text);
        let message = read_coco(&path, &dataset, true).unwrap_err().to_string();
        assert!(
            message.contains("is not a COCO results list") && !message.contains('\n'),
            "{message}"
        );
    }
    put(&path, "[]");
    assert_eq!(read_coco(&path, &dataset, false).unwrap(), Results::default());
}

#[test]
fn what_looks_like_a_mistake_is_said() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let folder = root.path().join("devkit");
    put(
        folder.join("comp4_det_test_cat.txt"),
        "b 0.5 1 1 9 9\nb 0.4 90 1 99 9\n",
    );
    put(folder.join("comp4_det_test_cow.txt"), "a 0.5 1 1 9 9\n");
    let results = read_voc(&folder, &dataset, false).unwrap();
    assert_eq!((results.found.len(), results.problems), (2, vec![]));
    let notes = results.notes;
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(
        notes[0].contains("devkit: no file for dog, hot_dog: these classes count as without detections"),
        "{notes:?}"
    );
    assert!(
        notes[1].contains(
            "1 files of other classes than the data set's are ignored, such as comp4_det_test_cow.txt"
        ),
        "{notes:?}"
    );
    assert!(
        notes[2].contains("1 of 2 boxes lie outside their image"),
        "{notes:?}"
    );

    let path = root.path().join("results.json");
    put(
        &path,
        r#"[{"image_id": 2, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 0.5}]"#,
    );
    let [note] = &read_coco(&path, &dataset, false).unwrap().notes[..] else {
        panic!()
    };
    assert!(note.contains("1, 2, .. in the order of the list"), "{note}");
}

// Nothing of it belongs to the data set: with --skip-bad the score would be that of no detections at all.
#[test]
fn results_of_another_split_are_refused_with_skip_bad_too() {
    let root = tempfile::tempdir().unwrap();
    let dataset = dataset(root.path());
    let (folder, json) = (root.path().join("devkit"), root.path().join("results.json"));
    put(
        folder.join("comp4_det_test_cat.txt"),
        "z 0.5 1 1 9 9\ny 0.4 1 1 9 9\n",
    );
    put(
        &json,
        r#"[{"image_id": 20, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 0.5}]"#,
    );
    for path in [folder, json] {
        let message = Results::read(&path, &dataset, true).unwrap_err().to_string();
        assert!(
            message.contains("none of its detections can be used, the first because"),
            "{message}"
        );
        assert!(message.contains("is not in the data set"), "{message}");
        assert!(
            !message.contains('\n') && message.contains(path.to_str().unwrap()),
            "{message}"
        );
    }
}
