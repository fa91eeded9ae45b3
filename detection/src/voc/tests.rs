//! What a VOCdevkit folder says, and every way in which it can be wrong.

use super::*;
use crate::Object;
use crate::fixtures::*;
use std::fs;
use std::path::Path;

fn options(root: &Path, splits: &[&str]) -> VocOptions {
    VocOptions {
        root: root.to_owned(),
        splits: splits.iter().map(|split| split.parse().unwrap()).collect(),
        classes: ["cat", "dog"].map(str::to_owned).to_vec(),
        skip_bad: false,
    }
}

// One line, whatever happened.
fn failure(options: &VocOptions) -> String {
    let message = read(options).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn boxes_become_half_open_and_images_without_objects_stay() {
    let root = tempfile::tempdir().unwrap();
    voc(root.path());
    let dataset = read(&options(root.path(), &["2007:test"])).unwrap();
    assert_eq!(
        (&dataset.classes[..], &dataset.category_ids[..]),
        (&["cat".into(), "dog".into()][..], &[1, 2][..])
    );
    assert_eq!(
        dataset
            .images
            .iter()
            .map(|image| image.id.as_str())
            .collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    assert!(
        dataset
            .images
            .iter()
            .all(|image| (image.width, image.height) == (60, 40))
    );
    let object = |class, bbox, difficult| Object {
        class,
        bbox,
        difficult,
        area: None,
    };
    assert_eq!(
        dataset.images[0].objects,
        [object(1, [0.0, 1.0, 30.0, 40.0], false)]
    );
    assert_eq!(
        dataset.images[1].objects,
        [object(0, [4.0, 4.0, 14.0, 24.0], true)]
    );
    assert_eq!(dataset.images[2].objects, []);
    assert!(dataset.problems.is_empty());
}

#[test]
fn parts_fractions_entities_and_scattered_objects_are_read() {
    let root = tempfile::tempdir().unwrap();
    voc(root.path());
    let part = "<part><name>head</name>\
                <bndbox><xmin>900</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>";
    let dog =
        object("dog", "0", [" 1.5 ", "2", "30.25", "40"]).replace("</object>", &format!("{part}</object>"));
    let cat = object("&#99;at", "0", ["1", "1", "60", "40"]).replace("<difficult>0</difficult>", "");
    let text = annotation(&format!("{dog}<segmented>0</segmented>{cat}<!-- & so on -->"));
    put(
        root.path().join("VOC2007/Annotations/a.xml"),
        format!("\u{feff}<?xml version=\"1.0\"?>\n{text}"),
    );
    let dataset = read(&options(root.path(), &["2007:test"])).unwrap();
    let boxes: Vec<_> = dataset.images[0]
        .objects
        .iter()
        .map(|object| (object.class, object.bbox))
        .collect();
    assert_eq!(boxes, [(1, [0.5, 1.0, 30.25, 40.0]), (0, [0.0, 0.0, 60.0, 40.0])]);
}

#[test]
fn folders_are_known_by_year_or_name_and_ids_stay_unique() {
    let root = tempfile::tempdir().unwrap();
    voc(root.path());
    for name in ["VOC2012", "blood"] {
        let mut copy = std::process::Command::new("cp");
        copy.arg("-r")
            .arg(root.path().join("VOC2007"))
            .arg(root.path().join(name));
        assert!(copy.status().unwrap().success());
    }
    put(
        root.path().join("VOC2012/ImageSets/Main/small.txt"),
        "\u{feff}b\r\n\r\n",
    );
    let dataset = read(&options(root.path(), &["2007:test", "2012:small", "blood:test"])).unwrap();
    let ids: Vec<_> = dataset.images.iter().map(|image| image.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "VOC2012_b", "blood_a", "blood_b", "blood_c"]);
    assert!(dataset.images[3].image.ends_with("VOC2012/JPEGImages/b.jpg"));

    let message = failure(&options(root.path(), &["2012:test", "2012:small"]));
    assert!(
        message.contains("small.txt: names \"b\", as an earlier split does"),
        "{message}"
    );
    let message = failure(&options(root.path(), &["2010:test"]));
    assert!(message.contains("has no folder VOC2010 or 2010"), "{message}");
    let message = failure(&options(root.path(), &["2007:val"]));
    assert!(
        message.contains("val.txt: cannot read: no such file"),
        "{message}"
    );
    for text in [
        "2007",
        "2007:",
        ":test",
        "../2007:test",
        "2007:/etc/passwd",
        "2007:a/b",
    ] {
        let message = text.parse::<VocSplit>().unwrap_err().to_string();
        assert!(message.contains("write YEAR:SPLIT"), "{text}: {message}");
    }
}

#[test]
fn sizes_come_from_the_image_and_any_extension_does() {
    let root = tempfile::tempdir().unwrap();
    voc(root.path());
    let folder = root.path().join("VOC2007");
    fs::rename(folder.join("JPEGImages/a.jpg"), folder.join("JPEGImages/a.PNG")).unwrap();
    let text = fs::read_to_string(folder.join("Annotations/a.xml")).unwrap();
    for said in ["<width>0</width>", "<width></width>", ""] {
        put(
            folder.join("Annotations/a.xml"),
            text.replace("<width>60</width>", said),
        );
        let image = read(&options(root.path(), &["2007:test"]))
            .unwrap()
            .images
            .remove(0);
        assert_eq!(
            (image.width, image.height, image.image.extension().unwrap()),
            (60, 40, "PNG".as_ref())
        );
    }
}

// What is put where, the answer, and the images and objects that stay with --skip-bad.
#[test]
fn bad_annotations_and_images_are_refused_or_skipped() {
    let whole = annotation(&object("dog", "0", ["1", "2", "30", "40"]));
    let with = |bbox| annotation(&(object("dog", "0", ["1", "2", "30", "40"]) + &object("cat", "0", bbox)));
    let (annotations, images) = ("VOC2007/Annotations/a.xml", "VOC2007/JPEGImages/a.jpg");
    let bad_image = (2, 1);
    let bad_object = (3, 2);
    for (path, content, expected, stays) in [
        (annotations, "".into(), "a.xml: is empty", bad_image),
        (
            annotations,
            "<annotation><object></annotation>".into(),
            "a.xml: is malformed",
            bad_image,
        ),
        (
            annotations,
            whole[..whole.len() / 2].into(),
            "a.xml: is malformed or cut off",
            bad_image,
        ),
        (
            annotations,
            whole[..whole.len() - 4].into(),
            "a.xml: is malformed or cut off",
            bad_image,
        ),
        (
            annotations,
            "<html></html>".into(),
            "a.xml: is malformed",
            bad_image,
        ),
        (
            annotations,
            whole.replace("a.jpg", "../../secret.jpg"),
            "leads out of the data set",
            bad_image,
        ),
        (
            annotations,
            whole.replace("a.jpg", "/etc/passwd"),
            "leads out of the data set",
            bad_image,
        ),
        (
            annotations,
            whole.replace("a.jpg", "C:\\x\\a.jpg"),
            "leads out of the data set",
            bad_image,
        ),
        (
            annotations,
            whole.replace("<width>60", "<width>40"),
            "says width \"40\", but",
            bad_image,
        ),
        (
            annotations,
            whole.replace("<width>60", "<width>wide"),
            "says width \"wide\", but",
            bad_image,
        ),
        (
            images,
            "".into(),
            "a.jpg: is empty, cut off or not an image",
            bad_image,
        ),
        (
            images,
            "no image".into(),
            "a.jpg: is empty, cut off or not an image",
            bad_image,
        ),
        (
            annotations,
            with(["9", "9", "9", "20"]),
            "object 2: the box 9 9 9 20 is empty or inverted",
            bad_object,
        ),
        (
            annotations,
            with(["9", "9", "20", "8"]),
            "is empty or inverted",
            bad_object,
        ),
        (
            annotations,
            with(["61", "9", "70", "20"]),
            "lies outside the image of 60 x 40 pixels",
            bad_object,
        ),
        (
            annotations,
            with(["9", "-9", "20", "0"]),
            "lies outside the image",
            bad_object,
        ),
        (
            annotations,
            with(["9", "9", "1e400", "20"]),
            "object 2: xmax is \"1e400\", not a number",
            bad_object,
        ),
        (
            annotations,
            with(["9", "x", "20", "20"]),
            "object 2: ymin is \"x\", not a number",
            bad_object,
        ),
        (
            annotations,
            with(["9", "NaN", "20", "20"]),
            "not a number",
            bad_object,
        ),
        (
            annotations,
            with(["9", "9", "20", "20"]).replace("<name>cat</name>", ""),
            "object 2: has no name",
            bad_object,
        ),
        (
            annotations,
            with(["9", "9", "20", "20"]).replace("<xmax>20</xmax>", ""),
            "xmax is \"\", not",
            bad_object,
        ),
        (
            annotations,
            annotation("<object><name>cat</name></object>"),
            "object 1: there is no bndbox",
            (3, 1),
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        voc(root.path());
        put(root.path().join(path), &content);
        let mut options = options(root.path(), &["2007:test"]);
        let message = failure(&options);
        let file = Path::new(path).file_name().unwrap().to_str().unwrap();
        assert!(
            message.contains(expected) && message.contains(file),
            "{content}: {message}"
        );

        options.skip_bad = true;
        let dataset = read(&options).unwrap();
        let objects: usize = dataset.images.iter().map(|image| image.objects.len()).sum();
        assert_eq!((dataset.images.len(), objects), stays, "{content}");
        assert_eq!(dataset.problems, [message]);
    }
}

#[test]
fn bad_lists_are_refused_or_skipped() {
    for (list, expected, stays) in [
        ("a\nnowhere\n", "test.txt: names \"nowhere\", which", 1),
        ("a\nb\na\n", "line 3: \"a\" is listed in line 1", 2),
        ("a\n../a\n", "line 2: \"../a\" leads out", 1),
        ("a\n/etc/passwd\n", "line 2: \"/etc/passwd\" leads out", 1),
    ] {
        let root = tempfile::tempdir().unwrap();
        voc(root.path());
        put(root.path().join("VOC2007/ImageSets/Main/test.txt"), list);
        let mut options = options(root.path(), &["2007:test"]);
        let message = failure(&options);
        assert!(message.contains(expected), "{message}");
        options.skip_bad = true;
        let dataset = read(&options).unwrap();
        assert_eq!((dataset.images.len(), &dataset.problems), (stays, &vec![message]));
    }
    let root = tempfile::tempdir().unwrap();
    voc(root.path());
    fs::remove_file(root.path().join("VOC2007/JPEGImages/b.jpg")).unwrap();
    let message = failure(&options(root.path(), &["2007:test"]));
    assert!(
        message.contains("test.txt: names \"b\", which has no image in"),
        "{message}"
    );
    put(root.path().join("VOC2007/ImageSets/Main/test.txt"), "\n");
    assert!(failure(&options(root.path(), &["2007:test"])).contains("names no images"));
}

#[test]
fn boxes_past_the_edge_are_clipped_and_counted() {
    let root = tempfile::tempdir().unwrap();
    voc(root.path());
    let inside = object("dog", "0", ["1", "1", "60", "40"]);
    let past = [
        ["0", "-3.5", "20", "20"],
        ["9", "9", "61", "41"],
        ["-1e300", "1", "1e300", "40"],
    ];
    let objects: String = past.map(|bbox| object("cat", "0", bbox)).concat();
    put(
        root.path().join("VOC2007/Annotations/a.xml"),
        annotation(&(inside + &objects)),
    );
    let dataset = read(&options(root.path(), &["2007:test"])).unwrap();
    let boxes: Vec<_> = dataset.images[0]
        .objects
        .iter()
        .map(|object| object.bbox)
        .collect();
    let whole = [0.0, 0.0, 60.0, 40.0];
    assert_eq!(
        boxes,
        [whole, [0.0, 0.0, 20.0, 20.0], [8.0, 8.0, 60.0, 40.0], whole]
    );
    let [note] = &dataset.notes[..] else {
        panic!("{:?}", dataset.notes)
    };
    assert!(
        note.contains("3 boxes pass the edge of their image and were clipped"),
        "{note}"
    );
    assert!(note.contains("a.xml: object 2"), "{note}");
    assert!(dataset.problems.is_empty());
}

#[test]
fn objects_of_other_classes_are_not_used_and_named_once() {
    let root = tempfile::tempdir().unwrap();
    voc(root.path());
    // Whatever is wrong with what is not used is nobody's concern.
    let cows = object("cow", "0", ["9", "x", "9", "9"]) + &object("cow", "0", ["1", "1", "9", "9"]);
    put(root.path().join("VOC2007/Annotations/c.xml"), annotation(&cows));
    let mut options = options(root.path(), &["2007:test"]);
    options.classes = vec!["dog".into()];
    let dataset = read(&options).unwrap();
    let objects: Vec<usize> = dataset.images.iter().map(|image| image.objects.len()).collect();
    assert_eq!((objects, dataset.problems), (vec![1, 0, 0], vec![]));
    assert_eq!(
        dataset.notes,
        ["objects of classes that are not in --classes are not used: cat (1), cow (2)"]
    );
}

// A camera held upright: 60 x 40 pixels in the file, to be turned by a quarter to 40 x 60.
#[test]
fn the_annotation_says_whether_an_orientation_tag_counts() {
    let root = tempfile::tempdir().unwrap();
    voc(root.path());
    let folder = root.path().join("VOC2007");
    put_turned_image(folder.join("JPEGImages/a.jpg"), 60, 40);
    let text = fs::read_to_string(folder.join("Annotations/a.xml")).unwrap();
    let upright = text.replace(
        "<width>60</width><height>40</height>",
        "<width>40</width><height>60</height>",
    );
    let nothing = text.replace("<width>60</width><height>40</height>", "");
    for (text, size) in [(&upright, (40, 60)), (&nothing, (40, 60)), (&text, (60, 40))] {
        put(folder.join("Annotations/a.xml"), text);
        let image = read(&options(root.path(), &["2007:test"]))
            .unwrap()
            .images
            .remove(0);
        assert_eq!((image.width, image.height), size);
        let pixels = camtrast_images::decode::read_upright(&image.image, size).unwrap();
        assert_eq!((pixels.width, pixels.height), size);
    }
    put(
        folder.join("Annotations/a.xml"),
        text.replace("<width>60", "<width>40"),
    );
    assert!(failure(&options(root.path(), &["2007:test"])).contains("says width \"40\", but"));
}
