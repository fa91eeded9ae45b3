//! Whatever is wrong is told in one line that names the file or the setting and what to do, and nothing
//! half-written is left.

use crate::world::{CONTRAST, Done, PLAIN, Place, TINY, content, list, poisoned};
use camtrast_common::tensor_file::{self, TensorFile};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::fs;
use std::path::Path;

/// `bad/`: a miniImageNet folder of 3 classes with 4 images each, to be spoilt. Returns the images' names.
fn small_world(place: &Place) -> Vec<String> {
    fs::create_dir_all(place.path("bad/images")).unwrap();
    let list = place.text("world/train.csv");
    let mut rows: Vec<&str> = Vec::new();
    for row in list.lines().skip(1) {
        let label = row.split(',').nth(1);
        let alike = rows.iter().filter(|r| r.split(',').nth(1) == label).count();
        if alike < 4 && (alike > 0 || rows.len() < 12) {
            rows.push(row);
        }
    }
    assert_eq!(rows.len(), 12);
    place.write("bad/train.csv", format!("filename,label\n{}\n", rows.join("\n")));
    let names: Vec<String> = rows
        .iter()
        .map(|row| row.split(',').next().unwrap().to_owned())
        .collect();
    for name in &names {
        fs::copy(
            place.path("world/images").join(name),
            place.path("bad/images").join(name),
        )
        .unwrap();
    }
    names
}

const PREPARE: &str = "data prepare miniimagenet --from bad --out bad.pack --size 32";

fn prepare_fails(place: &Place, saying: &[&str]) {
    let done = place.fails(PREPARE, saying);
    assert_eq!(done.stdout, "");
    assert!(!place.path("bad.pack").exists(), "a pack was left behind");
}

#[test]
fn images_that_cannot_be_read() {
    let place = Place::new();
    let names = small_world(&place);
    place.ok(PREPARE);
    fs::remove_file(place.path("bad.pack")).unwrap();

    let image = format!("bad/images/{}", names[5]);
    let whole = place.bytes(&image);
    for (bytes, problem) in [
        (&whole[..whole.len() / 2], "is cut off before its end"),
        (b"<html>404</html>", "is not an image that can be decoded"),
        (b"", "is empty"),
    ] {
        place.write(&image, bytes);
        prepare_fails(&place, &[&names[5], problem, "--skip-bad"]);
    }
    let done = place.ok(&format!("{PREPARE} --skip-bad"));
    assert!(done.stdout.contains("11 images of 3 classes"), "{}", done.stdout);
    assert!(done.stderr.contains(&names[5]), "{}", done.stderr);

    // A failure leaves an older pack alone.
    let before = place.bytes("bad.pack");
    place.fails(PREPARE, &[&names[5]]);
    assert!(place.bytes("bad.pack") == before);
}

#[test]
fn split_lists_that_are_wrong() {
    let place = Place::new();
    let names = small_world(&place);
    let list = place.text("bad/train.csv");
    place.write("bad/train.csv", format!("{list}nowhere.jpg,s00000101\n"));
    prepare_fails(
        &place,
        &["bad/train.csv", "line 14", "nowhere.jpg", "remove the line"],
    );
    place.write("bad/train.csv", format!("{list}../../train.pack,s00000101\n"));
    prepare_fails(&place, &["bad/train.csv", "line 14", "leads out of images/"]);
    place.write("bad/train.csv", format!("{list}{},s00000101\n", names[0]));
    prepare_fails(&place, &["bad/train.csv", "line 14", "listed in line 2 too"]);
    place.write("bad/train.csv", format!("{list}only-a-name.jpg\n"));
    prepare_fails(&place, &["bad/train.csv", "line 14", "malformed"]);
    place.write("bad/train.csv", "filename,label\n");
    prepare_fails(&place, &["bad/train.csv", "lists no images"]);
    place.write("bad/train.csv", "");
    prepare_fails(
        &place,
        &["bad/train.csv", "the first line must be filename,label"],
    );
    fs::remove_dir_all(place.path("bad")).unwrap();
    prepare_fails(&place, &["bad", "does not exist"]);
    place.misused(
        "data prepare imagenet --from world --out x.pack",
        &["imagenet", "miniimagenet"],
    );
    place.fails(
        "data prepare miniimagenet --from world --out x.pack --split rest",
        &["rest", "train, val, test"],
    );
    place.fails(
        "data prepare miniimagenet --from world --out x.pack --size 0",
        &["--size"],
    );
    place.fails("data synth --out world/images", &["world/images", "not empty"]);
}

#[test]
fn files_of_the_wrong_kind() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method supervised {TINY} --classes 4 --out run"
    ));
    let backbone = place.bytes("run/backbone.safetensors");
    place.write("half.safetensors", &backbone[..backbone.len() / 2]);
    let mut flipped = backbone.clone();
    let last = flipped.len() - 100;
    flipped[last] ^= 1;
    place.write("flipped.safetensors", flipped);
    place.write("empty.safetensors", "");
    place.write(
        "text.safetensors",
        "this is no safetensors file at all, whatever its name says",
    );
    let zeros = [0u8; 16];
    let tensor = TensorView::new(Dtype::F32, vec![4], &zeros).unwrap();
    serialize_to_file([("weight", tensor)], None, &place.path("foreign.safetensors")).unwrap();

    for (file, problem) in [
        (
            "train.pack",
            "is a camtrast-pack file, not a backbone checkpoint; give the run's backbone.safetensors",
        ),
        (
            "run/state.safetensors",
            "is a camtrast-state file, not a backbone checkpoint; give the run's backbone.safetensors",
        ),
        ("run", "is a folder"),
        ("half.safetensors", "not a whole safetensors file"),
        ("empty.safetensors", "not a whole safetensors file"),
        ("text.safetensors", "not a whole safetensors file"),
        ("flipped.safetensors", "is damaged"),
        ("nowhere.safetensors", "no such file or folder"),
    ] {
        place.fails(
            &format!("checkpoint info {file}"),
            &[&format!("{file}: "), problem],
        );
    }
    for (file, problem) in [
        (
            "run/backbone.safetensors",
            "is camtrast-backbone, not a data pack",
        ),
        ("foreign.safetensors", "not a data pack"),
        ("world", "is a folder, not a data pack"),
        ("half.safetensors", "not a whole safetensors file"),
        ("nowhere.pack", "no such file or folder"),
    ] {
        place.fails(
            &format!("pretrain --method supervised {TINY} --data {file} --out other"),
            &[file, problem],
        );
        assert!(!place.path("other").exists());
    }
    let eval = |checkpoint: &str, pack: &str| {
        format!("fewshot eval --checkpoint {checkpoint} --data {pack} {PLAIN}")
    };
    place.fails(
        &eval("train.pack", "test.pack"),
        &["train.pack: is a camtrast-pack file, not a backbone checkpoint"],
    );
    place.fails(
        &eval("foreign.safetensors", "test.pack"),
        &["foreign.safetensors", "camtrast checkpoint import"],
    );
    let swapped = eval("run/backbone.safetensors", "run/backbone.safetensors");
    place.fails(
        &swapped,
        &["backbone.safetensors: is camtrast-backbone, not a data pack"],
    );
    place.fails(
        "checkpoint import foreign.safetensors --out in.safetensors",
        &["foreign.safetensors", "torchvision"],
    );
    place.fails(
        "checkpoint import train.pack --out in.safetensors",
        &["train.pack", "torchvision"],
    );
    assert!(!place.path("in.safetensors").exists());
}

#[test]
fn settings_that_do_not_fit_the_data() {
    let place = Place::new();
    for (method, flags, saying) in [
        ("supervised", "--classes 500", ["--classes", "train.pack has 50"]),
        ("supervised", "--classes 0", ["--classes", "1..50"]),
        (
            "supervised",
            "--images-per-class 9",
            ["--images-per-class", "1..8"],
        ),
        (
            "supervised",
            "--categories 99",
            ["99 categories", "--categories to 1.."],
        ),
        (
            "supervised",
            "--categories 4 --classes 3",
            ["3 classes", "in 4 categories"],
        ),
        (
            "supervised",
            "--total-images 401",
            ["9 images per class", "--total-images to 50..400"],
        ),
        ("supervised", "--batch-size 401", ["--batch-size", "400 images"]),
        ("supervised", "--accumulate 26", ["--accumulate", "400 images"]),
        ("supervised", "--batch-size 0", ["--batch-size", "at least 1"]),
        ("supervised", "--precise-bn 0", ["--precise-bn", "1..25"]),
        ("supervised", "--precise-bn 26", ["--precise-bn", "1..25"]),
        (
            "scratch",
            "--precise-bn 1 --batch-size 1 --epochs 0",
            ["--precise-bn", "method that trains"],
        ),
        ("supervised", "--clip-norm 0", ["--clip-norm", "not positive"]),
        ("supervised", "--flip 1.5", ["--flip", "from 0 to 1"]),
        ("supervised", "--jitter 0.4", ["--jitter", "4 numbers"]),
        (
            "moco",
            "--queue-size 15 --bn-splits 2",
            ["--queue-size 15", "--batch-size 16"],
        ),
        (
            "moco",
            "--queue-size 64 --bn-splits 3",
            ["--bn-splits 3", "--batch-size 16"],
        ),
        (
            "camtrast-moco",
            "--queue-size 64 --query-bn-splits 3",
            ["--query-bn-splits 3", "--batch-size 16"],
        ),
        (
            "camtrast-moco",
            "--queue-size 64 --temperature 0",
            ["--temperature", "not positive"],
        ),
        (
            "camtrast-moco",
            "--queue-size 64 --key-momentum 2",
            ["--key-momentum", "0.999"],
        ),
        ("scratch", "--epochs 2", ["--method scratch", "--epochs"]),
        (
            "moco",
            "--queue-size 64 --epochs 0",
            ["--epochs 0 does not train --method moco", "--method scratch"],
        ),
        (
            "supervised",
            "--epochs 9223372036854775808",
            ["--epochs", "at most"],
        ),
        (
            "supervised",
            "--accumulate 9223372036854775808",
            ["--accumulate", "at most"],
        ),
        ("supervised", "--lr=-0.1", ["--lr -0.1", "at least 0"]),
        ("supervised", "--lr NaN", ["--lr NaN", "at least 0"]),
        (
            "supervised",
            "--weight-decay=-1",
            ["--weight-decay -1", "at least 0"],
        ),
        ("supervised", "--momentum 2", ["--momentum 2", "below 1"]),
        ("supervised", "--gamma inf", ["--gamma inf", "at least 0"]),
        ("supervised", "--milestones 3,1", ["--milestones 3,1", "60,80"]),
        ("supervised", "--milestones=-1,1", ["--milestones -1,1", "60,80"]),
        (
            "supervised",
            "--warmup-epochs=-1",
            ["--warmup-epochs -1", "at least 0"],
        ),
        (
            "supervised",
            "--jitter NaN,0,0,0",
            ["--jitter", "0.4,0.4,0.4,0.1"],
        ),
        (
            "moco",
            "--queue-size 64 --temperature inf",
            ["--temperature inf", "not positive"],
        ),
        (
            "moco",
            "--queue-size 64 --blur-sigma 0.1,inf",
            ["--blur-sigma", "0.1,2"],
        ),
    ] {
        place.fails(
            &format!("pretrain --method {method} {TINY} {flags} --out run"),
            &saying,
        );
        assert!(!place.path("run").exists(), "{flags} left a run folder");
    }
    // A pack of a data set without general categories.
    small_world(&place);
    place.ok(PREPARE);
    for flags in ["--labels coarse", "--categories 2"] {
        let small = TINY
            .replace("train.pack", "bad.pack")
            .replace("--batch-size 16", "--batch-size 4");
        let line = format!("pretrain --method supervised {small} {flags} --out run");
        place.fails(
            &line,
            &[
                "bad.pack has no general categories",
                flags.trim_end_matches(" 2"),
                "categories.csv",
            ],
        );
    }
    // Far beyond what any machine can address: libtorch panics, the user sees one line all the same.
    let vast = "--queue-size 9999999999999 --bn-splits 2";
    place.fails(
        &format!("pretrain --method moco {TINY} {vast} --out run"),
        &["libtorch", "memory", "smaller --batch-size"],
    );
    assert!(!place.path("run").exists());

    place.ok(&format!(
        "pretrain --method scratch {TINY} --epochs 0 --out scratch"
    ));
    let eval = |flags: &str| {
        format!("fewshot eval --checkpoint scratch/backbone.safetensors {PLAIN} --out m.json {flags}")
    };
    place.fails(
        &eval("--data test.pack --shots 6"),
        &["20", "--shots and --queries"],
    );
    place.fails(
        &eval("--data train.pack --shots 1"),
        &["16 images of each class", "8 images", "--queries"],
    );
    place.fails(
        &eval("--data test.pack --ways 21"),
        &["21-way", "20 classes", "--ways"],
    );
    place.fails(&eval("--data test.pack --ways 1"), &["1 ways", "2 ways"]);
    place.fails(
        &eval("--data test.pack --episodes-count 0"),
        &["at least one episode"],
    );
    assert!(!place.path("m.json").exists());
}

#[test]
fn command_lines_that_cannot_mean_anything() {
    let place = Place::new();
    let pretrain = |flags: &str| format!("pretrain {TINY} --out run {flags}");
    for (line, saying) in [
        (pretrain("--method simclr"), ["simclr", "camtrast-moco"]),
        (
            pretrain("--method supervised --learning-rate 3"),
            ["--learning-rate", "--help"],
        ),
        (
            pretrain("--method supervised --queue-size 64"),
            [
                "--queue-size has no meaning for --method supervised",
                "leave it out",
            ],
        ),
        (
            pretrain("--method moco --cam-class label"),
            ["--cam-class has no meaning for --method moco", "leave it out"],
        ),
        (
            pretrain("--method camtrast-moco --cam off --cam-warmup-epochs 3"),
            [
                "--cam-warmup-epochs has no meaning for --method camtrast-moco",
                "leave it out",
            ],
        ),
        (
            pretrain("--method camtrast-moco --contrast none --queue-size 64"),
            [
                "--queue-size has no meaning for --method camtrast-moco",
                "leave it out",
            ],
        ),
        (
            pretrain("--method supervised --images-per-class 2 --total-images 100"),
            ["--images-per-class", "--total-images"],
        ),
        (
            pretrain("--method supervised --labels coarser"),
            ["coarser", "fine, coarse"],
        ),
        (
            pretrain("--method scratch --lr 1"),
            ["--lr has no meaning for --method scratch", "leave it out"],
        ),
        (pretrain("--method supervised --lr fast"), ["--lr", "fast"]),
        (
            pretrain("--method supervised --save-every 0"),
            ["--save-every", "0"],
        ),
        (
            pretrain("--method supervised --threads 0"),
            ["--threads", "from 1 to 1024"],
        ),
        (
            pretrain("--method supervised --threads=-1"),
            ["--threads", "from 1 to 1024"],
        ),
        (
            pretrain("--method supervised --threads 100000"),
            ["--threads", "from 1 to 1024"],
        ),
        (
            pretrain("--method supervised --crop-padding=-1"),
            ["--crop-padding", "-1"],
        ),
        (
            pretrain("--method moco --projection-dim 0"),
            ["--projection-dim", "0"],
        ),
        (
            pretrain("--method moco --projector-hidden=-8"),
            ["--projector-hidden", "-8"],
        ),
        (
            pretrain("--method supervised --arch resnet19"),
            ["--arch", "resnet19"],
        ),
        (pretrain("--method supervised --width 1"), ["--width", "4 to 512"]),
        (pretrain("--method supervised --device tpu"), ["--device", "tpu"]),
        (
            pretrain("--method supervised --precision fp16"),
            ["--precision", "fp16"],
        ),
        (pretrain(""), ["--method", "required"]),
        (
            "fewshot eval --data test.pack".to_owned(),
            ["--checkpoint", "required"],
        ),
        (
            "fewshot eval --checkpoint a --data b --shots 0".to_owned(),
            ["--shots", "0"],
        ),
        ("pretain".to_owned(), ["pretain", "pretrain"]),
    ] {
        place.misused(&line, &saying);
    }
    assert!(!place.path("run").exists());
}

#[test]
fn configuration_files_that_are_wrong() {
    let place = Place::new();
    let with = |file: &str| format!("pretrain --config {file} --data train.pack --out run {PLAIN}");
    place.write("key.toml", "method = \"moco\"\nqueue-sizes = 64\n");
    place.misused(
        &with("key.toml"),
        &["key.toml", "\"queue-sizes\"", "did you mean \"queue-size\"?"],
    );
    place.write("strange.toml", "zzz = 1\n");
    place.misused(
        &with("strange.toml"),
        &["strange.toml", "\"zzz\"", "camtrast pretrain --help"],
    );
    place.write("broken.toml", "method = \"moco\"\n\nlr = = 3\n");
    place.misused(&with("broken.toml"), &["broken.toml", "line 3", "TOML"]);
    place.write("table.toml", "method = \"moco\"\n[lr]\nvalue = 3\n");
    place.misused(&with("table.toml"), &["table.toml", "\"lr\"", "plain value"]);
    place.write("value.toml", "method = \"moco\"\nlr = \"fast\"\n");
    place.misused(&with("value.toml"), &["--lr", "fast"]);
    place.write("meaning.toml", "method = \"supervised\"\nqueue-size = 64\n");
    place.misused(
        &with("meaning.toml"),
        &["--queue-size has no meaning", "leave it out"],
    );
    place.fails(&with("nowhere.toml"), &["nowhere.toml", "no such file or folder"]);
    assert!(!place.path("run").exists());
}

#[test]
fn a_cuda_device_that_is_not_there() {
    if Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let place = Place::new();
    let done = place.ok(&format!(
        "pretrain --method scratch {TINY} --epochs 0 --device auto --out scratch"
    ));
    assert!(
        done.stderr.starts_with("computing on cpu (no NVIDIA GPU"),
        "{}",
        done.stderr
    );
    let quiet = place.ok(&format!(
        "pretrain --method scratch {TINY} --epochs 0 --device auto --quiet --out quiet"
    ));
    assert_eq!(quiet.stderr, "");
    assert!(place.text("scratch/config.toml").contains("device = \"cpu\""));
    let cuda = ["there is no CUDA device", "--device cpu"];
    place.fails(
        &format!("pretrain --method supervised {TINY} --device cuda --out run"),
        &cuda,
    );
    place.fails(
        "fewshot eval --checkpoint scratch/backbone.safetensors --data test.pack --device cuda:1",
        &cuda,
    );
    assert!(!place.path("run").exists());
}

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

#[test]
fn weights_that_are_not_finite_are_loaded_nowhere() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method supervised {TINY} --classes 10 --out run"
    ));
    place.write(
        "nan.safetensors",
        poisoned(&place.bytes("run/backbone.safetensors")),
    );
    let saying = ["nan.safetensors: tensor", "holds NaN or infinite values"];
    for line in [
        "checkpoint info nan.safetensors".to_owned(),
        "checkpoint export nan.safetensors --to torchvision --out out.pth".to_owned(),
        format!("fewshot eval --checkpoint nan.safetensors --data test.pack {PLAIN}"),
        format!("analyze representation --checkpoint nan.safetensors --data test.pack --out a {PLAIN}"),
        format!(
            "detection train --checkpoint nan.safetensors --voc world/VOCdevkit --train 2007:trainval --out \
             d --classes clock,tree,mushroom,chair {PLAIN}"
        ),
    ] {
        place.fails(&line, &saying);
    }
    // A foreign file is named as it is, not as what was to be written.
    place.ok("checkpoint export run/backbone.safetensors --to torchvision --out tv.safetensors");
    place.write("foreign.safetensors", poisoned(&place.bytes("tv.safetensors")));
    let foreign = ["foreign.safetensors: tensor", "holds NaN or infinite values"];
    place.fails(
        "checkpoint import foreign.safetensors --out in.safetensors",
        &foreign,
    );
    assert!(!place.path("in.safetensors").exists());
    // A state gives way to the one before it.
    place.copy("run", "damaged");
    place.write(
        "damaged/state.previous.safetensors",
        place.bytes("run/state.safetensors"),
    );
    place.write(
        "damaged/state.safetensors",
        poisoned(&place.bytes("run/state.safetensors")),
    );
    let done = place.ok(&format!(
        "pretrain --method supervised {TINY} --classes 10 --out damaged"
    ));
    assert!(
        done.stderr.contains("NaN") && done.stderr.contains("the state before it"),
        "{}",
        done.stderr
    );
}

/// Rewrites a file of ours with another metadata entry, and checksums that fit.
fn with_metadata(place: &Place, file: &str, key: &str, value: &str) {
    let path = place.path(file);
    let content = TensorFile::open(&path).unwrap();
    let mut metadata = content.metadata().clone();
    metadata.insert(key.into(), value.into());
    metadata.retain(|key, _| !key.ends_with("checksum"));
    tensor_file::save(&path, &content.tensors().unwrap(), &metadata).unwrap();
}

#[test]
fn files_of_later_versions_are_refused() {
    let place = Place::new();
    let command = format!("pretrain --method supervised {TINY} --classes 10 --out run");
    place.ok(&command);
    place.write("state.good", place.bytes("run/state.safetensors"));
    let newer = [
        "is of version 2 of its format",
        "reads up to 1",
        "use a newer camtrast",
    ];
    with_metadata(&place, "run/state.safetensors", "version", "2");
    place.fails(&command, &newer);
    for step in ["", "-1", "1e3", "many"] {
        place.write("run/state.safetensors", place.bytes("state.good"));
        with_metadata(&place, "run/state.safetensors", "step", step);
        place.fails(
            &command,
            &["run/state.safetensors", "\"step\"", &format!("{step:?}")],
        );
    }
    with_metadata(&place, "run/backbone.safetensors", "version", "2");
    place.fails("checkpoint info run/backbone.safetensors", &newer);
    with_metadata(&place, "run/backbone.safetensors", "version", "new");
    place.fails(
        "checkpoint info run/backbone.safetensors",
        &["run/backbone.safetensors", "\"version\" is \"new\""],
    );
}
