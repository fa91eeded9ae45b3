//! Runs any method: pack, augmentation, engine, checkpoint.

use crate::clean::CleanImages;
use crate::extend::{self, Extension, Extensions};
use crate::init;
use crate::keep;
use crate::method::Pretraining;
use crate::options::{PretrainOptions, set};
use crate::probe::Probe;
use crate::recipe::{PretrainRecipe, Settled};
use crate::source::{Batch, PackSource};
use camtrast_common::Result;
use camtrast_common::arithmetic;
use camtrast_common::augment::{Augment, IMAGENET_MEAN, IMAGENET_STD};
use camtrast_common::checkpoint::{Backbone, BackboneInfo, kept_file, save_backbone};
use camtrast_common::classifier::{CLASSIFIER_FILE, Classifier};
use camtrast_common::device::device_name;
use camtrast_common::engine::{self, Loss, Outcome, StepContext, Task, TrainPlan};
use camtrast_common::files::write_atomically;
use camtrast_common::optim::{Optimizer, OptimizerConfig};
use camtrast_common::progress::Progress;
use camtrast_common::run::{RunFolder, RunOptions, SUBSET};
use camtrast_common::schedule::Schedule;
use camtrast_datasets::{Pack, Selection};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tch::{Device, Kind, Tensor};

/// A recipe and how to run it.
#[derive(Debug, Clone)]
pub struct PretrainConfig {
    /// What decides the weights.
    pub recipe: PretrainRecipe,
    /// Where and how it goes.
    pub run: RunOptions,
    /// Epochs between looks at the representation, which go to the log; none when `None`.
    pub probe_every: Option<u64>,
    /// Epochs, counted from 1, whose backbones are kept beside the last.
    pub keep_epochs: Vec<u64>,
    /// Whether the folder's run may have been begun with fewer epochs.
    pub extend: bool,
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

/// Pretrains a backbone, or goes on where an earlier run of the same recipe in the same folder was cut off.
///
/// # Errors
/// [`camtrast_common::Error::Settings`] for a recipe that does not fit the data or differs from the folder's;
/// otherwise as [`engine::train`].
pub fn pretrain(
    config: &PretrainConfig,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<PretrainReport> {
    let (device, group) = (config.run.device, config.run.group);
    config.recipe.arithmetic.begin(device, /* one shape */ true)?;
    let pack = Arc::new(Pack::open(&config.recipe.data)?);
    let Settled {
        recipe,
        setting,
        selection,
        batches_per_epoch,
    } = config.recipe.clone().settle(&pack, device, group)?;
    let mut plan = plan(config, &recipe, batches_per_epoch);
    keep::check(&plan)?;
    let method = recipe.method.build(&setting, &recipe.options)?;
    let init = init::read(&recipe, progress)?;
    if let Some(backbone) = &init {
        init::start_from(backbone, method.as_ref())?;
    }

    let run = config.run.begin(&[])?;
    let saved = saved_step(&run, config, progress)?;
    let extensions = Extensions::of(&run, &recipe, config.extend, saved, group)?;
    let described = |recipe: &PretrainRecipe, extensions: &[Extension]| {
        describe(recipe, &pack, init.as_ref()) + &extend::described(extensions)
    };
    let claim = |text: &str| run.claim(text, &config.run.build, device, group);
    let whole = described(&recipe, &extensions.all);
    if let Some(last) = extensions.all.last().filter(|_| extensions.fresh) {
        claim(&described(&last.before(&recipe), extensions.recorded()))?;
        if group.leads() {
            Extensions::write(&run, &whole, progress)?;
        }
    }
    claim(&whole)?;
    if group.leads() {
        keep::check_kept(&run, &plan, saved)?;
    }
    if device.is_cuda() {
        progress.note(&arithmetic::describe(recipe.precision, device)?);
    }
    if group.leads() {
        write_subset(&run, &selection)?;
    }
    let (mut optimizer, schedule) = optimiser(&recipe.options, method.as_ref(), &plan);
    for extension in &extensions.all {
        let before = schedule_of(&extension.before(&recipe).options, extension.epochs, &plan);
        plan.earlier.push((extension.from_step, before));
    }
    let resident = resident_pixels(&pack, device)?;
    let look = |every| Probe::new(every, &pack, &selection, recipe.precision, device, recipe.seed);
    let class_names = trained_classes(&pack, &selection, init.as_ref());
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
        .filter(|_| plan.epochs > 0 && group.leads())
        .map(look)
        .transpose()?;
    let source = PackSource::new(
        (pack.clone(), selection),
        plan.batch_size as usize,
        (recipe.seed, group),
        resident.is_some(),
        method.views(),
        device,
    );
    let mut task = PretrainTask {
        views: method.views(),
        method,
        resident,
        probe,
        clean,
        epochs: plan.epochs,
        keep: keep::epochs_by_step(&plan),
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
            config: provenance(&recipe, init.as_ref(), &extensions.all),
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
    if !outcome.interrupted && group.leads() {
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
        group: config.run.group,
        epochs: set(&recipe.options.epochs),
        batches_per_epoch,
        accumulate: recipe.accumulate,
        batch_size: set(&recipe.options.batch_size),
        clip_norm: recipe.clip_norm,
        log_every: config.run.log_every.max(1),
        save_every: config.run.save_every,
        profile_step: config.run.profile_step,
        keep_epochs: config.keep_epochs.clone(),
        validate_every: None,
        earlier: Vec::new(),
    }
}

// The step of the saved state, where it matters: a damaged state counts as the one before it.
fn saved_step(run: &RunFolder, config: &PretrainConfig, progress: &dyn Progress) -> Result<u64> {
    if !config.run.group.leads() || !config.extend && config.keep_epochs.is_empty() {
        return Ok(0);
    }
    let saved = run.load_state()?;
    if let Some(warning) = saved.as_ref().and_then(|saved| saved.warning.as_ref()) {
        progress.note(&format!("warning: {warning}"));
    }
    Ok(saved.map_or(0, |saved| saved.position.step))
}

// The settings as a backbone's file holds them: all that decided its weights.
fn provenance(recipe: &PretrainRecipe, init: Option<&Backbone>, extensions: &[Extension]) -> String {
    let mut config = serde_json::to_value(recipe).expect("a recipe serialises");
    if let Some(backbone) = init {
        config["init_sha256"] = backbone.sha256.clone().into();
    }
    if !extensions.is_empty() {
        config["extended"] = serde_json::to_value(extensions).expect("numbers serialise");
    }
    config.to_string()
}

// Names the run by what decides its weights, data included.
fn describe(recipe: &PretrainRecipe, pack: &Pack, init: Option<&Backbone>) -> String {
    let recipe = toml::to_string(recipe).expect("a recipe serialises");
    let text = |s: &str| toml::Value::from(s).to_string();
    let mut lines = format!(
        "\n[dataset]\nsha256 = {}\nfit = {}\n",
        text(pack.sha256()),
        text(&pack.fit())
    );
    if let Some(backbone) = init {
        lines += &format!("init_sha256 = {}\n", text(&backbone.sha256));
    }
    recipe + &lines
}

// The pack's classes that have an image in the selection, whose own labels may be general categories, and
// those that the backbone had been trained on before.
fn trained_classes(pack: &Pack, selection: &Selection, init: Option<&Backbone>) -> Vec<String> {
    let classes: BTreeSet<i64> = selection
        .indices
        .iter()
        .map(|&row| pack.labels()[row as usize])
        .collect();
    let mut names: Vec<String> = classes
        .into_iter()
        .map(|class| pack.class_names()[class as usize].clone())
        .collect();
    let before = init.into_iter().flat_map(|backbone| &backbone.info.class_names);
    for name in before {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
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
    // A method that does not train has no optimiser's settings.
    let config = OptimizerConfig {
        algorithm: options
            .optimizer
            .unwrap_or(camtrast_common::optim::Algorithm::Sgd),
        momentum: options.momentum.unwrap_or_default(),
        nesterov: false,
        weight_decay: options.weight_decay.unwrap_or_default(),
    };
    let schedule = schedule_of(options, plan.epochs, plan);
    (Optimizer::new(config, method.groups()), schedule)
}

fn schedule_of(options: &PretrainOptions, epochs: u64, plan: &TrainPlan) -> Schedule {
    let steps_per_epoch = plan.steps_per_epoch();
    Schedule {
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
        total_steps: epochs * steps_per_epoch,
    }
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
    let pixels = Tensor::f_from_data_size(pack.pixels(), &shape, Kind::Uint8)?;
    // Once, and as large as the pack: not through pinned memory.
    Ok(Some(pixels.to_device(device)))
}

/// A method under the engine.
struct PretrainTask {
    method: Box<dyn Pretraining>,
    views: Vec<Augment>,
    resident: Option<Tensor>,
    probe: Option<Probe>,
    clean: Option<CleanImages>,
    epochs: u64,
    /// Epochs whose backbones are kept, by the step that ends them.
    keep: BTreeMap<u64, u64>,
    info: BackboneInfo,
}

impl Task for PretrainTask {
    type Batch = Batch;

    fn forward(&mut self, batch: Batch, at: &StepContext) -> Result<Loss> {
        let pixels = match &self.resident {
            Some(all) => all.index_select(0, &batch.images),
            None => batch.images,
        };
        let views = self.views.iter().zip(&batch.draws);
        let views: Vec<Tensor> = views
            .map(|(view, draws)| view.apply_draws(&pixels, draws))
            .collect();
        self.method.loss(&views, &batch.labels, at)
    }

    fn after_step(&mut self, at: &StepContext) -> Result<()> {
        self.method.after_step(at)
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
        let info = BackboneInfo {
            epoch,
            step,
            ..self.info.clone()
        };
        if self.keep.contains_key(&step) {
            let statistics = keep::Statistics::of(self.method.online());
            if let Some(clean) = &self.clean {
                clean.measure(self.method.backbone())?;
            }
            save_backbone(&run.file(&kept_file(epoch)), &self.backbone(), &info)?;
            statistics.restore();
        }
        // Once, after the last step: nothing trains on.
        if let Some(clean) = self.clean.as_ref().filter(|_| epoch == self.epochs) {
            clean.measure(self.method.backbone())?;
        }
        let mut variables = self.method.online().variables();
        if let (Some(weight), Some(bias)) = (variables.remove("fc.weight"), variables.remove("fc.bias")) {
            Classifier { weight, bias }.save(&run.file(CLASSIFIER_FILE), &info)?;
        }
        save_backbone(&run.file("backbone.safetensors"), &self.backbone(), &info)
    }
}

impl PretrainTask {
    fn backbone(&self) -> BTreeMap<String, Tensor> {
        let variables = self.method.online().variables().into_iter();
        variables
            .filter_map(|(name, t)| Some((name.strip_prefix("backbone.")?.to_owned(), t)))
            .collect()
    }
}
