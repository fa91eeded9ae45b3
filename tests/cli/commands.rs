//! What every command leaves and prints.

use crate::world::{CONTRAST, PLAIN, Place, TINY, content, list};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[test]
fn help_lists_the_commands_and_no_command_is_misuse() {
    let place = Place::new();
    let help = place.ok("--help").stdout;
    let list = help
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let names: Vec<&str> = list
        .lines()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "demo",
            "data",
            "pretrain",
            "fewshot",
            "probe",
            "detection",
            "segmentation",
            "transfer",
            "suite",
            "report",
            "track",
            "analyze",
            "checkpoint",
            "completions",
            "man",
            "help"
        ]
    );
    assert!(
        place
            .ok("--version")
            .stdout
            .starts_with(concat!("camtrast ", env!("CARGO_PKG_VERSION"), " ("))
    );
    let nothing = place.run("");
    assert_eq!(nothing.code, Some(2));
    assert!(nothing.stderr.contains("Usage: camtrast"));
    let commands = "demo, data prepare, data synth, data info, pretrain, fewshot eval, fewshot score, \
                    probe eval, probe score, probe finetune, segmentation train, segmentation eval, \
                    segmentation score, transfer, suite run, suite status, report, data fetch, analyze \
                    representation, analyze cam";
    for command in commands.split(", ") {
        let help = place.ok(&format!("{command} --help")).stdout;
        for flag in [
            "--config",
            "--seed",
            "--device",
            "--precision",
            "--threads",
            "--quiet",
        ] {
            assert!(help.contains(flag), "{command} --help lacks {flag}");
        }
    }
}

/// A finished run folder has every file that a run folder always has.
fn assert_whole_run(place: &Place, run: &str, steps: u64) {
    let names = list(&place.path(run));
    let (events, rest): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|n| n.starts_with("events.out.tfevents."));
    assert!(!events.is_empty(), "{run}: {names:?}");
    let always = [
        "backbone.safetensors",
        "config.toml",
        "log.jsonl",
        "metrics.json",
        "state.safetensors",
    ];
    assert!(
        always.iter().all(|n| rest.iter().any(|r| r == n)),
        "{run}: {names:?}"
    );

    let metrics = place.json(&format!("{run}/metrics.json"));
    assert_eq!(metrics["schema"], 1);
    assert_eq!(metrics["device"], "cpu");
    assert!(metrics["seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!(metrics["pretrain/steps"].as_f64(), Some(steps as f64));
    for (name, value) in metrics.as_object().unwrap() {
        assert!(value.is_number() || name == "device", "{run}: {name} is {value}");
        assert!(!name.starts_with("pretrain/accuracy") || (0.0..=1.0).contains(&value.as_f64().unwrap()));
    }

    let config: toml::Table = place.text(&format!("{run}/config.toml")).parse().unwrap();
    assert_eq!(config["arch"].as_str(), Some("resnet18-w8-small"));
    for (table, key) in [
        ("dataset", "sha256"),
        ("build", "version"),
        ("build", "commit"),
        ("build", "device"),
    ] {
        assert!(
            config[table][key].as_str().is_some_and(|text| !text.is_empty()),
            "{run}: [{table}] {key}"
        );
    }

    let (metadata, tensors) = content(&place.bytes(&format!("{run}/backbone.safetensors")));
    let keys = "format version arch method dataset dataset_sha256 image_size mean std epoch step config \
        commit checksum";
    for key in keys.split_whitespace() {
        assert!(
            metadata.get(key).is_some_and(|text| !text.is_empty()),
            "{run}: metadata {key}"
        );
    }
    assert_eq!(
        metadata["dataset_sha256"],
        config["dataset"]["sha256"].as_str().unwrap()
    );
    assert_eq!(metadata["step"], steps.to_string());
    assert_eq!(tensors["conv1.weight"].0, "F32 [8, 3, 3, 3]");
    assert_eq!(tensors["layer4.1.bn2.running_var"].0, "F32 [64]");
    assert!(
        !tensors
            .keys()
            .any(|name| name.starts_with("fc.") || name.starts_with("backbone."))
    );
}

#[test]
fn every_method_leaves_a_whole_run() {
    let place = Place::new();
    let classifier = ["accuracy", "loss_original", "loss_suppressed"];
    for (method, flags, steps, logged) in [
        ("scratch", "--epochs 0", 0, vec![]),
        ("supervised", "", 50, vec!["accuracy"]),
        ("moco", CONTRAST, 50, vec!["contrast_accuracy"]),
        ("simsiam", "", 50, vec!["output_std"]),
        ("byol", "", 50, vec![]),
        ("exemplar", CONTRAST, 50, vec!["contrast_accuracy"]),
        (
            "camtrast-moco",
            CONTRAST,
            50,
            [&classifier[..], &["loss_contrast", "contrast_accuracy"]].concat(),
        ),
        (
            "camtrast-simsiam",
            "",
            50,
            [&classifier[..], &["loss_contrast", "output_std"]].concat(),
        ),
    ] {
        let done = place.ok(&format!(
            "pretrain --method {method} {TINY} {flags} --log-every 5 --out {method}"
        ));
        assert_eq!(done.stdout, format!("{method}/backbone.safetensors\n"));
        assert!(
            done.stderr.contains(&format!("{method} done: {steps} steps")),
            "{}",
            done.stderr
        );
        assert_whole_run(&place, method, steps);
        let lines = place.log(method, "step");
        let at: Vec<u64> = lines.iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(at, (1..=steps / 5).map(|i| i * 5).collect::<Vec<_>>());
        assert_eq!(place.log(method, "epoch").len() as u64, steps / 25);
        if let Some(last) = lines.last() {
            for key in ["loss", "lr", "images_per_second", "data_wait_share"]
                .iter()
                .chain(&logged)
            {
                assert!(
                    last[key].as_f64().is_some_and(f64::is_finite),
                    "{method}: {key} in {last}"
                );
            }
            let parts: Vec<f64> = logged
                .iter()
                .filter(|k| k.starts_with("loss_"))
                .map(|k| last[k].as_f64().unwrap())
                .collect();
            let total = last["loss"].as_f64().unwrap();
            assert!(
                parts.is_empty() || (parts.iter().sum::<f64>() - total).abs() < 1e-4,
                "{method}: {last}"
            );
        }
        let has_classifier = ["supervised", "camtrast-moco", "camtrast-simsiam"].contains(&method);
        assert_eq!(
            place.path(&format!("{method}/classifier.safetensors")).exists(),
            has_classifier,
            "{method}"
        );
    }
    // Nothing to do is nothing done.
    let before = place.bytes("scratch/state.safetensors");
    place.ok(&format!(
        "pretrain --method scratch {TINY} --epochs 0 --out scratch"
    ));
    assert!(place.bytes("scratch/state.safetensors") == before);
    assert!(!place.path("scratch/state.previous.safetensors").exists());
}

#[test]
fn a_configuration_reproduces_its_run_and_flags_win_over_it() {
    let place = Place::new();
    let settings = |run: &str| {
        place
            .text(&format!("{run}/config.toml"))
            .split("[build]")
            .next()
            .unwrap()
            .to_owned()
    };
    for (run, flags) in [
        ("run", format!("camtrast-moco {CONTRAST} --classes 20")),
        (
            "part",
            "simsiam --constant-predictor-lr false --categories 3 --total-images 70 --labels coarse"
                .to_owned(),
        ),
    ] {
        place.ok(&format!("pretrain {TINY} --seed 3 --out {run} --method {flags}"));
        place.ok(&format!(
            "pretrain --config {run}/config.toml {PLAIN} --out {run}-again"
        ));
        let backbone = |run: &str| place.bytes(&format!("{run}/backbone.safetensors"));
        assert!(backbone(run) == backbone(&format!("{run}-again")), "{run}");
        assert_eq!(settings(run), settings(&format!("{run}-again")));
    }
    let subset = place.json("part/subset.json");
    let count = |key: &str| subset[key].as_array().unwrap().len();
    assert_eq!((count("classes"), count("rows"), count("labels")), (3, 70, 70));

    let toml = "method = \"supervised\"\ndata = \"train.pack\"\narch = \"resnet18-w8-small\"\nclasses = \
        4\nepochs = 2\n\
                batch_size = 16\nlr = 0.5\njitter = [0.1, 0.2, 0.3, 0.0]\n\
                threads = 1\ndevice = \"cpu\"\nquiet = true\n\
                overwrite = false\n";
    place.write("mine.toml", toml);
    let done = place.ok("pretrain --out mine --lr 0.25 --config mine.toml --epochs=3");
    assert_eq!(done.stderr, "");
    let config: toml::Table = place.text("mine/config.toml").parse().unwrap();
    assert_eq!(config["lr"].as_float(), Some(0.25));
    assert_eq!(config["epochs"].as_integer(), Some(3));
    assert_eq!(config["batch-size"].as_integer(), Some(16));
    assert_eq!(config["jitter"].as_array().unwrap().len(), 4);
    assert_eq!(config["build"]["threads"].as_integer(), Some(1));
}

#[test]
fn seeds_matter_and_nothing_else_does() {
    let place = Place::new();
    let command = |flags: &str| format!("pretrain --method supervised {TINY} --classes 4 {flags}");
    place.ok(&command("--out a"));
    place.ok(&command("--log-every 1 --save-every 1 --quiet --out b"));
    place.ok(&command("--seed 1 --out c"));
    let [a, b, c] = ["a", "b", "c"].map(|run| place.bytes(&format!("{run}/backbone.safetensors")));
    assert!(a == b, "logging or saving changed the weights");
    assert!(content(&a).1 != content(&c).1, "two seeds gave the same weights");
}

#[test]
fn quiet_prints_results_only() {
    let place = Place::new();
    let done = place.ok(&format!(
        "pretrain --method supervised {TINY} --classes 4 --quiet --out run"
    ));
    assert_eq!(
        (&done.stdout[..], &done.stderr[..]),
        ("run/backbone.safetensors\n", "")
    );
    let eval = place.ok(&format!(
        "fewshot eval --checkpoint run/backbone.safetensors --data test.pack --episodes-count 3 --quiet \
         {PLAIN}"
    ));
    assert_eq!(eval.stderr, "");
    assert_eq!(
        place
            .ok("data prepare miniimagenet --from world --out a.pack --size 16 --quiet")
            .stderr,
        ""
    );
}

#[test]
fn classes_images_and_coarse_labels_select_a_part() {
    let place = Place::new();
    // Steps are images / 16; the classifier has a row for every label.
    for (flags, steps, rows) in [
        ("--classes 4", 4, 4),
        ("--classes 8", 8, 8),
        ("--classes 8 --images-per-class 4", 4, 8),
        ("--labels coarse", 50, 10),
    ] {
        let out = flags.trim_start_matches('-').replace(' ', "");
        place.ok(&format!(
            "pretrain --method supervised {TINY} {flags} --out {out}"
        ));
        assert_eq!(
            place.json(&format!("{out}/metrics.json"))["pretrain/steps"].as_f64(),
            Some(steps as f64),
            "{flags}"
        );
        let (_, state) = content(&place.bytes(&format!("{out}/state.safetensors")));
        assert_eq!(
            state["online/fc.weight"].0,
            format!("F32 [{rows}, 64]"),
            "{flags}"
        );
    }
}

#[test]
fn supervised_training_learns() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method supervised {TINY} --classes 4 --epochs 40 --crop none --jitter-probability 0 \
         --out run"
    ));
    let losses: Vec<f64> = place
        .log("run", "epoch")
        .iter()
        .map(|line| line["loss"].as_f64().unwrap())
        .collect();
    assert!(losses[39] < 0.5 * losses[0], "{losses:?}");
    let metrics = place.json("run/metrics.json");
    assert_eq!(metrics["pretrain/loss"].as_f64(), Some(losses[39]));
}

#[test]
fn fewshot_eval_writes_fractions() {
    let place = Place::new();
    place.ok(&format!("pretrain --method scratch {TINY} --epochs 0 --out run"));
    let eval = format!(
        "fewshot eval --checkpoint run/backbone.safetensors --data test.pack --episodes-count 20 {PLAIN}"
    );
    let done = place.ok(&format!("{eval} --out probe"));
    assert!(
        done.stdout.contains("5-way 1-shot") && done.stdout.contains("5-way 5-shot"),
        "{}",
        done.stdout
    );
    let metrics = place.json("probe/metrics.json");
    assert_eq!(metrics["schema"], 1);
    assert_eq!(metrics["device"], "cpu");
    assert!(metrics["seconds"].as_f64().is_some_and(|s| s > 0.0));
    for task in ["5way1shot", "5way5shot"] {
        let [mean, ci95] = ["mean", "ci95"].map(|n| metrics[format!("fewshot/{task}/{n}")].as_f64().unwrap());
        assert!(
            (0.2..1.0).contains(&mean) && (0.0..0.2).contains(&ci95),
            "{task}: {mean} {ci95}"
        );
    }
    // The same again, into a named file; and other protocols.
    place.ok(&format!("{eval} --out again.json"));
    let same = |m: &Value| ["fewshot/5way1shot/mean", "fewshot/5way5shot/ci95"].map(|n| m[n].clone());
    assert_eq!(same(&place.json("again.json")), same(&metrics));
    place.ok(&format!("{eval} --ways 2 --shots 3 --queries 4 --out two.json"));
    let keys: Vec<String> = place
        .json("two.json")
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let numbers = ["fewshot/2way3shot/ci95", "fewshot/2way3shot/mean"];
    assert_eq!(
        keys,
        [
            "backbone_sha256",
            "device",
            numbers[0],
            numbers[1],
            "method",
            "schema",
            "seconds"
        ]
    );

    // Which images: the pack's plain resize, or the centre of larger ones.
    assert!(place.text("probe/config.toml").contains("fit = \"32x32\""));
    let centre =
        "data prepare miniimagenet --from world --split test --resize 36 --crop 32 --out centre.pack";
    place.ok(centre);
    place.ok(&format!(
        "{} --out centre",
        eval.replace("test.pack", "centre.pack")
    ));
    assert!(
        place
            .text("centre/config.toml")
            .contains("fit = \"36 (shorter side), centre 32\"")
    );
    assert!(place.text("run/config.toml").contains("fit = \"32x32\""));
}

#[test]
fn fewshot_score_takes_anybodys_features() {
    let place = Place::new();
    // Two classes along two axes; the last image of class 1 lies with class 0.
    let features: [[f32; 2]; 6] = [
        [1.0, 0.0],
        [2.0, 0.1],
        [1.0, -0.1],
        [0.0, 1.0],
        [0.1, 3.0],
        [1.0, 0.0],
    ];
    let features: Vec<u8> = features.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    let labels: Vec<u8> = [0i64, 0, 0, 1, 1, 1]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let tensors = [
        (
            "features",
            TensorView::new(Dtype::F32, vec![6, 2], &features).unwrap(),
        ),
        ("labels", TensorView::new(Dtype::I64, vec![6], &labels).unwrap()),
    ];
    serialize_to_file(tensors, None, &place.path("features.safetensors")).unwrap();
    let episode = |support: [i64; 2], query: [[i64; 2]; 2]| {
        let support = [[support[0]], [support[1]]];
        json!({"support": support, "query": query})
    };
    let episodes = json!({"ways": 2, "shots": 1, "queries": 2, "episodes": [
        episode([0, 3], [[1, 2], [4, 5]]),
        episode([1, 4], [[0, 2], [3, 5]]),
        episode([0, 5], [[1, 2], [3, 4]]),
    ]});
    place.write("episodes.json", episodes.to_string());
    let score = format!("fewshot score --features features.safetensors --episodes episodes.json {PLAIN}");
    let done = place.ok(&format!("{score} --out score.json"));
    assert!(done.stdout.contains("over 3 episodes"), "{}", done.stdout);
    let result = place.json("score.json");
    let each: Vec<f64> = serde_json::from_value(result["per_episode"].clone()).unwrap();
    assert_eq!(each[..2], [0.75, 0.75]);
    let mean = each.iter().sum::<f64>() / 3.0;
    let deviation = (each.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    assert!((result["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!((result["ci95"].as_f64().unwrap() - 1.96 * deviation / 3f64.sqrt()).abs() < 1e-12);

    place.write(
        "episodes.json",
        episodes.to_string().replace("[[0],[5]]", "[[0],[6]]"),
    );
    place.fails(&score, &["episodes.json", "episode 2", "index 6"]);
    place.write("episodes.json", "{\"ways\": 2}");
    place.fails(&score, &["episodes.json", "not an episodes file"]);
    place.fails(
        &score.replace("features.safetensors", "test.pack"),
        &["test.pack", "\"features\""],
    );
}

#[test]
fn checkpoints_are_told_and_taken_in() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method supervised {TINY} --classes 4 --out run"
    ));
    let info = place.ok("checkpoint info run/backbone.safetensors").stdout;
    let (metadata, tensors) = content(&place.bytes("run/backbone.safetensors"));
    for fact in [
        "resnet18-w8-small",
        "supervised",
        "train.pack",
        &metadata["checksum"],
        &metadata["dataset_sha256"],
    ] {
        assert!(info.contains(fact), "{fact}: {info}");
    }

    // What a torchvision user has: the same names, a classifier, no word of where it comes from.
    let backbone = place.bytes("run/backbone.safetensors");
    let stored = safetensors::SafeTensors::deserialize(&backbone).unwrap();
    let zeros = [0u8; 4 * 64 * 4];
    let mut views: BTreeMap<String, TensorView> = stored.tensors().into_iter().collect();
    views.insert(
        "fc.weight".into(),
        TensorView::new(Dtype::F32, vec![4, 64], &zeros).unwrap(),
    );
    views.insert(
        "fc.bias".into(),
        TensorView::new(Dtype::F32, vec![4], &zeros[..16]).unwrap(),
    );
    serialize_to_file(views.clone(), None, &place.path("foreign.safetensors")).unwrap();
    let done = place.ok("checkpoint import foreign.safetensors --out taken/in.safetensors --image-size 32");
    let matched = format!(
        "resnet18-w8-small: {} tensors matched, none missing",
        tensors.len()
    );
    assert!(
        done.stdout.contains(&matched) && done.stdout.contains("fc (2)"),
        "{}",
        done.stdout
    );
    let (taken, same) = content(&place.bytes("taken/in.safetensors"));
    assert!(same == tensors, "the import changed the tensors");
    assert_eq!(
        (&taken["method"][..], &taken["image_size"][..]),
        ("imported", "32")
    );
    assert!(
        place
            .ok("checkpoint info taken/in.safetensors")
            .stdout
            .contains("imported")
    );

    let mean = |checkpoint: &str| {
        place.ok(&format!(
            "fewshot eval --checkpoint {checkpoint} --data test.pack --episodes-count 5 --out m.json {PLAIN}"
        ));
        place.json("m.json")["fewshot/5way5shot/mean"].clone()
    };
    assert_eq!(mean("taken/in.safetensors"), mean("run/backbone.safetensors"));

    for lost in [
        "layer3.1.bn2.running_mean",
        "layer2.0.conv1.weight",
        "conv1.weight",
    ] {
        let mut partial = views.clone();
        partial.remove(lost);
        serialize_to_file(partial, None, &place.path("partial.safetensors")).unwrap();
        place.fails(
            "checkpoint import partial.safetensors --out partial-in.safetensors",
            &[
                "partial.safetensors",
                &format!("missing {lost}"),
                "--allow-missing",
            ],
        );
        assert!(!place.path("partial-in.safetensors").exists());
    }
}

#[test]
fn data_commands_count_what_they_make() {
    let place = Place::new();
    let few = "--images-per-class 1 --evaluation-images-per-class 2 --scenes 2 --test-scenes 1 --streets 3 \
        --val-streets 2";
    let drawn = place
        .ok(&format!("data synth --out drawn --size 16 {few}"))
        .stdout;
    assert!(
        drawn.contains("leftImg8bit and gtFine: 3 streets to train on, 2 to evaluate with"),
        "{drawn}"
    );
    assert!(
        drawn.contains("train: 50 images of 50 classes") && drawn.contains("test: 40 images of 20 classes"),
        "{drawn}"
    );
    let packed = place
        .ok("data prepare miniimagenet --from drawn --out val.pack --split val --size 16")
        .stdout;
    assert!(
        packed.contains("20 images of 10 classes (val), 16 x 16 pixels"),
        "{packed}"
    );
    let info: Value = serde_json::from_str(&place.ok("data info val.pack --json").stdout).unwrap();
    let facts = json!([
        info["kind"],
        info["checksum_ok"],
        info["splits"][0]["split"],
        info["splits"][0]["images"]
    ]);
    assert_eq!(facts, json!(["pack", true, "val", 20]));
    // The same pictures, the same pack.
    place.ok("data prepare miniimagenet --from drawn --out again.pack --split val --size 16");
    assert!(place.bytes("val.pack") == place.bytes("again.pack"));
}
