//! The programs in examples/, which `cargo test` has compiled, do what their first lines say.

use crate::world::{Place, TINY};
use std::path::Path;
use std::process::Command;

fn example(place: &Place, line: &str) -> String {
    let (name, arguments) = line.split_once(' ').unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_camtrast")).with_file_name("examples");
    let done = Command::new(built.join(name))
        .args(arguments.split_whitespace())
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}: {errors}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn features_of_a_backbone_are_scored_as_by_the_command() {
    let place = Place::new();
    place.ok(&format!("pretrain --method supervised {TINY} --out run"));
    let said = example(
        &place,
        "features run/backbone.safetensors test.pack features.safetensors",
    );
    assert_eq!(said, "[400, 64] features of resnet18-w8-small\n");
    let eval = "--shots 5 --episodes-count 100 --seed 0";
    place.ok(&format!(
        "fewshot eval --checkpoint run/backbone.safetensors --data test.pack {eval} --device cpu --out probe"
    ));
    let mean = 100.0
        * place.json("probe/metrics.json")["fewshot/5way5shot/mean"]
            .as_f64()
            .unwrap();
    let said = example(&place, "centroids features.safetensors");
    assert!(
        said.starts_with(&format!("logistic regression {mean:.2} ± ")),
        "{said} {mean}"
    );
    assert!(
        said.contains("\nnearest centroid ") && said.lines().count() == 2,
        "{said}"
    );
}

#[test]
fn label_images_are_scored() {
    let place = Place::new();
    for (name, pixels) in [("truth", [0u8, 1, 1, 255]), ("found", [0, 1, 0, 0])] {
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, 2, 2);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        std::fs::create_dir(place.path(name)).unwrap();
        place.write(&format!("{name}/a.png"), png);
    }
    let said = example(&place, "mean_iou truth found road,sky");
    let numbers: Vec<&str> = said
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert_eq!(numbers, ["50.00", "50.00", "50.00"], "{said}");
}

#[test]
fn examples_are_short() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut programs = 0;
    for path in std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if path.extension().is_some_and(|e| e == "rs") {
            programs += 1;
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines < 60, "{}: {lines} lines", path.display());
        }
    }
    assert_eq!(programs, 3);
}
