//! Looking into backbones.

use crate::world::{PLAIN, Place, TINY};

fn number(place: &Place, file: &str, name: &str) -> f64 {
    place.json(file)[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{file}: {name}"))
}

#[test]
fn representations_are_measured_by_the_same_rules_wherever_they_are() {
    let place = Place::new();
    for method in ["supervised", "simsiam"] {
        place.ok(&format!(
            "pretrain --method {method} {TINY} --out {method} --probe-every 1"
        ));
        let lines = place.log(method, "epoch");
        for key in [
            "entropy",
            "effective_rank",
            "uniformity",
            "uniformity_unit",
            "knn_accuracy",
        ] {
            assert!(
                lines
                    .iter()
                    .all(|line| line[key].as_f64().is_some_and(|n| n >= 0.0)),
                "{method}: {key}"
            );
        }
    }
    // The probe looks and changes nothing.
    place.ok(&format!("pretrain --method supervised {TINY} --out unprobed"));
    assert!(place.bytes("supervised/backbone.safetensors") == place.bytes("unprobed/backbone.safetensors"));

    let both = "--checkpoint supervised/backbone.safetensors simsiam/backbone.safetensors";
    let done = place.ok(&format!(
        "analyze representation {both} --data train.pack --out both.json {PLAIN}"
    ));
    for said in [
        "supervised ",
        "simsiam ",
        "H_R",
        "Sun et al. 2022, eq. 1",
        "all pairs of 400 images",
    ] {
        assert!(done.stdout.contains(said), "{}", done.stdout);
    }
    let one = "--checkpoint simsiam/backbone.safetensors";
    place.ok(&format!(
        "analyze representation {one} --data train.pack --out alone {PLAIN}"
    ));
    for name in [
        "entropy",
        "effective_rank",
        "uniformity",
        "uniformity_unit",
        "alignment",
        "images",
    ] {
        let name = format!("representation/{name}");
        let value = number(&place, "alone/metrics.json", &name);
        assert_eq!(value, number(&place, "both.json", &format!("simsiam/{name}")));
    }
    assert!(number(&place, "alone/metrics.json", "representation/entropy") < 64f64.ln());
    place.ok(&format!(
        "analyze representation {one} --data train.pack --classes 4 --out part {PLAIN}"
    ));
    assert_eq!(number(&place, "part/metrics.json", "representation/images"), 32.0);
    place.fails(
        &format!("analyze representation {one} --data train.pack --classes 1000"),
        &["1000", "train.pack"],
    );
}

#[test]
fn activation_maps_say_whose_classifier_they_are_of() {
    let place = Place::new();
    for method in ["supervised", "simsiam"] {
        place.ok(&format!("pretrain --method {method} {TINY} --out {method}"));
    }
    let both = "--checkpoint supervised/backbone.safetensors simsiam/backbone.safetensors";
    let done = place.ok(&format!(
        "analyze cam {both} --data test.pack --images 3 --out cam {PLAIN}"
    ));
    let line = |name: &str| {
        done.stdout
            .lines()
            .find(|l| l.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(
        line("supervised").contains("its own, 50 classes"),
        "{}",
        done.stdout
    );
    assert!(
        line("simsiam").contains("fitted here, 20 classes"),
        "{}",
        done.stdout
    );
    for method in ["supervised", "simsiam"] {
        let area = number(&place, "cam/metrics.json", &format!("cam/{method}/area"));
        assert!(area > 0.0 && area < 1.0, "{method}: {area}");
    }
    assert_eq!(&place.bytes("cam/cam.png")[1..4], b"PNG");
    let done = place.ok(&format!(
        "analyze cam {both} --data test.pack --refit-heads --out refit {PLAIN}"
    ));
    assert_eq!(done.stdout.matches("fitted here, 20 classes").count(), 2);

    // A classifier of another run would draw maps of nothing.
    place.copy("supervised", "mixed");
    place.copy("simsiam", "other");
    std::fs::copy(
        place.path("supervised/classifier.safetensors"),
        place.path("other/classifier.safetensors"),
    )
    .unwrap();
    place.fails(
        "analyze cam --checkpoint other/backbone.safetensors --data test.pack",
        &[
            "other/classifier.safetensors",
            "not the classifier of the backbone in the same folder",
        ],
    );
    place.fails(
        &format!("analyze cam {both} --data test.pack --images 100000"),
        &["--images"],
    );
}
