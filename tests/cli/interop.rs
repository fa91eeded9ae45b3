//! Other tools' checkpoints, in and out. What each file holds: `tests/golden/interop_import/export.py`.

use crate::world::{PLAIN, Place};
use flate2::read::GzDecoder;
use std::fs;
use std::io::Read;
use std::path::Path;

fn unpack(place: &Place, name: &str) {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/interop_import/{name}.gz"));
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(packed).unwrap()).read_to_end(&mut bytes).unwrap();
    place.write(name, bytes);
}

fn says(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "does not say {part:?}: {text}"));
}

#[test]
fn a_foreign_backbone_comes_in_is_used_and_goes_out() {
    let place = Place::new();
    unpack(&place, "moco.pth.tar");
    let told = place.ok("checkpoint info moco.pth.tar").stdout;
    says(
        &told,
        &[
            "torch.save (before torch 1.6)",
            "MoCo's query encoder",
            "module.encoder_k.\": resnet18-w4",
            "checkpoint import",
        ],
    );
    let done = place
        .ok("checkpoint import moco.pth.tar --out in.safetensors --image-size 32 --mean 0.1,0.2,0.3 --std 1,1,0.5");
    says(&done.stdout, &["resnet18-w4: 120 tensors matched, none missing", "MoCo's query encoder", "module.queue (1)"]);
    says(&done.stdout, &["for --prefix: state_dict.module.encoder_k."]);
    let told = place.ok("checkpoint info in.safetensors").stdout;
    says(&told, &["resnet18-w4", "imported", "0.1, 0.2, 0.3", "1, 1, 0.5", "moco.pth.tar", "partial         no"]);
    place.ok(&format!(
        "fewshot eval --checkpoint in.safetensors --data test.pack --episodes-count 3 --out m.json {PLAIN}"
    ));

    for out in ["tv.pth", "tv.safetensors"] {
        says(
            &place.ok(&format!("checkpoint export in.safetensors --to torchvision --out {out}")).stdout,
            &["120 tensors", "mean [0.1"],
        );
        says(&place.ok(&format!("checkpoint diff in.safetensors {out}")).stdout, &["0 of 100 common tensors differ"]);
    }
    says(
        &place.ok("checkpoint export in.safetensors --to detectron2 --out d2.pkl").stdout,
        &["STRIDE_IN_1X1 False", "25.500, 51.000"],
    );
    says(&place.ok("checkpoint diff d2.pkl moco.pth.tar").stdout, &["0 of 100"]);
    let differ = "checkpoint diff in.safetensors moco.pth.tar --prefix-b encoder_k --show 2";
    let done = place.fails(differ, &["in.safetensors and moco.pth.tar differ"]);
    says(&done.stdout, &["100 of 100 common tensors differ", "1.0000e0"]);
    assert_eq!(done.stdout.lines().count(), 6, "{}", done.stdout);
    place.fails(
        "checkpoint import moco.pth.tar --out x.safetensors --prefix encoder",
        &["no backbones under", "encoder_q."],
    );
    place.misused("checkpoint import moco.pth.tar --out x.safetensors --mean 1,2", &["three numbers"]);
    place.misused("checkpoint import moco.pth.tar --out x.safetensors --std 1,0,1", &["--std must be positive"]);
    place.misused("checkpoint export in.safetensors --to keras --out x.pth", &["torchvision, timm"]);
    place.misused("checkpoint export in.safetensors --to timm --out x.pkl", &["x.pkl", ".pth"]);
    assert!(!place.path("x.pkl").exists() && !place.path("x.pth").exists() && !place.path("x.safetensors").exists());
}

#[test]
fn what_runs_code_or_is_not_whole_is_refused() {
    let place = Place::new();
    for name in
        ["refused_os_system.pkl", "refused_os_system.pth", "refused_eval.pt", "partial.pth", "stride_unknown.pkl"]
    {
        unpack(&place, name);
    }
    for (name, reason) in [
        ("refused_os_system.pkl", "wants to call os.system"),
        ("refused_os_system.pth", "wants to call posix.system"),
        ("refused_eval.pt", "eval"),
    ] {
        for command in ["info FILE", "import FILE --out in.safetensors", "diff FILE FILE"] {
            place.fails(&format!("checkpoint {}", command.replace("FILE", name)), &[name, reason, "runs code"]);
        }
    }
    place.fails("checkpoint import stride_unknown.pkl --out in.safetensors", &["stride", "--stride-in-3x3"]);
    place.fails("checkpoint import partial.pth --out in.safetensors", &["missing conv1.weight", "--allow-missing"]);
    assert!(!place.path("in.safetensors").exists() && !place.path("executed").exists());
    let done = place.ok("checkpoint import partial.pth --out in.safetensors --allow-missing --seed 4");
    says(&done.stdout, &["5 missing and initialised: conv1.weight, layer2.0.bn1.bias"]);
    says(&place.ok("checkpoint info in.safetensors").stdout, &["partial         5 of 100 tensors missing"]);
    place.ok("checkpoint import partial.pth --out again.safetensors --allow-missing --seed 4");
    assert!(place.bytes("in.safetensors") == place.bytes("again.safetensors"));
}
