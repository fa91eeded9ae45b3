//! What is refused before anything is trained.

use super::{RECIPE, TASKS, run};
use crate::world::Place;

#[test]
fn recipes_are_checked_before_anything_is_trained() {
    let place = Place::new();
    let misused = |from: &str, to: &str, saying: &[&str]| {
        assert!(RECIPE.contains(from));
        place.write("wrong.toml", RECIPE.replace(from, to));
        place.misused(&run("wrong.toml", "wrong"), &[&["wrong.toml"], saying].concat());
        assert!(!place.path("wrong").exists());
    };
    misused(
        "method = \"supervised\", classes = 16",
        "method = \"superwised\"",
        &["Supervised, 16", "superwised"],
    );
    misused(
        "classes = 16",
        "clases = 16",
        &[
            "Supervised, 16",
            "unknown key \"clases\"",
            "did you mean \"classes\"?",
        ],
    );
    misused(
        "\"1-shot\" = 55.31",
        "\"2-shot\" = 55.31",
        &["\"2-shot\"", "1-shot, 5-shot"],
    );
    misused("Supervised, 16", "supervised 8", &["two runs named"]);
    misused("seeds = [0, 1]", "seeds = [1, 0, 1]", &["names seed 1 twice"]);
    misused(
        "threads = 1",
        "threads = -1",
        &["threads = -1 is not a number of threads"],
    );
    misused(
        "threads = 1",
        "threads = 0",
        &["threads = 0 is not a number of threads"],
    );
    misused(
        "queries = 5",
        "queries = 5\ndata = \"test.pack\"",
        &["[fewshot] names data", "[data] test"],
    );
    misused(
        "[pretrain]",
        "[pretrain]\ndata = \"test.pack\"",
        &["the pack to train on twice"],
    );
    misused(
        "\"test.pack\" }",
        "\"test.pack\", Novel = \"test.pack\" }",
        &["test pack \"novel\"", "\"Novel\""],
    );
    misused("[fewshot]", "[fewshots]", &["fewshots"]);
    misused(
        "queries = 5",
        "quieries = 5",
        &["scratch", "fewshot", "unknown key \"quieries\""],
    );
    misused(
        "[pretrain]",
        "[detection]\nvok = \"x\"\n[pretrain]",
        &["detection", "unknown key \"vok\""],
    );
    misused(
        "[pretrain]",
        "[detection]\nvoc = \"x\"\n[pretrain]",
        &["detection", "--train"],
    );
    misused(
        "epochs = 1",
        "epochs = 1\nseed = 5",
        &["\"seed\" is set by the suite itself"],
    );
    misused(
        "classes = 16",
        "classes = 16, print-config = true",
        &["\"print-config\" is set by the suite itself"],
    );
    misused(
        "[data]",
        "[expect]\n\"scratch\" = { \"AP\" = [1, 1] }\n[data]",
        &["expects a number of \"scratch\""],
    );
    misused(
        "classes = 16",
        "classes = 16, checkpoint = \"x\"",
        &["has a checkpoint"],
    );
    place.write("twice.toml", RECIPE.replace("[0, 1]", "[0, 0]"));
    place.misused(
        &format!("{} --seed 3", run("twice.toml", "x")),
        &["twice.toml", "seed 0 twice"],
    );
    place.write("recipe.toml", RECIPE);
    place.misused(
        &format!("{} --only byol", run("recipe.toml", "x")),
        &["\"byol\"", "scratch; Supervised, 8"],
    );
    place.misused(
        &format!("{} --only task=detection", run("recipe.toml", "x")),
        &["\"detection\"", "pretrain; fewshot"],
    );
    place.misused(
        &format!("{} --only tusk=detection", run("recipe.toml", "x")),
        &["\"tusk\"", "method; task"],
    );
    place.fails(
        &format!("{} --train none.pack", run("recipe.toml", "x")),
        &["none.pack"],
    );
}

#[test]
fn what_cannot_work_is_refused_when_planned_as_when_run() {
    let place = Place::new();
    let both = |recipe: String| {
        place.write("wrong.toml", recipe);
        [
            run("wrong.toml", "wrong"),
            format!("{} --dry-run", run("wrong.toml", "wrong")),
        ]
    };
    let all = RECIPE.to_owned() + TASKS;
    for (from, to, saying) in [
        (
            "classes = 16",
            "classes = 1600",
            "run \"Supervised, 16\": pretrain: 1600 classes are wanted",
        ),
        ("batch-size = 16", "batch-size = 100000", "do not fill a step"),
        (
            "classes = 16",
            "classes = 16, key-momentum = 0.5",
            "--key-momentum has no meaning",
        ),
        ("queries = 5", "queries = 500", "500"),
        (
            "anchor-sizes = [8, 16, 32, 48, 64]",
            "anchor-sizes = [8]",
            "run \"scratch\": detection",
        ),
        ("crop = 32", "crop = 32\nscale = [2, 1]", "--scale"),
    ] {
        assert!(all.contains(from));
        for command in both(all.replace(from, to)) {
            place.misused(&command, &["wrong.toml", saying]);
        }
    }
    for (from, to, saying) in [
        ("\"test.pack\"", "\"none.pack\"", "none.pack"),
        ("world/VOCdevkit", "world/VOC", "world/VOC"),
        (
            "cityscapes = \"world\"",
            "cityscapes = \"words\"",
            "words/leftImg8bit",
        ),
    ] {
        assert!(all.contains(from));
        for command in both(all.replace(from, to)) {
            place.fails(&command, &[saying]);
        }
    }
    // A pack that is damaged after its header.
    place.write("bad.pack", place.bytes("train.pack"));
    let mut bytes = place.bytes("bad.pack");
    *bytes.last_mut().unwrap() ^= 1;
    place.write("bad.pack", bytes);
    for command in both(RECIPE.replace("train.pack", "bad.pack")) {
        place.fails(&command, &["bad.pack: is damaged"]);
    }
    assert!(!place.path("wrong").exists());
}

#[test]
fn nothing_is_tested_on_what_it_was_trained_on_unless_it_is_meant() {
    let place = Place::new();
    place.ok("data prepare miniimagenet --from world --out smaller.pack --size 16 --split train");
    let all = RECIPE.replace("queries = 5", "queries = 3") + TASKS;
    for (from, to, saying) in [
        (
            "\"test.pack\"",
            "\"train.pack\"",
            "run \"Supervised, 8\" is trained on the test pack \"novel\"",
        ),
        (
            "\"test.pack\"",
            "\"smaller.pack\"",
            "run \"Supervised, 8\" is trained on 8 classes of the test pack \"novel\"",
        ),
        (
            "test = \"2007:test\"",
            "test = \"2007:trainval\"",
            "detection: 12 of the 12 test images are trained on",
        ),
        (
            "head-channels = 8",
            "head-channels = 8\nval-split = \"train\"",
            "segmentation: 4 of the 4 test images",
        ),
    ] {
        assert!(all.contains(from));
        let recipe = all.replace(from, to);
        place.write("leak.toml", &recipe);
        for command in [
            run("leak.toml", "leak"),
            format!("{} --dry-run", run("leak.toml", "leak")),
        ] {
            place.misused(&command, &["leak.toml", saying, "allow-leakage = true"]);
        }
        place.write("meant.toml", format!("allow-leakage = true\n{recipe}"));
        let done = place.ok(&format!("{} --dry-run", run("meant.toml", "leak")));
        assert!(
            done.stderr.contains(&format!("warning: {saying}")),
            "{}",
            done.stderr
        );
    }
    assert!(!place.path("leak").exists());
    // The report says it, too.
    let meant = RECIPE
        .replace("queries = 5", "queries = 3")
        .replace("\"test.pack\"", "\"train.pack\"");
    place.write("meant.toml", format!("allow-leakage = true\n{meant}"));
    place.ok(
        &format!("{} --seed 0 --only run=Supervised, 8", run("meant.toml", "meant"))
            .replace("run=Supervised, 8", "method=supervised,task=fewshot"),
    );
    assert!(
        place
            .text("meant/report.md")
            .contains("Tested on what was trained on"),
        "{}",
        place.text("meant/report.md")
    );
    // A backbone from elsewhere says what it was trained on.
    let small = "--arch resnet18-w8-small --batch-size 16 --epochs 1 --device cpu --threads 1";
    place.ok(&format!(
        "pretrain --method supervised --data test.pack --out seen {small}"
    ));
    place.write(
        "tasks.toml",
        "title = \"T\"\n[data]\ntest = { novel = \"test.pack\" }\n",
    );
    place.misused(
        "transfer --checkpoint seen/backbone.safetensors --recipe tasks.toml --out t --device cpu",
        &["run \"seen\" is trained on the test pack"],
    );
}
