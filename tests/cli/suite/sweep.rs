//! Settings chosen on validation images: which cells are run, what is chosen, and what is refused.

use super::{RECIPE, TASKS, results, run, states};
use crate::world::Place;
use std::fs;

/// Two methods with a learning rate of detection to choose.
pub fn recipe(rates: &str) -> String {
    let tasks = TASKS.split("[segmentation]").next().unwrap();
    let swept = tasks.replace("lr = 0.01", &format!("sweep = {{ lr = {rates} }}"));
    let recipe = RECIPE
        .replace("seeds = [0, 1]", "seeds = [0]")
        .replace("representation = true", "");
    let two = recipe.lines().filter(|line| !line.contains("Supervised, 16"));
    two.map(|line| line.to_owned() + "\n").collect::<String>() + &swept
}

fn choice(place: &Place, cell: &str) -> serde_json::Value {
    place.json(&format!("suite/runs/{cell}/cell.json"))["choice"].clone()
}

#[test]
fn every_backbone_gets_its_own_rate_and_the_shared_one() {
    let place = Place::new();
    place.write("r.toml", recipe("[0.02, 0.005]"));
    let plan = place.ok(&format!("{} --dry-run", run("r.toml", "suite"))).stdout;
    // Of two backbones: pretraining, probe, two values, the best of them, the best on average.
    assert_eq!(states(&plan, "to do"), 12, "{plan}");
    let done = place.ok(&run("r.toml", "suite"));
    let folders = [
        "detection-lr-0.005",
        "detection-lr-0.02",
        "detection",
        "detection-shared",
    ];
    let config = |folder: &str| -> toml::Table {
        place
            .text(&format!("suite/runs/scratch-s0/{folder}/config.toml"))
            .parse()
            .unwrap()
    };
    for folder in &folders[..2] {
        let config = config(folder);
        assert_eq!(config["holdout"].as_float(), Some(0.2), "{folder}");
        let [training, test] =
            ["training_images", "test_images"].map(|key| config["dataset"][key].as_integer());
        assert_eq!(
            (training, test),
            (Some(10), Some(2)),
            "a fifth of 12, and no test image"
        );
    }
    let shared = choice(&place, "scratch-s0/detection-shared")["value"]
        .as_str()
        .unwrap()
        .to_owned();
    for run in ["scratch-s0", "supervised-8-s0"] {
        let own = choice(&place, &format!("{run}/detection"));
        let scores: Vec<(String, f64)> = serde_json::from_value(own["scores"].clone()).unwrap();
        for ((value, score), folder) in scores.iter().zip(folders) {
            let metrics = place.json(&format!("suite/runs/{run}/{folder}/metrics.json"));
            assert!(
                folder.ends_with(value) && metrics["detection/AP"].as_f64() == Some(*score),
                "{folder} {own}"
            );
        }
        // The larger score, and of equal ones the smaller value.
        let best = if scores[1].1 > scores[0].1 { 1 } else { 0 };
        assert_eq!(own["value"].as_str(), Some(&scores[best].0[..]), "{own}");
        let trained: toml::Table = place
            .text(&format!("suite/runs/{run}/detection/config.toml"))
            .parse()
            .unwrap();
        assert_eq!(trained["lr"].as_float().unwrap().to_string(), scores[best].0);
        assert!(
            trained.get("holdout").is_none()
                && trained["dataset"]["training_images"].as_integer() == Some(12)
        );
        assert_eq!(
            choice(&place, &format!("{run}/detection-shared"))["value"].as_str(),
            Some(&shared[..])
        );
        // Nothing is trained twice: the same value is the same cell.
        let taken = done.stderr.contains(&format!("{run}/detection\n"));
        assert_eq!(taken, own["value"] == shared.as_str(), "{}", done.stderr);
    }
    // A grid of two has its best at an end, which status and report say.
    let status = place.ok("suite status suite").stdout;
    assert!(
        status.contains("12 of 12 done") && status.contains("chosen: scratch s0 detection: lr 0.0"),
        "{status}"
    );
    assert!(
        status.contains("the end of its grid: a better one may lie outside"),
        "{status}"
    );
    let report = place.text("suite/report.md");
    for said in [
        "AP, shared lr (%)",
        "Sweep of detection: lr",
        "a better one may lie outside",
        "all backbones",
    ] {
        assert!(report.contains(said), "{said}\n{report}");
    }
    let again = place.ok(&run("r.toml", "suite"));
    assert!(!again.stderr.contains("done in"), "{}", again.stderr);

    // Another value: what was measured stays, and only what it changes is trained.
    place.write("r.toml", recipe("[0.02, 0.005, 0.01]"));
    let plan = place.ok(&format!("{} --dry-run", run("r.toml", "suite"))).stdout;
    assert_eq!(states(&plan, "done"), 8, "{plan}");
    let more = place.ok(&run("r.toml", "suite"));
    assert!(
        more.stderr.contains("detection-lr-0.01 done in"),
        "{}",
        more.stderr
    );
    assert!(
        !more.stderr.contains("detection-lr-0.02 done in"),
        "{}",
        more.stderr
    );
    assert_eq!(
        choice(&place, "scratch-s0/detection")["scores"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
}

#[test]
fn one_seed_can_choose_for_all() {
    let place = Place::new();
    let swept = recipe("[0.02, 0.005]").replace("seeds = [0]", "seeds = [0, 1]\nsweep-seeds = [1]");
    place.write("r.toml", &swept);
    let command = format!("{} --only method=scratch", run("r.toml", "suite"));
    let plan = place.ok(&format!("{command} --dry-run")).stdout;
    assert_eq!(
        plan.matches("detection-lr-").count(),
        4,
        "two values of each run: {plan}"
    );
    place.ok(&format!("{command} --only task=detection"));
    let measured = |seed| place.path(&format!("suite/runs/scratch-s{seed}/detection-lr-0.02"));
    assert!(measured(1).exists() && !measured(0).exists());
    let [zero, one] = [0, 1].map(|seed| choice(&place, &format!("scratch-s{seed}/detection")));
    assert_eq!(zero, one, "chosen once, from the same two numbers");
    let report = place.text("suite/report.md");
    assert!(
        report.contains("validated on it, with seed 1 for all"),
        "{report}"
    );
}

#[test]
fn a_part_of_a_sweep_runs_what_it_needs() {
    let place = Place::new();
    place.write("r.toml", recipe("[0.02, 0.005]"));
    let plan = |only: &str| {
        let plan = place
            .ok(&format!("{} --only {only} --dry-run", run("r.toml", "suite")))
            .stdout;
        states(&plan, "to do")
    };
    assert_eq!(
        plan("method=scratch,task=detection"),
        4,
        "pretraining, two values, the best"
    );
    assert_eq!(
        plan("method=scratch,task=detection-shared"),
        7,
        "it needs the values of both backbones"
    );
    // A value whose training diverged is not chosen; one that failed otherwise stops the choice.
    place.write("r.toml", recipe("[0.005, 1e30]"));
    let command = format!("{} --only method=scratch,task=detection", run("r.toml", "suite"));
    let done = place.fails(&command, &["1 of 4 commands failed"]);
    assert!(
        done.stderr.contains("warning: scratch s0 detection-lr-1"),
        "{}",
        done.stderr
    );
    let own = choice(&place, "scratch-s0/detection");
    assert_eq!(
        (own["value"].as_str(), &own["scores"][1][1]),
        (Some("0.005"), &serde_json::Value::Null)
    );
    assert!(place.ok("suite status suite").stdout.contains("diverged"));
    let cell = fs::read_dir(place.path("suite/runs/scratch-s0"))
        .unwrap()
        .flatten()
        .map(|e| e.path());
    let folder = cell
        .into_iter()
        .find(|path| path.to_string_lossy().contains("lr-1"))
        .unwrap();
    let path = folder.join("cell.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("lower --lr", "raise --lr")).unwrap();
    let status = place.ok("suite status suite").stdout;
    assert!(status.contains("failed: scratch s0 detection-lr-1"), "{status}");
}

#[test]
fn segmentation_and_fine_tuning_are_swept_too() {
    let place = Place::new();
    let streets = TASKS.split("[segmentation]").nth(1).unwrap();
    let streets = streets.replace("lr = 0.05", "sweep = { lr = [0.01, 0.05] }");
    let base = recipe("[1, 2]");
    let base = base.split("[detection]").next().unwrap();
    let tuned = "[finetune]\ntrain = \"test.pack\"\ntest = \"other.pack\"\nepochs = 1\nbatch-size = 64\n\
                 sweep = { lr = [0.1, 0.5] }\n";
    // The same classes, drawn anew.
    place.ok(
        "data synth --out again --size 32 --images-per-class 1 --evaluation-images-per-class 4 --scenes 1 \
         --test-scenes 1 --scene-size 64 --streets 1 --val-streets 1 --street-size 32 --seed 5",
    );
    place.ok("data prepare miniimagenet --from again --out other.pack --size 32 --split test");
    place.write("r.toml", format!("{base}[segmentation]{streets}{tuned}"));
    place.ok(&format!("{} --only method=scratch", run("r.toml", "suite")));
    let config = |folder: &str| -> toml::Table {
        place
            .text(&format!("suite/runs/scratch-s0/{folder}/config.toml"))
            .parse()
            .unwrap()
    };
    let [held, whole] = ["segmentation-lr-0.01", "segmentation"].map(config);
    let images = |config: &toml::Table| config["dataset"]["training_images"].as_integer();
    assert_eq!(
        (images(&held), images(&whole)),
        (Some(3), Some(4)),
        "the last of four streets"
    );
    let [held, whole] = ["finetune-lr-0.1", "finetune"].map(config);
    assert_eq!(
        (images(&held), images(&whole)),
        (Some(320), Some(400)),
        "a fifth of each class"
    );
    let lines = results(&place, "suite");
    for number in [
        "finetune-lr-0.5,probe/finetune/top1,0",
        "segmentation-shared,segmentation/mIoU,",
    ] {
        assert!(
            lines.iter().any(|line| line.contains(number)),
            "{number}\n{lines:#?}"
        );
    }
    assert!(
        place
            .text("suite/report.md")
            .contains("fine-tuned, shared lr (%)")
    );

    // The test pack cannot be what is validated on.
    place.write(
        "r.toml",
        format!("{base}{}", tuned.replace("other.pack", "test.pack")),
    );
    place.fails(
        &run("r.toml", "x"),
        &["test.pack: holds only images that are trained on"],
    );
}

#[test]
fn sweeps_are_checked_before_anything_is_trained() {
    let place = Place::new();
    let good = recipe("[0.02, 0.005]");
    let sweep = "sweep = { lr = [0.02, 0.005] }";
    let refused = |text: String, saying: &[&str]| {
        place.write("wrong.toml", text);
        let command = format!("{} --dry-run", run("wrong.toml", "x"));
        place.misused(&command, &[&["wrong.toml"], saying].concat());
    };
    for (wrong, said) in [
        ("sweep = { lr = [0.02] }", "sweep of lr needs two values or more"),
        ("sweep = { lr = [0.02, \"high\"] }", "\"high\" is not a number"),
        ("sweep = [0.02]", "is not one flag with a list of values"),
        ("sweep = { rate = [1, 2] }", "unknown key \"rate\""),
        ("sweep = { batch-norm = [1, 2] }", "--batch-norm"),
        ("sweep = { seed = [1, 2] }", "\"seed\" is set by the suite itself"),
        ("lr = 0.1\nsweep = { lr = [1, 2] }", "the table sets lr, too"),
        ("sweep = { lr = [0.1, -1] }", "--lr"),
    ] {
        refused(good.replace(sweep, wrong), &["detection", said]);
    }
    let seeds = |text: &str| good.replace("seeds = [0]", &format!("seeds = [0]\nsweep-seeds = {text}"));
    refused(
        seeds("[0, 3]"),
        &["sweep-seeds has 3, which is not one of its seeds"],
    );
    refused(
        seeds("[0]").replace(sweep, "lr = 0.1"),
        &["has sweep-seeds, but no sweep in a task's table"],
    );
    refused(
        good.replace("episodes = 20", "episodes = 20\nsweep = { ways = [4, 5] }"),
        &[
            "fewshot",
            "sweep belongs into [finetune], [detection] or [segmentation]",
        ],
    );
    refused(
        good.replace(
            "method = \"scratch\"",
            "method = \"scratch\", detection = { lr = 0.1 }",
        ),
        &["scratch", "lr cannot be its own"],
    );
    // Test images among those validated on, also where leakage is meant: 2007:val as test, and as a part of
    // the training data.
    let lists = "world/VOCdevkit/VOC2007/ImageSets/Main";
    place.ok(
        "data synth --out own --size 32 --images-per-class 1 --evaluation-images-per-class 1 --scenes 6 \
         --test-scenes 2 --scene-size 64 --streets 1 --val-streets 1 --street-size 32",
    );
    let own = lists.replace("world", "own");
    let all = place.text(&format!("{own}/trainval.txt"));
    let (train, val): (Vec<_>, Vec<_>) = all.lines().enumerate().partition(|(i, _)| i % 2 == 0);
    for (name, ids) in [("train", train), ("val", val)] {
        let ids: Vec<&str> = ids.into_iter().map(|(_, id)| id).collect();
        place.write(&format!("{own}/{name}.txt"), ids.join("\n") + "\n");
    }
    let own = good.replace("world/VOCdevkit", "own/VOCdevkit");
    place.write("halves.toml", &own);
    place.ok(&format!("{} --dry-run", run("halves.toml", "x")));
    refused(
        format!("allow-leakage = true\n{}", own.replace("2007:test", "2007:val")),
        &["detection: all of its 3 validation images are test images"],
    );
    assert!(!place.path("x").exists());
}
