//! Suites and transfer: what is left to do, parts, failures, interrupts, kills, and the numbers of the commands themselves.

use crate::world::{Done, PLAIN, Place, list, send};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Tasks beside the probe, small enough for seconds.
pub const TASKS: &str = r#"
[detection]
voc = "world/VOCdevkit"
train = "2007:trainval"
test = "2007:test"
classes = "clock,tree,mushroom,chair"
arch = "fpn"
preset = "moco"
steps = 4
batch-size = 2
lr = 0.01
warmup-steps = 2
train-sides = 64
test-side = 64
anchor-sizes = [8, 16, 32, 48, 64]
regions-per-image = 16
train-proposals = [100, 30]
precise-bn = 3
test-proposals = [100, 30]
fpn-channels = 8
head-features = 16
pictures = 1
[segmentation]
cityscapes = "world"
steps = 6
batch-size = 3
crop = 32
head-channels = 8
lr = 0.05
pictures = 1
"#;

fn run(recipe: &str, out: &str) -> String {
    format!("suite run {recipe} --out {out} --device cpu")
}

/// The lines of a suite's results, without its header.
fn results(place: &Place, out: &str) -> Vec<String> {
    place.text(&format!("{out}/report.csv")).lines().skip(1).map(String::from).collect()
}

fn states(plan: &str, state: &str) -> usize {
    plan.lines().filter(|line| line.starts_with(state)).count()
}

#[test]
fn a_suite_does_what_is_left_to_do_and_reports_it() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    place.write("recipe.toml", RECIPE);
    let plan = place.ok(&format!("{} --dry-run", run("recipe.toml", "suite"))).stdout;
    assert_eq!(states(&plan, "to do"), 18, "{plan}");
    assert!(!place.path("suite").exists());
    place.fails("suite status suite", &["suite", "is no suite's folder"]);

    place.ok(&format!("{} --only scratch", run("recipe.toml", "suite")));
    let plan = place.ok(&format!("{} --dry-run", run("recipe.toml", "suite"))).stdout;
    assert_eq!((states(&plan, "done"), states(&plan, "to do")), (6, 12), "{plan}");
    assert!(plan.contains("took ") && plan.contains("about "), "{plan}");

    let done = place.ok(&format!("{} --jobs 2", run("recipe.toml", "suite")));
    assert!(done.stdout.contains("Supervised, 16") && done.stdout.contains("report.html"), "{}", done.stdout);
    assert!(!done.stderr.contains("scratch s0"), "{}", done.stderr);
    let csv = results(&place, "suite");
    assert_eq!(csv.len(), 30, "3 runs, 2 seeds, 5 columns: {csv:#?}");
    let report = place.text("suite/report.md");
    for said in ["# Two methods", "55.31", "H_R"] {
        assert!(report.contains(said), "{report}");
    }
    let status = place.ok("suite status suite").stdout;
    assert!(status.contains("18 of 18 done") && !status.contains("to do"), "{status}");

    // The report by itself, of this suite and of plain run folders.
    let told = place.ok("report suite --out copy").stdout;
    assert!(told.contains("copy/report.html"), "{told}");
    assert_eq!(place.text("copy/report.csv"), place.text("suite/report.csv"));
    place.ok("report suite/runs/scratch-s0 --out plain");
    place.write("empty/nothing", "");
    place.fails("report empty --out none", &["empty"]);
    place.fails("report nowhere --out none", &["nowhere"]);
    place.write("empty/suite.json", "{");
    place.fails("report empty --out none", &["empty/suite.json"]);

    // Nothing is measured twice, and a folder's numbers are those of the commands by themselves.
    let again = place.ok(&run("recipe.toml", "suite"));
    assert!(!again.stderr.contains("done in"), "{}", again.stderr);
    assert_eq!(results(&place, "suite"), csv);
    let command = place.json("suite/runs/supervised-8-s1/fewshot/cell.json")["command"].as_str().unwrap().to_owned();
    place.ok(&format!("{} --out=alone --device cpu", command.strip_prefix("camtrast ").unwrap()));
    let metric = |file: &str| place.json(file)["fewshot/5way1shot/mean"].as_f64().unwrap();
    assert_eq!(metric("alone/metrics.json"), metric("suite/runs/supervised-8-s1/fewshot/metrics.json"));
    let alone = metric("alone/metrics.json").to_string();
    assert!(csv.iter().any(|line| line.contains("Supervised, 8") && line.contains(&alone)), "{alone}\n{csv:#?}");
}

#[test]
fn flags_win_over_a_recipe_and_choose_a_part() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE);
    place.ok(&format!("{} --seed 7 --precision bf16 --only method=scratch,task=fewshot", run("recipe.toml", "one")));
    assert_eq!(list(&place.path("one/runs")), ["scratch-s7"]);
    assert!(!place.path("one/runs/scratch-s7/representation").exists());
    let config: toml::Table = place.text("one/runs/scratch-s7/config.toml").parse().unwrap();
    assert_eq!((config["seed"].as_integer(), config["precision"].as_str()), (Some(7), Some("bf16")));
    let status = place.ok("suite status one").stdout;
    assert!(status.contains("2 of 9 done"), "{status}");
}

#[test]
fn recipes_are_checked_before_anything_is_trained() {
    let place = Place::new();
    let misused = |from: &str, to: &str, saying: &[&str]| {
        assert!(RECIPE.contains(from));
        place.write("wrong.toml", RECIPE.replace(from, to));
        place.misused(&run("wrong.toml", "wrong"), &[&["wrong.toml"], saying].concat());
        assert!(!place.path("wrong").exists());
    };
    misused("method = \"supervised\", classes = 16", "method = \"superwised\"", &["Supervised, 16", "superwised"]);
    misused("classes = 16", "clases = 16", &["Supervised, 16", "unknown key \"clases\"", "did you mean \"classes\"?"]);
    misused("\"1-shot\" = 55.31", "\"2-shot\" = 55.31", &["\"2-shot\"", "1-shot, 5-shot"]);
    misused("Supervised, 16", "supervised 8", &["two runs named"]);
    misused("[fewshot]", "[fewshots]", &["fewshots"]);
    misused("queries = 5", "quieries = 5", &["scratch", "fewshot", "unknown key \"quieries\""]);
    misused("[pretrain]", "[detection]\nvok = \"x\"\n[pretrain]", &["detection", "unknown key \"vok\""]);
    misused("[pretrain]", "[detection]\nvoc = \"x\"\n[pretrain]", &["detection", "--train"]);
    misused("epochs = 1", "epochs = 1\nseed = 5", &["\"seed\" is the suite's to say"]);
    misused("[data]", "[expect]\n\"scratch\" = { \"AP\" = [1, 1] }\n[data]", &["expects of \"scratch\""]);
    misused("classes = 16", "classes = 16, checkpoint = \"x\"", &["has a checkpoint"]);
    place.write("recipe.toml", RECIPE);
    place.misused(&format!("{} --only byol", run("recipe.toml", "x")), &["\"byol\"", "scratch, Supervised, 8"]);
    place.misused(
        &format!("{} --only task=detection", run("recipe.toml", "x")),
        &["\"detection\"", "pretrain, fewshot"],
    );
    place.misused(&format!("{} --only tusk=detection", run("recipe.toml", "x")), &["\"tusk\"", "method, task"]);
    place.fails(&format!("{} --train none.pack", run("recipe.toml", "x")), &["none.pack"]);
}

#[test]
fn what_fails_takes_nothing_else_with_it() {
    let place = Place::new();
    place.write("some.toml", RECIPE.replace("classes = 16", "classes = 1600"));
    let done = place.fails(&run("some.toml", "some"), &["6 of 18 commands failed", "suite status some"]);
    assert!(done.stderr.contains("1600 classes are wanted"), "{}", done.stderr);
    assert_eq!(
        results(&place, "some").iter().filter(|line| line.contains("Supervised, 16") && line.contains("0.")).count(),
        0
    );
    let status = place.ok("suite status some").stdout;
    for said in ["12 of 18 done", "Supervised, 16 s1 pretrain: ", "1600 classes are wanted", "its pretraining failed"] {
        assert!(status.contains(said), "{status}");
    }
    assert!(place.text("some/report.md").contains("1600 classes are wanted"));
    // Mended, only what is missing is done.
    place.write("some.toml", RECIPE);
    let done = place.ok(&run("some.toml", "some"));
    assert!(
        done.stderr.contains("Supervised, 16 s1 fewshot done") && !done.stderr.contains("scratch"),
        "{}",
        done.stderr
    );

    place.write(
        "all.toml",
        RECIPE
            .replace("batch-size = 16", "batch-size = 100000")
            .replace("method = \"scratch\"", "method = \"supervised\""),
    );
    place.fails(&run("all.toml", "all"), &["all 18 commands failed", "suite status all"]);
}

#[test]
fn what_changed_is_done_again_and_what_was_there_is_kept() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE.replace("[0, 1]", "[0]"));
    place.ok(&run("recipe.toml", "suite"));
    // Another schedule for one run.
    place.write("recipe.toml", RECIPE.replace("[0, 1]", "[0]").replace("classes = 16", "classes = 16, lr = 0.01"));
    let plan = place.ok(&format!("{} --dry-run", run("recipe.toml", "suite"))).stdout;
    assert!(plan.contains("outdated  Supervised, 16 s0 pretrain"), "{plan}");
    let done = place.ok(&run("recipe.toml", "suite"));
    assert!(
        done.stderr.contains("settings, data or program changed") && !done.stderr.contains("Supervised, 8"),
        "{}",
        done.stderr
    );
    assert!(list(&place.path("suite/outdated"))[0].starts_with("supervised-16-s0-"));
    // A number made up by hand.
    let path = "suite/runs/scratch-s0/fewshot/metrics.json";
    let honest = place.text(path);
    place.write(path, honest.replacen("0.", "0.9", 1));
    let done = place.ok(&run("recipe.toml", "suite"));
    assert!(
        done.stderr.contains("warning: ") && done.stderr.contains("metrics.json was changed since"),
        "{}",
        done.stderr
    );
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["fewshot/5way1shot/mean"].clone();
    assert_eq!(value(&place.text(path)), value(&honest));
}

#[test]
fn expectations_are_held_against_the_results() {
    let place = Place::new();
    let expect = |mean: f64| {
        RECIPE
            .replace("[0, 1]", "[0]")
            .replace("[data]", &format!("[expect]\nscratch = {{ \"1-shot\" = [{mean}, 20] }}\n[data]"))
    };
    place.write("right.toml", expect(30.0));
    let done = place.ok(&format!("{} --only scratch", run("right.toml", "suite")));
    assert!(done.stdout.contains("expected 30 ± 20"), "{}", done.stdout);
    place.write("wrong.toml", expect(90.0));
    place.fails(
        &format!("{} --only scratch", run("wrong.toml", "suite")),
        &["not what the recipe expects", "scratch: 1-shot"],
    );
}

#[test]
fn two_processes_never_write_one_suite_or_run() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE.replace("epochs = 1", "epochs = 200").replace("[0, 1]", "[0]"));
    let command = format!("{} --only run=Supervised, 8", run("recipe.toml", "suite"))
        .replace("run=Supervised, 8", "method=supervised");
    let child = place.spawn(&command);
    let log = place.path("suite/runs/supervised-8-s0/log.jsonl");
    while !log.exists() {
        sleep(Duration::from_millis(20));
    }
    place.fails(&command, &["suite: another suite is at work here"]);
    let status = place.ok("suite status suite").stdout;
    assert!(status.contains("running"), "{status}");
    let own = place.json("suite/runs/supervised-8-s0/cell.json")["command"].as_str().unwrap().to_owned();
    place.fails(own.strip_prefix("camtrast ").unwrap(), &["another camtrast is writing this run"]);
    // Ctrl-C: what is running saves its state.
    send(&child, libc::SIGINT);
    let done = Done::of(child.wait_with_output().unwrap());
    place.ends(done, 1, &command, &["interrupted", "the same command goes on"]);
    assert!(place.path("suite/runs/supervised-8-s0/state.safetensors").exists());
    let status = place.ok("suite status suite").stdout;
    assert!(status.contains(" %") && !status.contains("running"), "{status}");
}

#[test]
fn a_suite_killed_five_times_reports_what_one_left_alone_does() {
    let place = Place::new();
    let small = "  { name = \"scratch\", method = \"scratch\" },\n";
    let recipe = RECIPE.replace(small, "").replace("[0, 1]", "[0]").replace("epochs = 1", "epochs = 3") + TASKS;
    place.write("recipe.toml", &recipe);
    let begun = Instant::now();
    place.ok(&format!("{} --jobs 2", run("recipe.toml", "whole")));
    let length = begun.elapsed();

    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed of the kills {seed}");
    let command = format!("{} --jobs 2", run("recipe.toml", "killed"));
    for _ in 0..5 {
        let mut child = place.spawn(&command);
        // xorshift64
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        sleep(length.mul_f64(0.25 * (seed >> 11) as f64 / (1u64 << 53) as f64).max(Duration::from_millis(1)));
        send(&child, libc::SIGKILL);
        child.wait().unwrap();
    }
    place.ok(&command);
    assert_eq!(results(&place, "killed"), results(&place, "whole"));
    for run in list(&place.path("whole/runs")) {
        let [killed, whole] =
            ["killed", "whole"].map(|suite| place.bytes(&format!("{suite}/runs/{run}/backbone.safetensors")));
        assert!(killed == whole, "{run}");
    }
}

#[test]
fn one_backbone_goes_to_all_tasks() {
    let place = Place::new();
    place.ok(&format!("pretrain --method scratch --data train.pack --arch resnet18 --width 8 --out mine {PLAIN}"));
    place.write("tasks.toml", format!("title = \"Tasks\"\n[data]\ntest = {{ novel = \"test.pack\" }}\n[fewshot]\nqueries = 5\nepisodes = 20\n{TASKS}"));
    let command =
        "transfer --checkpoint mine/backbone.safetensors --recipe tasks.toml --out run --device cpu --threads 1";
    let done = place.ok(command);
    assert!(done.stdout.contains("mine"), "{}", done.stdout);
    let metrics = place.json("run/metrics.json");
    for name in [
        "fewshot/5way1shot/mean",
        "fewshot/5way5shot/ci95",
        "detection/AP",
        "detection/voc07_mAP",
        "segmentation/mIoU",
        "seconds",
    ] {
        assert!(metrics[name].is_number(), "{name}: {metrics}");
    }
    assert!(place.path("run/report.html").exists());
    let again = place.ok(command);
    assert!(!again.stderr.contains("done in"), "{}", again.stderr);

    fs::remove_file(place.path("mine/backbone.safetensors")).unwrap();
    place.fails(command, &["mine/backbone.safetensors"]);
    place.write("mine/backbone.safetensors", "no");
    place.fails(command, &["mine/backbone.safetensors"]);
    place.write("none.toml", "title = \"None\"\n");
    place.ok(&format!("pretrain --method scratch --data train.pack --arch resnet18 --width 8 --out other {PLAIN}"));
    place.misused(
        "transfer --checkpoint other/backbone.safetensors --recipe none.toml --out none",
        &["none.toml", "nothing to transfer to"],
    );
}

#[test]
fn every_recipe_of_the_repository_can_be_run() {
    let place = Place::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
    let mut recipes = 0;
    for folder in [folder.to_owned(), format!("{folder}/small"), format!("{folder}/quick")] {
        for file in list(folder.as_ref()).iter().filter(|f| f.ends_with(".toml") && *f != "demo.toml") {
            let plan = place.ok(&format!("suite run {folder}/{file} --out x --dry-run")).stdout;
            assert!(states(&plan, "to do") > 0 && states(&plan, "done") == 0, "{file}: {plan}");
            recipes += 1;
        }
    }
    assert!(recipes >= 15, "{recipes} recipes");
}
