//! A suite that nobody ran, laid out as `camtrast suite run` does.

use camtrast_common::tensor_file::hex;
use camtrast_images::picture::Canvas;
use camtrast_report::record::{
    self, CELL, CellRecord, Choice, Column, EPISODES, PRETRAIN, RunRecord, SUITE, State, Suite, Sweep,
    cell_folder,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Name of a run that no format may take for its own markup.
pub const ODD_NAME: &str = "a<b & \"c\" | $d_e";

/// Checksum of a file's bytes.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A suite of few-shot accuracies, an AP and an entropy.
pub struct MadeUp {
    pub root: PathBuf,
    pub suite: Suite,
}

impl MadeUp {
    /// Without runs.
    pub fn new(root: &Path, seeds: &[u64]) -> Self {
        let column = |title: &str, task: &str, metric: &str, ci95: Option<&str>, percent| Column {
            title: title.into(),
            task: task.into(),
            metric: metric.into(),
            ci95: ci95.map(str::to_owned),
            percent,
            headline: percent,
            validation: false,
        };
        let columns = vec![
            column(
                "1-shot",
                "fewshot",
                "fewshot/5way1shot/mean",
                Some("fewshot/5way1shot/ci95"),
                true,
            ),
            column("AP50", "detection", "detection/AP50", None, true),
            column("H_R", "representation", "representation/entropy", None, false),
        ];
        let suite = Suite {
            title: "Made up".into(),
            about: "Nobody ran this.".into(),
            published_protocol: "200 epochs there, none here.".into(),
            command: "camtrast suite run made-up.toml --out made-up".into(),
            seeds: seeds.to_vec(),
            columns,
            x_axis: "classes".into(),
            ..Suite::default()
        };
        MadeUp {
            root: root.to_owned(),
            suite,
        }
    }

    /// Adds a row.
    pub fn run(&mut self, name: &str, method: Option<&str>) -> &mut RunRecord {
        let slug = format!("run{}", self.suite.runs.len());
        self.suite.runs.push(RunRecord {
            name: name.into(),
            slug,
            method: method.map(str::to_owned),
            ..RunRecord::default()
        });
        self.suite.runs.last_mut().unwrap()
    }

    /// Folder of a cell.
    pub fn folder(&self, run: &str, seed: u64, task: &str) -> PathBuf {
        let run = self.suite.runs.iter().find(|r| r.name == run).unwrap();
        cell_folder(&self.root, &run.slug, seed, task)
    }

    /// A finished cell whose numbers were measured with `steps`.
    pub fn done(&self, run: &str, seed: u64, task: &str, steps: u32, metrics: &[(&str, f64)]) {
        let folder = self.folder(run, seed, task);
        fs::create_dir_all(&folder).unwrap();
        let object: serde_json::Map<_, _> = metrics
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value)))
            .collect();
        let bytes = serde_json::to_vec(&object).unwrap();
        fs::write(folder.join("metrics.json"), &bytes).unwrap();
        fs::write(
            folder.join("config.toml"),
            format!("steps = {steps}\n# </pre><script>alert(1)</script>\n"),
        )
        .unwrap();
        self.cell(run, seed, task, |cell| {
            cell.state = State::Done;
            cell.protocol = format!("{task} {steps}");
            cell.protocol_settings = vec![format!("steps = {steps}"), "shared = yes".into()];
            cell.checkpoint_sha256 = format!("{run} {seed}");
            cell.metrics_sha256 = sha256(&bytes);
            cell.seconds = 61.0;
        });
    }

    /// Writes the record of a cell.
    pub fn cell(&self, run: &str, seed: u64, task: &str, change: impl FnOnce(&mut CellRecord)) {
        let mut cell = CellRecord {
            run: run.into(),
            seed,
            task: task.into(),
            command: format!("camtrast {task}"),
            ..CellRecord::default()
        };
        change(&mut cell);
        record::write(&self.folder(run, seed, task).join(CELL), &cell).unwrap();
    }

    /// All cells of a row and seed: an accuracy, an AP50, an entropy.
    pub fn all_done(&self, run: &str, seed: u64, accuracy: f64, ap50: f64) {
        self.done(run, seed, PRETRAIN, 10, &[("pretrain/loss", 1.0)]);
        self.done(
            run,
            seed,
            "fewshot",
            600,
            &[
                ("fewshot/5way1shot/mean", accuracy),
                ("fewshot/5way1shot/ci95", 0.01),
            ],
        );
        self.done(run, seed, "detection", 100, &[("detection/AP50", ap50)]);
        self.done(run, seed, "representation", 1, &[("representation/entropy", 2.5)]);
    }

    #[allow(dead_code)]
    /// Accuracies of episodes around a mean, alike for all runs; `sum` tells which episodes they are of.
    pub fn episodes(&self, run: &str, seed: u64, mean: f64, sum: &str) {
        let wave = |i: u32| mean + 0.1 * f64::from(i % 7) - 0.3 + mean * 0.001 * f64::from(i % 3);
        let episodes = json!({"fewshot/5way1shot": (0..50).map(wave).collect::<Vec<_>>()});
        let folder = self.folder(run, seed, "fewshot");
        fs::write(folder.join(EPISODES), episodes.to_string()).unwrap();
        let config = folder.join("config.toml");
        let text = fs::read_to_string(&config).unwrap() + &format!("\n[episodes]\n5way1shot = \"{sum}\"\n");
        fs::write(config, text).unwrap();
    }

    /// A training log.
    pub fn log(&self, run: &str, seed: u64, task: &str, steps: u32) {
        let folder = self.folder(run, seed, task);
        fs::create_dir_all(&folder).unwrap();
        let line = |step: u32| {
            let loss = 4.0 / f64::from(step).sqrt();
            json!({"kind": "step", "step": step, "loss": loss, "images_per_second": 50.0}).to_string()
        };
        fs::write(
            folder.join("log.jsonl"),
            (1..=steps).map(|step| line(step) + "\n").collect::<String>(),
        )
        .unwrap();
    }

    /// A picture.
    pub fn picture(&self, run: &str, seed: u64, task: &str, name: &str) {
        let mut canvas = Canvas::new(320, 240).unwrap();
        canvas.fill([40, 40, 200, 160], [200, 80, 40]).unwrap();
        canvas.write(&self.folder(run, seed, task).join(name)).unwrap();
    }

    /// Writes suite.json.
    pub fn save(&self) {
        record::write(&self.root.join(SUITE), &self.suite).unwrap();
    }

    /// A detector whose learning rate was swept: two runs, two seeds, one training that diverged.
    #[allow(dead_code)]
    pub fn swept(root: &Path) -> Self {
        let mut made = MadeUp::new(root, &[0, 1]);
        made.add_sweep();
        for (i, name) in ["supervised", "moco"].into_iter().enumerate() {
            made.run(name, Some(name));
            for seed in 0..2 {
                made.all_done(name, seed, 0.4 + 0.1 * i as f64, 0.5);
                made.measure_sweep(name, seed, 0.3 + 0.1 * i as f64);
            }
        }
        made.save();
        made
    }

    /// Adds the sweep to the suite.
    pub fn add_sweep(&mut self) {
        let values = ["0.01", "0.02", "0.05"].map(String::from).to_vec();
        let tasks: Vec<String> = values
            .iter()
            .map(|value| format!("detection-lr-{value}"))
            .collect();
        let ap50 = self.suite.columns[1].clone();
        for (value, task) in values.iter().zip(&tasks) {
            self.suite.columns.push(Column {
                title: format!("AP50, validation at lr {value}"),
                task: task.clone(),
                headline: false,
                validation: true,
                ..ap50.clone()
            });
        }
        self.suite.columns.insert(
            2,
            Column {
                title: "AP50, shared lr".into(),
                task: "detection-shared".into(),
                ..ap50.clone()
            },
        );
        self.suite.sweeps.push(Sweep {
            task: "detection".into(),
            shared_task: "detection-shared".into(),
            flag: "lr".into(),
            values,
            tasks,
            metric: ap50.metric,
            title: ap50.title,
            validation: "trained on 2007:train, validated on 2007:val".into(),
        });
    }

    /// The sweep's cells of a run and seed; seed 1 is the best at the end of the grid, where seed 0 diverges.
    pub fn measure_sweep(&self, run: &str, seed: u64, ap50: f64) {
        let scores = [Some(ap50), Some(ap50 + 0.1), (seed == 1).then_some(ap50 + 0.2)];
        let values = ["0.01", "0.02", "0.05"].map(String::from);
        for (value, score) in values.iter().zip(scores) {
            let task = format!("detection-lr-{value}");
            match score {
                Some(score) => self.done(run, seed, &task, 90, &[("detection/AP50", score)]),
                None => self.cell(run, seed, &task, |cell| {
                    let error = "the loss became NaN at step 3 (epoch 0): lower --lr, lengthen the warm-up \
                                 or use --precision fp32";
                    (cell.state, cell.error) = (State::Failed, Some(error.into()));
                }),
            }
        }
        let scores: Vec<(String, Option<f64>)> = values.into_iter().zip(scores).collect();
        let choice = |shared, value: &str| Choice {
            flag: "lr".into(),
            value: value.into(),
            shared,
            scores: scores.clone(),
        };
        self.done(
            run,
            seed,
            "detection-shared",
            100,
            &[("detection/AP50", ap50 + 0.15)],
        );
        let own = choice(false, if seed == 1 { "0.05" } else { "0.02" });
        for (task, choice) in [("detection", own), ("detection-shared", choice(true, "0.02"))] {
            let path = self.folder(run, seed, task).join(CELL);
            let mut cell: CellRecord = record::read(&path).unwrap().unwrap();
            cell.choice = Some(choice);
            record::write(&path, &cell).unwrap();
        }
    }

    /// One of everything: two seeds, pictures, curves, a series, an import, an odd name, another protocol,
    /// and every kind of gap.
    #[allow(dead_code)]
    pub fn of_everything(root: &Path) -> Self {
        let mut made = MadeUp::new(root, &[0, 1]);
        made.add_sweep();
        for (i, name) in ["scratch", "supervised", "moco", "camtrast-moco", ODD_NAME]
            .into_iter()
            .enumerate()
        {
            let run = made.run(name, Some(name).filter(|name| *name != ODD_NAME));
            if i < 4 {
                (run.series, run.x) = (Some(["low", "high"][i % 2].into()), Some([8.0, 64.0][i / 2]));
            }
            run.published.insert("1-shot".into(), 55.31);
            run.own_settings.insert(
                PRETRAIN.into(),
                if i == 2 { vec!["lr = 0.06".into()] } else { vec![] },
            );
            for seed in 0..2 {
                let number = 0.3 + 0.04 * i as f64 + 0.01 * seed as f64 * i as f64;
                made.all_done(name, seed, number, 2.0 * number);
                let entropy = [2.0, 2.6, 2.4, 3.1, 3.0][i] + 0.1 * seed as f64;
                made.done(
                    name,
                    seed,
                    "representation",
                    1,
                    &[("representation/entropy", entropy)],
                );
                made.measure_sweep(name, seed, 1.8 * number);
                made.log(name, seed, PRETRAIN, 700);
                made.log(name, seed, "detection", 30);
                for picture in [
                    "cam/cam.png",
                    "detection/curves/pr_curves.png",
                    "detection/pictures/000001.png",
                    "detection/pictures/000002.png",
                ] {
                    made.picture(name, seed, PRETRAIN, picture);
                }
            }
        }
        made.done("scratch", 0, "detection", 900, &[("detection/AP50", 0.9)]);
        made.done("scratch", 1, "detection", 900, &[("detection/AP50", 0.91)]);
        made.run("torchvision", None).imported = Some("resnet18.pth".into());
        made.done(
            "torchvision",
            0,
            "fewshot",
            600,
            &[("fewshot/5way1shot/mean", 0.4)],
        );
        made.cell("torchvision", 1, "fewshot", |cell| {
            (cell.state, cell.error) = (State::Failed, Some("the disk is full".into()))
        });
        made.run("cut off", Some("simsiam"));
        made.log("cut off", 0, PRETRAIN, 12);
        fs::write(
            made.folder(ODD_NAME, 1, "detection").join("metrics.json"),
            "{\"detection/AP50\": 1.0}",
        )
        .unwrap();
        made.save();
        made
    }
}
