//! What a suite does and reports: everything, a part, one backbone to all tasks, the recipes of the
//! repository.

use super::{RECIPE, TASKS, results, run, states};
use crate::world::{PLAIN, Place, list};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn a_suite_does_what_is_left_to_do_and_reports_it() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    place.write("recipe.toml", RECIPE);
    let plan = place
        .ok(&format!("{} --dry-run", run("recipe.toml", "suite")))
        .stdout;
    assert_eq!(states(&plan, "to do"), 18, "{plan}");
    assert!(!place.path("suite").exists());
    place.fails("suite status suite", &["suite", "is not the folder of a suite"]);

    place.ok(&format!("{} --only scratch", run("recipe.toml", "suite")));
    let plan = place
        .ok(&format!("{} --dry-run", run("recipe.toml", "suite")))
        .stdout;
    assert_eq!((states(&plan, "done"), states(&plan, "to do")), (6, 12), "{plan}");
    assert!(plan.contains("took ") && plan.contains("about "), "{plan}");
    let long = RECIPE.replace("Supervised, 16", "Supervised with the sixteen largest classes");
    place.write("long.toml", long);
    let plan = place
        .ok(&format!("{} --dry-run", run("long.toml", "suite")))
        .stdout;
    let times = plan
        .lines()
        .filter_map(|line| line.find(" took ").or(line.find(" about ")))
        .collect::<Vec<_>>();
    assert!(
        times.len() > 6 && times.iter().all(|&at| at == times[0]),
        "{plan}"
    );

    let done = place.ok(&format!("{} --jobs 2", run("recipe.toml", "suite")));
    assert!(
        done.stdout.contains("Supervised, 16") && done.stdout.contains("report.html"),
        "{}",
        done.stdout
    );
    assert!(!done.stderr.contains("scratch s0"), "{}", done.stderr);
    let csv = results(&place, "suite");
    assert_eq!(csv.len(), 60, "3 runs, 2 seeds, 10 columns: {csv:#?}");
    let report = place.text("suite/report.md");
    for said in ["# Two methods", "55.31", "H_R"] {
        assert!(report.contains(said), "{report}");
    }
    let status = place.ok("suite status suite").stdout;
    assert!(
        status.contains("18 of 18 done") && !status.contains("to do"),
        "{status}"
    );

    // The report by itself, of this suite and of plain run folders.
    let printed = place.ok("report suite --out copy").stdout;
    assert!(printed.contains("copy/report.html"), "{printed}");
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
    let command = place.json("suite/runs/supervised-8-s1/fewshot/cell.json")["command"]
        .as_str()
        .unwrap()
        .to_owned();
    place.ok(&format!(
        "{} --out=alone --device cpu",
        command.strip_prefix("camtrast ").unwrap()
    ));
    let metric = |file: &str| place.json(file)["fewshot/5way1shot/mean"].as_f64().unwrap();
    assert_eq!(
        metric("alone/metrics.json"),
        metric("suite/runs/supervised-8-s1/fewshot/metrics.json")
    );
    let alone = metric("alone/metrics.json").to_string();
    assert!(
        csv.iter()
            .any(|line| line.contains("Supervised, 8") && line.contains(&alone)),
        "{alone}\n{csv:#?}"
    );
}

#[test]
fn flags_win_over_a_recipe_and_choose_a_part() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE);
    place.ok(&format!(
        "{} --seed 7 --precision bf16 --only method=scratch,task=fewshot",
        run("recipe.toml", "one")
    ));
    assert_eq!(list(&place.path("one/runs")), ["scratch-s7"]);
    assert!(!place.path("one/runs/scratch-s7/representation").exists());
    let config: toml::Table = place.text("one/runs/scratch-s7/config.toml").parse().unwrap();
    assert_eq!(
        (config["seed"].as_integer(), config["precision"].as_str()),
        (Some(7), Some("bf16"))
    );
    let status = place.ok("suite status one").stdout;
    assert!(status.contains("2 of 9 done"), "{status}");
}

#[test]
fn expectations_are_held_against_the_results() {
    let place = Place::new();
    let expect = |mean: f64| {
        RECIPE.replace("[0, 1]", "[0]").replace(
            "[data]",
            &format!("[expect]\nscratch = {{ \"1-shot\" = [{mean}, 20] }}\n[data]"),
        )
    };
    place.write("right.toml", expect(30.0));
    let done = place.ok(&format!("{} --only scratch", run("right.toml", "suite")));
    assert!(done.stdout.contains("expected 30 ± 20"), "{}", done.stdout);
    place.write("wrong.toml", expect(90.0));
    place.fails(
        &format!("{} --only scratch", run("wrong.toml", "suite")),
        &["results differ from what the recipe expects", "scratch: 1-shot"],
    );
}

#[test]
fn one_backbone_goes_to_all_tasks() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18 --width 8 --out mine {PLAIN}"
    ));
    place.write(
        "tasks.toml",
        format!(
            "title = \"Tasks\"\n[data]\ntest = {{ novel = \"test.pack\" \
        }}\n[fewshot]\nqueries = 5\nepisodes = 20\n{TASKS}"
        ),
    );
    let command = "transfer --checkpoint mine/backbone.safetensors --recipe tasks.toml --out run --device \
        cpu --threads 1";
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
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18 --width 8 --out other {PLAIN}"
    ));
    place.misused(
        "transfer --checkpoint other/backbone.safetensors --recipe none.toml --out none",
        &["none.toml", "nothing to transfer to"],
    );
}

#[test]
fn every_recipe_of_the_repository_can_be_run() {
    let place = Place::new();
    // The data of the quick ones, below the working directory; the others lack theirs, and nothing else.
    fs::create_dir(place.path("quick")).unwrap();
    for (name, file) in [
        ("world", "world"),
        ("train.safetensors", "train.pack"),
        ("test.safetensors", "test.pack"),
    ] {
        symlink(place.path(file), place.path("quick").join(name)).unwrap();
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
    let mut recipes = 0;
    for folder in [
        folder.to_owned(),
        format!("{folder}/small"),
        format!("{folder}/quick"),
    ] {
        for file in list(folder.as_ref())
            .iter()
            .filter(|f| f.ends_with(".toml") && *f != "demo.toml")
        {
            let command = format!("suite run {folder}/{file} --out x --device cpu --dry-run");
            if folder.ends_with("quick") {
                let done = place.ok(&command);
                let plan = done.stdout;
                assert!(
                    states(&plan, "to do") > 0 && states(&plan, "done") == 0,
                    "{file}: {plan}"
                );
                assert!(
                    done.stderr.contains("taken from the working directory: quick/"),
                    "{}",
                    done.stderr
                );
            } else {
                place.fails(&command, &[".safetensors: cannot read: no such file or folder"]);
            }
            recipes += 1;
        }
    }
    assert!(recipes >= 15, "{recipes} recipes");
}

#[test]
fn paths_start_from_the_recipe() {
    let place = Place::new();
    fs::create_dir(place.path("sub")).unwrap();
    symlink(place.path("train.pack"), place.path("sub/a.pack")).unwrap();
    place.write("sub/recipe.toml", RECIPE.replace("train.pack", "a.pack"));
    let done = place.ok(&format!(
        "{} --only scratch --seed 0",
        run("sub/recipe.toml", "suite")
    ));
    let note = "note: not found next to sub/recipe.toml, so taken from the working directory: test.pack";
    assert!(
        done.stderr.contains(note) && !done.stderr.contains("a.pack"),
        "{}",
        done.stderr
    );
    // The recipe kept there is read from elsewhere.
    assert!(place.ok("suite status suite").stdout.contains("3 of 9 done"));
    let again = place.ok(&format!("{} --only scratch", run("suite/recipe.toml", "suite")));
    assert!(!again.stderr.contains("done in"), "{}", again.stderr);
}

#[test]
fn a_recorded_command_makes_the_same_bytes() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE.replace("threads = 1", ""));
    place.ok(&format!(
        "{} --only scratch --seed 0 --threads 2",
        run("recipe.toml", "two")
    ));
    let cell = |suite: &str| {
        place.json(&format!("{suite}/runs/scratch-s0/cell.json"))["command"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(
        cell("two").contains("--device=cpu --threads=2"),
        "{}",
        cell("two")
    );
    // What libtorch takes by itself, in numbers; commands say as much of the whole suite.
    place.ok(&format!("{} --only scratch --seed 0", run("recipe.toml", "auto")));
    let threads = place.text("auto/runs/scratch-s0/config.toml");
    let threads = threads
        .lines()
        .find_map(|line| line.strip_prefix("threads = "))
        .unwrap();
    assert!(
        cell("auto").ends_with(&format!("--threads={threads}")),
        "{}",
        cell("auto")
    );
    let suite = place.json("auto/suite.json")["command"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(suite.ends_with(&format!("--threads={threads}")), "{suite}");
    assert!(
        place
            .text("auto/report.html")
            .contains(&format!("--threads={threads}"))
    );
    place.ok(&format!(
        "{} --out=alone",
        cell("two").strip_prefix("camtrast ").unwrap()
    ));
    assert!(
        place.bytes("alone/backbone.safetensors") == place.bytes("two/runs/scratch-s0/backbone.safetensors")
    );
}

#[test]
fn kept_epochs_are_rows_and_a_curve() {
    let place = Place::new();
    let recipe = RECIPE
        .replace("epochs = 1", "epochs = 3\nkeep-epochs = [1, 2, 3]")
        .replace("x-axis = \"classes\"", "")
        .replace("seeds = [0, 1]", "seeds = [0]");
    let only = |recipe: &str| -> String {
        let kept = recipe
            .lines()
            .filter(|line| !line.contains("\"Supervised, 16\"") && !line.contains("scratch"));
        kept.collect::<Vec<_>>()
            .join("\n")
            .replace("series=\"supervised\",x=8,", "")
    };
    place.write("recipe.toml", only(&recipe));
    let plan = place
        .ok(&format!("{} --dry-run", run("recipe.toml", "suite")))
        .stdout;
    assert_eq!(states(&plan, "to do"), 7, "{plan}");
    place.ok(&run("recipe.toml", "suite"));
    let csv = results(&place, "suite");
    assert_eq!(csv.len(), 30, "3 rows of 10 columns: {csv:#?}");
    let of_row = |name: &str| {
        let named = csv
            .iter()
            .find(|line| line.starts_with(name) && line.contains("5way1shot/mean"));
        named.unwrap_or_else(|| panic!("{name}: {csv:#?}")).clone()
    };
    let [one, three] = ["\"Supervised, 8, epoch 1\"", "\"Supervised, 8\","].map(of_row);
    let sum = |line: &str| line.split(',').rev().nth(3).unwrap().to_owned();
    assert_ne!(sum(&one), sum(&three));
    let kept = place.json("suite/runs/supervised-8-epoch-1-s0/fewshot/metrics.json");
    assert_eq!(kept["backbone_sha256"], sum(&one));
    let page = place.text("suite/report.html");
    assert!(page.contains("epochs of pretraining") && page.contains("Supervised, 8, epoch 2"));
    let status = place.ok("suite status suite").stdout;
    assert!(status.contains("7 of 7 done"), "{status}");
    let again = place.ok(&run("recipe.toml", "suite"));
    assert!(!again.stderr.contains("done in"), "{}", again.stderr);
    // A kept backbone that changed is made again.
    let file = "suite/runs/supervised-8-s0/backbone-epoch1.safetensors";
    let whole = place.bytes(file);
    place.write(file, &whole[..whole.len() - 1]);
    let again = place.ok(&run("recipe.toml", "suite"));
    assert!(
        again.stderr.contains("backbone-epoch1.safetensors was changed"),
        "{}",
        again.stderr
    );
    assert!(place.bytes(file) == whole);

    place.write("wrong.toml", only(&recipe.replace("[1, 2, 3]", "\"one\"")));
    place.misused(&run("wrong.toml", "wrong"), &["keep-epochs"]);
}
