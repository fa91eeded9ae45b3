//! What a dense task is.

use crate::network::{Network, Trained};
use crate::tune::Tune;
use crate::validation::Validation;
use camtrast_common::Result;
use camtrast_common::arithmetic::Arithmetic;
use camtrast_common::checkpoint::{Backbone, BackboneInfo};
use camtrast_common::device::Precision;
use camtrast_common::distributed::Group;
use camtrast_common::engine::{Loss, Source, StepContext, Validated};
use camtrast_common::leakage::Prints;
use camtrast_common::nn::Modes;
use camtrast_common::optim::{OptimizerConfig, ParamGroup};
use camtrast_common::progress::Progress;
use camtrast_common::run::Metrics;
use camtrast_common::schedule::Schedule;
use camtrast_common::settings::BatchNormMode;
use serde::Serialize;
use std::path::{Path, PathBuf};
use tch::Device;
use tch::nn::{self, VarStore};

/// What every fine-tuning starts from. With the task's own settings it decides weights and metrics, and is
/// written into config.toml.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Start {
    /// The pretrained backbone's file.
    pub checkpoint: PathBuf,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Precision of the network's forward passes.
    pub precision: Precision,
    /// How a device computes.
    #[serde(flatten)]
    pub arithmetic: Arithmetic,
    /// The part of the backbone that is trained.
    pub tune: Tune,
    /// Validation while training.
    #[serde(flatten)]
    pub validation: Validation,
}

/// How long and by which optimiser a task trains: its settings in the terms of the engine.
#[derive(Debug, Clone)]
pub struct Course {
    /// Optimiser steps in all.
    pub steps: u64,
    /// Steps of one pass over the training images.
    pub pass: u64,
    /// Images per step, over all of its batches and all processes.
    pub batch_size: u64,
    /// Batches whose gradients make one step; divides `batch_size`.
    pub accumulate: u64,
    /// Joint gradient norm above which gradients are scaled down.
    pub clip_norm: Option<f64>,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// Factor on the learning rate of the backbone.
    pub backbone_lr_scale: f64,
    /// Batch norm of the backbone.
    pub batch_norm: BatchNormMode,
    /// Batches on which batch norm's running statistics are estimated again after the last step; 0: they
    /// stay moving averages.
    pub precise_bn: u64,
}

/// A task that a backbone is transferred to, with its data read and its settings complete.
///
/// Its network's variables are named `backbone.*` (torchvision's ResNet names) and otherwise as the task
/// likes.
pub trait DenseTask {
    /// Name of the task: the first part of its metrics' names, such as `detection`.
    const NAME: &'static str;
    /// The trained network's file in a run's folder.
    const FILE: &'static str;
    /// Files and folders that an evaluation writes beside metrics.json; `--overwrite` removes them.
    const ARTIFACTS: &'static [&'static str];
    /// The measure on validation images by which the best network is chosen; larger is better.
    const SCORE: &'static str;
    /// The flag that names validation images.
    const VALIDATED_BY: &'static str;
    /// Whether all training batches have one shape, so that it pays to try out which of cuDNN's algorithms is
    /// the fastest for it.
    const ONE_SHAPE: bool;
    /// Settings of the task, as config.toml holds them after those of [`Start`].
    type Settings: Serialize;
    /// The network.
    type Net;
    /// What one step trains on.
    type Batch: Send;
    /// Makes batches on the loader thread.
    type Source: Source<Batch = Self::Batch>;
    /// Result of an evaluation.
    type Evaluation;

    /// The settings, complete and checked.
    fn settings(&self) -> &Self::Settings;

    /// The settings in the terms of the engine.
    fn course(&self) -> Course;

    /// Prints of the training images.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Io`] naming the image that cannot be read.
    fn training_images(&self) -> Result<Prints>;

    /// Prints of the test images; `None` when the run is not evaluated.
    ///
    /// # Errors
    /// As [`DenseTask::training_images`].
    fn test_images(&self) -> Result<Option<Prints>>;

    /// Prints of the images that the network is validated on while training; `None` without such images.
    ///
    /// # Errors
    /// As [`DenseTask::training_images`].
    fn validation_images(&self) -> Result<Option<Prints>> {
        Ok(None)
    }

    /// Measures the network on the validation images, which the processes of its group share, and draws some
    /// of them; rank 0's answer counts.
    ///
    /// # Errors
    /// Those of the images.
    fn validate(&self, _network: &Network<Self::Net>) -> Result<Validated> {
        Ok(Validated::default())
    }

    /// Lines of config.toml's table `[dataset]` that identify the data; `tested` are the prints of the test
    /// images. A run whose lines differ is another run.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Io`] naming the file that cannot be read.
    fn describe_data(&self, backbone: &Backbone, tested: Option<&Prints>) -> Result<String>;

    /// What the user should know before training starts, a line each.
    fn notes(&self, _backbone: &BackboneInfo) -> Vec<String> {
        Vec::new()
    }

    /// Makes the network for a backbone, its variables initialised below `root`.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Settings`] when the settings do not fit the backbone.
    fn network(&self, root: &nn::Path, backbone: &BackboneInfo) -> Result<Self::Net>;

    /// The parameters in groups; frozen ones, which have no gradient, are in none. By default the backbone at
    /// [`Course::backbone_lr_scale`], and everything else.
    fn parameter_groups(&self, vs: &VarStore) -> Vec<ParamGroup> {
        let mut backbone = ParamGroup::matching(vs, |name| name.starts_with("backbone."));
        backbone.lr_scale = self.course().backbone_lr_scale;
        vec![
            backbone,
            ParamGroup::matching(vs, |name| !name.starts_with("backbone.")),
        ]
    }

    /// Batches for training, of which each process of `group` gets its part; the source sends them to
    /// `device` ([`camtrast_common::device::send`]). `batches_per_epoch` of them make one epoch of the
    /// engine.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Settings`] when the settings do not fit the backbone.
    fn source(
        &self,
        backbone: &BackboneInfo,
        batches_per_epoch: u64,
        seed: u64,
        device: Device,
        group: Group,
    ) -> Result<Self::Source>;

    /// Forward pass and loss of one batch.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Torch`].
    fn loss(
        &self,
        network: &Network<Self::Net>,
        batch: &Self::Batch,
        at: &StepContext,
        modes: Modes,
    ) -> Result<Loss>;

    /// Writes the network into one file from which it can be built and used.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Io`]; nothing is left half-written.
    fn save(&self, path: &Path, network: &Network<Self::Net>, trained: &Trained) -> Result<()>;

    /// Evaluates the network on the test images, which the processes of the network's group share, and writes
    /// [`DenseTask::ARTIFACTS`] into the run's folder. `None` without test images, and in all processes but
    /// rank 0.
    ///
    /// # Errors
    /// Those of the test images and of writing.
    fn evaluate(
        &self,
        network: &Network<Self::Net>,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Option<(Self::Evaluation, Metrics)>>;
}
