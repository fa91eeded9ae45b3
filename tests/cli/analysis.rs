//! Looking into backbones, and suites of them.

use crate::world::{PLAIN, Place, TINY};

fn number(place: &Place, file: &str, name: &str) -> f64 {
    place.json(file)[name].as_f64().unwrap_or_else(|| panic!("{file}: {name}"))
}

#[test]
fn representations_are_measured_by_the_same_rules_wherever_they_are() {
    let place = Place::new();
    for method in ["supervised", "simsiam"] {
        place.ok(&format!("pretrain --method {method} {TINY} --out {method} --probe-every 1"));
        let lines = place.log(method, "epoch");
        for key in ["entropy", "effective_rank", "uniformity", "uniformity_unit", "knn_accuracy"] {
            assert!(lines.iter().all(|line| line[key].as_f64().is_some_and(|n| n >= 0.0)), "{method}: {key}");
        }
    }
    // The probe looks and changes nothing.
    place.ok(&format!("pretrain --method supervised {TINY} --out unprobed"));
    assert!(place.bytes("supervised/backbone.safetensors") == place.bytes("unprobed/backbone.safetensors"));

    let both = "--checkpoint supervised/backbone.safetensors simsiam/backbone.safetensors";
    let done = place.ok(&format!("analyze representation {both} --data train.pack --out both.json {PLAIN}"));
    for said in ["supervised ", "simsiam ", "H_R", "Sun et al. 2022, eq. 1", "all pairs of 400 images"] {
        assert!(done.stdout.contains(said), "{}", done.stdout);
    }
    let one = "--checkpoint simsiam/backbone.safetensors";
    place.ok(&format!("analyze representation {one} --data train.pack --out alone {PLAIN}"));
    for name in ["entropy", "effective_rank", "uniformity", "uniformity_unit", "alignment", "images"] {
        let name = format!("representation/{name}");
        let value = number(&place, "alone/metrics.json", &name);
        assert_eq!(value, number(&place, "both.json", &format!("simsiam/{name}")));
    }
    assert!(number(&place, "alone/metrics.json", "representation/entropy") < 64f64.ln());
    place.ok(&format!("analyze representation {one} --data train.pack --classes 4 --out part {PLAIN}"));
    assert_eq!(number(&place, "part/metrics.json", "representation/images"), 32.0);
    place.fails(&format!("analyze representation {one} --data train.pack --classes 1000"), &["1000", "train.pack"]);
}

#[test]
fn activation_maps_say_whose_classifier_they_are_of() {
    let place = Place::new();
    for method in ["supervised", "simsiam"] {
        place.ok(&format!("pretrain --method {method} {TINY} --out {method}"));
    }
    let both = "--checkpoint supervised/backbone.safetensors simsiam/backbone.safetensors";
    let done = place.ok(&format!("analyze cam {both} --data test.pack --images 3 --out cam {PLAIN}"));
    let line = |name: &str| done.stdout.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    assert!(line("supervised").contains("its own, 50 classes"), "{}", done.stdout);
    assert!(line("simsiam").contains("fitted here, 20 classes"), "{}", done.stdout);
    for method in ["supervised", "simsiam"] {
        let area = number(&place, "cam/metrics.json", &format!("cam/{method}/area"));
        assert!(area > 0.0 && area < 1.0, "{method}: {area}");
    }
    assert_eq!(&place.bytes("cam/cam.png")[1..4], b"PNG");
    let done = place.ok(&format!("analyze cam {both} --data test.pack --refit-heads --out refit {PLAIN}"));
    assert_eq!(done.stdout.matches("fitted here, 20 classes").count(), 2);

    // A classifier of another run would draw maps of nothing.
    place.copy("supervised", "mixed");
    place.copy("simsiam", "other");
    std::fs::copy(place.path("supervised/classifier.safetensors"), place.path("other/classifier.safetensors")).unwrap();
    place.fails(
        "analyze cam --checkpoint other/backbone.safetensors --data test.pack",
        &["other/classifier.safetensors", "not the classifier of the backbone beside it"],
    );
    place.fails(&format!("analyze cam {both} --data test.pack --images 100000"), &["--images"]);
}

const RECIPE: &str = r#"
title = "Two methods"
about = "A test."
seeds = [0, 1]
representation = true
x-axis = "classes"
runs = [
  { name = "scratch", method = "scratch" },
  { name = "Supervised, 8", series = "supervised", x = 8, method = "supervised", classes = 8, published = { "1-shot" = 55.31 } },
  { name = "Supervised, 16", series = "supervised", x = 16, method = "supervised", classes = 16 },
]
[data]
train = "train.pack"
test = { novel = "test.pack" }
[fewshot]
queries = 5
episodes = 20
[pretrain]
arch = "resnet18-w8-small"
batch-size = 16
epochs = 1
threads = 1
"#;

#[test]
fn a_suite_does_what_is_left_to_do_and_reports_it() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE);
    let plan = place.ok("suite run recipe.toml --out suite --dry-run").stdout;
    assert_eq!(plan.lines().filter(|l| l.starts_with("to do")).count(), 6, "{plan}");
    assert!(!place.path("suite").exists());

    place.ok("suite run recipe.toml --out suite --device cpu --only scratch");
    let done = place.ok("suite run recipe.toml --out suite --device cpu");
    assert!(done.stdout.contains("Supervised, 16") && done.stdout.contains("55.31"), "{}", done.stdout);
    let csv = place.text("suite/results.csv");
    assert_eq!(csv.lines().count(), 7);
    assert!(csv.starts_with("run,seed,1-shot,5-shot,H_R,U,U unit,seconds,backbone\n"), "{csv}");
    let report = place.text("suite/report.md");
    for said in ["# Two methods", "standard deviation over 2 seeds", "figure.svg", "runs/supervised-8-s1/config.toml"] {
        assert!(report.contains(said), "{report}");
    }
    assert!(place.text("suite/figure.svg").contains("1-shot accuracy (%)"));

    // Nothing is measured twice, and a folder's numbers are those of a run by itself.
    let plan = place.ok("suite run recipe.toml --out suite --dry-run").stdout;
    assert_eq!(plan.lines().filter(|l| l.starts_with("done")).count(), 6, "{plan}");
    let again = place.ok("suite run recipe.toml --out suite --device cpu");
    assert!(!again.stderr.contains("few-shot episodes"), "{}", again.stderr);
    assert_eq!(place.text("suite/results.csv"), csv);
    let checkpoint = "suite/runs/supervised-8-s1/backbone.safetensors";
    let protocol = "--queries 5 --episodes-count 20 --seed 1";
    place.ok(&format!("fewshot eval --checkpoint {checkpoint} --data test.pack {protocol} --out alone.json {PLAIN}"));
    let alone = number(&place, "alone.json", "fewshot/5way1shot/mean").to_string();
    assert!(csv.lines().any(|l| l.starts_with("\"Supervised, 8\",1,") && l.contains(&alone)), "{alone}\n{csv}");
}

#[test]
fn flags_win_over_a_recipe() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE);
    place.ok("suite run recipe.toml --out one --device cpu --seed 7 --precision bf16 --only scratch");
    assert!(place.text("one/results.csv").contains("\"scratch\",7,"));
    let config: toml::Table = place.text("one/runs/scratch-s7/config.toml").parse().unwrap();
    assert_eq!((config["seed"].as_integer(), config["precision"].as_str()), (Some(7), Some("bf16")));
}

#[test]
fn recipes_are_checked_before_anything_is_trained() {
    let place = Place::new();
    let misused = |from: &str, to: &str, saying: &[&str]| {
        assert!(RECIPE.contains(from));
        place.write("wrong.toml", RECIPE.replace(from, to));
        place.misused("suite run wrong.toml --out wrong", &[&["wrong.toml"], saying].concat());
        assert!(!place.path("wrong").exists());
    };
    misused("method = \"supervised\", classes = 16", "method = \"superwised\"", &["Supervised, 16", "superwised"]);
    misused("classes = 16", "clases = 16", &["Supervised, 16", "unknown key \"clases\"", "did you mean \"classes\"?"]);
    misused("\"1-shot\" = 55.31", "\"2-shot\" = 55.31", &["\"2-shot\"", "1-shot, 5-shot"]);
    misused("Supervised, 16", "supervised 8", &["two runs named"]);
    misused("[fewshot]", "[fewshots]", &["fewshots"]);
    place.write("recipe.toml", RECIPE);
    place.misused("suite run recipe.toml --out x --only byol", &["\"byol\"", "scratch, Supervised, 8"]);
    place.fails("suite run recipe.toml --out x --train none.pack", &["none.pack"]);
    // One run that fails does not take the others with it.
    place.write("some.toml", RECIPE.replace("classes = 16", "classes = 1600"));
    let done = place.fails("suite run some.toml --out some --device cpu", &["2 of 6 runs failed", "some/report.md"]);
    assert!(done.stderr.contains("1600 classes are wanted"), "{}", done.stderr);
    assert!(place.text("some/report.md").contains("**failed**: Supervised, 16, seed 1"));
    assert_eq!(place.text("some/results.csv").lines().count(), 5);
}

#[test]
fn every_recipe_of_the_repository_can_be_run() {
    let place = Place::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
    let mut recipes = 0;
    for folder in [folder.to_owned(), format!("{folder}/small")] {
        for file in crate::world::list(folder.as_ref()).iter().filter(|f| f.ends_with(".toml") && *f != "demo.toml") {
            let plan = place.ok(&format!("suite run {folder}/{file} --out x --dry-run")).stdout;
            assert!(plan.lines().all(|line| line.starts_with("to do")) && !plan.is_empty(), "{file}: {plan}");
            recipes += 1;
        }
    }
    assert_eq!(recipes, 15);
}
