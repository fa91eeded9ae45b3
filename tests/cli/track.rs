//! `camtrast track` and `--track`, against the layout of MLflow's files and a server of a few lines that
//! answers as MLflow's does. `python/tests/test_mlflow.py` asks the real one.

use crate::world::{Place, TINY, list};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

fn supervised(out: &str) -> String {
    format!("pretrain --method supervised {TINY} --log-every 5 --out {out}")
}

/// The only run in a file store.
fn stored(place: &Place, store: &str) -> PathBuf {
    let [experiment] = &list(&place.path(store))[..] else {
        panic!("several experiments")
    };
    let runs = list(&place.path(&format!("{store}/{experiment}")));
    let [run, _meta] = &runs[..] else {
        panic!("{runs:?}")
    };
    place.path(&format!("{store}/{experiment}/{run}"))
}

#[test]
fn a_run_is_tracked_while_it_is_made_and_afterwards_alike() {
    let place = Place::new();
    place.ok(&format!("{} --track mlflow:live", supervised("run")));
    place.ok("track run --to mlflow:after");
    let (live, after) = (stored(&place, "live"), stored(&place, "after"));
    assert_eq!(live.file_name(), after.file_name(), "one folder is one run");
    for folder in ["params", "tags", "metrics/step", "metrics/epoch", "metrics"] {
        assert_eq!(list(&live.join(folder)), list(&after.join(folder)), "{folder}");
    }
    let text = |file: &str| std::fs::read_to_string(after.join(file)).unwrap();
    assert_eq!(text("params/method"), "supervised");
    assert_eq!(text("params/dataset.fit"), "32x32");
    assert_eq!(text("tags/mlflow.runName"), "run");
    assert!(text("meta.yaml").contains("\nstatus: 3\n"));
    let logged: Vec<(f64, u64)> = place
        .log("run", "step")
        .iter()
        .map(|line| (line["loss"].as_f64().unwrap(), line["step"].as_u64().unwrap()))
        .collect();
    let written: Vec<(f64, u64)> = text("metrics/step/loss")
        .lines()
        .map(|line| {
            let parts: Vec<&str> = line.split(' ').collect();
            (parts[1].parse().unwrap(), parts[2].parse().unwrap())
        })
        .collect();
    assert!(logged.len() == 10 && logged == written, "{logged:?} {written:?}");
    // Again: replaced, not added to.
    place.ok("track run --to mlflow:after");
    assert_eq!(text("metrics/step/loss").lines().count(), 10);
}

#[test]
fn evaluations_have_their_final_numbers() {
    let place = Place::new();
    place.ok(&supervised("run"));
    let eval = "fewshot eval --checkpoint run/backbone.safetensors --data test.pack --episodes-count 20";
    place.ok(&format!("{eval} --device cpu --out probe"));
    place.ok("track run probe --to csv:tables");
    let files = list(&place.path("tables"));
    assert_eq!(files.len(), 4, "{files:?}");
    let table = files
        .iter()
        .find(|name| name.starts_with("probe-") && name.ends_with(".csv"))
        .unwrap();
    let table = place.text(&format!("tables/{table}"));
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    let column = lines[0]
        .iter()
        .position(|name| *name == "fewshot/5way1shot/mean")
        .unwrap();
    let mean = place.json("probe/metrics.json")["fewshot/5way1shot/mean"].as_f64();
    assert_eq!(lines[1][column].parse().ok(), mean);
    let table = files
        .iter()
        .find(|name| name.starts_with("run-") && name.ends_with(".csv"))
        .unwrap();
    assert_eq!(place.text(&format!("tables/{table}")).lines().count(), 1 + 10);
    let settings = files
        .iter()
        .find(|name| name.starts_with("run-") && name.ends_with(".json"))
        .unwrap();
    assert_eq!(
        place.json(&format!("tables/{settings}"))["arch"],
        "resnet18-w8-small"
    );
}

/// Requests so far, and the tags and numbers of the one run.
#[derive(Default)]
struct Known {
    asked: Vec<String>,
    tags: BTreeMap<String, String>,
    numbers: Vec<Value>,
    settings: BTreeMap<String, String>,
    status: String,
}

/// An MLflow server with one experiment and one run.
fn server() -> (String, Arc<Mutex<Known>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let known = Arc::new(Mutex::new(Known::default()));
    let shared = known.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let shared = shared.clone();
            thread::spawn(move || serve(stream.unwrap(), &shared));
        }
    });
    (url, known)
}

fn serve(stream: TcpStream, known: &Mutex<Known>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        for line in reader
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .take_while(|l| !l.is_empty())
        {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let what = first
            .split(' ')
            .nth(1)
            .unwrap()
            .trim_start_matches("/api/2.0/mlflow/")
            .to_owned();
        let (status, answer) = known
            .lock()
            .unwrap()
            .answer(&what, &serde_json::from_slice(&body).unwrap());
        let text = answer.to_string();
        write!(
            &stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
        .unwrap();
    }
}

impl Known {
    fn answer(&mut self, what: &str, body: &Value) -> (&'static str, Value) {
        self.asked.push(what.to_owned());
        let texts = |list: &Value| -> BTreeMap<String, String> {
            let pairs = list.as_array().into_iter().flatten();
            let text = |pair: &Value, part: &str| pair[part].as_str().unwrap().to_owned();
            pairs
                .map(|pair| (text(pair, "key"), text(pair, "value")))
                .collect()
        };
        let answer = match what {
            "experiments/search" if self.asked.len() == 1 => json!({}),
            "experiments/search" => json!({"experiments": [{"experiment_id": "7"}]}),
            "experiments/create" => json!({"experiment_id": "7"}),
            "runs/search" if self.tags.is_empty() => json!({}),
            "runs/search" => {
                assert!(
                    body["filter"]
                        .as_str()
                        .unwrap()
                        .contains(&self.tags["camtrast.run"])
                );
                let pairs = self
                    .tags
                    .iter()
                    .map(|(key, value)| json!({"key": key, "value": value}));
                let tags: Vec<Value> = pairs.collect();
                json!({"runs": [{"info": {"run_id": "r"}, "data": {"tags": tags}}]})
            }
            "runs/create" => {
                self.tags = texts(&body["tags"]);
                json!({"run": {"info": {"run_id": "r"}}})
            }
            "runs/log-batch" => {
                self.tags.extend(texts(&body["tags"]));
                self.settings.extend(texts(&body["params"]));
                let numbers = body["metrics"].as_array().cloned().unwrap_or_default();
                assert!(numbers.len() <= 1000 && body["params"].as_array().is_none_or(|p| p.len() <= 100));
                self.numbers.extend(numbers);
                json!({})
            }
            "runs/update" => {
                self.status = body["status"].as_str().unwrap().to_owned();
                json!({})
            }
            _ => return ("404 Not Found", json!({"message": format!("no {what}")})),
        };
        ("200 OK", answer)
    }
}

#[test]
fn a_server_is_sent_every_number_once() {
    let place = Place::new();
    let (url, known) = server();
    // Interrupted in the middle, tracked, continued by the same command.
    let training = supervised("run").replace("--epochs 2", "--epochs 6");
    let line = place.path("run/log.jsonl");
    let begun = || std::fs::read_to_string(&line).is_ok_and(|text| text.lines().count() > 5);
    let done = place.signalled(&format!("{training} --track mlflow:{url}"), 2, begun);
    assert!(done.stderr.contains("interrupted"), "{}", done.stderr);
    let before = known.lock().unwrap().numbers.len();
    assert!(before > 0 && known.lock().unwrap().status == "RUNNING");
    place.ok(&format!("{training} --track mlflow:{url}/"));
    place.ok(&format!("track run --to mlflow:{url}"));

    let known = known.lock().unwrap();
    assert_eq!(known.status, "FINISHED");
    assert_eq!(known.settings["method"], "supervised");
    let losses: Vec<(u64, f64)> = known
        .numbers
        .iter()
        .filter(|number| number["key"] == "step/loss")
        .map(|number| {
            (
                number["step"].as_u64().unwrap(),
                number["value"].as_f64().unwrap(),
            )
        })
        .collect();
    let logged: Vec<(u64, f64)> = place
        .log("run", "step")
        .iter()
        .map(|line| (line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap()))
        .collect();
    assert_eq!(losses, logged);
    assert_eq!(
        known.asked.iter().filter(|what| *what == "runs/create").count(),
        1
    );
}

#[test]
fn targets_that_do_not_work_stop_no_training() {
    let place = Place::new();
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let done = place.ok(&format!("{} --track mlflow:http://{closed}", supervised("run")));
    let warnings = done
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning: the run is not tracked: "));
    assert_eq!(warnings.count(), 1, "{}", done.stderr);
    assert!(place.path("run/backbone.safetensors").exists());
    place.fails(
        &format!("track run --to mlflow:http://{closed}"),
        &["experiments/search", "check the address"],
    );
    let (url, _) = server();
    place.fails(
        &format!("track run --to mlflow:{url}/elsewhere"),
        &["no /elsewhere/api/2.0/mlflow"],
    );
    place.fails("track world --to csv:tables", &["world: has no config.toml"]);
    place.misused("track run --to wandb:x", &["mlflow:DIR", "csv:DIR"]);
    place.misused("track --to csv:x", &["RUN"]);
}

/// Tag, width, height and the beginning of the file of every picture in a file of events.
#[test]
fn pictures_of_fine_tuning_are_shown_by_tensorboard() {
    let place = Place::new();
    place.ok(&format!("pretrain --method scratch {TINY} --out run").replace("--epochs 2", ""));
    place.ok(
        "segmentation train --checkpoint run/backbone.safetensors --cityscapes world --steps 2 \
         --batch-size 2 --crop 32x32 --head-channels 8 --pictures 2 --device cpu --threads 1 --out masks",
    );
    let files = list(&place.path("masks"));
    let events = files
        .iter()
        .find(|name| name.ends_with(".camtrast.pictures"))
        .unwrap();
    let bytes = place.bytes(&format!("masks/{events}"));
    let pictures = list(&place.path("masks/pictures"));
    assert_eq!(pictures.len(), 2);
    for name in pictures {
        let tag = format!("pictures/{}", name.rsplit_once('.').unwrap().0);
        let file = place.bytes(&format!("masks/pictures/{name}"));
        let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(contains(tag.as_bytes()) && contains(&file), "{tag}");
    }
}
