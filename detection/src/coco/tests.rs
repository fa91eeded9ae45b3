//! What an instances JSON says, and every way in which it can be wrong.

use super::*;
use crate::fixtures::*;
use serde_json::{Value, json};

// Two images of 60 x 40 pixels, categories 7 and 3, an object and a crowd in the second.
fn instances() -> Value {
    json!({
        "info": {"year": 2017},
        "images": [
            {"id": 40, "file_name": "x/a.jpg", "width": 60, "height": 40, "license": 1},
            {"id": 9, "file_name": "b.jpg", "width": 60, "height": 40},
        ],
        "categories": [{"id": 7, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 7, "bbox": [1.5, 2, 30, 20], "area": 100.5, "iscrowd": 0},
            {"id": 5, "image_id": 9, "category_id": 3, "bbox": [0, 0, 60.25, 40], "iscrowd": 1,
             "segmentation": []},
        ],
    })
}

fn options(root: &Path, instances: &Value) -> CocoOptions {
    put(root.join("instances.json"), instances.to_string());
    put_image(root.join("images/x/a.jpg"), 60, 40);
    put_image(root.join("images/b.jpg"), 60, 40);
    CocoOptions {
        instances: root.join("instances.json"),
        images: Some(root.join("images")),
        skip_bad: false,
    }
}

#[test]
fn images_classes_and_objects_are_read() {
    let root = tempfile::tempdir().unwrap();
    let options = options(root.path(), &instances());
    let dataset = read(&options).unwrap();
    assert_eq!(
        (&dataset.classes[..], &dataset.category_ids[..]),
        (&["cat".into(), "dog".into()][..], &[3, 7][..])
    );
    assert_eq!(
        dataset
            .images
            .iter()
            .map(|image| image.id.as_str())
            .collect::<Vec<_>>(),
        ["40", "9"]
    );
    assert!(dataset.images[0].image.ends_with("images/x/a.jpg") && dataset.images[0].objects.is_empty());
    let dog = Object {
        class: 1,
        bbox: [1.5, 2.0, 31.5, 22.0],
        difficult: false,
        area: Some(100.5),
    };
    let cats = Object {
        class: 0,
        bbox: [0.0, 0.0, 60.25, 40.0],
        difficult: true,
        area: None,
    };
    assert_eq!(dataset.images[1].objects, [dog, cats]);

    let unseen = read(&CocoOptions {
        images: None,
        ..options
    })
    .unwrap();
    assert_eq!((unseen.images[1].width, unseen.images[1].height), (60, 40));
    assert_eq!(unseen.images[1].objects, dataset.images[1].objects);
}

// The change to the JSON, the answer, and the images and objects that stay with --skip-bad.
#[test]
fn bad_files_are_refused_or_skipped() {
    let cases: [(&str, Value, &str, (usize, usize)); 17] = [
        (
            "/images/0/file_name",
            json!("../a.jpg"),
            "image 40 has the file name \"../a.jpg\", which leads out",
            (1, 2),
        ),
        (
            "/images/1/file_name",
            json!("/etc/passwd"),
            "leads out of --coco-images",
            (1, 0),
        ),
        (
            "/images/0/file_name",
            json!("none.jpg"),
            "names image 40, but",
            (1, 2),
        ),
        (
            "/images/0/width",
            json!(61),
            "says image 40 has 61 x 40 pixels, but",
            (1, 2),
        ),
        ("/images/0/id", json!(9), "has two images with id 9", (1, 2)),
        (
            "/annotations/0/image_id",
            json!(1),
            "annotation 1: there is no image 1",
            (2, 1),
        ),
        (
            "/annotations/1/category_id",
            json!(4),
            "annotation 5: there is no category 4",
            (2, 1),
        ),
        (
            "/annotations/1/bbox/2",
            json!(0),
            "the box 0 0 0 40 is empty or inverted",
            (2, 1),
        ),
        ("/annotations/1/bbox/3", json!(-3), "is empty or inverted", (2, 1)),
        (
            "/annotations/1/bbox/3",
            json!(50),
            "leaves the image of 60 x 40 pixels",
            (2, 1),
        ),
        (
            "/annotations/1/bbox/0",
            json!(-5),
            "leaves the image of 60 x 40 pixels",
            (2, 1),
        ),
        (
            "/annotations/0/bbox/1",
            json!(1e9),
            "leaves the image of 60 x 40 pixels",
            (2, 1),
        ),
        (
            "/annotations/0/area",
            json!(-5),
            "annotation 1: the area is -5, not 0 to 1e10 square pixels",
            (2, 1),
        ),
        (
            "/annotations/0/area",
            json!(2e10),
            "annotation 1: the area is 20000000000, not 0 to 1e10",
            (2, 1),
        ),
        (
            "/annotations/1/id",
            json!(1),
            "annotation 1: another annotation has this id",
            (2, 1),
        ),
        (
            "/images/0/width",
            json!(4294967296u64),
            "says image 40 has 4294967296 x 40 pixels, but",
            (1, 2),
        ),
        (
            "/annotations/0/image_id",
            json!(u64::MAX),
            "there is no image 18446744073709551615",
            (2, 1),
        ),
    ];
    for (pointer, value, expected, stays) in cases {
        let root = tempfile::tempdir().unwrap();
        let mut json = instances();
        *json.pointer_mut(pointer).unwrap() = value;
        let mut options = options(root.path(), &json);
        let message = read(&options).unwrap_err().to_string();
        assert!(
            message.contains(expected) && message.contains("instances.json") && !message.contains('\n'),
            "{message}"
        );
        options.skip_bad = true;
        let dataset = read(&options).unwrap();
        let objects: usize = dataset.images.iter().map(|image| image.objects.len()).sum();
        assert_eq!((dataset.images.len(), objects), stays, "{pointer}");
        assert_eq!(dataset.problems, [message]);
    }
}

#[test]
fn files_that_are_no_instances_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let options = options(root.path(), &instances());
    let whole = instances().to_string();
    for text in ["", "[]", &whole[..whole.len() - 9], r#"{"images": []}"#] {
        put(&options.instances, text);
        let message = read(&options).unwrap_err().to_string();
        assert!(
            message.contains("is not a complete COCO instances file") && !message.contains('\n'),
            "{message}"
        );
    }
    let mut twins = instances();
    twins["categories"][0]["id"] = json!(3);
    put(&options.instances, twins.to_string());
    assert!(
        read(&options)
            .unwrap_err()
            .to_string()
            .contains("two categories with the same id")
    );
}

// Without the images nothing but the JSON says how large they are, and a product of huge sides is no area
// that COCO counts.
#[test]
fn boxes_larger_than_any_that_coco_counts_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut json = instances();
    for image in json["images"].as_array_mut().unwrap() {
        image["width"] = json!(u64::MAX);
        image["height"] = json!(u64::MAX);
    }
    json["annotations"] = json!([{"id": 3, "image_id": 9, "category_id": 7, "bbox": [0, 0, 1e6, 1e6]}]);
    let options = CocoOptions {
        images: None,
        ..options(root.path(), &json)
    };
    let message = read(&options).unwrap_err().to_string();
    assert!(
        message.contains("annotation 3: the area is 1000000000000, not 0 to 1e10"),
        "{message}"
    );
}

#[test]
fn the_instances_say_whether_an_orientation_tag_counts() {
    let root = tempfile::tempdir().unwrap();
    let mut json = instances();
    json["annotations"] = json!([]);
    for (said, expected) in [([40, 60], (40, 60)), ([0, 0], (40, 60)), ([60, 40], (60, 40))] {
        json["images"][1]["width"] = json!(said[0]);
        json["images"][1]["height"] = json!(said[1]);
        let options = options(root.path(), &json);
        put_turned_image(root.path().join("images/b.jpg"), 60, 40);
        let image = &read(&options).unwrap().images[1];
        assert_eq!((image.width, image.height), expected);
    }
}
