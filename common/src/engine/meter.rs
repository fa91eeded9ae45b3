//! Losses and times of a training, as the lines of its log.

use super::task::{Loss, TrainPlan};
use crate::device::{device_name, to_host};
use crate::error::{Error, Result};
use crate::run::RunFolder;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Gathers losses on the device and reads them only when a line is logged or a state saved, so that a GPU
/// never waits.
pub(super) struct Meter<'a> {
    pub run: &'a RunFolder,
    pending: Vec<(u64, u64, Vec<Tensor>)>,
    names: Vec<&'static str>,
    interval: Sums,
    epoch: Sums,
    shown: Option<f64>,
    rate: f64,
    pub last_epoch: [Option<f64>; 2],
    /// Step of the newest state on disk.
    pub kept: Option<u64>,
}

struct Sums {
    sums: Vec<f64>,
    batches: u64,
    /// Batches of an earlier, interrupted attempt, whose time is not known here.
    resumed: u64,
    since: Instant,
    waited: f64,
    exchanged: f64,
}

impl Sums {
    fn new() -> Self {
        Sums {
            sums: Vec::new(),
            batches: 0,
            resumed: 0,
            since: Instant::now(),
            waited: 0.0,
            exchanged: 0.0,
        }
    }

    /// Restores the sums from [`Sums::state`].
    fn resumed(state: &[f64]) -> Self {
        let Some((&batches, sums)) = state.split_first() else {
            return Sums::new();
        };
        Sums {
            sums: sums.to_vec(),
            batches: batches as u64,
            resumed: batches as u64,
            ..Sums::new()
        }
    }

    /// Batches, then the sums; nothing before the first batch.
    fn state(&self) -> Vec<f64> {
        let batches = Some(self.batches as f64).filter(|&batches| batches > 0.0);
        batches
            .into_iter()
            .flat_map(|batches| std::iter::once(batches).chain(self.sums.iter().copied()))
            .collect()
    }

    fn means(&self, names: &[&'static str]) -> Map<String, Value> {
        let mean = |sum: &f64| json!(sum / self.batches.max(1) as f64);
        names
            .iter()
            .zip(&self.sums)
            .map(|(name, sum)| (name.to_string(), mean(sum)))
            .collect()
    }
}

impl<'a> Meter<'a> {
    pub fn new(run: &'a RunFolder) -> Self {
        Meter {
            run,
            pending: Vec::new(),
            names: Vec::new(),
            interval: Sums::new(),
            epoch: Sums::new(),
            shown: None,
            rate: 0.0,
            last_epoch: [None; 2],
            kept: None,
        }
    }

    /// The clock starts with training, not with its preparation.
    pub fn start(&mut self) {
        self.interval.since = Instant::now();
    }

    /// Takes time out of the interval's that was not spent training.
    pub fn pause(&mut self, time: Duration) {
        self.interval.since += time;
    }

    /// The sums that a resumed run needs so that its means equal those of an uninterrupted run; empty ones
    /// are left out.
    pub fn state(&self) -> BTreeMap<String, Vec<f64>> {
        let last_epoch = self.last_epoch.iter().map_while(|mean| *mean).collect();
        let all = [
            ("interval", self.interval.state()),
            ("epoch", self.epoch.state()),
            ("last_epoch", last_epoch),
        ];
        all.into_iter()
            .filter(|(_, sums)| !sums.is_empty())
            .map(|(name, sums)| (name.to_owned(), sums))
            .collect()
    }

    /// Restores the sums from [`Meter::state`]; after an older state without them, means cover only the steps
    /// that follow.
    pub fn load_state(&mut self, saved: &BTreeMap<String, Vec<f64>>) {
        let sums = |name: &str| Sums::resumed(saved.get(name).map_or(&[], Vec::as_slice));
        (self.interval, self.epoch) = (sums("interval"), sums("epoch"));
        let last_epoch = saved.get("last_epoch").map_or(&[][..], Vec::as_slice);
        self.last_epoch = [0, 1].map(|i| last_epoch.get(i).copied());
    }

    pub fn diverged(&self, step: u64, epoch: u64, what: String) -> Error {
        Error::Diverged {
            step,
            epoch,
            what,
            kept: self.kept,
            run: self.run.path().to_owned(),
        }
    }

    pub fn out_of_memory(&self, plan: &TrainPlan, wanted: String) -> Error {
        Error::OutOfMemory {
            device: device_name(plan.device),
            batch_size: plan.batch_size,
            wanted,
            kept: self.kept,
            run: self.run.path().to_owned(),
        }
    }

    pub fn waiting<B>(&mut self, receive: impl FnOnce() -> B) -> B {
        let start = Instant::now();
        let batch = receive();
        self.interval.waited += start.elapsed().as_secs_f64();
        batch
    }

    pub fn exchanging<T>(&mut self, exchange: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let exchanged = exchange();
        self.interval.exchanged += start.elapsed().as_secs_f64();
        exchanged
    }

    pub fn add(&mut self, step: u64, epoch: u64, loss: Loss) {
        self.names = std::iter::once("loss")
            .chain(loss.parts.iter().map(|(name, _)| *name))
            .collect();
        let scalars = std::iter::once(loss.total).chain(loss.parts.into_iter().map(|(_, t)| t));
        let scalars = scalars.map(|t| t.detach().to_kind(Kind::Float)).collect();
        self.pending.push((step, epoch, scalars));
    }

    /// Reads the losses gathered since the last call.
    pub fn check(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let scalars: Vec<&Tensor> = pending.iter().flat_map(|(_, _, scalars)| scalars).collect();
        let all: Vec<f64> = to_host(&Tensor::stack(&scalars, 0).to_kind(Kind::Double))?;
        let width = pending.iter().map(|(_, _, scalars)| scalars.len()).max();
        let mut rest = &all[..];
        for (step, epoch, scalars) in pending {
            let (values, others) = rest.split_at(scalars.len());
            rest = others;
            if !values[0].is_finite() {
                return Err(self.diverged(step, epoch, format!("the loss became {}", values[0])));
            }
            for sums in [&mut self.interval, &mut self.epoch] {
                sums.sums.resize(width.unwrap_or_default(), 0.0);
                sums.sums
                    .iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += value);
                sums.batches += 1;
            }
        }
        Ok(())
    }

    pub fn interval(&mut self, step: u64, epoch: u64, lr: f64, plan: &TrainPlan) -> Result<Value> {
        self.check()?;
        let seconds = self.interval.since.elapsed().as_secs_f64();
        let mut line = self.interval.means(&self.names);
        self.shown = line.get("loss").and_then(Value::as_f64);
        self.rate = ((self.interval.batches - self.interval.resumed) * plan.batch_size) as f64 / seconds;
        line.insert("kind".into(), json!("step"));
        line.insert("step".into(), json!(step));
        line.insert(
            "steps".into(),
            json!(plan.epochs * (plan.batches_per_epoch / plan.accumulate)),
        );
        line.insert("epoch".into(), json!(epoch));
        line.insert("lr".into(), json!(lr));
        line.insert("images_per_second".into(), json!(self.rate));
        line.insert("data_wait_share".into(), json!(self.interval.waited / seconds));
        if !plan.group.is_alone() {
            line.insert("exchange_share".into(), json!(self.interval.exchanged / seconds));
        }
        if let Device::Cuda(index) = plan.device {
            line.insert(
                "cuda_peak_bytes".into(),
                json!(crate::native::cuda_memory(index)?.peak),
            );
        }
        self.interval = Sums::new();
        Ok(Value::Object(line))
    }

    pub fn epoch(&mut self, step: u64, epoch: u64, seconds: f64, measures: &[(&str, f64)]) -> Value {
        let mut line = self.epoch.means(&self.names);
        self.last_epoch = [
            line.get("loss").and_then(Value::as_f64),
            line.get("accuracy").and_then(Value::as_f64),
        ];
        line.insert("kind".into(), json!("epoch"));
        line.insert("step".into(), json!(step));
        line.insert("epoch".into(), json!(epoch));
        line.insert("seconds".into(), json!(seconds));
        line.extend(
            measures
                .iter()
                .map(|(name, value)| (name.to_string(), json!(value))),
        );
        self.epoch = Sums::new();
        Value::Object(line)
    }

    pub fn detail(&self, epoch: u64, epochs: u64) -> String {
        match self.shown {
            Some(loss) => format!(
                "epoch {}/{epochs} · loss {loss:.3} · {:.0} images/s",
                epoch + 1,
                self.rate
            ),
            None => format!("epoch {}/{epochs}", epoch + 1),
        }
    }
}

/// The log's line of measures on validation data.
pub(super) fn validation(step: u64, epoch: u64, measures: &BTreeMap<String, f64>) -> Value {
    let mut line: Map<String, Value> = measures
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    line.insert("kind".into(), json!("validation"));
    line.insert("step".into(), json!(step));
    line.insert("epoch".into(), json!(epoch));
    Value::Object(line)
}
