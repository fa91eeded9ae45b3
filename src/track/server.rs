//! An MLflow server, by its REST interface (`/api/2.0/mlflow/...`).

use super::files::allowed;
use super::record::Record;
use super::refused;
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Duration;
use ureq::Agent;

/// The most numbers and settings that one request may have.
const NUMBERS: usize = 1000;
const SETTINGS: usize = 100;
/// The tag that counts the numbers that the server has.
const SENT: &str = "camtrast.numbers";

struct Server<'a> {
    url: &'a str,
    agent: Agent,
}

/// Sends what the server does not have of the run.
pub fn send(record: &Record, url: &str) -> Result<()> {
    let config = Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(30)))
        .http_status_as_error(false);
    let server = Server {
        url,
        agent: config.build().new_agent(),
    };
    let experiment = server.experiment("camtrast")?;
    let (run, sent) = server.run(record, &experiment)?;

    for part in record.settings.chunks(SETTINGS) {
        // Settings never change, so the server accepts them again.
        let params: Vec<Value> = part
            .iter()
            .map(|(key, value)| json!({"key": allowed(key), "value": value}))
            .collect();
        server.ask("runs/log-batch", json!({"run_id": run, "params": params}))?;
    }
    let numbers = record.numbers.get(sent..).unwrap_or_default();
    let mut count = sent;
    for part in numbers.chunks(NUMBERS) {
        let metrics: Vec<Value> = part
            .iter()
            .filter(|number| number.value.is_finite())
            .map(|number| {
                let (key, time) = (allowed(&number.name), record.changed);
                json!({"key": key, "value": number.value, "timestamp": time, "step": number.step})
            })
            .collect();
        count += part.len();
        let tags = json!([{"key": SENT, "value": count.to_string()}]);
        server.ask(
            "runs/log-batch",
            json!({"run_id": run, "metrics": metrics, "tags": tags}),
        )?;
    }
    let status = match record.ended {
        true => json!({"run_id": run, "status": "FINISHED", "end_time": record.changed}),
        false => json!({"run_id": run, "status": "RUNNING"}),
    };
    server.ask("runs/update", status)?;
    Ok(())
}

impl Server<'_> {
    /// Number of the experiment, which is made if need be.
    fn experiment(&self, name: &str) -> Result<String> {
        let filter = format!("name = '{name}'");
        let found = self.ask("experiments/search", json!({"filter": filter, "max_results": 1}))?;
        let known = found["experiments"][0]["experiment_id"]
            .as_str()
            .map(str::to_owned);
        match known {
            Some(id) => Ok(id),
            None => {
                let made = self.ask("experiments/create", json!({"name": name}))?;
                Ok(made["experiment_id"].as_str().unwrap_or_default().to_owned())
            }
        }
    }

    /// The server's number of the run, which is made if need be, and how many numbers it has.
    fn run(&self, record: &Record, experiment: &str) -> Result<(String, usize)> {
        let filter = format!("tags.`camtrast.run` = '{}'", record.id);
        let wanted = json!({"experiment_ids": [experiment], "filter": filter, "max_results": 1});
        let found = self.ask("runs/search", wanted)?;
        if let Some(run) = found["runs"].get(0) {
            let tags = run["data"]["tags"].as_array().into_iter().flatten();
            let sent = tags
                .filter(|tag| tag["key"] == SENT)
                .find_map(|tag| tag["value"].as_str()?.parse().ok());
            let id = run["info"]["run_id"].as_str().unwrap_or_default().to_owned();
            return Ok((id, sent.unwrap_or(0)));
        }
        let tag = |key: &str, value: &str| json!({"key": key, "value": value});
        let tags = [
            tag("camtrast.run", &record.id),
            tag("camtrast.folder", &record.folder.to_string_lossy()),
            tag("mlflow.source.name", "camtrast"),
            tag("mlflow.source.type", "LOCAL"),
        ];
        let run = json!({
            "experiment_id": experiment, "run_name": record.name, "start_time": record.begun, "tags": tags,
        });
        let made = self.ask("runs/create", run)?;
        Ok((
            made["run"]["info"]["run_id"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            0,
        ))
    }

    fn ask(&self, what: &str, body: Value) -> Result<Value> {
        let url = format!("{}/api/2.0/mlflow/{what}", self.url);
        let failed = |reason: String| {
            refused(
                format!("{url}: {reason}"),
                "check the address of the MLflow server",
            )
        };
        let post = self.agent.post(&url).header("Content-Type", "application/json");
        let mut response = post.send(body.to_string()).map_err(|e| failed(e.to_string()))?;
        let text = response
            .body_mut()
            .read_to_string()
            .map_err(|e| failed(e.to_string()))?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if !response.status().is_success() {
            let reason = answer["message"]
                .as_str()
                .unwrap_or(response.status().as_str())
                .to_owned();
            return Err(failed(reason).into());
        }
        Ok(answer)
    }
}
