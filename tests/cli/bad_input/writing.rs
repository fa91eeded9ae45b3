//! Training that diverges, full disks, folders that cannot be written to.

use crate::world::{CONTRAST, Done, Place, TINY, content, list};
use std::fs;

#[test]
fn a_loss_that_is_not_finite() {
    let place = Place::new();
    // Five good steps, then a rate that nothing survives.
    let wild = format!(
        "pretrain --method supervised {TINY} --classes 10 --epochs 4 --schedule step --milestones 1 --gamma \
         1e30 --save-every 1"
    );
    let saying = [
        "became",
        "at step",
        "epoch 1",
        "the last good state (step",
        "run: lower --lr",
        "--overwrite",
    ];
    place.fails(&format!("{wild} --out run"), &saying);
    assert!(!place.path("run/metrics.json").exists());
    let (metadata, _) = content(&place.bytes("run/state.safetensors"));
    let step: u64 = metadata["step"].parse().unwrap();
    assert!(step >= 5, "{step}");
    place.ok("checkpoint info run/backbone.safetensors");
    // The state loads: the same command goes on from it, and meets the same end.
    let again = place.fails(&format!("{wild} --out run"), &saying);
    assert!(
        again.stderr.contains(&format!("resumed at step {step}")),
        "{}",
        again.stderr
    );

    let at_once =
        format!("pretrain --method camtrast-moco {TINY} {CONTRAST} --lr 1e30 --log-every 1 --out at-once");
    place.fails(
        &at_once,
        &[
            "the loss became",
            "at step",
            "epoch 0",
            "no state had been saved before this step",
            "--lr",
        ],
    );
    assert!(!place.path("at-once/backbone.safetensors").exists());
}

#[test]
fn an_update_that_is_not_finite_is_not_saved() {
    let place = Place::new();
    // The loss of step 5 is good, what its update makes of the weights is not.
    let command = format!(
        "pretrain --method supervised {TINY} --classes 10 --schedule step --milestones 1 --gamma 1e60 \
         --save-every 1 --out run"
    );
    let saying = [
        "became NaN or infinite at step 5 (epoch 1)",
        "the last good state (step 5) is kept in run",
    ];
    place.fails(&command, &saying);
    let (metadata, _) = content(&place.bytes("run/state.safetensors"));
    assert_eq!(metadata["step"], "5");
    place.ok("checkpoint info run/backbone.safetensors");
    place.fails(&command, &saying);
    // Without a state before it.
    let at_once = format!(
        "pretrain --method supervised {TINY} --lr 1e60 --warmup-epochs 0 --save-every 1 --out at-once"
    );
    place.fails(
        &at_once,
        &[
            "became NaN or infinite at step 0",
            "no state had been saved before this step",
        ],
    );
    for name in ["state", "backbone", "classifier"] {
        assert!(
            !place.path(&format!("at-once/{name}.safetensors")).exists(),
            "{name}"
        );
    }
}

/// Runs a command that may write no file longer than so many bytes.
fn with_short_files(place: &Place, bytes: usize, arguments: &str) -> Done {
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
    let plain = place.command(arguments);
    let mut shell = std::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(script)
        .arg(plain.get_program())
        .args(plain.get_args());
    shell
        .current_dir(plain.get_current_dir().unwrap())
        .env("OMP_WAIT_POLICY", "PASSIVE");
    Done::of(shell.output().unwrap())
}

#[test]
fn files_that_cannot_be_written_whole() {
    let place = Place::new();
    let prepare = "data prepare miniimagenet --from world --out own.pack --size 32";
    place.ok(prepare);
    let pack = place.bytes("own.pack");
    let done = with_short_files(&place, pack.len() / 2, prepare);
    place.ends(done, 1, prepare, &["own.pack: cannot write"]);
    assert!(place.bytes("own.pack") == pack);

    let command = |out: &str| format!("pretrain --method supervised {TINY} --save-every 2 --out {out}");
    place.ok(&command("whole"));
    let previous = place.path("run/state.previous.safetensors");
    let cut = place.signalled(&command("run"), libc::SIGINT, || previous.exists());
    place.ends(cut, 1, "pretrain", &["interrupted"]);
    let files = |place: &Place| {
        let names = list(&place.path("run"))
            .into_iter()
            .filter(|n| n.ends_with(".safetensors"));
        names
            .map(|n| (place.bytes(&format!("run/{n}")), n))
            .collect::<Vec<_>>()
    };
    let before = files(&place);
    let state = place.bytes("run/state.safetensors").len();
    let done = with_short_files(&place, state - 4096, &command("run"));
    place.ends(
        done,
        1,
        "pretrain on a full disk",
        &["run/", "state.safetensors", "cannot write"],
    );
    assert!(files(&place) == before, "a failed save changed the files there");
    place.ok(&command("run"));
    assert!(place.bytes("run/backbone.safetensors") == place.bytes("whole/backbone.safetensors"));
}

#[test]
fn folders_that_cannot_be_written_to() {
    let place = Place::new();
    place.write("file", "mine");
    place.fails(
        &format!("pretrain --method scratch {TINY} --epochs 0 --out file"),
        &["file: cannot create"],
    );
    place.fails(
        &format!("pretrain --method scratch {TINY} --epochs 0 --out file/run"),
        &["file/run: cannot create"],
    );
    place.fails(
        "data prepare miniimagenet --from world --out file/a.pack --size 32",
        &["file: cannot create"],
    );
    place.fails(
        "data prepare miniimagenet --from world --out world --size 32",
        &["world", "is a folder"],
    );
    assert_eq!(place.text("file"), "mine");

    // SAFETY: a plain system call.
    if unsafe { libc::geteuid() } == 0 {
        return; // root writes everywhere
    }
    fs::create_dir(place.path("closed")).unwrap();
    let mut permissions = fs::metadata(place.path("closed")).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(place.path("closed"), permissions).unwrap();
    place.fails(
        &format!("pretrain --method scratch {TINY} --epochs 0 --out closed"),
        &["closed", "permission denied"],
    );
    place.fails(
        "data prepare miniimagenet --from world --out closed/a.pack --size 32",
        &["closed/a.pack", "permission denied"],
    );
}
