//! Parts of a pack.

use super::*;

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
