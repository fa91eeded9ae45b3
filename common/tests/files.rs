//! Checkpoints, training states and logs on disk: what is read back, what is refused, what is repaired.

use camtrast_common::checkpoint::{BackboneInfo, load_backbone, save_backbone};
use camtrast_common::device::channels_last;
use camtrast_common::log::Log;
use camtrast_common::nn::Mode;
use camtrast_common::resnet::ResNet;
use camtrast_common::run::{Position, RunFolder};
use camtrast_common::tensor_file::{self, Metadata, TensorFile};
use camtrast_common::testing::{fill, fill_variables, golden_path, same};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

type Tensors = BTreeMap<String, Tensor>;

const SMALL: &str = "resnet18-w4-small";

fn info(arch: &str) -> BackboneInfo {
    BackboneInfo {
        arch: arch.parse().unwrap(),
        method: "moco".into(),
        dataset: "a \"set\" of ünïcode.pack".into(),
        dataset_sha256: "0123abcd".into(),
        class_names: vec!["cat".into(), "dog".into()],
        image_size: 84,
        mean: [0.1 + 0.2, 0.456, 1.0 / 3.0],
        std: [0.229, 0.224, 0.225],
        epoch: 7,
        step: 1234,
        config: json!({"lr": 0.03, "text": "two\nlines"}).to_string(),
        commit: "abc-dirty".into(),
    }
}

fn backbone(arch: &str) -> Tensors {
    let vs = VarStore::new(Device::Cpu);
    let _ = ResNet::new(&vs.root(), arch.parse().unwrap());
    fill_variables(&vs);
    vs.variables().into_iter().collect()
}

fn equal(a: &Tensors, b: &Tensors) -> bool {
    a.keys().eq(b.keys()) && a.iter().all(|(name, tensor)| same(tensor, &b[name]))
}

// A failure in one line that names the file.
fn refused<T>(result: camtrast_common::Result<T>, path: &Path, reason: &str) {
    let message = result
        .err()
        .unwrap_or_else(|| panic!("{} was accepted", path.display()))
        .to_string();
    assert!(
        message.starts_with(&path.display().to_string()),
        "{message:?} does not name {}",
        path.display()
    );
    assert!(
        message.contains(reason) && !message.contains('\n'),
        "{message:?} lacks {reason:?}"
    );
}

#[test]
fn backbone_comes_back_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backbone.safetensors");
    let tensors = backbone(SMALL);
    save_backbone(&path, &tensors, &info(SMALL)).unwrap();
    let loaded = load_backbone(&path, Device::Cpu).unwrap();
    assert!(equal(&loaded.vs.variables().into_iter().collect(), &tensors));
    assert_eq!(
        serde_json::to_value(&loaded.info).unwrap(),
        serde_json::to_value(info(SMALL)).unwrap()
    );
    assert_eq!(loaded.sha256.len(), 64);
    let x = fill("input", &[1, 3, 16, 16]);
    let vs = VarStore::new(Device::Cpu);
    let net = ResNet::new(&vs.root(), SMALL.parse().unwrap());
    fill_variables(&vs);
    let (ours, theirs) = (net.features(&x, Mode::Eval), loaded.net.features(&x, Mode::Eval));
    assert!((ours - theirs).abs().max().double_value(&[]) < 1e-5);
}

#[test]
fn one_content_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
    let tensors = backbone(SMALL);
    let relaid = tensors.iter().map(|(name, t)| {
        (
            name.clone(),
            if t.dim() == 4 { channels_last(t) } else { t.copy() },
        )
    });
    save_backbone(&first, &tensors, &info(SMALL)).unwrap();
    save_backbone(&second, &relaid.collect(), &info(SMALL)).unwrap();
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
}

#[test]
fn every_tensor_kind_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tensors");
    let x = fill("input", &[2, 3]);
    let kinds = [
        Kind::Float,
        Kind::Double,
        Kind::Half,
        Kind::BFloat16,
        Kind::Int64,
        Kind::Int,
        Kind::Uint8,
        Kind::Bool,
    ];
    let mut tensors: Tensors = kinds
        .into_iter()
        .map(|k| (format!("{k:?}"), x.clamp_min(0.0).to_kind(k)))
        .collect();
    tensors.insert("scalar".into(), Tensor::from(7i64));
    tensors.insert("empty".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu)));
    tensors.insert("part".into(), x.narrow(1, 1, 2));
    tensor_file::save(&path, &tensors, &Metadata::new()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    file.verify().unwrap();
    assert!(equal(&file.tensors().unwrap(), &tensors));
    refused(file.tensor("nothing"), &path, "holds no tensor \"nothing\"");
    refused(file.bytes("Half", Kind::Float), &path, "is F16");
    let complex = [("c".to_owned(), x.to_kind(Kind::ComplexFloat))].into();
    refused(
        tensor_file::save(&path, &complex, &Metadata::new()),
        &path,
        "ComplexFloat",
    );
    refused(
        TensorFile::open(folder.path()).map(drop),
        folder.path(),
        "is a folder",
    );
    refused(
        TensorFile::open(&folder.path().join("absent")).map(drop),
        &folder.path().join("absent"),
        "no such file",
    );
}

#[test]
fn nothing_that_is_not_finite_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tensors");
    let good: Tensors = [("a".to_owned(), fill("a", &[4]))].into();
    tensor_file::save(&path, &good, &Metadata::new()).unwrap();
    let before = fs::read(&path).unwrap();
    for kind in [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16] {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let tensor = Tensor::zeros([5], (kind, Device::Cpu));
            let _ = tensor.get(4).fill_(value);
            let bad: Tensors = [("a".to_owned(), fill("a", &[4])), ("b".to_owned(), tensor)].into();
            refused(
                tensor_file::save(&path, &bad, &Metadata::new()),
                &path,
                "\"b\" holds NaN or infinite values",
            );
        }
        let largest = Tensor::full(
            [1],
            if kind == Kind::Half { 65504.0 } else { 3e38 },
            (kind, Device::Cpu),
        );
        let extreme: Tensors = [("a".to_owned(), largest)].into();
        tensor_file::save(&folder.path().join("extreme"), &extreme, &Metadata::new()).unwrap();
        assert!(
            TensorFile::open(&folder.path().join("extreme"))
                .unwrap()
                .tensor("a")
                .is_ok()
        );
    }
    assert!(fs::read(&path).unwrap() == before, "the good file was replaced");
}

// Header and metadata as well as tensors.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tensors");
    let tensors: Tensors = [("a.weight", [2i64, 3]), ("b", [1, 2])]
        .map(|(n, shape)| (n.into(), fill(n, &shape)))
        .into();
    let metadata: Metadata = [("format", "camtrast-state"), ("step", "1200")]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
    tensor_file::save(&path, &tensors, &metadata).unwrap();
    let whole = fs::read(&path).unwrap();
    let check = || TensorFile::open(&path).and_then(|file| file.verify());
    check().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    for (place, &byte) in whole.iter().enumerate() {
        for bit in 0..8 {
            file.write_at(&[byte ^ (1 << bit)], place as u64).unwrap();
            let message = check().err().map(|e| e.to_string());
            let near = String::from_utf8_lossy(&whole[place.saturating_sub(10)..whole.len().min(place + 10)]);
            let message = message
                .unwrap_or_else(|| panic!("bit {bit} of byte {place} ({near:?}) flipped and not noticed"));
            assert!(message.starts_with(&path.display().to_string()), "{message}");
        }
        file.write_at(&[byte], place as u64).unwrap();
    }
    check().unwrap();
    for length in (0..whole.len()).rev() {
        file.set_len(length as u64).unwrap();
        assert!(check().is_err(), "cut to {length} bytes");
    }
}

#[test]
fn damaged_and_foreign_backbones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backbone.safetensors");
    let load = || load_backbone(&path, Device::Cpu).map(|b| b.info.arch);
    let save = |tensors: &Tensors| save_backbone(&path, tensors, &info(SMALL)).unwrap();
    refused(load(), &path, "no such file");

    save(&backbone(SMALL));
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() - 1000] ^= 4;
    fs::write(&path, &damaged).unwrap();
    refused(load(), &path, "is damaged");
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        refused(load(), &path, "not a whole safetensors file");
    }

    let (mut lacking, mut reshaped, mut more) = (backbone(SMALL), backbone(SMALL), backbone(SMALL));
    lacking.remove("layer3.0.bn1.running_var");
    save(&lacking);
    refused(
        load(),
        &path,
        "missing layer3.0.bn1.running_var, unexpected nothing",
    );
    reshaped.insert("bn1.weight".into(), fill("bn1.weight", &[5]));
    save(&reshaped);
    refused(
        load(),
        &path,
        "\"bn1.weight\" is [5], but resnet18-w4-small has [4]",
    );
    more.insert("layer5.weight".into(), fill("layer5.weight", &[5]));
    save(&more);
    refused(load(), &path, "unexpected layer5.weight");

    let run = RunFolder::create(folder.path()).unwrap();
    run.save_state(
        &backbone(SMALL),
        Position {
            step: 3,
            seconds: 1.5,
        },
    )
    .unwrap();
    let state = run.file("state.safetensors");
    refused(
        load_backbone(&state, Device::Cpu).map(|b| b.info.arch),
        &state,
        "is a camtrast-state file",
    );
    fs::write(&path, safetensors_of(&backbone(SMALL))).unwrap();
    refused(load(), &path, "another tool");
}

// A file as another tool writes it: no metadata.
fn safetensors_of(tensors: &Tensors) -> Vec<u8> {
    let bytes = |t: &Tensor| -> (safetensors::Dtype, Vec<u8>) {
        let flat = t.contiguous().view([-1]);
        match t.kind() {
            Kind::Int64 => (
                safetensors::Dtype::I64,
                Vec::<i64>::try_from(flat)
                    .unwrap()
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect(),
            ),
            Kind::Double => (
                safetensors::Dtype::F64,
                Vec::<f64>::try_from(flat)
                    .unwrap()
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect(),
            ),
            _ => (
                safetensors::Dtype::F32,
                Vec::<f32>::try_from(flat)
                    .unwrap()
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect(),
            ),
        }
    };
    let data: Vec<_> = tensors
        .iter()
        .map(|(name, t)| (name, t.size(), bytes(t)))
        .collect();
    let views = data.iter().map(|(name, shape, (dtype, bytes))| {
        let shape = shape.iter().map(|&d| d as usize).collect();
        (
            name.as_str(),
            safetensors::tensor::TensorView::new(*dtype, shape, bytes).unwrap(),
        )
    });
    safetensors::serialize(views, None).unwrap()
}

// `tests/golden/checkpoint_load/check_load.py` in a Python that has torchvision.
#[test]
fn torchvision_loads_our_backbone() {
    let python = std::env::var("CAMTRAST_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let able = Command::new(&python)
        .args(["-c", "import safetensors.torch, torchvision"])
        .env_remove("LD_LIBRARY_PATH")
        .output();
    if !able.is_ok_and(|o| o.status.success()) {
        println!("skipped: no torchvision");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backbone.safetensors");
    save_backbone(&path, &backbone("resnet50"), &info("resnet50")).unwrap();
    let script = golden_path("checkpoint_load/check_load.py");
    let done = Command::new(&python)
        .arg(script)
        .arg(&path)
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    let (said, failed) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success() && said.starts_with("OK"), "{said}{failed}");
    println!("{said}");
}

struct Run {
    folder: RunFolder,
    _root: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Run {
            folder: RunFolder::create(&root.path().join("run")).unwrap(),
            _root: root,
        }
    }

    fn save(&self, step: u64) {
        self.folder
            .save_state(
                &state(step),
                Position {
                    step,
                    seconds: step as f64 / 3.0,
                },
            )
            .unwrap();
    }

    fn damage(&self, name: &str, how: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let path = self.folder.file(name);
        let mut bytes = fs::read(&path).unwrap();
        how(&mut bytes);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn state(step: u64) -> Tensors {
    [("weight".to_owned(), fill(&format!("step{step}"), &[4, 5]))].into()
}

const STATE: &str = "state.safetensors";
const PREVIOUS: &str = "state.previous.safetensors";

fn cut(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() / 2);
}

const DAMAGES: [fn(&mut Vec<u8>); 2] = [cut, |bytes| *bytes.last_mut().unwrap() ^= 0x10];

#[test]
fn newest_state_is_taken() {
    let run = Run::new();
    assert!(run.folder.load_state().unwrap().is_none());
    for step in [10, 20, 30] {
        run.save(step);
        let saved = run.folder.load_state().unwrap().unwrap();
        assert_eq!(
            saved.position,
            Position {
                step,
                seconds: step as f64 / 3.0
            }
        );
        assert!(equal(&saved.tensors, &state(step)) && saved.warning.is_none());
    }
    // Killed between the two renames: only the previous one has its name.
    fs::remove_file(run.folder.file(STATE)).unwrap();
    assert_eq!(run.folder.load_state().unwrap().unwrap().position.step, 20);
}

#[test]
fn damaged_state_falls_back_to_the_one_before() {
    for how in DAMAGES {
        let run = Run::new();
        run.save(10);
        let path = run.damage(STATE, how);
        refused(run.folder.load_state().map(drop), &path, "");

        let run = Run::new();
        run.save(10);
        run.save(20);
        let path = run.damage(STATE, how);
        let saved = run.folder.load_state().unwrap().unwrap();
        assert_eq!(saved.position.step, 10);
        assert!(equal(&saved.tensors, &state(10)));
        let warning = saved.warning.unwrap();
        assert!(
            warning.contains(&path.display().to_string()) && warning.contains("(step 10)"),
            "{warning}"
        );

        let run = Run::new();
        run.save(10);
        run.save(20);
        run.damage(STATE, how);
        let previous = run.damage(PREVIOUS, how);
        refused(run.folder.load_state().map(drop), &previous, "");
    }
}

#[test]
fn saving_after_a_fallback_keeps_a_whole_state() {
    let run = Run::new();
    run.save(10);
    run.save(20);
    run.damage(STATE, cut);
    assert_eq!(run.folder.load_state().unwrap().unwrap().position.step, 10);
    run.save(15);
    run.damage(STATE, cut);
    let saved = run.folder.load_state().map(|s| s.map(|s| s.position.step));
    assert_eq!(
        saved.unwrap(),
        Some(10),
        "the damaged state of step 20 must not replace the whole one of step 10"
    );
}

fn log_lines(run: &RunFolder) -> Vec<Value> {
    let text = fs::read_to_string(run.file("log.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn log_goes_on_from_the_saved_step() {
    let run = Run::new();
    let line = |step: u64, loss: f64| json!({"kind": "step", "step": step, "loss": loss});
    let mut log = Log::open(&run.folder, 0).unwrap();
    (1..=5).for_each(|step| log.write(&line(step, 1.0)).unwrap());
    drop(log);
    // Killed in the middle of a line.
    run.damage("log.jsonl", |bytes| bytes.truncate(bytes.len() - 4));
    let mut log = Log::open(&run.folder, 3).unwrap();
    log.write(&line(4, 2.0)).unwrap();
    let expected: Vec<Value> = (1..=3)
        .map(|step| line(step, 1.0))
        .chain([line(4, 2.0)])
        .collect();
    assert_eq!(log_lines(&run.folder), expected);
}

// CRC-32C by its definition, bit by bit, masked as TFRecord wants it.
fn masked_crc(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    });
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (head, rest) = bytes.split_at(n);
    *bytes = rest;
    head
}

fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = take(&mut bytes, 8);
        assert_eq!(take(&mut bytes, 4), masked_crc(length).to_le_bytes());
        let record = take(
            &mut bytes,
            u64::from_le_bytes(length.try_into().unwrap()) as usize,
        );
        assert_eq!(take(&mut bytes, 4), masked_crc(record).to_le_bytes());
        records.push(record);
    }
    records
}

// The fields of a protocol-buffer message: number, then integer or bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = take(bytes, 1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (integer, data): (u64, &[u8]) = match key & 7 {
            0 => (varint(&mut bytes), &[]),
            1 => (0, take(&mut bytes, 8)),
            2 => {
                let length = varint(&mut bytes) as usize;
                (0, take(&mut bytes, length))
            }
            5 => (0, take(&mut bytes, 4)),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, integer, data));
    }
    fields
}

#[test]
fn tensorboard_reads_the_events() {
    assert_eq!(
        masked_crc(b"123456789"),
        0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8)
    );
    let run = Run::new();
    let mut log = Log::open(&run.folder, 0).unwrap();
    let long = "a_name_that_takes_more_than_one_byte_of_length_".repeat(4);
    log.write(&json!({"kind": "step", "step": 300, "loss": 0.25, "note": "text", (&long): -3.5}))
        .unwrap();
    log.write(&json!({"kind": "epoch", "step": 301, "epoch": 2}))
        .unwrap();
    let names = fs::read_dir(run.folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let events: Vec<String> = names.filter(|n| n.starts_with("events.out.tfevents.")).collect();
    assert_eq!(events.len(), 1);
    let bytes = fs::read(run.folder.file(&events[0])).unwrap();
    let records = records(&bytes);
    assert_eq!(records.len(), 3);
    let seconds = f64::from_le_bytes(fields(records[0])[0].2.try_into().unwrap());
    assert!(
        fields(records[0])[0].0 == 1 && (1.7e9..1e10).contains(&seconds),
        "{seconds}"
    );
    assert_eq!(fields(records[0])[2], (3, 0, &b"brain.Event:2"[..]));

    let scalars = |record| -> (u64, BTreeMap<String, f32>) {
        let event = fields(record);
        assert_eq!(event.iter().map(|f| f.0).collect::<Vec<_>>(), [1, 2, 5]);
        let values = fields(event[2].2).into_iter().map(|(number, _, value)| {
            let value = fields(value);
            assert_eq!((number, value[0].0, value[1].0), (1, 1, 2));
            let tag = String::from_utf8(value[0].2.to_vec()).unwrap();
            (tag, f32::from_le_bytes(value[1].2.try_into().unwrap()))
        });
        (event[1].1, values.collect())
    };
    let first = [("step/loss".to_owned(), 0.25), (format!("step/{long}"), -3.5)].into();
    assert_eq!(scalars(records[1]), (300, first));
    assert_eq!(
        scalars(records[2]),
        (301, [("epoch/epoch".to_owned(), 2.0)].into())
    );
}
