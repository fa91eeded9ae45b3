//! Runs any method: pack, augmentation, engine, checkpoint.

use crate::clean::CleanImages;
use crate::method::{Pretraining, Setting};
use crate::methods::Method;
use crate::options::{PretrainOptions, Subset, set};
use crate::preset::Preset;
use crate::probe::Probe;
use camtrast_common::augment::{Augment, IMAGENET_MEAN, IMAGENET_STD};
use camtrast_common::checkpoint::{BackboneInfo, save_backbone};
use camtrast_common::classifier::{CLASSIFIER_FILE, Classifier};
use camtrast_common::device::{Precision, device_name};
use camtrast_common::engine::{self, Loss, Outcome, Source, StepContext, Task, TrainPlan};
use camtrast_common::features::Images;
use camtrast_common::files::write_atomically;
use camtrast_common::optim::{Optimizer, OptimizerConfig};
use camtrast_common::progress::Progress;
use camtrast_common::random::{generator, permutation};
use camtrast_common::resnet::Arch;
use camtrast_common::run::{RunFolder, RunOptions, SUBSET};
use camtrast_common::schedule::Schedule;
use camtrast_common::settings::check_counts;
use camtrast_common::{Error, Result};
use camtrast_datasets::{Pack, Selection};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tch::{Device, Kind, Tensor};

/// Everything that decides a run's weights, as config.toml holds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PretrainRecipe {
    /// The method.
    pub method: Method,
    /// Whose settings `options` were completed with, for the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// The pack to train on.
    pub data: PathBuf,
    /// Seed of everything random.
    pub seed: u64,
    /// Precision of the networks' forward passes.
    pub precision: Precision,
    /// The backbone.
    pub arch: Arch,
    /// The part of the pack that is trained on.
    #[serde(flatten)]
    pub subset: Subset,
    /// Batches whose gradients make one step.
    pub accumulate: u64,
    /// Joint gradient norm above which gradients are scaled down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Batches of plain images on which batch norm's statistics are estimated anew after the last step; none
    /// when `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precise_bn: Option<u64>,
    /// The method's settings.
    #[serde(flatten)]
    pub options: PretrainOptions,
}

/// A recipe and how to run it.
#[derive(Debug, Clone)]
pub struct PretrainConfig {
    /// What decides the weights.
    pub recipe: PretrainRecipe,
    /// Where and how it goes.
    pub run: RunOptions,
    /// Epochs between looks at the representation, which go to the log; none when `None`.
    pub probe_every: Option<u64>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct PretrainReport {
    /// Settings with every default filled in.
    pub recipe: PretrainRecipe,
    /// The backbone, when training ended.
    pub backbone: PathBuf,
    /// How training ended.
    pub outcome: Outcome,
}

/// A recipe on its data, before any work.
#[derive(Debug, Clone)]
pub struct Settled {
    /// Settings with every default filled in.
    pub recipe: PretrainRecipe,
    /// What the method is built for.
    pub setting: Setting,
    /// The images trained on.
    pub selection: Selection,
    /// Batches of an epoch, a multiple of [`PretrainRecipe::accumulate`].
    pub batches_per_epoch: u64,
}

impl PretrainRecipe {
    /// Fills in every default for a pack, and refuses what cannot work before anything is written.
    ///
    /// # Errors
    /// [`Error::Settings`] and [`Error::Usage`] for a recipe that does not fit the data or contradicts
    /// itself.
    pub fn settle(mut self, pack: &Pack, device: Device) -> Result<Settled> {
        let selection = self.subset.select(pack, self.seed)?;
        let setting = Setting {
            arch: self.arch,
            classes: selection.classes as i64,
            images: selection.indices.len() as u64,
            image_size: pack.height() as i64,
            device,
            precision: self.precision,
            seed: self.seed,
        };
        let defaults = self.method.defaults(&setting, &self.options);
        self.options = self.options.resolve(defaults, &self.method.to_string())?;
        let (epochs, batch_size) = (set(&self.options.epochs), set(&self.options.batch_size));
        let accumulate = self.accumulate;
        if epochs == 0 && self.method.trains() {
            let remedy = "give --epochs 1 or more, or --method scratch for a backbone without training";
            return Err(Error::settings(
                format!("--epochs 0 does not train --method {}", self.method),
                remedy,
            ));
        }
        check_counts(&[("accumulate", Some(accumulate))])?;
        if batch_size == 0 || accumulate == 0 {
            return Err(Error::settings(
                "--batch-size and --accumulate must be at least 1",
                "give positive numbers",
            ));
        }
        if let Some(norm) = self.clip_norm.filter(|norm| norm.is_nan() || *norm <= 0.0) {
            return Err(Error::settings(
                format!("--clip-norm {norm} is not positive"),
                "leave it out, or give a norm such as 1",
            ));
        }
        let batches_per_epoch = setting.images / batch_size / accumulate * accumulate;
        if batches_per_epoch == 0 && epochs > 0 {
            let problem = format!(
                "{} images do not fill a step of {accumulate} x {batch_size}",
                setting.images
            );
            return Err(Error::settings(
                problem,
                "lower --batch-size or --accumulate, or take more images",
            ));
        }
        let precise_bn = self.precise_bn.unwrap_or(1);
        if self.precise_bn.is_some() && epochs == 0 || !(1..=batches_per_epoch.max(1)).contains(&precise_bn) {
            let what = "the batches of an epoch of a method that trains";
            let problem = format!("--precise-bn must lie in 1..{batches_per_epoch}, {what}");
            return Err(Error::settings(
                problem,
                "leave it out to keep the statistics of training",
            ));
        }
        Ok(Settled {
            recipe: self,
            setting,
            selection,
            batches_per_epoch,
        })
    }
}

/// Pretrains a backbone, or goes on where an earlier run of the same recipe in the same folder was cut off.
///
/// # Errors
/// [`Error::Settings`] for a recipe that does not fit the data or differs from the folder's; otherwise as
/// [`engine::train`].
pub fn pretrain(
    config: &PretrainConfig,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<PretrainReport> {
    let device = config.run.device;
    let pack = Arc::new(Pack::open(&config.recipe.data)?);
    let Settled {
        recipe,
        setting,
        selection,
        batches_per_epoch,
    } = config.recipe.clone().settle(&pack, device)?;
    let plan = plan(config, &recipe, batches_per_epoch);
    let method = recipe.method.build(&setting, &recipe.options)?;

    let run = config.run.begin(&[])?;
    claim(&run, config, &recipe, &pack)?;
    write_subset(&run, &selection)?;
    let (mut optimizer, schedule) = optimiser(&recipe.options, method.as_ref(), &plan);
    let resident = resident_pixels(&pack, device)?;
    let look = |every| Probe::new(every, &pack, &selection, recipe.precision, device, recipe.seed);
    let class_names = trained_classes(&pack, &selection);
    let clean = recipe.precise_bn.map(|batches| {
        let sizes = (batches, plan.batch_size);
        CleanImages::new(
            sizes,
            (&pack, &selection),
            (device, recipe.precision),
            recipe.seed,
        )
    });
    let probe = config
        .probe_every
        .filter(|_| plan.epochs > 0)
        .map(look)
        .transpose()?;
    let source = PackSource {
        pack: pack.clone(),
        selection,
        batch_size: plan.batch_size as usize,
        seed: recipe.seed,
        resident: resident.is_some(),
        order: (u64::MAX, Vec::new()),
    };
    let mut task = PretrainTask {
        views: method.views(),
        method,
        resident,
        device,
        probe,
        clean,
        epochs: plan.epochs,
        info: BackboneInfo {
            arch: recipe.arch,
            method: recipe.method.to_string(),
            dataset: pack
                .path()
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            dataset_sha256: pack.sha256().to_owned(),
            class_names,
            image_size: setting.image_size,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            epoch: 0,
            step: 0,
            config: serde_json::to_string(&recipe).expect("a recipe serialises"),
            commit: config.run.build.commit.clone(),
        },
    };
    let outcome = engine::train(
        &mut task,
        source,
        &mut optimizer,
        &schedule,
        &plan,
        &run,
        progress,
        stop,
    )?;
    if !outcome.interrupted {
        write_metrics(&run, &outcome, &plan, device)?;
    }
    Ok(PretrainReport {
        recipe,
        backbone: run.file("backbone.safetensors"),
        outcome,
    })
}

fn plan(config: &PretrainConfig, recipe: &PretrainRecipe, batches_per_epoch: u64) -> TrainPlan {
    TrainPlan {
        seed: recipe.seed,
        device: config.run.device,
        epochs: set(&recipe.options.epochs),
        batches_per_epoch,
        accumulate: recipe.accumulate,
        batch_size: set(&recipe.options.batch_size),
        clip_norm: recipe.clip_norm,
        log_every: config.run.log_every.max(1),
        save_every: config.run.save_every,
    }
}

// Names the run by what decides its weights, data included.
fn claim(run: &RunFolder, config: &PretrainConfig, recipe: &PretrainRecipe, pack: &Pack) -> Result<()> {
    let recipe = toml::to_string(recipe).expect("a recipe serialises");
    let text = |s: &str| toml::Value::from(s).to_string();
    let dataset = format!(
        "\n[dataset]\nsha256 = {}\nfit = {}\n",
        text(pack.sha256()),
        text(&pack.fit())
    );
    run.claim(&(recipe + &dataset), &config.run.build, config.run.device)
}

// The pack's classes that have an image in the selection, whose own labels may be general categories.
fn trained_classes(pack: &Pack, selection: &Selection) -> Vec<String> {
    let classes: BTreeSet<i64> = selection
        .indices
        .iter()
        .map(|&row| pack.labels()[row as usize])
        .collect();
    classes
        .into_iter()
        .map(|class| pack.class_names()[class as usize].clone())
        .collect()
}

// Which classes and rows of the pack the seed drew.
fn write_subset(run: &RunFolder, selection: &Selection) -> Result<()> {
    let Selection {
        indices,
        labels,
        class_names,
        ..
    } = selection;
    let subset = serde_json::json!({ "classes": class_names, "rows": indices, "labels": labels });
    write_atomically(&run.file(SUBSET), |out| writeln!(out, "{subset}"))
}

fn optimiser(options: &PretrainOptions, method: &dyn Pretraining, plan: &TrainPlan) -> (Optimizer, Schedule) {
    let steps_per_epoch = plan.batches_per_epoch / plan.accumulate;
    // A method that does not train has no optimiser's settings.
    let config = OptimizerConfig {
        algorithm: options
            .optimizer
            .unwrap_or(camtrast_common::optim::Algorithm::Sgd),
        momentum: options.momentum.unwrap_or_default(),
        nesterov: false,
        weight_decay: options.weight_decay.unwrap_or_default(),
    };
    let schedule = Schedule {
        base_lr: options.lr.unwrap_or_default(),
        floor: 0.0,
        decay: options
            .schedule
            .unwrap_or(camtrast_common::schedule::Decay::Constant),
        milestones: options
            .milestones
            .iter()
            .flat_map(|n| n.0.iter().map(|&m| m as u64))
            .collect(),
        gamma: options.gamma.unwrap_or(1.0),
        warmup_steps: (options.warmup_epochs.unwrap_or_default() * steps_per_epoch as f64).round() as u64,
        warmup_factor: 0.0,
        steps_per_epoch,
        total_steps: plan.epochs * steps_per_epoch,
    };
    (Optimizer::new(config, method.groups()), schedule)
}

fn write_metrics(run: &RunFolder, outcome: &Outcome, plan: &TrainPlan, device: Device) -> Result<()> {
    let mut metrics = BTreeMap::new();
    let images = (outcome.step * plan.accumulate * plan.batch_size) as f64;
    metrics.insert("pretrain/steps".to_owned(), outcome.step as f64);
    metrics.insert("pretrain/epochs".to_owned(), plan.epochs as f64);
    if outcome.seconds > 0.0 {
        metrics.insert("pretrain/images_per_second".to_owned(), images / outcome.seconds);
    }
    for (name, value) in ["pretrain/loss", "pretrain/accuracy"]
        .into_iter()
        .zip(outcome.last_epoch)
    {
        metrics.extend(value.map(|v| (name.to_owned(), v)));
    }
    // A finished run looked at again keeps what it measured.
    if outcome.was_done && run.file("metrics.json").exists() {
        return Ok(());
    }
    run.write_metrics(&metrics, BTreeMap::new(), outcome.seconds, &device_name(device))
}

/// All pixels on the GPU, when they fit in half of what is free there.
fn resident_pixels(pack: &Pack, device: Device) -> Result<Option<Tensor>> {
    let Device::Cuda(index) = device else {
        return Ok(None);
    };
    if pack.pixels().len() as i64 > camtrast_common::native::cuda_memory(index)?.free / 2 {
        return Ok(None);
    }
    let shape = [pack.len(), pack.height(), pack.width(), 3].map(|d| d as i64);
    Ok(Some(
        Tensor::f_from_data_size(pack.pixels(), &shape, Kind::Uint8)?.to_device(device),
    ))
}

/// Images of one step, as the loader thread leaves them on the host.
struct Batch {
    /// Pixels u8 [N, H, W, 3], or rows i64 [N] of the pixels that lie on the device.
    images: Tensor,
    /// Labels i64 [N].
    labels: Tensor,
}

/// Draws batches without replacement, in an order of its own for every epoch; the last, incomplete one is
/// dropped.
struct PackSource {
    pack: Arc<Pack>,
    selection: Selection,
    batch_size: usize,
    seed: u64,
    resident: bool,
    order: (u64, Vec<i64>),
}

impl Source for PackSource {
    type Batch = Batch;

    fn batch(&mut self, epoch: u64, index: u64) -> Result<Batch> {
        if self.order.0 != epoch {
            let mut generator = generator(self.seed, "sampler", epoch, 0);
            self.order = (epoch, permutation(self.selection.indices.len(), &mut generator));
        }
        // Data-parallel training would give each process its own part of `chosen` here, and nowhere else.
        let chosen = &self.order.1[index as usize * self.batch_size..][..self.batch_size];
        let labels: Vec<i64> = chosen
            .iter()
            .map(|&i| self.selection.labels[i as usize])
            .collect();
        let rows: Vec<i64> = chosen
            .iter()
            .map(|&i| self.selection.indices[i as usize])
            .collect();
        let images = if self.resident {
            Tensor::from_slice(&rows)
        } else {
            self.pack.rows(&rows)?
        };
        Ok(Batch {
            images,
            labels: Tensor::from_slice(&labels),
        })
    }
}

/// A method under the engine.
struct PretrainTask {
    method: Box<dyn Pretraining>,
    views: Vec<Augment>,
    resident: Option<Tensor>,
    device: Device,
    probe: Option<Probe>,
    clean: Option<CleanImages>,
    epochs: u64,
    info: BackboneInfo,
}

impl Task for PretrainTask {
    type Batch = Batch;

    fn forward(&mut self, batch: Batch, at: &StepContext) -> Result<Loss> {
        let images = batch.images.to_device(self.device);
        let pixels = match &self.resident {
            Some(all) => all.index_select(0, &images),
            None => images,
        };
        let views: Vec<Tensor> = (self.views.iter().enumerate())
            .map(|(i, view)| {
                view.apply(
                    &pixels,
                    &mut generator(at.seed, &format!("augment/{i}"), at.epoch, at.batch),
                )
            })
            .collect();
        self.method.loss(&views, &batch.labels.to_device(self.device), at)
    }

    fn after_step(&mut self, at: &StepContext) -> Result<()> {
        self.method.after_step(at);
        Ok(())
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        let online = self.method.online().variables().into_iter();
        let mut state: BTreeMap<String, Tensor> =
            online.map(|(name, t)| (format!("online/{name}"), t)).collect();
        state.extend(self.method.extra_state());
        state
    }

    fn epoch_measures(&mut self, epoch: u64) -> Result<Vec<(&'static str, f64)>> {
        self.probe.as_ref().map_or(Ok(Vec::new()), |probe| {
            probe.measures(self.method.backbone(), epoch)
        })
    }

    fn export(&self, run: &RunFolder, epoch: u64, step: u64) -> Result<()> {
        // Once, after the last step: nothing trains on.
        if let Some(clean) = self.clean.as_ref().filter(|_| epoch == self.epochs) {
            clean.measure(self.method.backbone())?;
        }
        let mut variables = self.method.online().variables();
        let info = BackboneInfo {
            epoch,
            step,
            ..self.info.clone()
        };
        if let (Some(weight), Some(bias)) = (variables.remove("fc.weight"), variables.remove("fc.bias")) {
            Classifier { weight, bias }.save(&run.file(CLASSIFIER_FILE), &info)?;
        }
        let backbone = variables.into_iter();
        let backbone = backbone
            .filter_map(|(name, t)| Some((name.strip_prefix("backbone.")?.to_owned(), t)))
            .collect();
        save_backbone(&run.file("backbone.safetensors"), &backbone, &info)
    }
}
