//! The one training loop, for pretraining, detection and segmentation.
//!
//! Every step runs the same fixed sequence: learning rate, batch, forward and loss, backward, optimiser,
//! `after_step`, log (with the epoch's measures), checkpoint. There are no hooks. Batches are prepared by
//! one loader thread, which must not use libtorch's random generators: those belong to the training thread,
//! which seeds them at every step.

use crate::error::{Error, Result};
use crate::log::Log;
use crate::optim::{Optimizer, copy_into};
use crate::progress::Progress;
use crate::random::torch_seed;
use crate::run::{Position, RunFolder};
use crate::schedule::Schedule;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// The position in a training; all randomness is derived from it.
#[derive(Debug, Clone, Copy)]
pub struct StepContext {
    /// The run's seed.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Optimiser step over the whole run, from 0.
    pub step: u64,
    /// Batch within the epoch, from 0. With gradient accumulation several batches make a step.
    pub batch: u64,
    /// Optimiser steps in the whole run.
    pub total_steps: u64,
}

/// The loss of one batch.
pub struct Loss {
    /// What is minimised: a scalar with gradient.
    pub total: Tensor,
    /// Scalars worth logging.
    pub parts: Vec<(&'static str, Tensor)>,
}

/// Prepares batches, on the loader thread.
pub trait Source: Send {
    /// What a step trains on.
    type Batch: Send;
    /// The batch of this index in this epoch. Must depend only on its arguments.
    ///
    /// # Errors
    /// Any error stops the run.
    fn batch(&mut self, epoch: u64, index: u64) -> Result<Self::Batch>;
}

/// What is trained.
pub trait Task {
    /// What a step trains on.
    type Batch: Send;
    /// Forward pass and loss of one batch, in whatever precision the task runs its network.
    ///
    /// # Errors
    /// Any error stops the run.
    fn forward(&mut self, batch: Self::Batch, at: &StepContext) -> Result<Loss>;
    /// Runs after the optimiser's step, such as the update of a momentum encoder.
    ///
    /// # Errors
    /// Any error stops the run.
    fn after_step(&mut self, at: &StepContext) -> Result<()>;
    /// Measures to log at the end of an epoch (from 0), by name; must not change any state.
    ///
    /// # Errors
    /// Any error stops the run.
    fn epoch_measures(&mut self, _epoch: u64) -> Result<Vec<(&'static str, f64)>> {
        Ok(Vec::new())
    }
    /// All tensors that training changes, by name; states are saved from them and restored into them.
    fn state(&self) -> BTreeMap<String, Tensor>;
    /// Writes the result of the run (a backbone, for example) after `step` steps.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn export(&self, run: &RunFolder, epoch: u64, step: u64) -> Result<()>;
}

/// How to train.
pub struct TrainPlan {
    /// The run's seed.
    pub seed: u64,
    /// Where tensors live.
    pub device: Device,
    /// Epochs in all.
    pub epochs: u64,
    /// Batches per epoch; a multiple of `accumulate`.
    pub batches_per_epoch: u64,
    /// Batches whose gradients make one step.
    pub accumulate: u64,
    /// Images in a batch, for the throughput.
    pub batch_size: u64,
    /// Joint gradient norm above which gradients are scaled down.
    pub clip_norm: Option<f64>,
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between saved states; one is also saved every few minutes and at the end.
    pub save_every: Option<u64>,
}

/// How training ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Optimiser steps done in all.
    pub step: u64,
    /// Seconds of training in all, over all resumptions.
    pub seconds: f64,
    /// Whether `stop` ended it early; the state is saved.
    pub interrupted: bool,
    /// Whether an earlier call had done all steps already.
    pub was_done: bool,
    /// Means over the last epoch of the loss and, where it is among the loss's parts, the accuracy.
    pub last_epoch: [Option<f64>; 2],
}

const SAVE_SECONDS: f64 = 120.0;
const BATCHES_AHEAD: usize = 3;

/// Trains from the saved state in the run folder, if any, to the end, or until `stop` is set.
///
/// # Errors
/// [`Error::Diverged`] when the loss or what would be saved is not finite, the last good state is kept;
/// otherwise the errors of the task, the source and the disk.
#[expect(clippy::too_many_arguments)]
pub fn train<T: Task>(
    task: &mut T,
    source: impl Source<Batch = T::Batch>,
    optimizer: &mut Optimizer,
    schedule: &Schedule,
    plan: &TrainPlan,
    run: &RunFolder,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let steps_per_epoch = plan.batches_per_epoch / plan.accumulate;
    let total = plan.epochs * steps_per_epoch;
    let (mut position, mut meter) = resume(task, optimizer, run, progress)?;
    if position.step >= total {
        // Nothing to train, or interrupted between the last state and the result.
        if !run.file("log.jsonl").exists() {
            save(task, optimizer, &mut meter, position, steps_per_epoch)?;
            Log::open(run, position.step)?;
        }
        task.export(run, plan.epochs, position.step)?;
        let Position { step, seconds } = position;
        return Ok(Outcome {
            step,
            seconds,
            interrupted: false,
            was_done: true,
            last_epoch: meter.last_epoch,
        });
    }
    let first = position.step;
    let seconds_before = position.seconds;
    let mut log = Log::open(run, first)?;
    let clock = Instant::now();
    progress.start("training", total, first);

    let outcome = std::thread::scope(|scope| {
        let (sender, batches) = sync_channel(BATCHES_AHEAD);
        let batches_per_epoch = plan.batches_per_epoch;
        let range = first * plan.accumulate..total * plan.accumulate;
        let loader = std::thread::Builder::new();
        let load = move || {
            let mut source = source;
            for n in range {
                let batch = source.batch(n / batches_per_epoch, n % batches_per_epoch);
                let failed = batch.is_err();
                // The receiver is gone when training ends early.
                if sender.send(batch).is_err() || failed {
                    break;
                }
            }
        };
        loader.spawn_scoped(scope, load).map_err(Error::thread)?;

        meter.start();
        let mut last_save = Instant::now();
        while position.step < total && !stop.load(Ordering::Relaxed) {
            let step = position.step;
            let epoch = step / steps_per_epoch;
            let lr = schedule.lr(step);
            optimizer.zero_grad();
            for micro in 0..plan.accumulate {
                let index = (step % steps_per_epoch) * plan.accumulate + micro;
                let at = StepContext {
                    seed: plan.seed,
                    epoch,
                    step,
                    batch: index,
                    total_steps: total,
                };
                let batch = meter.waiting(|| receive(&batches))?;
                tch::manual_seed(torch_seed(plan.seed, "step", epoch, index));
                let loss = task.forward(batch, &at)?;
                (&loss.total / plan.accumulate as f64).backward();
                meter.add(step, epoch, loss);
            }
            // Data-parallel training would average the gradients over processes here, and only here.
            if let Some(norm) = plan.clip_norm {
                optimizer.clip_gradients(norm);
            }
            optimizer.step(schedule.base_lr, lr)?;
            task.after_step(&StepContext {
                seed: plan.seed,
                epoch,
                step,
                batch: 0,
                total_steps: total,
            })?;

            position.step += 1;
            position.seconds = seconds_before + clock.elapsed().as_secs_f64();
            let (done, epoch_ends) = (position.step, position.step % steps_per_epoch == 0);
            if done % plan.log_every == 0 || epoch_ends {
                log.write(&meter.interval(done, epoch, lr, plan)?)?;
                if epoch_ends {
                    let measures = task.epoch_measures(epoch)?;
                    log.write(&meter.epoch(done, epoch, position.seconds, &measures))?;
                }
            }
            progress.advance(1, &meter.detail(epoch, plan.epochs));
            let asked = plan.save_every.is_some_and(|every| done % every == 0);
            if done == total || asked || last_save.elapsed().as_secs_f64() > SAVE_SECONDS {
                save(task, optimizer, &mut meter, position, steps_per_epoch)?;
                task.export(run, done / steps_per_epoch, done)?;
                last_save = Instant::now();
            }
        }
        let interrupted = position.step < total;
        if interrupted {
            save(task, optimizer, &mut meter, position, steps_per_epoch)?;
        }
        let Position { step, seconds } = position;
        Ok(Outcome {
            step,
            seconds,
            interrupted,
            was_done: false,
            last_epoch: meter.last_epoch,
        })
    });
    progress.finish();
    outcome
}

fn receive<B>(batches: &Receiver<Result<B>>) -> Result<B> {
    batches
        .recv()
        .expect("the loader sends a batch for every step, or the error that stopped it")
}

fn resume<'a, T: Task>(
    task: &T,
    optimizer: &mut Optimizer,
    run: &'a RunFolder,
    progress: &dyn Progress,
) -> Result<(Position, Meter<'a>)> {
    let mut meter = Meter::new(run);
    let Some(saved) = run.load_state()? else {
        return Ok((
            Position {
                step: 0,
                seconds: 0.0,
            },
            meter,
        ));
    };
    if let Some(warning) = &saved.warning {
        progress.note(&format!("warning: {warning}"));
    }
    let (mut moments, mut sums, mut rest) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in saved.tensors {
        if let Some(name) = name.strip_prefix(OPTIMIZER) {
            moments.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix(METER) {
            sums.insert(name.to_owned(), Vec::<f64>::try_from(tensor)?);
        } else {
            rest.insert(name, tensor);
        }
    }
    copy_into(&task.state(), &rest, "the saved state")?;
    optimizer.load_state(&moments)?;
    meter.load_state(&sums);
    meter.kept = Some(saved.position.step);
    progress.note(&format!("resumed at step {}", saved.position.step));
    Ok((saved.position, meter))
}

const OPTIMIZER: &str = "optimizer/";
const METER: &str = "meter/";

fn save<T: Task>(
    task: &T,
    optimizer: &Optimizer,
    meter: &mut Meter,
    position: Position,
    steps_per_epoch: u64,
) -> Result<()> {
    meter.check()?;
    let mut tensors = task.state();
    tensors.extend(
        optimizer
            .state()
            .into_iter()
            .map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)),
    );
    tensors.extend(
        meter
            .state()
            .into_iter()
            .map(|(name, sums)| (format!("{METER}{name}"), Tensor::from_slice(&sums))),
    );
    meter
        .run
        .save_state(&tensors, position)
        .map_err(|error| match error {
            Error::NotFinite { tensor, .. } => {
                // The loss of a step comes before its update, so it may be finite when the weights are not.
                let step = position.step.saturating_sub(1);
                meter.diverged(
                    step,
                    step / steps_per_epoch.max(1),
                    format!("{tensor:?} became NaN or infinite"),
                )
            }
            error => error,
        })?;
    meter.kept = Some(position.step);
    Ok(())
}

/// Gathers losses on the device and reads them only when a line is logged or a state saved, so that a GPU
/// never waits.
struct Meter<'a> {
    run: &'a RunFolder,
    pending: Vec<(u64, u64, Vec<Tensor>)>,
    names: Vec<&'static str>,
    interval: Sums,
    epoch: Sums,
    shown: Option<f64>,
    rate: f64,
    last_epoch: [Option<f64>; 2],
    /// Step of the newest state on disk.
    kept: Option<u64>,
}

struct Sums {
    sums: Vec<f64>,
    batches: u64,
    /// Batches of an earlier, interrupted attempt, whose time is not known here.
    resumed: u64,
    since: Instant,
    waited: f64,
}

impl Sums {
    fn new() -> Self {
        Sums {
            sums: Vec::new(),
            batches: 0,
            resumed: 0,
            since: Instant::now(),
            waited: 0.0,
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
    fn new(run: &'a RunFolder) -> Self {
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
    fn start(&mut self) {
        self.interval.since = Instant::now();
    }

    /// The sums that a resumed run needs so that its means equal those of an uninterrupted run; empty ones
    /// are left out.
    fn state(&self) -> BTreeMap<String, Vec<f64>> {
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
    fn load_state(&mut self, saved: &BTreeMap<String, Vec<f64>>) {
        let sums = |name: &str| Sums::resumed(saved.get(name).map_or(&[], Vec::as_slice));
        (self.interval, self.epoch) = (sums("interval"), sums("epoch"));
        let last_epoch = saved.get("last_epoch").map_or(&[][..], Vec::as_slice);
        self.last_epoch = [0, 1].map(|i| last_epoch.get(i).copied());
    }

    fn diverged(&self, step: u64, epoch: u64, what: String) -> Error {
        Error::Diverged {
            step,
            epoch,
            what,
            kept: self.kept,
            run: self.run.path().to_owned(),
        }
    }

    fn waiting<B>(&mut self, receive: impl FnOnce() -> B) -> B {
        let start = Instant::now();
        let batch = receive();
        self.interval.waited += start.elapsed().as_secs_f64();
        batch
    }

    fn add(&mut self, step: u64, epoch: u64, loss: Loss) {
        self.names = std::iter::once("loss")
            .chain(loss.parts.iter().map(|(name, _)| *name))
            .collect();
        let scalars = std::iter::once(loss.total).chain(loss.parts.into_iter().map(|(_, t)| t));
        let scalars = scalars.map(|t| t.detach().to_kind(Kind::Float)).collect();
        self.pending.push((step, epoch, scalars));
    }

    /// Reads the losses gathered since the last call.
    fn check(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let rows: Vec<Tensor> = self
            .pending
            .iter()
            .map(|(_, _, scalars)| Tensor::stack(scalars, 0))
            .collect();
        let width = rows.iter().map(|r| r.size()[0]).max().unwrap_or_default();
        for (row, (step, epoch, _)) in rows.iter().zip(std::mem::take(&mut self.pending)) {
            let values = Vec::<f64>::try_from(row.to_kind(Kind::Double))?;
            if !values[0].is_finite() {
                return Err(self.diverged(step, epoch, format!("the loss became {}", values[0])));
            }
            for sums in [&mut self.interval, &mut self.epoch] {
                sums.sums.resize(width as usize, 0.0);
                sums.sums
                    .iter_mut()
                    .zip(&values)
                    .for_each(|(sum, value)| *sum += value);
                sums.batches += 1;
            }
        }
        Ok(())
    }

    fn interval(&mut self, step: u64, epoch: u64, lr: f64, plan: &TrainPlan) -> Result<Value> {
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
        if let Device::Cuda(index) = plan.device {
            line.insert(
                "cuda_peak_bytes".into(),
                json!(crate::native::cuda_memory(index)?.peak),
            );
        }
        self.interval = Sums::new();
        Ok(Value::Object(line))
    }

    fn epoch(&mut self, step: u64, epoch: u64, seconds: f64, measures: &[(&str, f64)]) -> Value {
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

    fn detail(&self, epoch: u64, epochs: u64) -> String {
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
