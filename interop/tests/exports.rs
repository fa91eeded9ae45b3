//! What we write for other tools: the very bytes that `tests/golden/interop_export/export.py` saw those tools
//! load.
//!
//! `CAMTRAST_KEEP=DIR cargo test -p camtrast-interop --test exports` leaves the files for that script.

use camtrast_common::checkpoint::{BackboneInfo, load_backbone, save_backbone};
use camtrast_common::nn::Mode;
use camtrast_common::resnet::{Arch, ResNet};
use camtrast_common::tensor_file::{self, TensorFile, hex};
use camtrast_common::testing::{Case, fill, fill_variables, golden_path, relative_error};
use camtrast_interop::diff::diff;
use camtrast_interop::export::{Target, export};
use camtrast_interop::import::{ImportOptions, import};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, no_grad};

fn info(arch: Arch) -> BackboneInfo {
    BackboneInfo {
        arch,
        method: "moco".into(),
        dataset: "train.pack".into(),
        dataset_sha256: "0".into(),
        class_names: Vec::new(),
        image_size: 224,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        epoch: 1,
        step: 2,
        config: "{}".into(),
        commit: "abc".into(),
    }
}

// A backbone of ours, filled by `_fill.py`'s rule.
fn backbone(path: &Path, arch: &str) {
    let arch: Arch = arch.parse().unwrap();
    let vs = VarStore::new(Device::Cpu);
    let _ = ResNet::new(&vs.root(), arch);
    fill_variables(&vs);
    save_backbone(path, &vs.variables().into_iter().collect(), &info(arch)).unwrap();
}

// mmdet's files are mmseg's, and timm's torchvision's: seen below.
const FORMS: [(Target, &str); 5] = [
    (Target::Torchvision, "torchvision.pth"),
    (Target::Timm, "timm.safetensors"),
    (Target::Detectron2, "detectron2.pkl"),
    (Target::Detectron2, "detectron2.pth"),
    (Target::Mmseg, "mmseg.pth"),
];

fn options() -> ImportOptions {
    ImportOptions {
        prefix: None,
        allow_missing: false,
        stride_in_3x3: true,
        seed: 0,
        mean: [0.5; 3],
        std: [0.25; 3],
        image_size: 224,
        commit: "abc".into(),
    }
}

#[test]
fn every_export_is_what_was_seen_to_load_and_comes_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("CAMTRAST_KEEP");
    let folder = kept.as_deref().map_or(folder.path(), Path::new);
    let golden = golden_path("interop_export/case.safetensors")
        .exists()
        .then(|| Case::open("interop_export"));
    // The widest network is for other tools' own ResNets; two stages of names make the difference between the
    // depths.
    for arch in ["resnet18", "resnet50"] {
        let ours = folder.join(format!("{arch}.safetensors"));
        backbone(&ours, arch);
        let loaded = load_backbone(&ours, Device::Cpu).unwrap();
        for (target, form) in FORMS {
            if arch == "resnet50" && form != "detectron2.pkl" {
                continue;
            }
            let name = format!("{arch}_{form}");
            let out = folder.join(&name);
            let report = export(&loaded, target, &out).unwrap();
            assert!(report.tensors >= 100 && !report.notes.is_empty(), "{name}");
            let warned = report
                .notes
                .iter()
                .any(|note| note.starts_with("warning: ") && note.contains("C4"));
            assert_eq!(
                warned,
                target == Target::Detectron2 && arch == "resnet18",
                "{name}"
            );
            let again = folder.join("again.safetensors");
            import(&out, &again, &options()).unwrap_or_else(|e| panic!("{name}: {e}"));
            let same = diff(&ours, &again, [None, None]).unwrap();
            assert!(same.equal() && same.common >= 100, "{name}: {same:?}");
            let Some(golden) = golden.as_ref().filter(|_| kept.is_none()) else {
                continue;
            };
            let seen = golden.json("sha256");
            assert_eq!(
                hex(&Sha256::digest(fs::read(&out).unwrap())),
                seen[&name].as_str().unwrap(),
                "{name}"
            );
            fs::remove_file(&out).unwrap();
        }
        let Some(golden) = golden.as_ref().filter(|_| kept.is_none()) else {
            continue;
        };
        let features = no_grad(|| loaded.net.features(&fill("input", &[2, 3, 64, 64]), Mode::Eval));
        for tool in ["torchvision", "timm", "smp", "mmseg"] {
            if arch == "resnet50" && tool != "torchvision" {
                continue;
            }
            let error = relative_error(&features, &golden.tensor(&format!("{arch}.{tool}")));
            assert!(error <= 1e-5, "{arch} in {tool}: {error:e}");
        }
    }
}

#[test]
fn tools_with_the_same_names_get_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    backbone(&path, "resnet50-w4");
    let loaded = load_backbone(&path, Device::Cpu).unwrap();
    let written = |target: Target, name: &str| {
        let out = folder.path().join(name);
        let report = export(&loaded, target, &out).unwrap();
        assert!(
            report.notes[0].contains("not a published network"),
            "{:?}",
            report.notes
        );
        let back = folder.path().join("back.safetensors");
        import(&out, &back, &options()).unwrap();
        assert!(diff(&path, &back, [None, None]).unwrap().equal(), "{name}");
        fs::read(out).unwrap()
    };
    assert!(written(Target::Timm, "a.pth") == written(Target::Torchvision, "b.pth"));
    assert!(written(Target::Timm, "a2.safetensors") == written(Target::Torchvision, "b2.safetensors"));
    assert!(written(Target::Mmdet, "c.pth") == written(Target::Mmseg, "d.pth"));
    assert!(written(Target::Mmdet, "c.safetensors") == written(Target::Timm, "e.safetensors"));
    written(Target::Detectron2, "f.safetensors");
}

#[test]
fn a_changed_weight_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (
        folder.path().join("a.safetensors"),
        folder.path().join("b.safetensors"),
    );
    backbone(&a, "resnet18-w8-small");
    let loaded = load_backbone(&a, Device::Cpu).unwrap();
    no_grad(|| {
        let mut first = loaded.vs.variables()["layer2.0.bn1.bias"].get(0);
        first += 0.5;
    });
    save_backbone(&b, &loaded.vs.variables().into_iter().collect(), &loaded.info).unwrap();
    let found = diff(&a, &b, [None, None]).unwrap();
    assert!(!found.equal());
    let [one] = &found.different[..] else {
        panic!("{found:?}")
    };
    assert_eq!(one.name, "layer2.0.bn1.bias");
    assert!((one.largest - 0.5).abs() < 1e-6 && one.relative > 0.0);
    assert!(diff(&a, &a, [None, None]).unwrap().equal());

    let shallow = folder.path().join("c.safetensors");
    backbone(&shallow, "resnet34-w8");
    let found = diff(&a, &shallow, [None, None]).unwrap();
    assert!(!found.equal() && found.alone[0].is_empty() && found.alone[1].len() > 50);
    assert!(
        found.different[0].relative.is_infinite(),
        "{:?}",
        found.different[0]
    );
}

#[test]
fn endings_that_a_tool_does_not_read_are_misuse() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    backbone(&path, "resnet18-w4");
    let loaded = load_backbone(&path, Device::Cpu).unwrap();
    for (target, name) in [
        (Target::Timm, "x.pkl"),
        (Target::Detectron2, "x"),
        (Target::Mmseg, "x.onnx"),
    ] {
        let out = folder.path().join(name);
        let error = export(&loaded, target, &out).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains(".safetensors or .pth"),
            "{error}"
        );
        assert!(!out.exists());
    }
    assert!("keras".parse::<Target>().unwrap_err().contains("mmseg"));
}

// As mmsegmentation names it, inside a whole segmentor too, and as timm does.
#[test]
fn a_stem_of_three_convolutions_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    backbone(&at("ours.safetensors"), "resnet18-w8-v1c");
    let ours = load_backbone(&at("ours.safetensors"), Device::Cpu).unwrap();
    assert_eq!(ours.vs.variables()["stem.0.weight"].size(), [4, 3, 3, 3]);
    let segmentor = ours
        .vs
        .variables()
        .into_iter()
        .map(|(name, tensor)| (format!("backbone.{name}"), tensor))
        .collect();
    tensor_file::save(&at("segmentor.safetensors"), &segmentor, &Default::default()).unwrap();
    export(&ours, Target::Timm, &at("timm.safetensors")).unwrap();
    export(&ours, Target::Mmseg, &at("mmseg.pth")).unwrap();
    let timm = TensorFile::open(&at("timm.safetensors"))
        .unwrap()
        .tensors()
        .unwrap();
    assert!(
        ["conv1.0.weight", "conv1.1.weight", "conv1.6.weight", "bn1.weight"]
            .iter()
            .all(|n| timm.contains_key(*n))
    );
    for name in ["segmentor.safetensors", "timm.safetensors", "mmseg.pth"] {
        let report = import(&at(name), &at("back.safetensors"), &options()).unwrap();
        assert_eq!(report.arch.to_string(), "resnet18-w8-v1c", "{name}");
        let back = load_backbone(&at("back.safetensors"), Device::Cpu).unwrap();
        assert!(
            ours.vs
                .variables()
                .iter()
                .all(|(n, t)| t.equal(&back.vs.variables()[n])),
            "{name}"
        );
    }
    for target in [Target::Torchvision, Target::Detectron2] {
        let refused = export(&ours, target, &at("none.pth")).unwrap_err().to_string();
        assert!(
            refused.contains("three convolutions in its stem") && refused.contains("--to mmseg"),
            "{refused}"
        );
    }
}
