//! From every layout to a pack.

use super::*;

#[test]
fn miniimagenet_becomes_a_pack_that_verifies() {
    let root = tempfile::tempdir().unwrap();
    miniimagenet(root.path());
    let report = prepare(&options("miniimagenet", root.path()), &Silent).unwrap();
    assert_eq!(
        (report.images, report.classes, report.categories),
        (13, 3, Some(2))
    );
    let pack = Pack::open(&report.path).unwrap();
    assert_eq!((pack.len(), pack.height(), pack.width()), (13, 8, 8));
    assert_eq!(pack.pixels().len(), 13 * 8 * 8 * 3);
    // Rows keep the order of the list; labels follow the sorted names.
    assert_eq!(pack.labels(), [2, 2, 2, 2, 2, 0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(
        pack.categories().unwrap(),
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    );
    assert_eq!(pack.class_names(), ["a", "b", "c"]);
    assert_eq!(pack.class_titles(), ["ant", "bee", "car"]);
    assert_eq!(pack.category_names().unwrap(), ["w", "x"]);
    assert_eq!((pack.layout(), pack.split()), ("miniimagenet", "train"));
    assert_eq!(pack.sha256(), report.sha256);
    pack.verify().unwrap();

    let again = prepare(
        &PrepareOptions {
            out: root.path().join("again"),
            ..options("miniimagenet", root.path())
        },
        &Silent,
    );
    assert_eq!(
        fs::read(&report.path).unwrap(),
        fs::read(again.unwrap().path).unwrap()
    );
}

#[test]
fn bad_image_fails_or_is_skipped() {
    let root = tempfile::tempdir().unwrap();
    miniimagenet(root.path());
    let whole = encoded(".jpg", 20, 30, 1);
    put(root.path().join("images/a1.jpg"), &whole[..whole.len() - 40]);
    let mut options = options("miniimagenet", root.path());
    let message = failure(&options);
    assert!(
        message.contains("a1.jpg") && message.contains("cut off"),
        "{message}"
    );

    options.skip_bad = true;
    let report = prepare(&options, &Silent).unwrap();
    assert_eq!((report.images, report.skipped.len()), (12, 1));
    let pack = Pack::open(&report.path).unwrap();
    assert_eq!(pack.labels(), [2, 2, 2, 2, 2, 0, 0, 0, 1, 1, 1, 1]);
    pack.verify().unwrap();
}

// Every bad list, the line it is about and words of the answer.
#[test]
fn bad_lists_are_refused_with_their_line() {
    for (csv, expected) in [
        ("filename,label\na0.jpg\n", "line 2 is malformed"),
        ("filename,label\na0.jpg,\n", "line 2 is malformed"),
        (
            "filename,label\n\n../a0.jpg,a\n",
            "line 3: \"../a0.jpg\" leads out",
        ),
        (
            "filename,label\n/etc/passwd,a\n",
            "line 2: \"/etc/passwd\" leads out",
        ),
        (
            "filename,label\na0.jpg,a\nnone.jpg,a\n",
            "line 3: \"none.jpg\" is not in",
        ),
        (
            "filename,label\na0.jpg,a\na0.jpg,a\n",
            "line 3: \"a0.jpg\" is listed in line 2",
        ),
        ("a0.jpg,a\n", "the first line must be filename,label"),
        ("", "the first line must be filename,label"),
        ("filename,label\n", "lists no images"),
    ] {
        let root = tempfile::tempdir().unwrap();
        miniimagenet(root.path());
        put(root.path().join("train.csv"), csv);
        let message = failure(&options("miniimagenet", root.path()));
        assert!(
            message.contains(expected) && message.contains("train.csv"),
            "{csv:?}: {message}"
        );
    }
    let root = tempfile::tempdir().unwrap();
    miniimagenet(root.path());
    put(root.path().join("categories.csv"), "label,category\na,x\nb,x\n");
    let message = failure(&options("miniimagenet", root.path()));
    assert!(
        message.contains("no category for class c") && message.contains("categories.csv"),
        "{message}"
    );
    let message = failure(&PrepareOptions {
        split: Some("dev".into()),
        ..options("miniimagenet", root.path())
    });
    assert!(message.contains("train, val, test"), "{message}");
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let root = tempfile::tempdir().unwrap();
    miniimagenet(root.path());
    let good = options("miniimagenet", root.path());
    for (bad, expected) in [
        (
            PrepareOptions {
                size: 0,
                ..good.clone()
            },
            "0 pixels",
        ),
        (
            PrepareOptions {
                crop: Some(8),
                ..good.clone()
            },
            "without --resize",
        ),
        (
            PrepareOptions {
                resize: Some(8),
                crop: Some(9),
                ..good.clone()
            },
            "cannot be cropped",
        ),
        (
            PrepareOptions {
                out: root.path().join("images"),
                ..good.clone()
            },
            "is a folder",
        ),
    ] {
        let message = prepare(&bad, &Silent).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let report = prepare(
        &PrepareOptions {
            resize: Some(10),
            crop: Some(7),
            ..good
        },
        &Silent,
    )
    .unwrap();
    let pack = Pack::open(&report.path).unwrap();
    assert_eq!((pack.height(), pack.width()), (7, 7));
    assert_eq!(pack.metadata()["crop"], "7");
}

#[test]
fn every_image_kind_is_decoded() {
    let root = tempfile::tempdir().unwrap();
    for extension in [".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm"] {
        put(
            root.path().join(format!("data/a/{}{extension}", &extension[1..])),
            encoded(extension, 20, 30, 1),
        );
    }
    put(root.path().join("data/a/grey.png"), grey16());
    put(root.path().join("data/a/alpha.PNG"), alpha());
    put(root.path().join("data/a/.DS_Store"), "x");
    put(root.path().join("data/a/README.txt"), "x");
    let mut options = options("imagefolder", &root.path().join("data"));
    options.out = root.path().join("pack");
    let report = prepare(&options, &Silent).unwrap();
    assert_eq!(
        (report.images, report.ignored, report.split.as_str()),
        (8, 2, "all")
    );
    let pack = Pack::open(&report.path).unwrap();
    let pixel = |row: usize| &pack.pixels()[row * 8 * 8 * 3..][..3];
    // Files sort as alpha, bmp, grey, jpg, ...; red, green and blue keep their places, grey of 16 bits ends
    // at 255.
    assert_eq!(
        (pixel(0), pixel(2)),
        ([200, 100, 50].as_slice(), [255, 255, 255].as_slice())
    );
}

#[test]
fn files_that_are_no_images_are_named() {
    let whole = encoded(".png", 20, 30, 1);
    for (name, content, expected) in [
        ("x.jpg", b"not an image".to_vec(), "is not an image"),
        ("x.jpg", Vec::new(), "is empty"),
        ("x.png", whole[..whole.len() - 20].to_vec(), "is cut off"),
        ("x.jpg", vec![0xff, 0xd8], "is cut off"),
    ] {
        let root = tempfile::tempdir().unwrap();
        put_images(root.path().join("a"), 2);
        put(root.path().join("b").join(name), content);
        let mut options = options("imagefolder", root.path());
        let message = failure(&options);
        assert!(message.contains(expected) && message.contains(name), "{message}");
        options.skip_bad = true;
        let report = prepare(&options, &Silent).unwrap();
        assert_eq!(
            (report.images, report.classes, report.skipped),
            (2, 1, vec![message])
        );
        let note = "1 classes are left out because none of their images can be decoded, such as b";
        assert_eq!(report.notes, [note]);
        fs::remove_file(&report.path).unwrap();
        put(root.path().join("a/0.jpg"), "");
        put(root.path().join("a/1.jpg"), "");
        assert!(failure(&options).contains("has no image that can be decoded"));
    }
}

#[test]
fn imagefolder_knows_splits_and_categories() {
    let root = tempfile::tempdir().unwrap();
    put_images(root.path().join("train/pets/cat"), 2);
    put_images(root.path().join("train/pets/dog"), 2);
    put_images(root.path().join("train/lorry"), 3);
    put(
        root.path().join("categories.csv"),
        "label,category\ncat,pets\ndog,pets\nlorry,vehicles\n",
    );
    let mut options = options("imagefolder", root.path());
    assert!(failure(&options).contains("--split train"));
    options.split = Some("train".into());
    let pack = Pack::open(&prepare(&options, &Silent).unwrap().path).unwrap();
    assert_eq!(pack.class_names(), ["cat", "dog", "lorry"]);
    assert_eq!(pack.category_names().unwrap(), ["pets", "vehicles"]);
    fs::remove_file(&options.out).unwrap();

    fs::create_dir(root.path().join("train/empty")).unwrap();
    put(
        root.path().join("categories.csv"),
        "label,category\ncat,pets\ndog,pets\nlorry,vehicles\nempty,pets\n",
    );
    assert!(failure(&options).contains("class without images"));
    options.split = Some("../train".into());
    assert!(failure(&options).contains("not a plain folder name"));
}

#[test]
fn miniimagenet_and_tieredimagenet_as_folders_follow_the_official_split() {
    let root = tempfile::tempdir().unwrap();
    // The first is a training class of both, the second a test class of miniImageNet.
    put_images(root.path().join("images/n01532829"), 2);
    put_images(root.path().join("images/n01930112"), 2);
    let report = prepare(&options("miniimagenet", root.path()), &Silent).unwrap();
    assert_eq!((report.images, report.classes), (2, 1));
    assert!(
        report.notes[0].contains("1 of the 64 official"),
        "{:?}",
        report.notes
    );

    fs::rename(root.path().join("images"), root.path().join("train")).unwrap();
    fs::remove_file(&report.path).unwrap();
    assert!(failure(&options("tieredimagenet", root.path())).contains("n01930112: is not a train class"));
    fs::remove_dir_all(root.path().join("train/n01930112")).unwrap();
    let pack = Pack::open(
        &prepare(&options("tieredimagenet", root.path()), &Silent)
            .unwrap()
            .path,
    )
    .unwrap();
    assert_eq!(pack.category_names().unwrap(), ["n01524359"]);
}

#[test]
fn tiny_imagenet_reads_both_labelled_splits() {
    let root = tempfile::tempdir().unwrap();
    put(root.path().join("wnids.txt"), "n2\nn1\n");
    put(
        root.path().join("words.txt"),
        "n1\tgoldfish, Carassius auratus\nn2\tnewt\nn3\tother\n",
    );
    for class in ["n1", "n2"] {
        put_images(root.path().join("train").join(class).join("images"), 2);
    }
    put_images(root.path().join("val/images"), 2);
    put(
        root.path().join("val/val_annotations.txt"),
        "0.jpg\tn2\t0\t0\t1\t1\n1.jpg\tn1\t0\t0\t1\t1\n",
    );
    let mut options = options("tiny-imagenet", root.path());
    let pack = Pack::open(&prepare(&options, &Silent).unwrap().path).unwrap();
    assert_eq!(
        (pack.labels(), pack.class_titles()[0].as_str()),
        ([0, 0, 1, 1].as_slice(), "goldfish, Carassius auratus")
    );
    options.split = Some("val".into());
    let pack = Pack::open(&prepare(&options, &Silent).unwrap().path).unwrap();
    assert_eq!(pack.labels(), [1, 0]);
    fs::remove_file(&options.out).unwrap();
    put(root.path().join("val/val_annotations.txt"), "0.jpg\tn9\n");
    assert!(failure(&options).contains("line 1: class \"n9\""));
}

#[test]
fn cifar_python_and_binary_agree_packed_or_not() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/cifar");
    let out = tempfile::tempdir().unwrap();
    let archive = out.path().join("cifar-100-python.tar.gz");
    let gz = flate2::write::GzEncoder::new(fs::File::create(&archive).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    tar.append_dir_all("cifar-100-python", golden.join("cifar-100-python"))
        .unwrap();
    tar.into_inner().unwrap().finish().unwrap();

    let mut packs = Vec::new();
    for from in [
        golden.join("cifar-100-python"),
        golden.join("cifar-100-binary"),
        archive.clone(),
    ] {
        let options = PrepareOptions {
            size: 32,
            ..PrepareOptions::new(Layout::CifarFs, from, out.path().join("pack"))
        };
        let report = prepare(&options, &Silent).unwrap();
        assert!(report.notes[0].contains("instead of 600"), "{:?}", report.notes);
        packs.push(Pack::open(&report.path).unwrap());
    }
    for pack in &packs {
        assert_eq!(pack.class_names(), ["apple", "dolphin"]);
        assert_eq!(
            pack.category_names().unwrap(),
            ["aquatic_mammals", "fruit_and_vegetables"]
        );
        // dolphin and apple from `train` (whale is a test class), then dolphin from `test`.
        assert_eq!(
            (pack.labels(), pack.categories().unwrap()),
            ([1, 0, 1].as_slice(), [0, 1, 0].as_slice())
        );
        // Row 2 was made with seed 3: red 3x + 3, green 5y + 3, blue 2(x + y) + 120.
        let (x, y) = (7, 4);
        assert_eq!(pack.pixels()[((2 * 32 + y) * 32 + x) * 3..][..3], [24, 23, 142]);
        assert_eq!(pack.sha256(), packs[0].sha256());
    }
    let bytes = fs::read(&archive).unwrap();
    fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    let options = PrepareOptions::new(Layout::CifarFs, &archive, out.path().join("none"));
    assert!(
        prepare(&options, &Silent)
            .unwrap_err()
            .to_string()
            .contains("not a complete CIFAR-100 archive")
    );
    put(&archive, "hello");
    assert!(
        prepare(&options, &Silent)
            .unwrap_err()
            .to_string()
            .contains("not a complete CIFAR-100 archive")
    );
}

#[test]
fn cifar_pixels_of_another_type_or_shape_are_refused() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/cifar/cifar-100-python");
    let folder = tempfile::tempdir().unwrap();
    for (what, from, to) in [
        ("type", &b"U\x02u1"[..], &b"U\x02i1"[..]),
        ("shape", b"M\x03\x00M\x00\x0c", b"M\x00\x0cM\x03\x00"),
        ("size", b"M\x03\x00M\x00\x0c", b"M\x02\x00M\x00\x0c"),
    ] {
        for name in ["train", "test", "meta"] {
            fs::copy(golden.join(name), folder.path().join(name)).unwrap();
        }
        let path = folder.path().join("train");
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes
            .windows(from.len())
            .position(|window| window == from)
            .expect(what);
        bytes[at..at + to.len()].copy_from_slice(to);
        fs::write(&path, bytes).unwrap();
        let options = PrepareOptions::new(Layout::CifarFs, folder.path(), folder.path().join("pack"));
        let error = prepare(&options, &Silent).unwrap_err().to_string();
        assert!(
            error.contains("\"train\"") && error.contains("pixels"),
            "{what}: {error}"
        );
    }
}
