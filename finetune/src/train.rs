//! Trains and evaluates any dense task.

use crate::network::{Network, Provenance, Trained};
use crate::task::{Course, DenseTask, Start};
use crate::validation::{BEST, TESTED, best, scores};
use camtrast_common::arithmetic;
use camtrast_common::augment::Input;
use camtrast_common::checkpoint::{Backbone, Origin, load_backbone};
use camtrast_common::device::device_name;
use camtrast_common::distributed::Group;
use camtrast_common::engine::{self, Loss, Outcome, Source, StepContext, Task, TrainPlan, Validated};
use camtrast_common::leakage::{LEAKAGE, Prints};
use camtrast_common::network_file;
use camtrast_common::nn::{Mode, Modes, weights_channels_last};
use camtrast_common::optim::Optimizer;
use camtrast_common::precise_bn;
use camtrast_common::progress::Progress;
use camtrast_common::random::torch_seed;
use camtrast_common::run::{RunFolder, RunOptions};
use camtrast_common::sampler::period;
use camtrast_common::settings::BatchNormMode;
use camtrast_common::tensor_file::TensorFile;
use camtrast_common::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use tch::nn::VarStore;
use tch::{Device, Tensor, no_grad};

/// Result of a fine-tuning.
#[derive(Debug, Clone)]
pub struct TrainReport<E> {
    /// The trained network's file.
    pub network: PathBuf,
    /// The backbone that training started from.
    pub origin: Origin,
    /// How training ended.
    pub outcome: Outcome,
    /// The evaluation on the test images; `None` when there are none, when training was interrupted, or when
    /// the run had been finished and evaluated before.
    pub evaluation: Option<E>,
}

/// Fine-tunes a backbone for a task and evaluates the result, or continues an interrupted run of the same
/// settings in the same folder.
///
/// # Errors
/// [`camtrast_common::Error::Settings`] for settings that do not fit the backbone or differ from the
/// folder's, [`camtrast_common::Error::File`] for images and checkpoints that cannot be used; otherwise as
/// [`engine::train`].
pub fn train<T: DenseTask>(
    task: &T,
    start: &Start,
    options: &RunOptions,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<TrainReport<T::Evaluation>> {
    start.arithmetic.begin(options.device, T::ONE_SHAPE)?;
    let backbone = load_backbone(&start.checkpoint, Device::Cpu)?;
    let (trained, tested) = (task.training_images()?, task.test_images()?);
    let leakage = tested.as_ref().and_then(|tested| trained.seen(tested));
    if let Some(leakage) = &leakage {
        progress.note(&format!("warning: {leakage}; these numbers are marked with it"));
    }
    let none = Prints::default();
    start.validation.check(
        [&trained, tested.as_ref().unwrap_or(&none)],
        task.validation_images()?.as_ref(),
        T::VALIDATED_BY,
        progress,
    )?;
    let course = task.course();
    let plan = plan(&course, start, options);
    let settings = Settings {
        start,
        task: task.settings(),
    };

    let run = options.begin(&[&[T::FILE, BEST][..], T::ARTIFACTS].concat())?;
    let described = toml::to_string(&settings).expect("settings serialise")
        + "\n[dataset]\n"
        + &task.describe_data(&backbone, tested.as_ref())?;
    let group = options.group;
    run.claim(&described, &options.build, options.device, group)?;
    if options.device.is_cuda() {
        progress.note(&arithmetic::describe(start.precision, options.device)?);
    }
    for note in task.notes(&backbone.info) {
        progress.note(&note);
    }

    let mut tuning = FineTuning {
        trained: Trained {
            step: 0,
            precise_bn: 0,
            provenance: Provenance {
                origin: backbone.origin(),
                training_images: trained,
                config: serde_json::to_string(&settings).expect("settings serialise"),
                commit: options.build.commit.clone(),
            },
        },
        network: initialise(task, start, backbone, options)?,
        modes: start.tune.modes(Modes::training(course.batch_norm, group)),
        task,
    };
    let held = start.tune.sum(&tuning.network.vs);
    start.tune.freeze(&tuning.network.vs);
    let mut optimizer = Optimizer::new(course.optimizer, task.parameter_groups(&tuning.network.vs));
    let backbone = tuning.network.backbone.clone();
    let source = |seed, group| task.source(&backbone, plan.batches_per_epoch, seed, options.device, group);
    let outcome = engine::train(
        &mut tuning,
        source(start.seed, group)?,
        &mut optimizer,
        &course.schedule,
        &plan,
        &run,
        progress,
        stop,
    )?;
    drop(optimizer);
    start.tune.check(&tuning.network.vs, &held)?;

    // A finished run that is started again keeps its measurements.
    let measured = outcome.was_done && run.file("metrics.json").exists();
    let measured = group.first_says(measured)?;
    let mut evaluation = None;
    if !outcome.interrupted && !measured {
        tuning.estimate_batch_norm(course.precise_bn, source, start.seed, progress)?;
        if group.leads() {
            tuning.save(&run, T::FILE, outcome.step)?;
        }
        let mut metrics = BTreeMap::from([(format!("{}/steps", T::NAME), outcome.step as f64)]);
        if outcome.seconds > 0.0 {
            let rate = (outcome.step * course.batch_size) as f64 / outcome.seconds;
            metrics.insert(format!("{}/images_per_second", T::NAME), rate);
        }
        let mut texts = tuning.trained.provenance.origin.texts();
        if start.validation.val_every.is_some() {
            tuning.note_scores(&run, &mut metrics)?;
            let tested = if start.validation.test_best {
                "best"
            } else {
                "last"
            };
            texts.insert(TESTED.to_owned(), tested.to_owned());
        }
        if start.validation.test_best {
            let step = tuning.take_best(&run)?;
            tuning.estimate_batch_norm(course.precise_bn, source, start.seed, progress)?;
            if group.leads() {
                tuning.save(&run, BEST, step)?;
            }
        }
        if let Some((result, measures)) = task.evaluate(&tuning.network, run.path(), progress)? {
            metrics.extend(measures);
            evaluation = Some(result);
        }
        texts.extend(leakage.map(|leakage| (LEAKAGE.to_owned(), leakage)));
        if group.leads() {
            run.write_metrics(&metrics, texts, outcome.seconds, &device_name(options.device))?;
        }
    }
    Ok(TrainReport {
        network: run.file(T::FILE),
        origin: tuning.trained.provenance.origin,
        outcome,
        evaluation,
    })
}

/// Everything that decides a run's weights and metrics, as config.toml holds it.
#[derive(Debug, Serialize)]
pub struct Settings<'a, S> {
    /// What every fine-tuning starts from.
    #[serde(flatten)]
    pub start: &'a Start,
    /// [`DenseTask::settings`].
    #[serde(flatten)]
    pub task: &'a S,
}

fn plan(course: &Course, start: &Start, options: &RunOptions) -> TrainPlan {
    let period = period(course.steps, course.pass);
    TrainPlan {
        seed: start.seed,
        device: options.device,
        group: options.group,
        epochs: course.steps / period,
        batches_per_epoch: period * course.accumulate,
        accumulate: course.accumulate,
        batch_size: course.batch_size / course.accumulate,
        clip_norm: course.clip_norm,
        log_every: options.log_every.max(1),
        save_every: options.save_every,
        profile_step: options.profile_step,
        keep_epochs: Vec::new(),
        validate_every: start.validation.val_every,
        earlier: Vec::new(),
    }
}

// The task's network with the backbone's weights in it.
fn initialise<T: DenseTask>(
    task: &T,
    start: &Start,
    backbone: Backbone,
    options: &RunOptions,
) -> Result<Network<T::Net>> {
    tch::manual_seed(torch_seed(start.seed, "initialise", 0, 0));
    let mut vs = VarStore::new(Device::Cpu);
    let net = task.network(&vs.root(), &backbone.info)?;
    backbone.copy_into(&vs, "backbone.")?;
    vs.set_device(options.device);
    weights_channels_last(&vs);
    if task.course().batch_norm == BatchNormMode::Frozen {
        freeze_batch_norm(&vs);
    }
    Ok(Network {
        net,
        vs,
        device: options.device,
        group: options.group,
        precision: start.precision,
        input: Input::new(&backbone.info.mean, &backbone.info.std, options.device),
        backbone: backbone.info,
    })
}

// No gradient is computed for the backbone's batch norm: all that a ResNet has of one dimension.
fn freeze_batch_norm(vs: &VarStore) {
    for (name, variable) in vs.variables() {
        if name.starts_with("backbone.") && variable.dim() == 1 {
            let _ = variable.set_requires_grad(false);
        }
    }
}

/// A dense task under the engine.
struct FineTuning<'a, T: DenseTask> {
    task: &'a T,
    network: Network<T::Net>,
    modes: Modes,
    trained: Trained,
}

impl<T: DenseTask> FineTuning<'_, T> {
    // On images and random numbers of its own, so that resuming does not change them. Rank 0 does it for all
    // processes.
    fn estimate_batch_norm(
        &mut self,
        batches: u64,
        source: impl Fn(u64, Group) -> Result<T::Source>,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<()> {
        if batches == 0 {
            return Ok(());
        }
        let seed = torch_seed(seed, "precise batch norm", 0, 0) as u64;
        let group = self.network.group;
        self.trained.precise_bn = batches;
        if !group.leads() {
            return self
                .state()
                .values()
                .try_for_each(|tensor| group.broadcast(tensor));
        }
        let mut source = source(seed, Group::ALONE)?;
        progress.start("estimating batch norm", batches, 0);
        precise_bn::re_estimate(batches, |batch, mode: Mode| {
            let at = StepContext {
                seed,
                epoch: 0,
                step: batch,
                batch,
                total_steps: batches,
            };
            let modes = self.modes.with_training(mode);
            self.task
                .loss(&self.network, &source.batch(0, batch)?, &at, modes)?;
            progress.advance(1, "");
            Ok(())
        })?;
        progress.finish();
        self.state()
            .values()
            .try_for_each(|tensor| group.broadcast(tensor))
    }

    fn save(&self, run: &RunFolder, file: &str, step: u64) -> Result<()> {
        let trained = Trained {
            step,
            ..self.trained.clone()
        };
        self.task.save(&run.file(file), &self.network, &trained)
    }

    // The scores on validation images as metrics.
    fn note_scores(&self, run: &RunFolder, metrics: &mut BTreeMap<String, f64>) -> Result<()> {
        if !self.network.group.leads() {
            return Ok(());
        }
        let scores = scores(run, T::SCORE)?;
        if let (Some((step, score)), Some((_, last))) = (best(&scores), scores.last()) {
            let name = |what: &str| format!("{}/validation/{what}", T::NAME);
            metrics.insert(name("best"), score);
            metrics.insert(name("best_step"), step as f64);
            metrics.insert(name("last"), *last);
        }
        Ok(())
    }

    // Puts the best network on the validation images into all processes. Returns its step in rank 0.
    fn take_best(&mut self, run: &RunFolder) -> Result<u64> {
        let (group, mut step) = (self.network.group, 0);
        if group.leads() {
            let path = run.file(BEST);
            let Some((of_best, _)) = best(&scores(run, T::SCORE)?) else {
                let problem = format!("--test-best: no validation gave {}", T::SCORE);
                return Err(Error::settings(
                    problem,
                    "validate on images with labels that count",
                ));
            };
            step = of_best;
            let file = TensorFile::open(&path)?;
            file.verify()?;
            let variables = self.network.vs.variables();
            for (name, tensor) in file.tensors()? {
                // Of ours, the file holds all that the network needs outside of training.
                if let Some(variable) = variables.get(&name) {
                    no_grad(|| variable.shallow_clone().copy_(&tensor));
                }
            }
        }
        self.state()
            .values()
            .try_for_each(|tensor| group.broadcast(tensor))?;
        Ok(step)
    }
}

impl<T: DenseTask> Task for FineTuning<'_, T> {
    type Batch = T::Batch;

    fn forward(&mut self, batch: T::Batch, at: &StepContext) -> Result<Loss> {
        // Dropout and sampling are each process's own.
        let at = StepContext {
            seed: self.network.group.seed(at.seed),
            ..*at
        };
        self.task.loss(&self.network, &batch, &at, self.modes)
    }

    fn after_step(&mut self, _at: &StepContext) -> Result<()> {
        Ok(())
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        let variables = self.network.vs.variables().into_iter();
        variables
            .map(|(name, tensor)| (format!("online/{name}"), tensor))
            .collect()
    }

    fn validate(&mut self, run: &RunFolder, step: u64) -> Result<Validated> {
        let seen = self.task.validate(&self.network)?;
        let score = seen.measures.get(T::SCORE).copied();
        if let Some(score) = score.filter(|_| self.network.group.leads()) {
            let before = best(&scores(run, T::SCORE)?);
            if before.is_none_or(|(_, best)| score > best) {
                self.save(run, BEST, step)?;
            }
        }
        Ok(seen)
    }

    fn statistics(&self) -> Vec<Tensor> {
        let frozen = self.modes.backbone == Mode::Eval;
        let moving = |name: &str| {
            let own = name.ends_with(".running_mean") || name.ends_with(".running_var");
            own && !(frozen && name.starts_with("online/backbone."))
        };
        let state = self.state().into_iter();
        state
            .filter(|(name, _)| moving(name))
            .map(|(_, tensor)| tensor)
            .collect()
    }

    fn export(&self, run: &RunFolder, _epoch: u64, step: u64) -> Result<()> {
        // What this state has become already is better: its batch norm has been estimated again.
        let stage = network_file::stage(&run.file(T::FILE));
        if stage.is_some_and(|stage| stage.precise_bn > 0 && stage.step == step) {
            return Ok(());
        }
        self.save(run, T::FILE, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camtrast_common::resnet::ResNet;
    use tch::Kind;

    #[test]
    fn frozen_batch_norm_has_no_gradient() {
        let vs = VarStore::new(Device::Cpu);
        let net = ResNet::new(&(vs.root() / "backbone"), "resnet18-w8-small".parse().unwrap());
        freeze_batch_norm(&vs);
        let images = Tensor::randn([2, 3, 16, 16], (Kind::Float, Device::Cpu));
        net.features(&images, Mode::Eval).sum(Kind::Float).backward();
        for (name, variable) in vs.variables() {
            let has_one = variable.grad().defined();
            assert_eq!(has_one, variable.dim() == 4, "{name}");
        }
    }
}
