//! Several processes that share the work of one: the same numbers, one writer, and one line when one is lost.

use crate::world::{Done, Place, content, send};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// 20 steps of 8 images.
const SHORT: &str = "--data train.pack --arch resnet18 --width 4 --stem small --batch-size 8 --epochs 1 \
                     --total-images 160 --log-every 1 --device cpu --threads 1";
/// The same with a state in every second step, long enough to be interrupted.
const LONG: &str = "--data train.pack --arch resnet18 --width 4 --stem small --batch-size 8 --epochs 4 \
                    --total-images 160 --save-every 2 --device cpu --threads 1";
const QUEUE: &str = "--queue-size 32";

/// 20 steps in which the weights move little. Where two sums differ in the last digit, an activation next to
/// zero may pass a ReLU in one of them only; at this rate that changes no weight by 1e-5, at a rate of 0.03
/// trainings part for good.
const GENTLE: &str = "--lr 0.0001";

/// The largest difference between the numbers of two files of tensors, relative to the largest number of a
/// tensor where that is above 1; without the tensors whose names begin with `but`.
fn difference(place: &Place, one: &str, other: &str, but: &str) -> f32 {
    let [(_, one), (_, other)] = [one, other].map(|name| content(&place.bytes(name)));
    assert!(!one.is_empty() && one.keys().eq(other.keys()), "other tensors");
    let mut worst = 0f32;
    let compared = one
        .iter()
        .filter(|(name, _)| but.is_empty() || !name.starts_with(but));
    for (name, (kind, bytes)) in compared {
        let theirs = &other[name];
        assert_eq!(*kind, theirs.0, "{name}");
        if !kind.starts_with("F32") {
            assert!(*bytes == theirs.1 || name.starts_with("meter/"), "{name} differs");
            continue;
        }
        let numbers = |bytes: &[u8]| -> Vec<f32> {
            let number = |four: &[u8]| f32::from_le_bytes(four.try_into().unwrap());
            bytes.chunks_exact(4).map(number).collect()
        };
        let (ours, theirs) = (numbers(bytes), numbers(&theirs.1));
        let scale = ours.iter().fold(1f32, |most, number| most.max(number.abs()));
        for (a, b) in ours.iter().zip(&theirs) {
            let error = (a - b).abs() / scale;
            assert!(!error.is_nan(), "{name}");
            worst = worst.max(error);
        }
    }
    worst
}

fn same_numbers(place: &Place, one: &str, other: &str, but: &str, bound: f32) {
    let worst = difference(
        place,
        &format!("{one}/state.safetensors"),
        &format!("{other}/state.safetensors"),
        but,
    );
    println!("{one} and {other}: {worst:.1e} of {bound:.1e}");
    assert!(
        worst <= bound,
        "{one} and {other} differ by {worst:e} of {bound:e}"
    );
}

// Also proves that all processes hold the same bytes: they compare them at the end, and fail otherwise.
#[test]
fn two_processes_equal_one_that_normalises_in_two_parts_or_whole_batches() {
    let place = Place::new();
    for (method, flags, parts) in [
        ("supervised", "", "--bn-splits 2"),
        ("moco", QUEUE, "--bn-splits 2"),
        ("simsiam", "", "--bn-splits 2"),
        ("byol", "", "--bn-splits 2"),
        ("exemplar", QUEUE, "--bn-splits 2"),
        (
            "camtrast-moco",
            "--queue-size 32 --cam-warmup-epochs 0",
            "--bn-splits 2 --query-bn-splits 2",
        ),
        ("camtrast-simsiam", "--cam-warmup-epochs 0", "--bn-splits 2"),
    ] {
        let whole = parts.replace('2', "1");
        // Methods with a queue normalise in eight parts by default: the number must be given.
        let two = format!("--nproc 2 {}", if flags.contains("queue") { parts } else { "" });
        let sync = format!("--nproc 2 --batch-norm sync {whole}");
        let run = |out: &str, more: &str, steps: &str| {
            let out = format!("--overwrite --out {method}-{out}");
            place.ok(&format!(
                "pretrain --method {method} {SHORT} {flags} {more} {steps} {out}"
            ));
        };
        let name = |out: &str| format!("{method}-{out}");
        // One step to 1e-5, gradients included. A whole batch's gradients can be small differences of large
        // numbers, which change with the number of threads, too: that is the measure of sync batch norm, and
        // of parts after 20 steps, which amplify what differs in the last digit (BYOL's LARS a hundredfold in
        // each).
        let one = "--classes 4 --total-images 8";
        let two_threads = format!("{whole} --threads 2");
        for (steps, but, least) in [(one, "", 1e-5), (GENTLE, "optimizer/", 1e-4)] {
            run("parts", parts, steps);
            run("whole", &whole, steps);
            run("threads", &two_threads, steps);
            run("two", &two, steps);
            let states = ["threads", "whole"].map(|out| format!("{method}-{out}/state.safetensors"));
            let rounding = difference(&place, &states[0], &states[1], but);
            let bound = (50.0 * rounding).max(least);
            let strict = if steps == one { least } else { bound };
            same_numbers(&place, &name("two"), &name("parts"), but, strict);
            if steps == one {
                run("sync", &sync, steps);
                same_numbers(&place, &name("sync"), &name("whole"), but, bound);
            }
        }
        // The two references are different trainings: the comparison can fail.
        let apart = difference(
            &place,
            &format!("{method}-parts/backbone.safetensors"),
            &format!("{method}-whole/backbone.safetensors"),
            "",
        );
        assert!(apart > 1e-4, "{method}: {apart:e}");
        let lines = |out: &str| place.log(&format!("{method}-{out}"), "step").len();
        assert_eq!(
            [lines("two"), lines("parts")],
            [20, 20],
            "one process writes the log"
        );
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    let place = Place::new();
    let command = |out: &str, processes: u64| {
        format!("pretrain --method supervised {LONG} {GENTLE} --bn-splits 4 --nproc {processes} --out {out}")
    };
    place.ok(&command("whole", 1));
    let previous = place.path("cut/state.previous.safetensors");
    let cut = command("cut", 2);
    let done = place.signalled(&cut, libc::SIGINT, || previous.exists());
    let saying = ["interrupted at step", "run the same command again to continue"];
    place.ends(done, 1, &cut, &saying);
    let done = place.ok(&command("cut", 4));
    assert!(done.stderr.contains("resumed at step"), "{}", done.stderr);
    same_numbers(&place, "cut", "whole", "optimizer/", 1e-3);
    assert_eq!(place.log("cut", "epoch").len(), 4);
    // A finished run is found done by any number of processes.
    place.ok(&command("cut", 2));
}

/// The process of a rank among the children of one that was started with --nproc.
fn process_of(parent: &Child, rank: u64) -> Option<i32> {
    let children = format!("/proc/{0}/task/{0}/children", parent.id());
    let wanted = format!("RANK={rank}");
    fs::read_to_string(children)
        .ok()?
        .split_whitespace()
        .find_map(|child| {
            let environment = fs::read(format!("/proc/{child}/environ")).ok()?;
            let found = environment
                .split(|byte| *byte == 0)
                .any(|pair| pair == wanted.as_bytes());
            found.then(|| child.parse().unwrap())
        })
}

/// Waits until a run has two states, then sends a signal to the process of a rank.
fn strike(place: &Place, command: &str, rank: u64, signal: i32) -> (Done, Duration) {
    let parent = place.spawn(command);
    let previous = place.path("run/state.previous.safetensors");
    while !previous.exists() {
        sleep(Duration::from_millis(5));
    }
    let process = process_of(&parent, rank).expect("a child of this rank");
    // SAFETY: a plain system call on a process that its parent has not waited for.
    unsafe { libc::kill(process, signal) };
    let struck = Instant::now();
    let done = Done::of(parent.wait_with_output().unwrap());
    (done, struck.elapsed())
}

#[test]
fn a_killed_process_ends_all_in_one_line_and_the_run_goes_on_to_the_same_bytes() {
    let place = Place::new();
    let command = |out: &str| format!("pretrain --method supervised {LONG} --nproc 2 --out {out}");
    place.ok(&command("whole"));
    for rank in [1, 0] {
        let (done, took) = strike(&place, &command("run"), rank, libc::SIGKILL);
        // A process killed while it writes leaves its temporary file.
        let named = format!("camtrast: rank {rank} was killed (signal 9), and ends all others; run the same");
        let ours: Vec<&str> = done
            .stderr
            .lines()
            .filter(|line| line.contains("camtrast: "))
            .collect();
        assert!(done.code == Some(1) && ours.len() == 1, "{}", done.stderr);
        assert!(ours[0].starts_with(&named), "{}", ours[0]);
        assert!(took < Duration::from_secs(5), "{took:?}");
        fs::remove_file(place.path("run/state.previous.safetensors")).unwrap();
    }
    place.ok(&command("run"));
    let backbone = |run: &str| place.bytes(&format!("{run}/backbone.safetensors"));
    assert!(backbone("run") == backbone("whole"));
}

#[test]
fn a_process_that_hangs_is_given_up_by_name() {
    let place = Place::new();
    let command = format!("pretrain --method supervised {LONG} --nproc 2 --process-timeout 6 --out run");
    let (done, took) = strike(&place, &command, 1, libc::SIGSTOP);
    place.ends(done, 1, &command, &["rank 1 does not answer (waited 6 s)"]);
    assert!(took < Duration::from_secs(40), "{took:?}");
    assert!(place.path("run/state.safetensors").exists());
}

/// A process as torchrun starts it.
fn start(place: &Place, command: &str, rank: u64, world: u64, port: u16) -> Child {
    let numbers = [
        ("RANK", rank),
        ("LOCAL_RANK", rank),
        ("WORLD_SIZE", world),
        ("MASTER_PORT", u64::from(port)),
    ];
    place
        .command(command)
        .envs(numbers.map(|(name, number)| (name, number.to_string())))
        .env("MASTER_ADDR", "127.0.0.1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts one process a command; the error lines of all, of which there must be one that says `saying`.
fn refused(place: &Place, commands: &[(String, u64, u64)], port: u16, saying: &[&str]) {
    let started = commands
        .iter()
        .map(|(command, rank, world)| start(place, command, *rank, *world, port));
    let started: Vec<Child> = started.collect();
    let mut said = Vec::new();
    for child in started {
        let done = Done::of(child.wait_with_output().unwrap());
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        let lines = done.stderr.lines().filter(|line| line.starts_with("camtrast: "));
        said.extend(lines.map(String::from));
    }
    assert_eq!(said.len(), 1, "{said:?}");
    saying
        .iter()
        .for_each(|part| assert!(said[0].contains(part), "{said:?}"));
}

#[test]
fn processes_that_do_not_fit_are_refused_in_one_line() {
    let place = Place::new();
    let command =
        |more: &str| format!("pretrain --method supervised {SHORT} --process-timeout 60 {more} --out run");
    let both = |first: &str, second: &str, worlds: [u64; 2]| {
        [(command(first), 0, worlds[0]), (command(second), 1, worlds[1])]
    };
    for (first, second, saying) in [
        ("", "--lr 0.25", ["rank 1 has lr = 0.25", "rank 0 has lr = "]),
        (
            "",
            "--data test.pack --total-images 159",
            ["rank 1 has", "rank 0 has"],
        ),
        (
            "--batch-size 9",
            "--batch-size 9",
            ["a batch of 9 images", "2 processes"],
        ),
        (
            "--data none.pack",
            "--data none.pack",
            ["none.pack", "no such file"],
        ),
    ] {
        refused(&place, &both(first, second, [2, 2]), free_port(), &saying);
    }
    refused(
        &place,
        &both("", "", [2, 3]),
        free_port(),
        &["rank 1 was started as one of 3 processes, rank 0 as one of 2"],
    );
    let alone = [(command("--process-timeout 3"), 0, 2)];
    refused(
        &place,
        &alone,
        free_port(),
        &["rank 1 of 2 did not come within 3 s"],
    );
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    refused(
        &place,
        &alone,
        port,
        &[&format!("cannot listen on port {port}"), "MASTER_PORT"],
    );
    // The other pack has other content under the same name.
    fs::create_dir(place.path("elsewhere")).unwrap();
    symlink(place.path("test.pack"), place.path("elsewhere/train.pack")).unwrap();
    let other = "--data elsewhere/train.pack";
    refused(
        &place,
        &both("", other, [2, 2]),
        free_port(),
        &["rank 1 has", "elsewhere/train.pack"],
    );
    assert!(!place.path("run/state.safetensors").exists());
}

#[test]
fn flags_of_several_processes_are_checked() {
    let place = Place::new();
    let command = format!("pretrain --method moco {SHORT} --queue-size 32 --out run");
    place.misused(
        &format!("{command} --nproc 2 --devices 0,1,2"),
        &["--nproc 2 does not fit the 3 numbers"],
    );
    let parts = "the parts of --bn-splits 4 cannot be divided among 3 processes";
    place.fails(
        &format!("{command} --batch-size 12 --bn-splits 4 --nproc 3"),
        &[parts],
    );
    place.misused(
        "pretrain --method scratch --data train.pack --bn-splits 2 --out run",
        &["no meaning"],
    );
}

#[test]
fn one_process_opens_no_socket() {
    let place = Place::new();
    let mut child = place.spawn(&format!("pretrain --method supervised {LONG} --out run"));
    let state = place.path("run/state.safetensors");
    while !state.exists() {
        sleep(Duration::from_millis(5));
    }
    let files = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    let opened = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    // Standard streams are pipes here.
    let sockets: Vec<_> = opened
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .collect();
    send(&child, libc::SIGKILL);
    child.wait().unwrap();
    assert!(sockets.is_empty(), "{sockets:?}");
}

const DETECTION: &str = "--voc world/VOCdevkit --train 2007:trainval --test 2007:test \
    --classes clock,tree,mushroom,chair --arch fpn --preset moco --steps 4 --batch-size 2 --lr 0.01 \
    --warmup-steps 2 --train-sides 64 --test-side 64 --anchor-sizes 8,16,32,48,64 --regions-per-image 16 \
    --train-proposals 100,30 --precise-bn 3 --test-proposals 100,30 --fpn-channels 8 --head-features 16 \
    --pictures 1";
const SEGMENTATION: &str =
    "--cityscapes world --steps 6 --batch-size 4 --crop 32 --head-channels 8 --lr 0.05 --pictures 1";

/// The metrics of a run without times.
fn metrics(place: &Place, run: &str) -> serde_json::Value {
    let mut metrics = place.json(&format!("{run}/metrics.json"));
    let object = metrics.as_object_mut().unwrap();
    object.retain(|name, _| name != "seconds" && !name.ends_with("images_per_second"));
    metrics
}

#[test]
fn evaluations_are_shared_and_exact() {
    let place = Place::new();
    let plain = "--device cpu --threads 1";
    place.ok(&format!("pretrain --method supervised {SHORT} --out run"));
    let backbone = "--checkpoint run/backbone.safetensors";
    // Every process of a training writes nothing but rank 0's folder, whichever the task.
    place.ok(&format!(
        "detection train {backbone} {DETECTION} {plain} --nproc 2 --out detector"
    ));
    place.ok(&format!(
        "segmentation train {backbone} {SEGMENTATION} {plain} --nproc 2 --out segmenter"
    ));
    place.ok(&format!(
        "segmentation train {backbone} {SEGMENTATION} {plain} --batch-norm sync --nproc 2 --out synchronous"
    ));
    let test = "--voc world/VOCdevkit --test 2007:test --classes clock,tree,mushroom,chair --pictures 1";
    for (command, out, files) in [
        (
            format!("fewshot eval {backbone} --data test.pack --queries 5 --episodes-count 20 {plain}"),
            "fewshot",
            &["episodes.json"][..],
        ),
        (
            format!("analyze representation {backbone} --data test.pack {plain}"),
            "representation",
            &[],
        ),
        (
            format!("detection eval --run detector {test} {plain}"),
            "detection",
            &["detections.json"],
        ),
        (
            format!("segmentation eval --run segmenter --cityscapes world --pictures 1 {plain}"),
            "segmentation",
            &["confusion.csv", "predictions"],
        ),
    ] {
        let done = place.ok(&format!("{command} --out {out}-one"));
        // More processes than some have images for: three for two streets.
        let shared = place.ok(&format!("{command} --nproc 3 --out {out}-three"));
        assert_eq!(shared.stdout, done.stdout, "{command}");
        assert_eq!(
            metrics(&place, &format!("{out}-three")),
            metrics(&place, &format!("{out}-one"))
        );
        for file in files {
            let [one, three] = ["one", "three"].map(|n| place.path(&format!("{out}-{n}/{file}")));
            assert_eq!(tree(&one), tree(&three), "{out}: {file}");
            assert!(!tree(&one).is_empty(), "{out}: {file}");
        }
    }
    // The evaluation at the end of a training is the same as that of its result.
    assert_eq!(
        metrics(&place, "detector")["detection/AP"],
        metrics(&place, "detection-one")["detection/AP"]
    );
    assert_eq!(
        metrics(&place, "segmenter")["segmentation/mIoU"],
        metrics(&place, "segmentation-one")["segmentation/mIoU"]
    );
}

/// Names and bytes of a file, or of all files below a folder.
fn tree(path: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    if path.is_file() {
        return vec![(String::new(), fs::read(path).unwrap())];
    }
    let mut found = Vec::new();
    for name in crate::world::list(path) {
        let below = tree(&path.join(&name)).into_iter();
        found.extend(below.map(|(rest, bytes)| (format!("{name}/{rest}"), bytes)));
    }
    found
}
