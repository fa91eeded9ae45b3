//! Other tools' checkpoints, in and out. What each file holds: `tests/golden/interop_import/export.py`.

use crate::suite::TASKS;
use crate::world::{PLAIN, Place};
use flate2::read::GzDecoder;
use std::fs;
use std::io::Read;
use std::path::Path;

fn unpack(place: &Place, name: &str) {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/interop_import/{name}.gz"));
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(packed).unwrap())
        .read_to_end(&mut bytes)
        .unwrap();
    place.write(name, bytes);
}

fn says(text: &str, parts: &[&str]) {
    parts
        .iter()
        .for_each(|part| assert!(text.contains(part), "does not say {part:?}: {text}"));
}

#[test]
fn a_foreign_backbone_comes_in_is_used_and_goes_out() {
    let place = Place::new();
    unpack(&place, "moco.pth.tar");
    let printed = place.ok("checkpoint info moco.pth.tar").stdout;
    says(
        &printed,
        &[
            "torch.save (before torch 1.6)",
            "MoCo's query encoder",
            "module.encoder_k.\": resnet18-w4",
            "checkpoint import",
        ],
    );
    let done = place.ok(
        "checkpoint import moco.pth.tar --out in.safetensors --image-size 32 --mean 0.1,0.2,0.3 --std \
            1,1,0.5",
    );
    says(
        &done.stdout,
        &[
            "resnet18-w4: 120 tensors matched, none missing",
            "MoCo's query encoder",
            "module.queue (1)",
        ],
    );
    says(&done.stdout, &["for --prefix: state_dict.module.encoder_k."]);
    let printed = place.ok("checkpoint info in.safetensors").stdout;
    says(
        &printed,
        &[
            "resnet18-w4",
            "imported",
            "0.1, 0.2, 0.3",
            "1, 1, 0.5",
            "moco.pth.tar",
            "partial         no",
        ],
    );
    place.ok(&format!(
        "fewshot eval --checkpoint in.safetensors --data test.pack --episodes-count 3 --out m.json {PLAIN}"
    ));

    for out in ["tv.pth", "tv.safetensors"] {
        says(
            &place
                .ok(&format!(
                    "checkpoint export in.safetensors --to torchvision --out {out}"
                ))
                .stdout,
            &["120 tensors", "mean [0.1"],
        );
        says(
            &place.ok(&format!("checkpoint diff in.safetensors {out}")).stdout,
            &["0 of 100 common tensors differ"],
        );
    }
    says(
        &place
            .ok("checkpoint export in.safetensors --to detectron2 --out d2.pkl")
            .stdout,
        &[
            "STRIDE_IN_1X1 False",
            "25.500, 51.000",
            "warning: ",
            "C4",
            "layer4 of a ResNet-18 is lost",
        ],
    );
    says(
        &place.ok("checkpoint diff d2.pkl moco.pth.tar").stdout,
        &["0 of 100"],
    );
    let differ = "checkpoint diff in.safetensors moco.pth.tar --prefix-b encoder_k --show 2";
    let done = place.fails(differ, &["in.safetensors and moco.pth.tar differ"]);
    says(&done.stdout, &["100 of 100 common tensors differ", "1.0000e0"]);
    assert_eq!(done.stdout.lines().count(), 6, "{}", done.stdout);
    place.fails(
        "checkpoint import moco.pth.tar --out x.safetensors --prefix encoder",
        &["no backbones under", "encoder_q."],
    );
    place.misused(
        "checkpoint import moco.pth.tar --out x.safetensors --mean 1,2",
        &["three numbers"],
    );
    place.misused(
        "checkpoint import moco.pth.tar --out x.safetensors --std 1,0,1",
        &["--std must be positive"],
    );
    let before = place.bytes("moco.pth.tar");
    place.misused(
        "checkpoint import moco.pth.tar --out ./moco.pth.tar",
        &["./moco.pth.tar", "is the input file"],
    );
    place.misused(
        "checkpoint export in.safetensors --to timm --out in.safetensors",
        &["in.safetensors", "is the input file"],
    );
    assert!(place.bytes("moco.pth.tar") == before);
    place.misused(
        "checkpoint export in.safetensors --to keras --out x.pth",
        &["torchvision, timm"],
    );
    place.misused(
        "checkpoint export in.safetensors --to timm --out x.pkl",
        &["x.pkl", ".pth"],
    );
    assert!(
        !place.path("x.pkl").exists()
            && !place.path("x.pth").exists()
            && !place.path("x.safetensors").exists()
    );
}

#[test]
fn what_runs_code_or_is_not_whole_is_refused() {
    let place = Place::new();
    for name in [
        "refused_os_system.pkl",
        "refused_os_system.pth",
        "refused_eval.pt",
        "partial.pth",
        "stride_unknown.pkl",
    ] {
        unpack(&place, name);
    }
    for (name, reason) in [
        ("refused_os_system.pkl", "wants to call os.system"),
        ("refused_os_system.pth", "wants to call posix.system"),
        ("refused_eval.pt", "eval"),
    ] {
        for command in ["info FILE", "import FILE --out in.safetensors", "diff FILE FILE"] {
            place.fails(
                &format!("checkpoint {}", command.replace("FILE", name)),
                &[name, reason, "would run code"],
            );
        }
    }
    // Beside weights a call is named, and not done.
    unpack(&place, "beside_protocol4.pth");
    says(
        &place.ok("checkpoint info beside_protocol4.pth").stdout,
        &["not called      ", "http.HTTPStatus", "posix.system"],
    );
    let done = place.ok("checkpoint import beside_protocol4.pth --out beside.safetensors");
    says(
        &done.stdout,
        &[
            "120 tensors matched, none missing",
            "no code in the file is run",
            "__main__.Mode",
        ],
    );
    place.fails(
        "checkpoint import stride_unknown.pkl --out in.safetensors",
        &["stride", "--stride-in-3x3"],
    );
    place.fails(
        "checkpoint import partial.pth --out in.safetensors",
        &["missing conv1.weight", "--allow-missing"],
    );
    assert!(!place.path("in.safetensors").exists() && !place.path("executed").exists());
    let done = place.ok("checkpoint import partial.pth --out in.safetensors --allow-missing --seed 4");
    says(
        &done.stdout,
        &["5 missing and initialised: conv1.weight, layer2.0.bn1.bias"],
    );
    says(
        &place.ok("checkpoint info in.safetensors").stdout,
        &["partial         5 of 100 tensors missing"],
    );
    place.ok("checkpoint import partial.pth --out again.safetensors --allow-missing --seed 4");
    assert!(place.bytes("in.safetensors") == place.bytes("again.safetensors"));
}

#[test]
fn an_imported_backbone_stands_in_the_report_under_its_users_name() {
    let place = Place::new();
    unpack(&place, "torchvision.pth");
    place.write(
        "tasks.toml",
        format!(
            "title = \"Tasks\"\n[data]\ntest = {{ novel = \"test.pack\" \
        }}\n\
         [fewshot]\nqueries = 5\nepisodes = 20\n{TASKS}"
        ),
    );
    let transfer = |checkpoint: &str| {
        format!(
            "transfer --checkpoint {checkpoint} --recipe tasks.toml --out run --name mine --published \
             1-shot=55.5 mIoU=70 --device cpu --threads 1"
        )
    };
    place.fails(
        &transfer("torchvision.pth"),
        &["torchvision.pth", "another tool", "checkpoint import"],
    );
    place.misused(
        &transfer("in.safetensors").replace("mIoU=70", "mIoU"),
        &["1-shot=55.31"],
    );
    place.ok("checkpoint import torchvision.pth --out in.safetensors --image-size 32");
    let done = place.ok(&transfer("in.safetensors"));
    says(&done.stdout, &["mine"]);

    let report = place.json("run/report.json");
    let run = &report["runs"][0];
    assert_eq!(
        (&run["name"], &run["imported"], &run["method"]),
        (&"mine".into(), &true.into(), &serde_json::Value::Null)
    );
    let numbers = &report["tables"][0]["rows"][0]["numbers"];
    assert_eq!(
        (&numbers["1-shot"]["published"], &numbers["mIoU"]["published"]),
        (&55.5.into(), &70.0.into())
    );
    for column in ["1-shot", "5-shot", "AP50", "mIoU"] {
        assert!(
            numbers[column]["summary"]["mean"].is_number(),
            "{column}: {numbers}"
        );
        assert!(numbers[column]["partial"].is_null(), "{column}");
    }
    let page = place.text("run/report.md");
    says(
        &page,
        &[
            "- mine, imported from in.safetensors",
            "(55.50)",
            "mine (in.safetensors), by the tasks of tasks.toml.",
        ],
    );
    says(
        &page,
        &["Published numbers in brackets: as given on the command line."],
    );
    says(
        &place.text("run/report.html"),
        &["<span class=\"tag imported\">imported</span>"],
    );
    assert_eq!(
        place.json("run/runs/mine-s0/fewshot/metrics.json")["method"],
        "imported"
    );
}

#[test]
fn every_number_of_a_backbone_that_was_not_whole_is_marked() {
    let place = Place::new();
    unpack(&place, "partial.pth");
    unpack(&place, "torchvision.pth");
    place.ok("checkpoint import partial.pth --out part.safetensors --image-size 32 --allow-missing");
    place.ok("checkpoint import torchvision.pth --out whole.safetensors --image-size 32");
    let recipe = format!(
        "title = \"Marks\"\nseeds = [0]\nruns = [{{ name = \"part\", checkpoint = \"part.safetensors\" }}, \
         {{ name = \"whole\", checkpoint = \"whole.safetensors\" }}]\n[data]\n\
         test = {{ novel = \"test.pack\" }}\n[fewshot]\nqueries = 5\nepisodes = 20\n{TASKS}"
    );
    place.write("marks.toml", recipe);
    let done = place.ok("suite run marks.toml --out run --device cpu --threads 1");
    assert!(!place.text("run/report.md").contains("Given backbones"));
    let what = "part (5 of 100 tensors missing)";
    says(&done.stdout, &["†: the backbone was incomplete", what]);
    let marks = |text: &str, mark: &str, name: &str| {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
        lines.iter().map(|line| line.matches(mark).count()).sum::<usize>()
    };
    // 1-shot, 5-shot, AP, AP50, mIoU; and AP75, VOC07 mAP, category mIoU below.
    let (markdown, latex) = (place.text("run/report.md"), place.text("run/report.tex"));
    assert_eq!(
        (
            marks(&markdown, " †", "| part"),
            marks(&markdown, " †", "| whole")
        ),
        (8, 0),
        "{markdown}"
    );
    assert_eq!(
        (marks(&latex, "dagger", "part"), marks(&latex, "dagger", "whole")),
        (5, 0),
        "{latex}"
    );
    says(&markdown, &[what]);
    says(&place.text("run/report.html"), &[what, " †</td>"]);
    for line in place.text("run/report.csv").lines().skip(1) {
        assert_eq!(
            line.ends_with(",5 of 100 tensors missing"),
            line.starts_with("part,"),
            "{line}"
        );
    }

    // Single commands: said at once, kept beside the numbers, and marked where a report is made of the
    // folders.
    let done = place.ok(
        "fewshot eval --checkpoint part.safetensors --data test.pack --episodes-count 5 --out alone \
         --device cpu --threads 1",
    );
    says(&done.stderr, &["5 of 100 tensors missing"]);
    place.ok(
        "detection eval --checkpoint run/runs/part-s0/detection/detector.safetensors --voc \
        world/VOCdevkit --test 2007:test --classes clock,tree,mushroom,chair --out evaluated --device cpu \
        --threads 1",
    );
    for folder in ["alone", "evaluated"] {
        let metrics = place.json(&format!("{folder}/metrics.json"));
        assert_eq!(
            (&metrics["method"], &metrics["partial"]),
            (&"imported".into(), &"5 of 100 tensors missing".into())
        );
    }
    place.ok("report alone evaluated --out both");
    says(
        &place.text("both/report.md"),
        &[
            "alone (5 of 100 tensors missing)",
            "evaluated (5 of 100",
            "alone, imported",
        ],
    );
}
