//! What happens when nobody listens, or the system gives no threads.

use crate::world::{PLAIN, Place, TINY, list};
use std::fs::{self, File};
use std::io::pipe;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

fn train(out: &str) -> String {
    format!("pretrain --method supervised {TINY} --classes 10 --out {out}")
}

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    pipe().unwrap().1.into()
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn training_goes_on_when_nobody_reads_its_progress() {
    let place = Place::new();
    place.ok(&train("heard"));
    for (name, stream) in [("closed", closed as fn() -> Stdio), ("full", full)] {
        let status = place
            .command(&train(name))
            .stdout(Stdio::null())
            .stderr(stream())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0), "{name}");
        assert!(
            place.bytes(&format!("{name}/backbone.safetensors")) == place.bytes("heard/backbone.safetensors")
        );
        assert!(place.path(&format!("{name}/metrics.json")).exists());
    }
    // An error's exit code stays, though its line is lost.
    let status = place
        .command("pretrain --method supervised --data none.pack --out none")
        .stderr(closed())
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn results_that_nobody_reads_end_quietly() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method scratch {TINY} --epochs 0 --out scratch"
    ));
    for line in [
        "checkpoint info scratch/backbone.safetensors".to_owned(),
        "data info train.pack".to_owned(),
        "--help".to_owned(),
        format!("pretrain --method scratch {TINY} --epochs 0 --out scratch"),
        format!(
            "fewshot eval --checkpoint scratch/backbone.safetensors --data test.pack --episodes-count 4 \
             {PLAIN}"
        ),
    ] {
        let output = place
            .command(&line)
            .stdout(closed())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {printed}");
        assert!(
            !printed.contains("error") && !printed.contains("Broken pipe"),
            "{line}: {printed}"
        );
    }
    // A full disk is no reader that has seen enough: the results are lost, and that is said.
    let line = "checkpoint info scratch/backbone.safetensors";
    let output = place
        .command(line)
        .stdout(full())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.starts_with("camtrast: standard output: cannot write: the disk is full"),
        "{printed}"
    );
}

/// The most threads that a command has at a time.
fn most_threads(place: &Place, line: &str) -> usize {
    let mut child = place
        .command(line)
        .env("RAYON_NUM_THREADS", "24")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(list(format!("/proc/{}/task", child.id()).as_ref()).len());
        sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success(), "{line}");
    most
}

#[test]
fn threads_bind_whatever_works_on_images_too() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18 --width 8 --out scratch {PLAIN}"
    ));
    let small = "--preset moco --batch-size 2 --steps 2 --train-sides 48 --anchor-sizes 8,16 \
        --train-proposals 100,30";
    let voc = "--voc world/VOCdevkit --train 2007:trainval --classes clock,tree,mushroom,chair";
    let line =
        format!("detection train --checkpoint scratch/backbone.safetensors {voc} {small} {PLAIN} --out run");
    let most = most_threads(&place, &line);
    assert!(most < 20, "{most} threads with --threads 1");
}

#[test]
fn a_system_without_threads_is_named() {
    // SAFETY: a plain system call.
    if unsafe { libc::geteuid() } != 0 {
        // Only root may become a user without other processes, and the limit does not bind root itself.
        return;
    }
    let place = Place::new();
    let readable = "the folders above must be open to all users";
    let limited = |limit: u32| {
        let plain = place.command(&train("run"));
        let mut command = std::process::Command::new("setpriv");
        command.args([
            "--reuid",
            "64999",
            "--clear-groups",
            "prlimit",
            &format!("--nproc={limit}"),
        ]);
        command
            .arg(plain.get_program())
            .args(plain.get_args())
            .current_dir(plain.get_current_dir().unwrap());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    };
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o777)).expect(readable);
    for limit in [1, 2, 3, 4] {
        let begun = Instant::now();
        let Ok(mut child) = limited(limit).spawn() else {
            return;
        };
        while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60) {
            sleep(Duration::from_millis(20));
        }
        let hung = child.try_wait().unwrap().is_none();
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(!hung, "no end with {limit} processes: {printed}");
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(
            printed.contains("cannot start a thread") && printed.contains("ulimit -u"),
            "{printed}"
        );
    }
}
