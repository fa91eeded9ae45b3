//! The settings of a pretraining, and what they come to on a pack.

use crate::method::Setting;
use crate::methods::Method;
use crate::options::{PretrainOptions, Subset, set};
use crate::preset::Preset;
use camtrast_common::arithmetic::Arithmetic;
use camtrast_common::device::Precision;
use camtrast_common::distributed::Group;
use camtrast_common::resnet::Arch;
use camtrast_common::settings::check_counts;
use camtrast_common::{Error, Result};
use camtrast_datasets::{Pack, Selection};
use serde::Serialize;
use std::path::PathBuf;
use tch::Device;

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
    /// How a device computes.
    #[serde(flatten)]
    pub arithmetic: Arithmetic,
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
    /// The backbone that training starts from; a random one when `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// The method's settings.
    #[serde(flatten)]
    pub options: PretrainOptions,
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
    /// Fills in every default for a pack and for the processes that train together, and refuses what cannot
    /// work before anything is written.
    ///
    /// # Errors
    /// [`Error::Settings`] and [`Error::Usage`] for a recipe that does not fit the data or contradicts
    /// itself.
    pub fn settle(mut self, pack: &Pack, device: Device, group: Group) -> Result<Settled> {
        let selection = self.subset.select(pack, self.seed)?;
        let setting = Setting {
            arch: self.arch,
            classes: selection.classes as i64,
            images: selection.indices.len() as u64,
            image_size: pack.height() as i64,
            device,
            group,
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
        if self.init.is_some() && !self.method.trains() {
            return Err(Error::settings(
                format!(
                    "--method {} does not train, so --init would be all of it",
                    self.method
                ),
                "leave --init out, or choose a method that trains",
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
