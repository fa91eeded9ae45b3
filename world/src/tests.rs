use super::canvas::{Canvas, Coverage, Pose};
use super::catalogue::{CATEGORIES, CLASSES_PER_CATEGORY, Class, Split};
use super::object::paint_object;
use super::*;
use camtrast_common::progress::Silent;
use opencv::imgcodecs;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn small(out: &Path) -> SynthOptions {
    SynthOptions {
        size: 32,
        images_per_class: 2,
        evaluation_images_per_class: 1,
        scenes: [2, 1],
        scene_size: 48,
        streets: [2, 1],
        street_size: 32,
        ..SynthOptions::new(out)
    }
}

fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect()
}

#[test]
fn the_layout_is_that_of_mini_imagenet() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("world");
    let report = synth(&small(&out), &Silent).unwrap();
    let images: Vec<_> = report
        .splits
        .iter()
        .map(|split| (split.split, split.classes, split.images))
        .collect();
    assert_eq!(images, [("train", 50, 100), ("val", 10, 10), ("test", 20, 20)]);

    let categories = rows(&out.join("categories.csv"));
    assert_eq!(
        categories[0],
        ["label", "category", "label_name", "category_name"]
    );
    assert_eq!(
        categories[1],
        ["s00000101", "s00000100", "fish with a forked tail", "fish"]
    );
    let category_of: BTreeMap<_, _> = categories[1..]
        .iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(category_of.len(), 80);

    let (mut seen, mut files) = (BTreeSet::new(), 0);
    for split in &report.splits {
        let table = rows(&out.join(format!("{}.csv", split.split)));
        assert_eq!(table[0], ["filename", "label"]);
        assert_eq!(table.len() - 1, split.images);
        let own: BTreeSet<_> = table[1..]
            .iter()
            .map(|row| category_of[&row[1]].clone())
            .collect();
        assert_eq!(own.len(), split.categories);
        assert!(
            seen.is_disjoint(&own),
            "{} shares categories with another split",
            split.split
        );
        seen.extend(own);
        for row in &table[1..] {
            let path = out.join("images").join(&row[0]);
            let image = imgcodecs::imread(path.to_str().unwrap(), imgcodecs::IMREAD_COLOR).unwrap();
            assert_eq!(
                (
                    opencv::core::MatTraitConst::rows(&image),
                    opencv::core::MatTraitConst::cols(&image)
                ),
                (32, 32)
            );
            files += 1;
        }
    }
    assert_eq!(fs::read_dir(out.join("images")).unwrap().count(), files);
}

#[test]
fn a_seed_fixes_every_byte_and_another_seed_changes_them() {
    let folder = tempfile::tempdir().unwrap();
    let draw = |name: &str, seed| {
        let out = folder.path().join(name);
        synth(&SynthOptions { seed, ..small(&out) }, &Silent).unwrap();
        ["s00000101_00000.jpg", "s00001605_00000.jpg"]
            .map(|file| fs::read(out.join("images").join(file)).unwrap())
    };
    let first = draw("a", 1);
    assert_eq!(first, draw("b", 1));
    assert_ne!(first, draw("c", 2));
}

#[test]
fn classes_of_a_category_differ_only_in_the_part() {
    const SIZE: usize = 84;
    let pixels = |class: Class, seed| {
        let canvas = picture::draw(class, SIZE, &mut generator(seed, "test", 0, 0))
            .unwrap()
            .canvas;
        canvas.bgr_bytes()
    };
    let classes: Vec<Class> = Class::all().collect();
    for category in classes.chunks(CLASSES_PER_CATEGORY) {
        for seed in 0..3 {
            let drawn: Vec<_> = category.iter().map(|class| pixels(*class, seed)).collect();
            for (a, b) in (0..category.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let differs = |(x, y): &(&[u8], &[u8])| x.iter().zip(*y).any(|(x, y)| x.abs_diff(*y) > 8);
                let count = drawn[a].chunks(3).zip(drawn[b].chunks(3)).filter(differs).count();
                let share = count as f64 / (SIZE * SIZE) as f64;
                assert!(
                    (0.005..=0.12).contains(&share),
                    "{} and {} differ in {:.2} % of the pixels",
                    category[a].name(),
                    category[b].name(),
                    100.0 * share
                );
            }
        }
    }
}

#[test]
fn strangers_come_from_other_categories_of_the_same_split() {
    for class in Class::all() {
        let strangers = class.strangers();
        assert!(!strangers.is_empty());
        assert!(
            strangers
                .iter()
                .all(|other| other.category().split == class.category().split)
        );
        assert!(
            strangers
                .iter()
                .all(|other| other.category().name != class.category().name)
        );
    }
    assert_eq!(
        CATEGORIES
            .iter()
            .filter(|category| category.split == Split::Test)
            .count(),
        4
    );
}

#[test]
fn a_folder_with_other_files_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    // Neither any file nor one that happens to be called like our marker makes a folder ours.
    for (count, name) in [(1, "thesis.tex"), (2, "synth.json")] {
        fs::write(folder.path().join(name), "{\"notes\": \"mine\"}").unwrap();
        let message = synth(&small(folder.path()), &Silent).unwrap_err().to_string();
        assert!(
            message.contains("not empty") && message.contains("choose another --out"),
            "{message}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), count);
    }
}

#[test]
fn an_earlier_or_unfinished_set_is_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    synth(&small(out), &Silent).unwrap();
    fs::write(out.join("images/holiday.jpg"), "mine").unwrap();
    synth(
        &SynthOptions {
            images_per_class: 1,
            ..small(out)
        },
        &Silent,
    )
    .unwrap();
    assert_eq!(rows(&out.join("train.csv")).len(), 1 + 50);
    assert_eq!(fs::read_dir(out.join("images")).unwrap().count(), 80 + 1);
    assert_eq!(
        fs::read_to_string(out.join("images/holiday.jpg")).unwrap(),
        "mine"
    );
    let scenes = |folder: &str| {
        fs::read_dir(out.join("VOCdevkit/VOC2007").join(folder))
            .unwrap()
            .count()
    };
    assert_eq!(
        ["JPEGImages", "Annotations", "ImageSets/Main"].map(scenes),
        [3, 3, 2]
    );
    synth(
        &SynthOptions {
            scenes: [1, 0],
            ..small(out)
        },
        &Silent,
    )
    .unwrap();
    assert_eq!(
        ["JPEGImages", "Annotations", "ImageSets/Main"].map(scenes),
        [1, 1, 2]
    );
    let streets = |kind: &str| {
        ["train", "val"].map(|s| {
            fs::read_dir(out.join(kind).join(s).join("camtrast"))
                .unwrap()
                .count()
        })
    };
    assert_eq!(["leftImg8bit", "gtFine"].map(streets), [[2, 1]; 2]);
    synth(
        &SynthOptions {
            streets: [1, 0],
            ..small(out)
        },
        &Silent,
    )
    .unwrap();
    assert_eq!(["leftImg8bit", "gtFine"].map(streets), [[1, 0]; 2]);
}

#[test]
fn a_failed_write_leaves_no_split_files() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    synth(&small(out), &Silent).unwrap();
    // A folder in a picture's place cannot be written over, whoever runs the test.
    let blocked = out.join("images/s00000304_00001.jpg");
    fs::remove_file(&blocked).unwrap();
    fs::create_dir(&blocked).unwrap();
    let message = synth(&small(out), &Silent).unwrap_err().to_string();
    assert!(message.contains("s00000304_00001.jpg"), "{message}");
    assert!(
        ["train.csv", "val.csv", "test.csv"]
            .iter()
            .all(|name| !out.join(name).exists())
    );
}

#[test]
fn settings_out_of_range_are_refused_before_the_folder_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("world");
    let options = small(&out);
    for wrong in [
        SynthOptions {
            size: 8,
            ..options.clone()
        },
        SynthOptions {
            images_per_class: 0,
            ..options.clone()
        },
        SynthOptions {
            quality: 0,
            ..options
        },
    ] {
        assert!(synth(&wrong, &Silent).is_err());
    }
    assert!(!out.exists());
}

#[test]
fn an_object_reports_its_box_and_hidden_parts() {
    let mut canvas = Canvas::painted(120, 90, |_, _| [0.5; 3]);
    let class = Class::all().next().unwrap();
    let look = class.category().taste.look(&mut generator(0, "test", 0, 0));
    let pose = Pose {
        x: 60.0,
        y: 45.0,
        scale: 30.0,
        angle: 0.0,
        stretch: 1.0,
    };
    let mut covered = paint_object(&mut canvas, class, &pose, &look).unwrap();
    let [x0, y0, x1, y1] = covered.bounds().unwrap();
    assert!((28..=34).contains(&x0) && (88..=94).contains(&x1), "{x0}..{x1}");
    assert!((20..=26).contains(&y0) && (58..=64).contains(&y1), "{y0}..{y1}");

    let front = Coverage {
        left: 0,
        top: 0,
        width: 60,
        height: 90,
        alpha: vec![255; 60 * 90],
    };
    covered.hide_behind(&front);
    assert_eq!(covered.bounds().unwrap()[0], 60);

    let outside = Pose { x: -500.0, ..pose };
    let none = paint_object(&mut canvas, class, &outside, &look).unwrap();
    assert_eq!(none.bounds(), None);
}

#[test]
fn the_contact_sheet_has_a_cell_for_every_class() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sheet.png");
    contact_sheet(&path, 0, 16).unwrap();
    let sheet = imgcodecs::imread(path.to_str().unwrap(), imgcodecs::IMREAD_COLOR).unwrap();
    let size = (
        opencv::core::MatTraitConst::rows(&sheet),
        opencv::core::MatTraitConst::cols(&sheet),
    );
    assert_eq!(size, (16 * 20 + 4, 5 * 20 + 4));
}

#[test]
fn scenes_are_annotated_as_voc_is() {
    let (height, width) = (60, 80);
    let (mut difficult, mut truncated, mut occluded, mut all) = (0, 0, 0, 0);
    for seed in 0..60 {
        let scene = scene::draw(height, width, &mut generator(seed, "test", 0, 0)).unwrap();
        assert_eq!((scene.canvas.height, scene.canvas.width), (height, width));
        for object in &scene.objects {
            let [x1, y1, x2, y2] = object.bounds;
            assert!(x1 < x2 && x2 <= width && y1 < y2 && y2 <= height, "{object:?}");
            assert!(scene::scene_classes().contains(&object.name));
            all += 1;
            difficult += usize::from(object.difficult);
            truncated += usize::from(object.truncated);
            occluded += usize::from(object.occluded);
            let xml = scene.annotation("000001.jpg");
            assert!(
                xml.contains(&format!("<xmin>{}</xmin>", x1 + 1))
                    && xml.contains(&format!("<ymax>{y2}</ymax>"))
            );
        }
    }
    assert!(
        all > 100 && difficult > 0 && truncated > 10 && occluded > 10,
        "{all} {difficult} {truncated} {occluded}"
    );
    assert!(
        difficult * 4 < all,
        "most objects are asked for: {difficult} of {all} are not"
    );
}

#[test]
fn streets_show_every_kind_of_thing_and_label_it() {
    let (height, width) = (48, 96);
    let mut pixels = [0usize; 256];
    let street = |seed| street::draw(height, width, &mut generator(seed, "test", 0, 0)).unwrap();
    for seed in 0..40 {
        let street = street(seed);
        assert_eq!(
            (street.canvas.height, street.canvas.width, street.labels.len()),
            (height, width, height * width)
        );
        street.labels.iter().for_each(|id| pixels[usize::from(*id)] += 1);
    }
    use street::id::*;
    let all = [
        EGO_VEHICLE,
        ROAD,
        SIDEWALK,
        BUILDING,
        POLE,
        TRAFFIC_SIGN,
        VEGETATION,
        TERRAIN,
        SKY,
        PERSON,
        CAR,
    ];
    let share = |id: u8| pixels[usize::from(id)] as f64 / (40 * height * width) as f64;
    for id in all {
        assert!((0.001..0.5).contains(&share(id)), "id {id}: {}", share(id));
    }
    assert_eq!(
        all.iter().map(|id| pixels[usize::from(*id)]).sum::<usize>(),
        40 * height * width
    );
    let (a, b) = (street(3), street(3));
    assert!(a.labels == b.labels && a.canvas.bgr_bytes() == b.canvas.bgr_bytes());
}
