//! What `data info` counts and finds.

use super::*;

#[test]
fn info_counts_and_finds_problems() {
    let root = tempfile::tempdir().unwrap();
    miniimagenet(root.path());
    put(root.path().join("images/a1.jpg"), "no image");
    put(root.path().join("val.csv"), "filename,label\nnone.jpg,v\n");
    let found = info(root.path()).unwrap();
    assert_eq!((found.layout.as_str(), found.splits.len()), ("miniimagenet", 1));
    let split = &found.splits[0];
    assert_eq!(
        (
            split.images,
            split.min_per_class,
            split.median_per_class,
            split.max_per_class
        ),
        (13, 4, 4, 5)
    );
    assert_eq!((split.heights, split.widths), ([20, 20], [30, 30]));
    let problems = found.problems.join("\n");
    for expected in [
        "1 files do not begin like an image",
        "a1.jpg",
        "3 of 3 classes have fewer",
        "none.jpg",
    ] {
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
    assert!(
        serde_json::to_string(&found)
            .unwrap()
            .contains("\"max_per_class\":5")
    );

    let options = PrepareOptions {
        skip_bad: true,
        ..options("miniimagenet", root.path())
    };
    let pack = prepare(&options, &Silent).unwrap();
    let found = info(&pack.path).unwrap();
    assert_eq!(
        (found.kind, found.checksum_ok, found.splits[0].images),
        ("pack", Some(true), 12)
    );
    assert!(found.to_string().contains("c car (5)"), "{found}");
    assert!(
        info(&root.path().join("none"))
            .unwrap_err()
            .to_string()
            .contains("does not exist")
    );
}

#[test]
fn classes_without_an_image_are_left_out_with_a_word() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    for (class, count) in [("a", 2), ("d", 3)] {
        put_images(data.join(class), count);
    }
    put(
        data.join("categories.csv"),
        "label,category\na,pets\nb,plants\nc,plants\nd,vehicles\ne,plants\n",
    );
    fs::create_dir(data.join("b")).unwrap();
    put(data.join("c/0.heic"), "x");
    // Of a kind that can be read, but none is an image.
    put(data.join("e/0.jpg"), "x");
    let mut options = options("imagefolder", &data);
    options.out = root.path().join("pack");
    let message = failure(&options);
    assert!(
        message.contains("data/b: is a class without images") && message.contains("--skip-bad"),
        "{message}"
    );

    options.skip_bad = true;
    let report = prepare(&options, &Silent).unwrap();
    assert_eq!(
        (
            report.images,
            report.classes,
            report.categories,
            report.skipped.len()
        ),
        (5, 2, Some(2), 1)
    );
    let [empty, lost] = &report.notes[..] else {
        panic!("{:?}", report.notes)
    };
    assert!(
        empty.contains("2 class folders hold no image of a kind that can be read, such as"),
        "{empty}"
    );
    assert!(empty.ends_with("data/b"), "{empty}");
    assert_eq!(
        lost,
        "1 classes are left out because none of their images can be decoded, such as e"
    );
    let pack = Pack::open(&report.path).unwrap();
    pack.verify().unwrap();
    assert_eq!(
        (pack.labels(), pack.class_names()),
        (&[0, 0, 1, 1, 1][..], &["a".to_owned(), "d".into()][..])
    );
    assert_eq!(pack.categories(), Some(&[0, 0, 1, 1, 1][..]));
    assert_eq!(
        pack.category_names(),
        Some(&["pets".to_owned(), "vehicles".into()][..])
    );

    let info = info(&data).unwrap();
    let said = info
        .problems
        .iter()
        .filter(|line| line.contains("2 class folders hold no image"))
        .count();
    assert_eq!(
        (info.splits[0].classes.len(), said),
        (3, 1),
        "{:?}",
        info.problems
    );
}
