//! The one training loop, for pretraining, detection and segmentation.
//!
//! Every step runs the same fixed sequence: learning rate, batch, forward and loss, backward, optimiser,
//! `after_step`, log (with the epoch's measures), checkpoint. There are no hooks. Batches are prepared by
//! one loader thread, which must not use libtorch's random generators: those belong to the training thread,
//! which seeds them at every step.

mod exchange;
mod gradients;
mod meter;
mod task;
#[cfg(test)]
mod tests;

pub use task::{Loss, Outcome, PROFILE, Source, StepContext, Task, TrainPlan, Validated};

use crate::error::{Error, Result};
use crate::log::Log;
use crate::memory::guarded;
use crate::native;
use crate::nn::sync;
use crate::optim::{Optimizer, copy_into};
use crate::progress::Progress;
use crate::random::torch_seed;
use crate::run::{Position, RunFolder};
use crate::schedule::Schedule;
use exchange::Exchange;
use meter::Meter;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use tch::Tensor;

const SAVE_SECONDS: f64 = 120.0;
const BATCHES_AHEAD: usize = 3;

/// Trains from the saved state in the run folder, if any, to the end, or until `stop` is set in a process of
/// the plan's group. All processes hold the same bytes after every step; rank 0 writes the folder.
///
/// # Errors
/// [`Error::Settings`] when a batch cannot be divided among the processes, [`Error::Lost`] when one ends;
/// [`Error::Diverged`] when the loss or what would be saved is not finite, the last good state is kept;
/// otherwise the errors of the task, the source and the disk.
///
/// # Example
/// A line is fitted to points of y = 3 x:
///
/// ```
/// use camtrast_common::Result;
/// use camtrast_common::distributed::Group;
/// use camtrast_common::engine::{Loss, Source, StepContext, Task, TrainPlan, train};
/// use camtrast_common::optim::{Algorithm, Optimizer, OptimizerConfig, ParamGroup};
/// use camtrast_common::progress::Silent;
/// use camtrast_common::run::RunFolder;
/// use camtrast_common::schedule::{Decay, Schedule};
/// use std::{collections::BTreeMap, sync::atomic::AtomicBool};
/// use tch::{Device, Kind, Tensor, nn::VarStore};
///
/// struct Points;
/// impl Source for Points {
///     type Batch = Tensor; // x [N]
///     fn batch(&mut self, _epoch: u64, index: u64) -> Result<Tensor> {
///         Ok(Tensor::from_slice(&[index as f32, 1.0]))
///     }
/// }
///
/// struct Line { vs: VarStore, slope: Tensor }
/// impl Task for Line {
///     type Batch = Tensor;
///     fn forward(&mut self, x: Tensor, _at: &StepContext) -> Result<Loss> {
///         let error: Tensor = &self.slope * &x - 3.0 * &x;
///         Ok(Loss { total: error.square().mean(Kind::Float), parts: vec![] })
///     }
///     fn after_step(&mut self, _at: &StepContext) -> Result<()> { Ok(()) }
///     fn state(&self) -> BTreeMap<String, Tensor> { self.vs.variables().into_iter().collect() }
///     fn export(&self, _run: &RunFolder, _epoch: u64, _step: u64) -> Result<()> { Ok(()) }
/// }
///
/// let vs = VarStore::new(Device::Cpu);
/// let slope = vs.root().zeros("slope", &[1]);
/// let sgd = OptimizerConfig {
///     algorithm: Algorithm::Sgd, momentum: 0.0, nesterov: false, weight_decay: 0.0,
/// };
/// let mut optimizer = Optimizer::new(sgd, vec![ParamGroup::all(&vs)]);
/// let schedule = Schedule {
///     base_lr: 0.2, floor: 0.0, decay: Decay::Constant, milestones: vec![], gamma: 1.0,
///     warmup_steps: 0, warmup_factor: 0.0, steps_per_epoch: 2, total_steps: 40,
/// };
/// let plan = TrainPlan {
///     seed: 0, device: Device::Cpu, group: Group::ALONE, epochs: 20, batches_per_epoch: 2, accumulate: 1,
///     batch_size: 2, clip_norm: None, log_every: 10, save_every: None, profile_step: None,
///     keep_epochs: vec![], validate_every: None, earlier: vec![],
/// };
/// let folder = tempfile::tempdir().unwrap();
/// let run = RunFolder::begin(folder.path())?;
/// let (mut line, stop) = (Line { vs, slope }, AtomicBool::new(false));
/// let outcome = train(&mut line, Points, &mut optimizer, &schedule, &plan, &run, &Silent, &stop)?;
/// assert_eq!(outcome.step, 40);
/// assert!((line.slope.double_value(&[0]) - 3.0).abs() < 0.01);
/// // Called again in the same folder, it would find the run done, or go on where it was cut off.
/// assert!(run.file("state.safetensors").exists());
/// # Ok::<(), camtrast_common::Error>(())
/// ```
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
    let steps_per_epoch = plan.steps_per_epoch();
    let total = plan.epochs * steps_per_epoch;
    let (leads, world) = (plan.group.leads(), plan.group.world());
    if !plan.batch_size.is_multiple_of(world) {
        let problem = format!(
            "a batch of {} images cannot be divided among {world} processes",
            plan.batch_size
        );
        return Err(Error::settings(
            problem,
            "give a --batch-size that is a multiple of their number",
        ));
    }
    let (mut position, mut meter) = match leads {
        true => resume(task, optimizer, run, progress)?,
        false => (
            Position {
                step: 0,
                seconds: 0.0,
            },
            Meter::new(run),
        ),
    };
    let states = [task.state(), optimizer.state()];
    let mut exchange = Exchange::begin(
        (plan.group, plan.device),
        &mut position,
        states,
        &optimizer.params(),
        task.statistics(),
    )?;
    if position.step >= total {
        // Nothing to train, or interrupted between the last state and the result.
        if leads {
            if !run.file("log.jsonl").exists() {
                save(task, optimizer, &mut meter, position, steps_per_epoch)?;
                Log::open(run, position.step)?;
            }
            task.export(run, plan.epochs, position.step)?;
        }
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
    let mut log = leads.then(|| Log::open(run, first)).transpose()?;
    if leads && plan.keeps(first) {
        // Interrupted between this epoch's state and its result.
        task.export(run, first / steps_per_epoch, first)?;
    }
    let (clock, mut aside) = (Instant::now(), Duration::ZERO);
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
        let asked = || stop.load(Ordering::Relaxed);
        while position.step < total && !(exchange.stops() || plan.group.is_alone() && asked()) {
            let step = position.step;
            let epoch = step / steps_per_epoch;
            let schedule = plan.schedule_at(step, schedule);
            let (lr, total_steps) = (schedule.lr(step), schedule.total_steps);
            let mut one_step = || {
                optimizer.zero_grad();
                let mut losses = Vec::new();
                for micro in 0..plan.accumulate {
                    let index = (step % steps_per_epoch) * plan.accumulate + micro;
                    let at = StepContext {
                        seed: plan.seed,
                        epoch,
                        step,
                        batch: index,
                        total_steps,
                    };
                    let batch = meter.waiting(|| receive(&batches))?;
                    tch::manual_seed(
                        plan.group
                            .seed(torch_seed(plan.seed, "step", epoch, index) as u64)
                            as i64,
                    );
                    let forth_and_back = || {
                        let loss = task.forward(batch, &at)?;
                        if micro + 1 == plan.accumulate {
                            exchange.expect_gradients()?;
                        }
                        backward(&(&loss.total / plan.accumulate as f64))?;
                        Ok(loss)
                    };
                    losses.push(guarded(forth_and_back, |wanted| {
                        meter.out_of_memory(plan, wanted)
                    })?);
                }
                let averaged = || exchange.average(losses, asked());
                for loss in meter.exchanging(averaged)? {
                    meter.add(step, epoch, loss);
                }
                if let Some(norm) = plan.clip_norm {
                    let _ = optimizer.clip_gradients(norm);
                }
                optimizer.step(schedule.base_lr, lr)?;
                task.after_step(&StepContext {
                    seed: plan.seed,
                    epoch,
                    step,
                    batch: 0,
                    total_steps,
                })
            };
            match plan.profile_step {
                Some(profiled) if leads && profiled == step => {
                    native::profiled(&run.file(PROFILE), one_step)?
                }
                _ => one_step()?,
            }

            if step + 1 == total || exchange.stops() {
                exchange.verify([task.state(), optimizer.state()])?;
            }

            position.step += 1;
            position.seconds = seconds_before + (clock.elapsed() - aside).as_secs_f64();
            let (done, epoch_ends) = (position.step, position.step % steps_per_epoch == 0);
            if done % plan.log_every == 0 || epoch_ends {
                let line = meter.interval(done, epoch, lr, plan)?;
                log.iter_mut().try_for_each(|log| log.write(&line))?;
                if epoch_ends {
                    let measures = match leads {
                        true => task.epoch_measures(epoch)?,
                        false => Vec::new(),
                    };
                    let line = meter.epoch(done, epoch, position.seconds, &measures);
                    log.iter_mut().try_for_each(|log| log.write(&line))?;
                }
            }
            if plan.validates(done) {
                let begun = Instant::now();
                let seen = task.validate(run, done)?;
                let line = meter::validation(done, epoch, &seen.measures);
                if let Some(log) = &mut log {
                    log.write(&line)?;
                    log.show(done, &seen.pictures)?;
                }
                meter.pause(begun.elapsed());
                aside += begun.elapsed();
            }
            progress.advance(1, &meter.detail(epoch, plan.epochs));
            let wanted = plan.keeps(done) || plan.save_every.is_some_and(|every| done % every == 0);
            if leads && (done == total || wanted || last_save.elapsed().as_secs_f64() > SAVE_SECONDS) {
                save(task, optimizer, &mut meter, position, steps_per_epoch)?;
                task.export(run, done / steps_per_epoch, done)?;
                last_save = Instant::now();
            }
        }
        let interrupted = position.step < total;
        if interrupted && leads {
            save(task, optimizer, &mut meter, position, steps_per_epoch)?;
        }
        // Rank 0 may still be writing.
        plan.group.barrier()?;
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
    match outcome {
        // Losses are the same in all processes, and rank 0 knows what is saved.
        Err(error @ Error::Diverged { .. }) if !leads => Err(Error::Lost {
            problem: error.to_string(),
            remedy: String::new(),
            reported: true,
        }),
        outcome => outcome,
    }
}

// Fails by name where the gradient needs a process that is lost; other errors are libtorch's.
fn backward(loss: &Tensor) -> Result<()> {
    let done = loss.f_backward();
    if let (Err(_), Some(lost)) = (&done, sync::failure()) {
        return Err(lost);
    }
    done.expect("memory for the backward pass");
    Ok(())
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
