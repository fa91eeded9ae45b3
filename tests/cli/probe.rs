//! Probes of backbones and of anybody's features.

use crate::shell::assert_printed_is_the_runs_own;
use crate::world::{PLAIN, Place, TINY};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::Value;

const D: usize = 8;

/// Features of `each` images of every class: the class's own dimension raised above a quasi-random pattern.
fn write_features(place: &Place, name: &str, classes: &[i64], each: usize, phase: f64) {
    let labels: Vec<i64> = classes.iter().flat_map(|&class| vec![class; each]).collect();
    let mut bytes = Vec::new();
    for (image, &label) in labels.iter().enumerate() {
        for d in 0..D {
            let noise = ((image * D + d) as f64 * 0.754_877_666 + phase).fract();
            let raised = if d as i64 == label % D as i64 { 0.6 } else { 0.0 };
            bytes.extend(((noise + raised) as f32).to_le_bytes());
        }
    }
    write_raw(place, name, &bytes, &labels);
}

fn write_raw(place: &Place, name: &str, features: &[u8], labels: &[i64]) {
    let labels_bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    let views = [
        (
            "features",
            TensorView::new(Dtype::F32, vec![labels.len(), D], features).unwrap(),
        ),
        (
            "labels",
            TensorView::new(Dtype::I64, vec![labels.len()], &labels_bytes).unwrap(),
        ),
    ];
    serialize_to_file(views, None, &place.path(name)).unwrap();
}

fn number(metrics: &Value, name: &str) -> f64 {
    metrics[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} of {metrics:#}"))
}

#[test]
fn scores_take_anybodys_features() {
    let place = Place::new();
    write_features(&place, "a", &[3, 5, 9, 12, 14, 31], 40, 0.0);
    write_features(&place, "b", &[31, 9, 3, 5, 14, 12], 15, 0.3);
    let score = format!("probe score --train a --test b {PLAIN}");
    let done = place.ok(&format!("{score} --out m.json"));
    let metrics = place.json("m.json");
    for name in ["linear/top1", "knn/top1", "linear/top5", "linear/class/31"] {
        let value = number(&metrics, &format!("probe/{name}"));
        assert!((0.2..=1.0).contains(&value), "{name}: {value}");
    }
    let [low, top1, high] =
        ["low95", "top1", "high95"].map(|n| number(&metrics, &format!("probe/linear/{n}")));
    assert!(low < top1 && top1 < high, "{low} {top1} {high}");
    let c = number(&metrics, "probe/linear/C");
    assert!(done.stdout.contains(&format!("C = {c}")), "{}", done.stdout);
    assert!(done.stdout.contains("(chosen)"), "{}", done.stdout);
    // 200 neighbours of 240 images, but not of fewer.
    assert!(metrics.get("probe/knn/k=200/top1").is_some());

    // One C and one k: no choice, so that nothing depends on the seed.
    let fixed = format!("{score} --c {c} --k 5 --normalize batch-norm --out");
    place.ok(&format!("{fixed} one.json"));
    place.ok(&format!("{fixed} two.json --seed 8"));
    let [one, two] = ["one.json", "two.json"].map(|file| place.json(file));
    for name in ["probe/linear/top1", "probe/knn/top1"] {
        assert_eq!(one[name], two[name]);
    }
    assert!(one.get(format!("probe/linear/validation/C={c}")).is_none());

    place.ok(&format!("{score} --protocol sgd --sgd-epochs 30 --out sgd.json"));
    let sgd = place.json("sgd.json");
    assert!(number(&sgd, "probe/linear/top1") > 0.5, "{sgd:#}");
    assert!(number(&sgd, "probe/linear/validation/lr=0.1") > 0.2);
    // The chosen rate by itself is the same classifier, and its neighbours in the list do not matter.
    let lr = number(&sgd, "probe/linear/lr");
    place.ok(&format!(
        "{score} --protocol sgd --sgd-epochs 30 --sgd-lr {lr} --out alone.json"
    ));
    let alone = place.json("alone.json");
    assert_eq!(alone["probe/linear/top1"], sgd["probe/linear/top1"]);
    assert!(alone.get("probe/linear/validation/lr=0.1").is_none());
    place.fails(
        &format!("{score} --protocol sgd --sgd-lr 0,1 --out wrong.json"),
        &["--sgd-lr 0,1 is not a positive number", "0.01,0.1"],
    );
    place.fails(
        &format!("{score} --c 0 --out wrong.json"),
        &["--c 0 is not a positive number", "or grid"],
    );
    place.ok(&format!(
        "{score} --only knn --temperature 0.07 --k 20 --out knn.json"
    ));
    assert!(place.json("knn.json").get("probe/linear/top1").is_none());
}

#[test]
fn backbones_are_probed_and_recorded() {
    let place = Place::new();
    place.ok(&format!("pretrain --method supervised {TINY} --out run"));
    place.ok(
        "data synth --out other --size 32 --images-per-class 4 --evaluation-images-per-class 4 --scenes 1 \
         --test-scenes 1 --scene-size 64 --streets 1 --val-streets 1 --street-size 32 --seed 9",
    );
    place.ok("data prepare miniimagenet --from other --out other.pack --size 32 --split train");
    let packs = "--checkpoint run/backbone.safetensors --train train.pack --test other.pack";
    let done = place.ok(&format!("probe eval {packs} --out runs/probe {PLAIN}"));
    for said in ["linear", "knn weighted", "k = 20"] {
        assert!(done.stdout.contains(said), "{}", done.stdout);
    }
    let metrics = place.json("runs/probe/metrics.json");
    let [one, five] = ["top1", "top5"].map(|n| number(&metrics, &format!("probe/linear/{n}")));
    assert!((0.0..=five).contains(&one) && five <= 1.0, "{metrics:#}");
    assert_eq!(metrics["method"], "supervised");
    let config: toml::Table = place.text("runs/probe/config.toml").parse().unwrap();
    let dataset = config["dataset"].as_table().unwrap();
    for key in [
        "backbone_sha256",
        "train_sha256",
        "test_sha256",
        "validation_files",
    ] {
        assert!(dataset.contains_key(key), "{key} in {config}");
    }
    assert_eq!(config["build"]["command"].as_str(), Some("probe eval"));
    place.ok(&format!(
        "probe eval --config runs/probe/config.toml --out again {PLAIN}"
    ));
    assert_eq!(
        place.json("again/metrics.json")["probe/linear/top1"],
        metrics["probe/linear/top1"]
    );

    // The whole network on a part of the labels, interrupted by nothing, done once.
    let finetune = format!("probe finetune {packs} --epochs 2 --batch-size 16 --out runs/tuned {PLAIN}");
    place.ok(&format!(
        "{finetune} --label-share 25 --lr 0.1 --backbone-lr-scale 1"
    ));
    let tuned = place.json("runs/tuned/metrics.json");
    assert!((0.0..=1.0).contains(&number(&tuned, "probe/finetune/top1")));
    // Two images of each of 50 classes, in batches of 16.
    assert_eq!(number(&tuned, "probe/steps"), 2.0 * 7.0);
    let flags = format!("{packs} --epochs 1 --batch-size 16 --tune frozen");
    assert_printed_is_the_runs_own(&place, "probe finetune", &flags, PLAIN, "frozen");

    place.ok("report runs --out report");
    let report = place.text("report/report.md");
    for column in ["linear (%)", "kNN (%)", "fine-tuned (%)"] {
        assert!(report.contains(column), "{report}");
    }
}

#[test]
fn probes_refuse_what_has_no_answer() {
    let place = Place::new();
    write_features(&place, "a", &[0, 1, 2], 10, 0.0);
    write_features(&place, "b", &[0, 1, 2], 5, 0.3);
    write_features(&place, "new", &[0, 7], 5, 0.3);
    write_features(&place, "one", &[4], 10, 0.0);
    write_features(&place, "single", &[0, 1, 2], 1, 0.0);
    let mut broken = vec![0; 4 * D * 3];
    broken[4 * D..4 * D + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    write_raw(&place, "nan", &broken, &[0, 1, 2]);
    let score = |train: &str, test: &str, more: &str| {
        format!("probe score --train {train} --test {test} {PLAIN} {more}")
    };
    for (line, said) in [
        (
            score("a", "new", ""),
            &["1 of the test classes", "7", "not among"][..],
        ),
        (
            score("one", "one", "--c 1 --k 1"),
            &["only images that are trained on"],
        ),
        (score("one", "b", ""), &["all of one class, 4"]),
        (score("a", "nan", ""), &["nan", "row 1", "NaN"]),
        (score("nan", "a", ""), &["nan", "row 1", "NaN"]),
        (score("a", "b", "--k 31"), &["--k 31", "30 training images"]),
        (score("a", "b", "--k 0"), &["--k 0"]),
        (score("a", "b", "--c=-1"), &["--c -1"]),
        (score("a", "b", "--c many"), &["--c", "grid"]),
        (score("a", "b", "--validation 1"), &["--validation"]),
        (score("a", "b", "--temperature 0"), &["--temperature"]),
        (score("single", "b", ""), &["single training image"]),
        (score("a", "a", ""), &["only images that are trained on"]),
    ] {
        place.fails(&line, said);
    }
    // Some images in both are named and marked.
    let (features, labels) = (vec![1u8; 4 * D * 2], [0i64, 1]);
    let mut mixed = features.clone();
    mixed[0] = 2;
    write_raw(&place, "left", &features, &labels);
    write_raw(&place, "right", &mixed, &labels);
    let done = place.ok(&score("left", "right", "--c 1 --k 1 --out mixed.json"));
    assert!(
        done.stderr.contains("1 of the 2 test images are among"),
        "{}",
        done.stderr
    );
    assert!(place.json("mixed.json")["leakage"].is_string());
    place.ok(
        "pretrain --method scratch --data train.pack --arch resnet18 --width 8 --stem small --out scratch",
    );
    let eval = |train: &str, test: &str| {
        format!("probe eval --checkpoint scratch/backbone.safetensors --train {train} --test {test} {PLAIN}")
    };
    place.fails(
        &eval("train.pack", "train.pack"),
        &["train.pack", "only images that are trained on"],
    );
    place.fails(
        &eval("train.pack", "test.pack"),
        &["test.pack", "which the training pack lacks"],
    );
}
