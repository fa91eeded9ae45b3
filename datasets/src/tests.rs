//! From a layout to a pack and back.

use super::fixtures::*;
use super::*;
use camtrast_common::progress::Silent;
use std::fs;
use std::path::Path;

fn options(layout: &str, root: &Path) -> PrepareOptions {
    PrepareOptions {
        size: 8,
        ..PrepareOptions::new(layout.parse().unwrap(), root, root.join("out.pack"))
    }
}

fn failure(options: &PrepareOptions) -> String {
    let message = prepare(options, &Silent).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    assert!(!options.out.exists());
    let parts = fs::read_dir(options.out.parent().unwrap()).unwrap();
    let parts = parts.filter(|e| {
        e.as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|x| x == "part")
    });
    assert_eq!(parts.count(), 0, "a part is left behind");
    message
}

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
fn damaged_pack_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    miniimagenet(root.path());
    let path = prepare(&options("miniimagenet", root.path()), &Silent)
        .unwrap()
        .path;
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - 100;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(
        Pack::open(&path)
            .unwrap()
            .verify()
            .unwrap_err()
            .to_string()
            .contains("is damaged")
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

#[test]
fn other_files_are_no_packs() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("backbone.safetensors");
    let metadata = [("format".to_owned(), "camtrast-checkpoint".to_owned())].into();
    camtrast_common::tensor_file::save(&path, &Default::default(), &metadata).unwrap();
    let opened = |path: &Path| Pack::open(path).err().unwrap().to_string();
    assert!(opened(&path).contains("is camtrast-checkpoint, not a data pack"));
    assert!(opened(root.path()).contains("is a folder, not a data pack"));
    put(&path, "x");
    assert!(opened(&path).contains("not a whole safetensors file"));
    assert!(opened(&root.path().join("none")).contains("no such file"));
}

#[test]
fn labels_of_a_foreign_pack_are_checked() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("p");
    let description = PackDescription {
        height: 1,
        width: 1,
        class_names: vec!["a".into(), "b".into()],
        ..Default::default()
    };
    for (labels, expected) in [
        ([0, 2, 1], "labels contain 2"),
        ([0, -1, 1], "labels contain -1"),
        ([0, 0, 0], "do not contain 1"),
    ] {
        let mut writer = PackWriter::create(&path, description.clone(), 3).unwrap();
        writer.push(&[0; 9]).unwrap();
        writer.finish(&labels, None).unwrap();
        let message = Pack::open(&path).err().unwrap().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

fn wide_pack(root: &Path) -> Pack {
    let class_names: Vec<String> = (0..40).map(|i| format!("c{i:02}")).collect();
    let category_names = Some((0..4).map(|i| format!("g{i}")).collect());
    let description = PackDescription {
        height: 1,
        width: 1,
        class_names,
        category_names,
        ..Default::default()
    };
    let labels: Vec<i64> = (0..400).map(|i| i % 40).collect();
    let categories: Vec<i64> = labels.iter().map(|label| label / 10).collect();
    let path = root.join("wide");
    let mut writer = PackWriter::create(&path, description, 400).unwrap();
    writer.push(&[0; 1200]).unwrap();
    writer.finish(&labels, Some(&categories)).unwrap();
    Pack::open(&path).unwrap()
}

#[test]
fn subsets_are_nested_and_dense() {
    let root = tempfile::tempdir().unwrap();
    let pack = wide_pack(root.path());
    let select = |classes, images| {
        let options = SubsetOptions {
            classes: Some(classes),
            images_per_class: Some(images),
            seed: 3,
            ..Default::default()
        };
        select_subset(&pack, &options).unwrap()
    };
    let mut smaller = select(8, 3);
    for (classes, images) in [(8, 6), (16, 6), (32, 6), (32, 10)] {
        let larger = select(classes, images);
        assert!(smaller.indices.iter().all(|row| larger.indices.contains(row)));
        assert_eq!(
            (larger.classes, larger.class_names.len(), larger.indices.len()),
            (classes, classes, classes * images)
        );
        for (&row, &label) in larger.indices.iter().zip(&larger.labels) {
            assert_eq!(
                larger.class_names[label as usize],
                pack.class_names()[pack.labels()[row as usize] as usize]
            );
        }
        smaller = larger;
    }
    let spread = SubsetOptions {
        classes: Some(8),
        total_images: Some(43),
        seed: 3,
        ..Default::default()
    };
    let spread = select_subset(&pack, &spread).unwrap();
    let counts: Vec<usize> = (0..8)
        .map(|class| spread.labels.iter().filter(|&&l| l == class).count())
        .collect();
    assert_eq!(
        (spread.indices.len(), counts.iter().filter(|&&c| c == 6).count()),
        (43, 3),
        "{counts:?}"
    );
    assert!(counts.iter().all(|c| [5, 6].contains(c)));
    let all = select_subset(&pack, &SubsetOptions::default()).unwrap();
    assert_eq!(
        (all.indices, all.labels),
        ((0..400).collect(), pack.labels().to_vec())
    );
    assert_ne!(
        select(8, 3),
        select_subset(
            &pack,
            &SubsetOptions {
                classes: Some(8),
                images_per_class: Some(3),
                ..Default::default()
            }
        )
        .unwrap()
    );
}

#[test]
fn coarse_labels_and_chosen_categories() {
    let root = tempfile::tempdir().unwrap();
    let pack = wide_pack(root.path());
    let options = SubsetOptions {
        labels: LabelKind::Coarse,
        classes: Some(6),
        categories: Some(2),
        ..Default::default()
    };
    let chosen = select_subset(&pack, &options).unwrap();
    assert_eq!((chosen.classes, chosen.indices.len()), (2, 60));
    assert_eq!(chosen.labels.iter().filter(|&&label| label == 0).count(), 30);
    for (options, expected) in [
        (
            SubsetOptions {
                classes: Some(41),
                ..Default::default()
            },
            "has 40",
        ),
        (
            SubsetOptions {
                classes: Some(21),
                categories: Some(2),
                ..Default::default()
            },
            "has 20 in 2 categories",
        ),
        (
            SubsetOptions {
                categories: Some(5),
                ..Default::default()
            },
            "5 categories",
        ),
        (
            SubsetOptions {
                images_per_class: Some(11),
                ..Default::default()
            },
            "has 10",
        ),
        (
            SubsetOptions {
                images_per_class: Some(0),
                ..Default::default()
            },
            "0 images",
        ),
        (
            SubsetOptions {
                total_images: Some(401),
                ..Default::default()
            },
            "has 10; set --total-images to 40..400",
        ),
        (
            SubsetOptions {
                total_images: Some(39),
                ..Default::default()
            },
            "0 images",
        ),
        (
            SubsetOptions {
                total_images: Some(40),
                images_per_class: Some(1),
                ..Default::default()
            },
            "exclude each other",
        ),
    ] {
        let message = select_subset(&pack, &options).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    put_images(root.path().join("data/a"), 1);
    let plain = PrepareOptions::new(
        Layout::Imagefolder,
        root.path().join("data"),
        root.path().join("plain"),
    );
    let plain = Pack::open(&prepare(&plain, &Silent).unwrap().path).unwrap();
    let coarse = SubsetOptions {
        labels: LabelKind::Coarse,
        ..Default::default()
    };
    assert!(
        select_subset(&plain, &coarse)
            .unwrap_err()
            .to_string()
            .contains("no general categories")
    );
}

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
