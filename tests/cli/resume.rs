//! A run that is cut off anywhere and started again ends with the bytes of one that was not.

use crate::world::{CONTRAST, Content, Place, TINY, assert_same_records, content, list, send};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Everything of a training state but how long it took.
fn state(bytes: &[u8]) -> Content {
    let (mut metadata, tensors) = content(bytes);
    metadata.remove("seconds").expect("a state knows its seconds");
    metadata
        .remove("metadata_checksum")
        .expect("a state is checked whole"); // of the seconds too
    (metadata, tensors)
}

/// Two finished runs are the same: backbone to the byte, state but for the seconds, log and metrics but for
/// times and rates.
fn assert_same(place: &Place, run: &str, reference: &str) {
    let both = |name: &str| [run, reference].map(|r| place.bytes(&format!("{r}/{name}")));
    let [ours, theirs] = both("backbone.safetensors");
    assert!(
        ours == theirs,
        "{run}/backbone.safetensors differs from {reference}'s"
    );
    let [ours, theirs] = both("state.safetensors").map(|bytes| state(&bytes));
    assert_eq!(ours.0, theirs.0);
    assert!(
        ours.1 == theirs.1,
        "{run}/state.safetensors differs from {reference}'s"
    );
    assert_same_records(place, run, reference);
}

/// Ends a run politely once it has a state and the one before, and checks what it says.
fn interrupt(place: &Place, command: &str, run: &str) {
    let previous = place.path(&format!("{run}/state.previous.safetensors"));
    let done = place.signalled(command, libc::SIGINT, || previous.exists());
    let saying = [
        "interrupted at step",
        "the state is saved",
        "run the same command again to continue",
    ];
    place.ends(done, 1, command, &saying);
}

/// Kills a run ten times at random moments, each time starting it again, and compares it with one left alone.
fn survives_kills(method: &str, save_every: u64) {
    let place = Place::new();
    let begun = Instant::now();
    place.ok(&format!("pretrain --method {method} {TINY} --out whole"));
    let length = begun.elapsed();

    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("{method}: seed of the kills {seed}");
    let command = format!("pretrain --method {method} {TINY} --save-every {save_every} --out killed");
    let mut caught = 0;
    for _ in 0..10 {
        let mut child = place.spawn(&command);
        // xorshift64
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        sleep(
            length
                .mul_f64(0.3 * (seed >> 11) as f64 / (1u64 << 53) as f64)
                .max(Duration::from_millis(1)),
        );
        caught += u32::from(child.try_wait().unwrap().is_none());
        send(&child, libc::SIGKILL);
        child.wait().unwrap();
    }
    println!("{method}: {caught} of 10 kills met a living process");
    place.ok(&command);
    assert_same(&place, "killed", "whole");
    let left: Vec<_> = list(&place.path("killed"))
        .into_iter()
        .filter(|n| n.ends_with(".part"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn camtrast_survives_kills() {
    survives_kills(&format!("camtrast-moco {CONTRAST}"), 2);
}

#[test]
fn supervised_survives_kills() {
    survives_kills("supervised --classes 20", 3);
}

// Whatever a method keeps beside its network (a target network, labels of keys, a predictor of its own rate)
// is taken up again.
#[test]
fn every_other_method_goes_on_where_it_was_interrupted() {
    let place = Place::new();
    for method in [
        "simsiam",
        "byol",
        &format!("exemplar {CONTRAST}"),
        "camtrast-simsiam --cam-warmup-epochs 0",
    ] {
        let name = method.split(' ').next().unwrap();
        let command =
            |out: &str| format!("pretrain --method {method} {TINY} --save-every 2 --out {name}-{out}");
        place.ok(&command("whole"));
        interrupt(&place, &command("cut"), &format!("{name}-cut"));
        place.ok(&command("cut"));
        assert_same(&place, &format!("{name}-cut"), &format!("{name}-whole"));
    }
}

#[test]
fn ctrl_c_saves_and_a_finished_run_stays_as_it_is() {
    let place = Place::new();
    // The queue turns over every seven steps and is in use from the first one on, so that losing its place
    // would show.
    let contrast = "--queue-size 112 --bn-splits 2 --cam-warmup-epochs 0";
    let command =
        |out: &str| format!("pretrain --method camtrast-moco {contrast} {TINY} --save-every 2 --out {out}");
    place.ok(&command("whole"));
    interrupt(&place, &command("cut"), "cut");
    let done = place.ok(&command("cut"));
    assert!(done.stderr.contains("resumed at step"), "{}", done.stderr);
    assert_same(&place, "cut", "whole");

    let files = |run: &str| {
        list(&place.path(run))
            .into_iter()
            .map(|n| (place.bytes(&format!("{run}/{n}")), n))
            .collect()
    };
    let before: Vec<(Vec<u8>, String)> = files("cut");
    let again = place.ok(&command("cut"));
    assert_eq!(again.stdout, "cut/backbone.safetensors\n");
    assert!(
        files("cut") == before,
        "a finished run changed when it was run again"
    );
}

#[test]
fn a_run_killed_before_its_metrics_has_them_after_all() {
    let place = Place::new();
    let command = |out: &str| format!("pretrain --method supervised {TINY} --classes 20 --out {out}");
    place.ok(&command("whole"));
    place.copy("whole", "cut");
    fs::remove_file(place.path("cut/metrics.json")).unwrap();
    place.ok(&command("cut"));
    assert!(place.json("whole/metrics.json")["pretrain/accuracy"].is_number());
    assert_same(&place, "cut", "whole");
}

#[test]
fn termination_is_as_polite_as_ctrl_c() {
    let place = Place::new();
    let command = format!("pretrain --method supervised {TINY} --save-every 2 --out run");
    let previous = place.path("run/state.previous.safetensors");
    let done = place.signalled(&command, libc::SIGTERM, || previous.exists());
    place.ends(
        done,
        1,
        &command,
        &["interrupted at step", "run the same command again to continue"],
    );
}

#[test]
fn accumulation_clipping_bf16_and_precise_statistics_resume() {
    let place = Place::new();
    for (name, flags) in [
        ("accumulate", "--accumulate 2 --clip-norm 0.5"),
        ("bf16", "--precision bf16 --classes 20 --epochs 4"),
        ("adam", "--optimizer adamw --lr 0.001 --classes 20 --epochs 4"),
        ("precise-bn", "--precise-bn 3 --classes 20 --epochs 4"),
    ] {
        let command = |out: &str| {
            format!("pretrain --method supervised {TINY} {flags} --save-every 1 --out {name}-{out}")
        };
        place.ok(&command("whole"));
        interrupt(&place, &command("cut"), &format!("{name}-cut"));
        place.ok(&command("cut"));
        assert_same(&place, &format!("{name}-cut"), &format!("{name}-whole"));
    }
    // 25 batches make 12 steps of two.
    assert_eq!(
        place.json("accumulate-whole/metrics.json")["pretrain/steps"],
        24.0
    );
}

#[test]
fn another_setting_is_refused_and_overwrite_starts_anew() {
    let place = Place::new();
    let tiny = format!("pretrain --method supervised {TINY} --classes 10 --lr 0.01");
    place.ok(&format!("{tiny} --out run"));
    let before = place.bytes("run/backbone.safetensors");
    for (flags, old, new) in [
        ("--lr 0.02", "lr = 0.01", "lr = 0.02"),
        ("--seed 7", "seed = 0", "seed = 7"),
        (
            "--width 16",
            "arch = \"resnet18-w8-small\"",
            "arch = \"resnet18-w16-small\"",
        ),
        (
            "--images-per-class 4",
            "no images-per-class",
            "images-per-class = 4",
        ),
        ("--clip-norm 1", "no clip-norm", "clip-norm = 1"),
        (
            "--data test.pack",
            "data = \"train.pack\"",
            "data = \"test.pack\"",
        ),
    ] {
        let done = place.fails(
            &format!("{tiny} {flags} --out run"),
            &[old, new, "run holds", "--overwrite"],
        );
        assert_eq!(done.stdout, "");
    }
    // The same name, other images.
    place.write("held.pack", place.bytes("train.pack"));
    place.ok(&format!("{tiny} --data held.pack --out held"));
    place.write("held.pack", place.bytes("test.pack"));
    place.fails(
        &format!("{tiny} --data held.pack --out held"),
        &["sha256", "held holds", "--overwrite"],
    );
    assert!(
        place.bytes("run/backbone.safetensors") == before,
        "a refused command changed the run"
    );

    place.write("run/notes.txt", "mine");
    place.ok(&format!("{tiny} --lr 0.02 --out run --overwrite"));
    place.ok(&format!("{tiny} --lr 0.02 --out fresh"));
    assert_same(&place, "run", "fresh");
    assert_eq!(place.text("run/notes.txt"), "mine");
}

#[test]
fn damaged_states_fall_back_or_are_named() {
    let place = Place::new();
    let command = |out: &str| {
        format!("pretrain --method supervised {TINY} --classes 20 --epochs 4 --save-every 1 --out {out}")
    };
    place.ok(&command("whole"));
    interrupt(&place, &command("cut"), "cut");
    let good = place.bytes("cut/state.safetensors");
    let mut flipped = good.clone();
    let last = flipped.len() - 100;
    flipped[last] ^= 4;

    let damages: [(&str, &[u8]); 3] = [
        ("half", &good[..good.len() / 2]),
        ("flipped", &flipped),
        ("empty", &[]),
    ];
    for (damage, bytes) in damages {
        place.copy("cut", damage);
        place.write(&format!("{damage}/state.safetensors"), bytes);
        let done = place.ok(&command(damage));
        for part in ["warning: ", "state.safetensors", "the state before it"] {
            assert!(done.stderr.contains(part), "{damage}: {}", done.stderr);
        }
        assert_same(&place, damage, "whole");
    }

    // Cut off between the two renames of a save.
    place.copy("cut", "gone");
    fs::remove_file(place.path("gone/state.safetensors")).unwrap();
    place.ok(&command("gone"));
    assert_same(&place, "gone", "whole");

    place.copy("cut", "both");
    place.write("both/state.safetensors", &good[..good.len() / 2]);
    let mut previous = place.bytes("both/state.previous.safetensors");
    previous[last] ^= 4;
    place.write("both/state.previous.safetensors", &previous);
    place.fails(&command("both"), &["both/state", "safetensors", "; "]);
}

/// Kills a command that makes files ten times at random moments, each time checking that nothing half-made is
/// to be seen, and compares what it makes in the end with what it makes undisturbed.
fn output_survives_kills(
    command: impl Fn(&str) -> String,
    whole: impl Fn(&Place, &str) -> Vec<(String, Vec<u8>)>,
) {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method scratch {TINY} --epochs 0 --out scratch"
    ));
    let begun = Instant::now();
    place.ok(&command("left-alone"));
    let length = begun.elapsed();
    let expected = whole(&place, "left-alone");
    assert!(!expected.is_empty());
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("{}: seed of the kills {seed}", command("killed"));
    for _ in 0..10 {
        let mut child = place.spawn(&command("killed"));
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        sleep(length.mul_f64((seed >> 11) as f64 / (1u64 << 53) as f64));
        send(&child, libc::SIGKILL);
        child.wait().unwrap();
        // What has its own name is whole.
        for (name, bytes) in whole(&place, "killed") {
            let own = expected.iter().find(|(other, _)| *other == name);
            assert!(
                own.is_some_and(|(_, own)| *own == bytes),
                "{name} is half-made after a kill"
            );
        }
    }
    place.ok(&command("killed"));
    assert!(
        whole(&place, "killed") == expected,
        "{} differs after kills",
        command("killed")
    );
    let left: Vec<String> = list(&place.path(""))
        .into_iter()
        .filter(|n| n.ends_with(".part"))
        .collect();
    assert_eq!(left, [""; 0]);
}

/// A file of the place, if it is there.
fn file(place: &Place, name: &str) -> Vec<(String, Vec<u8>)> {
    fs::read(place.path(name))
        .map(|bytes| ("file".to_owned(), bytes))
        .into_iter()
        .collect()
}

#[test]
fn preparing_a_pack_survives_kills() {
    output_survives_kills(
        |out| format!("data prepare miniimagenet --from world --out {out} --size 32 --threads 1"),
        file,
    );
}

#[test]
fn exporting_survives_kills() {
    output_survives_kills(
        |out| {
            format!(
                "checkpoint export scratch/backbone.safetensors --to torchvision --out {out}.pth --device cpu"
            )
        },
        |place, out| file(place, &format!("{out}.pth")),
    );
}

#[test]
fn drawing_a_world_survives_kills() {
    let flags = "--size 32 --images-per-class 1 --evaluation-images-per-class 1 --scenes 2 --test-scenes 1 \
        --scene-size 64 \
                 --streets 1 --val-streets 1 --street-size 32 --threads 1";
    output_survives_kills(|out| format!("data synth --out {out} {flags}"), files_below);
}

/// All files below a folder of the place with their names there, but for temporary ones.
fn files_below(place: &Place, folder: &str) -> Vec<(String, Vec<u8>)> {
    let (mut files, mut folders) = (Vec::new(), vec![String::new()]);
    while let Some(below) = folders.pop() {
        for name in list(&place.path(&format!("{folder}/{below}"))) {
            let name = format!("{below}/{name}");
            match place.path(&format!("{folder}/{name}")) {
                path if path.is_dir() => folders.push(name),
                path if !name.ends_with(".part") => files.push((name, fs::read(path).unwrap())),
                _ => {}
            }
        }
    }
    files.sort();
    files
}
