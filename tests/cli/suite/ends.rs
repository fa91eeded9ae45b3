//! How a suite ends: failures, interrupts, kills, streams that nobody reads.

use super::{RECIPE, TASKS, results, run};
use crate::world::{Done, Place, list, send};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[test]
fn what_fails_takes_nothing_else_with_it() {
    let place = Place::new();
    place.write(
        "some.toml",
        RECIPE.replace("classes = 16", "classes = 16, lr = 1e30"),
    );
    let done = place.fails(
        &run("some.toml", "some"),
        &["6 of 18 commands failed", "suite status some"],
    );
    assert!(done.stderr.contains("the loss became"), "{}", done.stderr);
    assert_eq!(
        results(&place, "some")
            .iter()
            .filter(|line| line.contains("Supervised, 16") && line.contains("0."))
            .count(),
        0
    );
    let status = place.ok("suite status some").stdout;
    for said in [
        "12 of 18 done",
        "Supervised, 16 s1 pretrain: ",
        "the loss became",
        "its pretraining failed",
    ] {
        assert!(status.contains(said), "{status}");
    }
    assert!(place.text("some/report.md").contains("the loss became"));
    // With the recipe corrected, only what is missing is done.
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
            .replace("epochs = 1", "epochs = 1\nlr = 1e30")
            .replace("method = \"scratch\"", "method = \"supervised\""),
    );
    place.fails(
        &run("all.toml", "all"),
        &["all 18 commands failed", "suite status all"],
    );
}

#[test]
fn two_processes_never_write_one_suite_or_run() {
    let place = Place::new();
    place.write(
        "recipe.toml",
        RECIPE
            .replace("epochs = 1", "epochs = 200")
            .replace("[0, 1]", "[0]"),
    );
    let command = format!("{} --only run=Supervised, 8", run("recipe.toml", "suite"))
        .replace("run=Supervised, 8", "method=supervised");
    let child = place.spawn(&command);
    let log = place.path("suite/runs/supervised-8-s0/log.jsonl");
    while !log.exists() {
        sleep(Duration::from_millis(20));
    }
    place.fails(&command, &["suite: another process is running this suite"]);
    let status = place.ok("suite status suite").stdout;
    assert!(status.contains("running"), "{status}");
    let own = place.json("suite/runs/supervised-8-s0/cell.json")["command"]
        .as_str()
        .unwrap()
        .to_owned();
    place.fails(
        own.strip_prefix("camtrast ").unwrap(),
        &["another camtrast is writing this run"],
    );
    // Ctrl-C: what is running saves its state.
    send(&child, libc::SIGINT);
    let done = Done::of(child.wait_with_output().unwrap());
    place.ends(
        done,
        1,
        &command,
        &["interrupted", "run the same command again to continue"],
    );
    assert!(
        place
            .path("suite/runs/supervised-8-s0/state.safetensors")
            .exists()
    );
    let status = place.ok("suite status suite").stdout;
    assert!(status.contains(" %") && !status.contains("running"), "{status}");
}

#[test]
fn a_suite_killed_five_times_reports_what_one_left_alone_does() {
    let place = Place::new();
    let small = "  { name = \"scratch\", method = \"scratch\" },\n";
    let recipe = RECIPE
        .replace(small, "")
        .replace("[0, 1]", "[0]")
        .replace("epochs = 1", "epochs = 3")
        + TASKS;
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
        sleep(
            length
                .mul_f64(0.25 * (seed >> 11) as f64 / (1u64 << 53) as f64)
                .max(Duration::from_millis(1)),
        );
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
fn streams_that_nobody_reads_stop_nothing() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE.replace("[0, 1]", "[0]"));
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = place.command(&format!("{} --only scratch", run("recipe.toml", "full")));
    assert!(command.stdout(full()).stderr(full()).status().unwrap().success());
    assert!(place.path("full/report.html").exists());

    let command = format!("{} --only scratch", run("recipe.toml", "closed"));
    let mut child = place.spawn(&command);
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
    assert!(place.path("closed/report.html").exists());
    let mut status = place.command("suite status closed");
    assert!(status.stdout(full()).status().unwrap().success());
}

#[test]
fn more_threads_than_cores_are_warned_of() {
    let place = Place::new();
    place.write("recipe.toml", RECIPE);
    let command = format!(
        "{} --only method=scratch,task=pretrain --seed 0",
        run("recipe.toml", "suite")
    );
    let done = place.ok(&format!("{command} --jobs 256"));
    assert!(
        done.stderr
            .contains("warning: 256 commands at a time with 1 threads each"),
        "{}",
        done.stderr
    );
    place.ok(&command);
}
