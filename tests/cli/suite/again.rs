//! What is done again and what is not.

use super::{RECIPE, TASKS, run, states};
use crate::world::{PLAIN, Place, TINY, list};
use std::fs;

#[test]
fn what_changed_is_done_again_and_what_was_there_is_kept() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE.replace("[0, 1]", "[0]"));
    place.ok(&run("recipe.toml", "suite"));
    // Another schedule for one run.
    place.write(
        "recipe.toml",
        RECIPE
            .replace("[0, 1]", "[0]")
            .replace("classes = 16", "classes = 16, lr = 0.01"),
    );
    let plan = place
        .ok(&format!("{} --dry-run", run("recipe.toml", "suite")))
        .stdout;
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
    let value = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).unwrap()["fewshot/5way1shot/mean"].clone()
    };
    assert_eq!(value(&place.text(path)), value(&honest));
}

#[test]
fn a_plan_follows_what_a_new_pretraining_outdates() {
    let place = Place::new();
    let recipe = RECIPE.replace("[0, 1]", "[0]");
    place.write("recipe.toml", &recipe);
    place.ok(&run("recipe.toml", "suite"));
    let dry = format!("{} --dry-run", run("recipe.toml", "suite"));
    assert!(place.ok(&dry).stdout.ends_with("nothing left to do\n"));
    place.write(
        "recipe.toml",
        recipe.replace("classes = 16", "classes = 16, lr = 0.01"),
    );
    let plan = place.ok(&dry).stdout;
    assert_eq!(
        (states(&plan, "outdated"), states(&plan, "done")),
        (3, 6),
        "{plan}"
    );
    for task in ["pretrain", "fewshot", "representation"] {
        assert!(
            plan.contains(&format!("outdated  Supervised, 16 s0 {task}")),
            "{plan}"
        );
    }
    assert!(plan.contains("left if run one after the other"), "{plan}");
}

#[test]
fn a_damaged_backbone_is_made_again() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE.replace("[0, 1]", "[0]"));
    let command = format!("{} --only scratch", run("recipe.toml", "suite"));
    place.ok(&command);
    let path = "suite/runs/scratch-s0/backbone.safetensors";
    let whole = place.bytes(path);
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    place.write(path, bytes);
    let plan = place.ok(&format!("{command} --dry-run")).stdout;
    assert!(plan.contains("damaged   scratch s0 pretrain"), "{plan}");
    assert!(place.ok("suite status suite").stdout.contains("damaged"));
    let done = place.ok(&command);
    assert!(
        done.stderr.contains("backbone.safetensors was changed since"),
        "{}",
        done.stderr
    );
    // The same bytes come out, so that what was measured on them holds.
    assert!(place.bytes(path) == whole);
    assert!(
        !done.stderr.contains("scratch s0 fewshot done"),
        "{}",
        done.stderr
    );
    fs::remove_file(place.path("suite/runs/scratch-s0/fewshot/episodes.json")).unwrap();
    let done = place.ok(&command);
    assert!(done.stderr.contains("scratch s0 fewshot done"), "{}", done.stderr);
}

#[test]
fn what_a_cell_reads_decides_by_its_content() {
    let place = Place::new();
    // A world of its own, to change.
    let world = fs::read_link(place.path("world")).unwrap();
    fs::remove_file(place.path("world")).unwrap();
    assert!(
        std::process::Command::new("cp")
            .arg("-r")
            .args([world, place.path("world")])
            .status()
            .unwrap()
            .success()
    );
    place.write("recipe.toml", RECIPE.replace("[0, 1]", "[0]") + TASKS);
    let command = format!("{} --only scratch", run("recipe.toml", "suite"));
    place.ok(&command);
    let plan = || place.ok(&format!("{command} --dry-run")).stdout;

    place.write("world/note.txt", "of no concern");
    place.write("world/VOCdevkit/VOC2007/JPEGImages/unlisted.jpg", "of no concern");
    place.write(
        "world/VOCdevkit/VOC2007/Annotations/unlisted.xml",
        "of no concern",
    );
    assert!(plan().ends_with("nothing left to do\n"), "{}", plan());

    // One digit of a box: the file keeps its size.
    let annotations = "world/VOCdevkit/VOC2007/Annotations";
    let ids = place.text("world/VOCdevkit/VOC2007/ImageSets/Main/trainval.txt");
    let moved = ids.split_whitespace().any(|id| {
        let (path, from) = (format!("{annotations}/{id}.xml"), "<ymax>");
        let text = place.text(&path);
        let Some(at) = text.find(from).map(|at| at + from.len()) else {
            return false;
        };
        let digit = if &text[at..=at] == "2" { "1" } else { "2" };
        let edited = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
        place.write(&path, &edited);
        let refused = place.run(&format!("{command} --dry-run")).code != Some(0);
        if refused {
            place.write(&path, &text);
        }
        !refused
    });
    assert!(moved);
    let listed = plan();
    assert!(
        listed.contains("outdated  scratch s0 detection") && states(&listed, "outdated") == 1,
        "{listed}"
    );

    let labels = place.path("world/gtFine/val");
    let city = labels.join(&list(&labels)[0]);
    let file = list(&city)
        .into_iter()
        .find(|name| name.ends_with("_labelIds.png"))
        .unwrap();
    let mut bytes = fs::read(city.join(&file)).unwrap();
    let middle = bytes.len() - 20; // within the data, after the header
    bytes[middle] ^= 1;
    fs::write(city.join(&file), bytes).unwrap();
    let listed = plan();
    assert!(
        listed.contains("outdated  scratch s0 segmentation") && states(&listed, "outdated") == 2,
        "{listed}"
    );
}

#[test]
fn a_run_goes_on_however_its_files_are_named() {
    let place = Place::new();
    let whole = |name: &str| place.path(name).display().to_string();
    place.ok(&format!("pretrain --method supervised {TINY} --out run"));
    place.ok(&format!(
        "pretrain --method supervised {TINY} --out run --data {}",
        whole("train.pack")
    ));
    place.write("other.pack", place.bytes("train.pack"));
    place.ok(&format!(
        "pretrain --method supervised {TINY} --out run --data other.pack"
    ));
    place.fails(
        &format!("pretrain --method supervised {TINY} --out run --data test.pack"),
        &["holds a run with data = \"train.pack\", but this command has data = \"test.pack\""],
    );
    let tasks = [
        (
            "detection",
            "--voc",
            "world/VOCdevkit",
            "--train 2007:trainval --classes clock,tree,mushroom,chair --arch fpn --steps 1 \
          --batch-size 2 --train-sides 64 --fpn-channels 8 --head-features 16 --pictures 0",
        ),
        (
            "segmentation",
            "--cityscapes",
            "world",
            "--steps 1 --batch-size 2 --crop 32 --head-channels 8 --pictures 0",
        ),
    ];
    for (task, flag, folder, rest) in tasks {
        let command = |checkpoint: &str, folder: &str| {
            format!("{task} train --checkpoint {checkpoint} {flag} {folder} {rest} --out {task} {PLAIN}")
        };
        place.ok(&command("run/backbone.safetensors", folder));
        place.ok(&command(&whole("run/backbone.safetensors"), &whole(folder)));
    }

    // A suite that was cut off goes on with a recipe that names its files otherwise.
    place.write(
        "recipe.toml",
        RECIPE
            .replace("[0, 1]", "[0]")
            .replace("epochs = 1", "epochs = 40"),
    );
    let command = format!(
        "{} --only method=supervised,task=pretrain",
        run("recipe.toml", "suite")
    );
    let state = place.path("suite/runs/supervised-8-s0/log.jsonl");
    place.signalled(&command, libc::SIGINT, || state.exists());
    let recipe = place
        .text("recipe.toml")
        .replace("\"train.pack\"", &format!("{:?}", whole("train.pack")));
    place.write("recipe.toml", recipe);
    let done = place.ok(&command);
    assert!(
        !done.stderr.contains("changed") && done.stderr.contains("done in"),
        "{}",
        done.stderr
    );
}

#[test]
fn another_validation_pack_makes_a_fine_tuning_again() {
    let place = Place::new();
    // The same classes, drawn anew twice.
    for (name, seed) in [("other", 5), ("val", 6)] {
        place.ok(&format!(
            "data synth --out {name} --size 32 --images-per-class 1 --evaluation-images-per-class 4 \
             --scenes 1 --test-scenes 1 --scene-size 64 --streets 1 --val-streets 1 --street-size 32 \
             --seed {seed}"
        ));
        place.ok(&format!(
            "data prepare miniimagenet --from {name} --out {name}.pack --size 32 --split test"
        ));
    }
    let runs = "title = \"t\"\nseeds = [0]\nruns = [{ name = \"scratch\", method = \"scratch\" }]\n";
    let data = "[data]\ntrain = \"train.pack\"\n[pretrain]\narch = \"resnet18-w8-small\"\n";
    let tuned = "[finetune]\ntrain = \"test.pack\"\ntest = \"other.pack\"\nval = \"val.pack\"\n\
                 val-every = 5\nepochs = 1\nbatch-size = 64\n";
    place.write("r.toml", format!("{runs}{data}{tuned}"));
    let command = run("r.toml", "suite");
    place.ok(&command);
    place.write("val.pack", place.bytes("other.pack"));
    let plan = place.ok(&format!("{command} --dry-run")).stdout;
    assert!(plan.contains("outdated  scratch s0 finetune"), "{plan}");
}
