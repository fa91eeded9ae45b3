//! Files that torch, timm, numpy and safetensors wrote: `tests/golden/interop_import/export.py` says what
//! each holds.

use camtrast_common::checkpoint::load_backbone;
use camtrast_common::testing::{golden_path, strings, uniform};
use camtrast_interop::StateFile;
use camtrast_interop::import::{ImportOptions, find, import};
use camtrast_interop::naming::candidates;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn cases() -> serde_json::Map<String, Value> {
    let text = fs::read_to_string(golden_path("interop_import/case.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    json["cases"].as_object().unwrap().clone()
}

fn unpacked(folder: &Path, name: &str) -> PathBuf {
    let packed = fs::File::open(golden_path("interop_import").join(format!("{name}.gz"))).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn options() -> ImportOptions {
    ImportOptions {
        prefix: None,
        allow_missing: false,
        stride_in_3x3: false,
        seed: 1,
        mean: [0.4, 0.5, 0.6],
        std: [0.1, 0.2, 0.3],
        image_size: 64,
        commit: "abc".into(),
    }
}

// What the tensor that torchvision calls `name` holds; see export.py.
fn value(name: &str, shape: &[i64], counters: bool) -> Tensor {
    if name.ends_with("num_batches_tracked") {
        return Tensor::from(if counters { name.len() as i64 } else { 0 });
    }
    let more = if name.ends_with("running_var") { 1.0 } else { 0.0 };
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = uniform(name, count)
        .map(|u| (((2.0 * u).floor() - 0.5) / 2.0 + more) as f32)
        .collect();
    Tensor::from_slice(&values).reshape(shape)
}

#[test]
fn every_naming_and_container_is_imported_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("backbone.safetensors");
    let mut imported = 0;
    for (name, case) in cases().iter().filter(|(_, case)| case.get("refused").is_none()) {
        let path = unpacked(folder.path(), name);
        let missing = case.get("missing").map(strings).unwrap_or_default();
        let mut options = options();
        if !missing.is_empty() {
            let refused = import(&path, &out, &options).unwrap_err().to_string();
            assert!(
                refused.contains("missing conv1.weight, layer2.0.bn1.bias and 3 more"),
                "{name}: {refused}"
            );
            assert!(refused.contains("--allow-missing"), "{name}: {refused}");
            options.allow_missing = true;
        }
        let report = import(&path, &out, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let counters = case.get("counters").is_none();
        assert_eq!(report.arch.to_string(), "resnet18-w4", "{name}");
        assert_eq!(report.container, case["container"].as_str().unwrap(), "{name}");
        assert_eq!(report.missing, missing, "{name}");
        let groups: Vec<&str> = report.dropped.iter().map(|(group, _)| group.as_str()).collect();
        assert_eq!(groups, strings(&case["dropped"]), "{name}");
        let dtype: Vec<&str> = case.get("dtype").and_then(Value::as_str).into_iter().collect();
        assert_eq!(report.converted, dtype, "{name}");
        let called: Vec<&str> = case.get("called").and_then(Value::as_str).into_iter().collect();
        assert!(
            called
                .iter()
                .all(|name| report.foreign.iter().any(|foreign| foreign == name)),
            "{name}: {report:?}"
        );
        assert!(
            report.foreign.is_empty() || !name.contains("protocol") || !called.is_empty(),
            "{name}: {report:?}"
        );
        assert!(!folder.path().join("executed").exists(), "{name}");
        let file = StateFile::open(&path).unwrap();
        assert_eq!(
            find(&file, None).unwrap().naming.prefix,
            case["prefix"].as_str().unwrap(),
            "{name}"
        );

        let backbone = load_backbone(&out, Device::Cpu).unwrap();
        let expected = report.arch.tensors();
        let variables = backbone.vs.variables();
        assert_eq!(variables.len(), expected.len());
        let mut matched = 0;
        for (tensor, shape) in &expected {
            assert_eq!(&variables[tensor].size(), shape, "{name}: {tensor}");
            if missing.contains(tensor) {
                // He's initialisation, or what batch norm is born with.
                assert!(
                    variables[tensor].isfinite().all().int64_value(&[]) == 1,
                    "{name}: {tensor}"
                );
                continue;
            }
            let truth = value(tensor, shape, counters);
            assert!(
                variables[tensor].equal(&truth),
                "{name}: {tensor} is not what was written"
            );
            matched += i64::from(counters || truth.kind() == Kind::Float);
        }
        assert_eq!(report.matched as i64, matched, "{name}");
        let info = &backbone.info;
        assert_eq!(
            (info.method.as_str(), info.image_size, info.mean, info.std),
            ("imported", 64, options.mean, options.std)
        );
        let config: Value = serde_json::from_str(&info.config).unwrap();
        assert_eq!(config["imported_from"].as_str().unwrap(), name);
        let partial = (!missing.is_empty()).then(|| "5 of 100 tensors missing".to_owned());
        assert_eq!(info.partial(), partial, "{name}");
        imported += 1;
    }
    assert!(imported >= 38, "{imported}");
}

#[test]
fn what_is_no_plain_backbone_or_runs_code_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("backbone.safetensors");
    std::env::set_current_dir(folder.path()).unwrap();
    for (name, case) in cases() {
        let Some(reason) = case.get("refused").and_then(Value::as_str) else {
            continue;
        };
        let path = unpacked(folder.path(), &name);
        let error = import(&path, &out, &options()).unwrap_err().to_string();
        assert!(
            error.starts_with(&path.display().to_string()) && error.contains(reason),
            "{name}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{name}: {error}");
        assert!(
            !out.exists() && !folder.path().join("executed").exists(),
            "{name}"
        );
        if name.starts_with("stride_unknown") {
            let known = ImportOptions {
                stride_in_3x3: true,
                ..options()
            };
            assert_eq!(
                import(&path, &out, &known).unwrap().arch.to_string(),
                "resnet50-w4"
            );
            fs::remove_file(&out).unwrap();
        }
    }
}

#[test]
fn names_of_anti_aliased_networks_are_believed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let source = unpacked(folder.path(), "timm.safetensors");
    import(&source, &out, &options()).unwrap();
    for name in ["resnetaa50_a1h-4cf422b3.pth", "ResNetBlur18.safetensors"] {
        let path = folder.path().join(name);
        fs::copy(&source, &path).unwrap();
        let error = import(&path, &out, &options()).unwrap_err().to_string();
        assert!(
            error.contains("anti-aliased") && error.contains("by its name"),
            "{error}"
        );
    }
    let config = folder.path().join("config.json");
    fs::write(&config, r#"{"architecture": "resnetaa50", "num_classes": 1000}"#).unwrap();
    let error = import(&source, &out, &options()).unwrap_err().to_string();
    assert!(
        error.contains("config.json next to it says (resnetaa50)"),
        "{error}"
    );
    for other in [r#"{"architecture": "resnet18"}"#, "[]", "no JSON"] {
        fs::write(&config, other).unwrap();
        import(&source, &out, &options()).unwrap();
    }
}

#[test]
fn group_norm_is_not_taken_as_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = unpacked(folder.path(), "refused_gn.pth");
    let all = ImportOptions {
        allow_missing: true,
        ..options()
    };
    let error = import(&path, &folder.path().join("out"), &all)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("without any running statistics") && error.contains("resnet50_gn"),
        "{error}"
    );
}

#[test]
fn a_changed_bit_in_a_zip_is_seen_by_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let path = unpacked(folder.path(), "torchvision.pth");
    let whole = fs::read(&path).unwrap();
    let weights = (0..whole.len())
        .filter(|&at| whole[at..].starts_with(b"/data/"))
        .nth(30)
        .unwrap()
        + 200;
    let mut changed = whole.clone();
    changed[weights] ^= 1;
    fs::write(&path, &changed).unwrap();
    let error = import(&path, &folder.path().join("out"), &options())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is damaged") && error.contains("/data/"),
        "{error}"
    );
    // torch can leave the checksums out.
    for at in (0..changed.len()).filter(|&at| whole[at..].starts_with(b"PK\x01\x02")) {
        changed[at + 16..at + 20].fill(0);
    }
    fs::write(&path, &changed).unwrap();
    import(&path, &folder.path().join("out"), &options()).unwrap();
}

#[test]
fn a_prefix_says_which_of_several() {
    let folder = tempfile::tempdir().unwrap();
    let path = unpacked(folder.path(), "moco.pth.tar");
    let out = folder.path().join("backbone.safetensors");
    let with = |prefix: &str| ImportOptions {
        prefix: Some(prefix.into()),
        ..options()
    };
    for prefix in ["state_dict.module.encoder_k.", "module.encoder_k", "encoder_k."] {
        let report = import(&path, &out, &with(prefix)).unwrap();
        assert_eq!(report.others, ["state_dict.module.encoder_q."]);
        assert_eq!(
            load_backbone(&out, Device::Cpu).unwrap().vs.variables()["conv1.weight"]
                .abs()
                .max()
                .double_value(&[]),
            0.0
        );
    }
    let error = import(&path, &out, &with("encoder")).unwrap_err().to_string();
    assert!(
        error.contains("no backbones under") && error.contains("encoder_q."),
        "{error}"
    );
}

#[test]
fn several_backbones_without_a_leader_are_not_guessed_among() {
    let names = ["a.layer1.0.conv1.weight", "b.layer1.0.conv1.weight"];
    let error = camtrast_interop::naming::choose(&candidates(names), None).unwrap_err();
    assert!(error.remedy.contains("--prefix: \"a.\", \"b.\""), "{error:?}");
}

#[test]
fn names_and_shapes_are_torchvisions() {
    for arch in ["resnet18", "resnet34", "resnet50", "resnet101"] {
        let text = fs::read_to_string(golden_path(&format!("checkpoint_load/keys_{arch}.json"))).unwrap();
        let truth: std::collections::BTreeMap<String, Vec<i64>> = serde_json::from_str(&text).unwrap();
        let arch: camtrast_common::resnet::Arch = arch.parse().unwrap();
        assert_eq!(arch.tensors(), truth, "{arch}");
    }
}
