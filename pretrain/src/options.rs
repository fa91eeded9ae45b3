//! Every setting of every method. A field is a flag, a TOML key and a line of the checkpoint's `config`; its
//! default depends on the method (see each method's `defaults`), and a setting without a default for a method
//! has no meaning for it.

use camtrast_common::augment::{Augment, Crop};
use camtrast_common::optim::Algorithm;
use camtrast_common::schedule::Decay;
use camtrast_common::settings;
pub(crate) use camtrast_common::settings::set;
pub use camtrast_common::settings::{Numbers, Switch};
use camtrast_common::settings::{check_counts, check_milestones, check_not_negative, check_range};
use camtrast_common::{Error, Result};
use camtrast_datasets::{LabelKind, Pack, Selection, SubsetOptions, select_subset};
use serde::{Deserialize, Serialize};

settings! {
/// Settings of a method. `None`: not given, or (after [`PretrainOptions::resolve`]) without meaning for the
/// method.
pub struct PretrainOptions under "Method settings (defaults are the method's own)" {
    /// Epochs, at least 1 (0 for scratch only, which does not train)
    epochs: u64,
    /// Images per batch
    batch_size: u64,
    /// sgd, adam, adamw or lars
    optimizer: Algorithm,
    /// Learning rate; the default grows with the batch size
    lr: f64,
    /// Momentum of sgd and lars
    momentum: f64,
    /// Weight decay
    weight_decay: f64,
    /// Decay of the learning rate: constant, step, cosine, poly, exponential
    schedule: Decay,
    /// Epochs at which `--schedule step` lowers the learning rate, such as 60,80
    milestones: Numbers,
    /// Factor of `--schedule step` and `exponential`
    gamma: f64,
    /// Epochs over which the learning rate rises from zero
    warmup_epochs: f64,
    /// none, padded (RandomCrop) or resized (RandomResizedCrop)
    crop: CropKind,
    /// Pixels of padding of `--crop padded`
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    crop_padding: i64,
    /// Smallest and largest share of the image area in a crop, with `--crop resized`, such as 0.2,1
    crop_scale: Numbers,
    /// Probability of a horizontal flip
    flip: f64,
    /// Strength of brightness, contrast, saturation and hue jitter, such as 0.4,0.4,0.4,0.1
    jitter: Numbers,
    /// Probability of the jitter
    jitter_probability: f64,
    /// Probability of conversion to grey
    grayscale: f64,
    /// Probability of a Gaussian blur
    blur: f64,
    /// Smallest and largest standard deviation of the blur in pixels, such as 0.1,2
    blur_sigma: Numbers,
    /// Probability of a Gaussian blur of the second view
    second_blur: f64,
    /// Probability of solarising (inverting all but dark colours)
    solarize: f64,
    /// Probability of solarising the second view
    second_solarize: f64,
    /// Outputs of the projector
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    projection_dim: i64,
    /// Hidden features of the projector
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    projector_hidden: i64,
    /// Hidden features of the predictor
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    predictor_hidden: i64,
    /// Whether the predictor's learning rate is constant: true or false
    constant_predictor_lr: bool,
    /// Whether no gradient flows through the target: true or false (without it, SimSiam collapses)
    stop_gradient: bool,
    /// Whether the last batch norm of every block starts at zero: true or false
    zero_init_residual: bool,
    /// K, the number of keys in the queue
    queue_size: i64,
    /// Temperature of the contrastive loss
    temperature: f64,
    /// m, the momentum of the key encoder (BYOL: tau_0 of the target network)
    key_momentum: f64,
    /// Number of parts of the batch for batch norm (1: the whole batch); of the key encoder's shuffled batch
    /// where there is one
    bn_splits: i64,
    /// Number of parts of the query encoder's batch for batch norm (1: the whole batch)
    query_bn_splits: i64,
    /// Batch norm of a whole batch that several processes share: device (each normalises its own part) or
    /// sync (statistics of the whole batch)
    batch_norm: BatchNormScope,
    /// CAM-guided suppression: on, or off (a second augmented view in its place)
    cam: Switch,
    /// The self-supervised loss in addition to the classifier's: none, moco or simsiam
    contrast: Contrast,
    /// t, the number of epochs with cross-entropy only, before the CAM is used
    cam_warmup_epochs: u64,
    /// The class whose CAM is used for suppression: predicted or label
    cam_class: CamClass,
}
}

/// The part of a pack to train on. Subsets of one seed are nested.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case")]
pub struct Subset {
    /// Use this many classes of the pack, drawn from the seed
    #[arg(long, help_heading = "Part of the data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Draw the classes from this many general categories
    #[arg(long, help_heading = "Part of the data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categories: Option<usize>,
    /// Use this many images of each class, drawn from the seed
    #[arg(long, help_heading = "Part of the data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_class: Option<usize>,
    /// Use this many images in total, spread evenly over the classes
    #[arg(long, help_heading = "Part of the data", conflicts_with = "images_per_class")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_images: Option<usize>,
    /// Labels: fine (classes) or coarse (general categories)
    #[arg(long, default_value = "fine", help_heading = "Part of the data")]
    pub labels: LabelKind,
}

impl Subset {
    /// The rows of `pack` that `seed` draws, with their labels.
    ///
    /// # Errors
    /// [`Error::Settings`] when the pack has fewer classes, categories or images, or no general categories.
    pub fn select(&self, pack: &Pack, seed: u64) -> Result<Selection> {
        let Subset {
            classes,
            categories,
            images_per_class,
            total_images,
            labels,
        } = *self;
        select_subset(
            pack,
            &SubsetOptions {
                classes,
                categories,
                images_per_class,
                total_images,
                labels,
                seed,
            },
        )
    }
}

impl PretrainOptions {
    /// The user's settings, completed with the method's defaults.
    ///
    /// # Errors
    /// [`Error::Usage`] when a setting is given that has no meaning for the method, [`Error::Settings`] for
    /// values that no training can use.
    pub fn resolve(self, defaults: PretrainOptions, method: &str) -> Result<PretrainOptions> {
        let mut known = defaults.given();
        // Without a default of their own: they have a meaning for whatever trains.
        if defaults.optimizer.is_some() {
            known.extend(["bn-splits", "batch-norm"].map(String::from));
        }
        if let Some(flag) = self.given().into_iter().find(|flag| !known.contains(flag)) {
            let problem = format!("--{flag} has no meaning for --method {method}");
            return Err(Error::Usage {
                problem,
                remedy: "leave it out".into(),
            });
        }
        let options = self.or(defaults);
        options.check()?;
        Ok(options)
    }

    // Values that no method can use; each method checks its own settings.
    fn check(&self) -> Result<()> {
        check_counts(&[("epochs", self.epochs), ("batch-size", self.batch_size)])?;
        check_not_negative(&[
            ("lr", self.lr),
            ("weight-decay", self.weight_decay),
            ("gamma", self.gamma),
            ("warmup-epochs", self.warmup_epochs),
        ])?;
        if let Some(momentum) = self.momentum {
            check_range("momentum", momentum, 0.0..1.0, "from 0 to below 1")?;
        }
        if let Some(temperature) = self.temperature.filter(|t| !(t.is_finite() && *t > 0.0)) {
            let problem = format!("--temperature {temperature} is not positive and finite");
            return Err(Error::settings(problem, "MoCo v2's is 0.2"));
        }
        check_milestones(&self.milestones)
    }

    /// The augmentation that the view settings describe.
    ///
    /// # Errors
    /// [`Error::Settings`] for lists of the wrong length and numbers out of range.
    pub fn augment(&self) -> Result<Augment> {
        let crop = match set(&self.crop) {
            CropKind::None => Crop::None,
            CropKind::Padded => Crop::Padded {
                padding: set(&self.crop_padding),
            },
            CropKind::Resized => {
                let [least, most] = self.numbers("crop-scale", &self.crop_scale)?;
                if !(0.0 < least && least <= most && most <= 1.0) {
                    return Err(Error::settings(
                        "--crop-scale must be in 0..1",
                        "give it as 0.2,1",
                    ));
                }
                Crop::Resized { scale: (least, most) }
            }
        };
        let jitter: [f64; 4] = self.numbers("jitter", &self.jitter)?;
        if !jitter.iter().all(|s| (0.0..=f64::MAX).contains(s)) || jitter[3] > 0.5 {
            return Err(Error::settings(
                "--jitter must not be negative, its hue at most 0.5",
                "give it as 0.4,0.4,0.4,0.1",
            ));
        }
        let [least, most] = self.numbers("blur-sigma", &self.blur_sigma)?;
        if !(0.0 < least && least <= most && most.is_finite()) {
            return Err(Error::settings(
                "--blur-sigma must be two positive numbers in rising order",
                "give it as 0.1,2",
            ));
        }
        let probability = |name: &str, value: &Option<f64>| match set(value) {
            p if (0.0..=1.0).contains(&p) => Ok(p),
            p => Err(Error::settings(
                format!("--{name} {p} is not a probability"),
                "give a number from 0 to 1",
            )),
        };
        Ok(Augment {
            crop,
            flip: probability("flip", &self.flip)?,
            jitter,
            jitter_probability: probability("jitter-probability", &self.jitter_probability)?,
            grayscale: probability("grayscale", &self.grayscale)?,
            blur_sigma: (least, most),
            blur: probability("blur", &self.blur)?,
            solarize: probability("solarize", &self.solarize)?,
        })
    }

    fn numbers<const N: usize>(&self, name: &str, list: &Option<Numbers>) -> Result<[f64; N]> {
        let wrong = |n: &Numbers| {
            Error::settings(
                format!("--{name} {n} does not have {N} numbers"),
                "separate them by commas",
            )
        };
        set(list).0.try_into().map_err(|v| wrong(&Numbers(v)))
    }

    /// RandomCrop with padding, colour jitter and flip: the weak augmentation of Tian et al. 2020.
    pub(crate) fn weak_augmentation(image_size: i64) -> PretrainOptions {
        let padding = if image_size <= 32 {
            4
        } else {
            (image_size as f64 * 8.0 / 84.0).round() as i64
        };
        PretrainOptions {
            crop: Some(CropKind::Padded),
            crop_padding: Some(padding),
            jitter: Some(Numbers(vec![0.4, 0.4, 0.4, 0.0])),
            jitter_probability: Some(1.0),
            grayscale: Some(0.0),
            blur: Some(0.0),
            ..PretrainOptions::strong_augmentation()
        }
    }

    /// MoCo v2's augmentation.
    pub(crate) fn strong_augmentation() -> PretrainOptions {
        let Augment {
            flip,
            jitter,
            jitter_probability,
            grayscale,
            blur_sigma,
            blur,
            solarize,
            ..
        } = Augment::MOCO_V2;
        PretrainOptions {
            crop: Some(CropKind::Resized),
            crop_padding: Some(0),
            crop_scale: Some(Numbers(vec![0.2, 1.0])),
            flip: Some(flip),
            jitter: Some(Numbers(jitter.into())),
            jitter_probability: Some(jitter_probability),
            grayscale: Some(grayscale),
            blur: Some(blur),
            blur_sigma: Some(Numbers(vec![blur_sigma.0, blur_sigma.1])),
            solarize: Some(solarize),
            ..PretrainOptions::default()
        }
    }

    /// These settings without those of a queue, its keys and its projector.
    pub(crate) fn without_contrast(self) -> PretrainOptions {
        PretrainOptions {
            projection_dim: None,
            projector_hidden: None,
            queue_size: None,
            temperature: None,
            key_momentum: None,
            bn_splits: None,
            query_bn_splits: None,
            ..self
        }
    }
}

/// The value of `--crop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CropKind {
    /// No crop.
    None,
    /// RandomCrop after padding.
    Padded,
    /// RandomResizedCrop.
    Resized,
}

/// The value of `--batch-norm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormScope {
    /// Each process normalises its part of the batch by itself.
    Device,
    /// Statistics are those of the whole batch.
    Sync,
}

/// The value of `--cam-class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CamClass {
    /// The class with the highest logit, as in the authors' code.
    Predicted,
    /// The image's own label.
    Label,
}

/// The value of `--contrast`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contrast {
    /// The classifier's losses only.
    None,
    /// InfoNCE against a queue of a momentum encoder's keys.
    Moco,
    /// SimSiam's negative cosine.
    Simsiam,
}
