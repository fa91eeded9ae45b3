//! How long a pretraining may take on this machine, before a similar one has run: the number of images that
//! pass through the network, divided by a measured rate.

use super::cell::SuiteCell;
use crate::commands::pretrain::PretrainArgs;
use camtrast_common::device::{Precision, channels_last};
use camtrast_common::distributed::Group;
use camtrast_common::nn::{Mode, weights_channels_last};
use camtrast_common::resnet::{Arch, ResNet};
use camtrast_datasets::Pack;
use camtrast_pretrain::Settled;
use camtrast_report::record::PRETRAIN;
use clap::{Args, Command, FromArgMatches};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Instant;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Rates measured so far, in images a second, by network, side and precision.
pub struct Rates {
    device: Device,
    /// Threads in place of the recipe's.
    threads: Option<usize>,
    known: BTreeMap<String, f64>,
}

/// Rough factor for augmentation, heads and optimiser on top of the backbone.
const OVERHEAD: f64 = 1.2;

impl Rates {
    /// For a device and a number of threads in place of the recipe's.
    pub fn new(device: Device, threads: Option<usize>) -> Self {
        Rates {
            device,
            threads,
            known: BTreeMap::new(),
        }
    }

    /// Seconds of a pretraining, within a factor of two or so; `None` for other tasks and when its data is
    /// missing.
    pub fn seconds(&mut self, cell: &SuiteCell) -> Option<f64> {
        if cell.task != PRETRAIN {
            return None;
        }
        let line = ["pretrain", "--out=x"]
            .map(OsString::from)
            .into_iter()
            .chain(cell.flags.clone());
        let matches = PretrainArgs::augment_args(Command::new("pretrain"))
            .try_get_matches_from(line)
            .ok()?;
        let recipe = PretrainArgs::from_arg_matches(&matches).ok()?.recipe().ok()?;
        let pack = Pack::open(&recipe.data).ok()?;
        let Settled { recipe, setting, .. } = recipe.settle(&pack, self.device, Group::ALONE).ok()?;
        let images = recipe.options.epochs? as f64 * setting.images as f64;
        if let Some(threads) = self.threads.or(cell.threads) {
            tch::set_num_threads(threads as i32);
        }
        let passes = recipe.method.passes() * images;
        if passes == 0.0 {
            return Some(0.0);
        }
        Some(OVERHEAD * passes / self.rate(recipe.arch, setting.image_size, recipe.precision)?)
    }

    fn rate(&mut self, arch: Arch, side: i64, precision: Precision) -> Option<f64> {
        let name = format!("{arch} {side} {precision}");
        if let Some(rate) = self.known.get(&name) {
            return Some(*rate);
        }
        let vs = VarStore::new(self.device);
        let net = ResNet::new(&vs.root(), arch);
        weights_channels_last(&vs);
        let batch = if self.device.is_cuda() { 256 } else { 32 };
        let images = channels_last(&Tensor::zeros([batch, 3, side, side], (Kind::Float, self.device)));
        let mut fastest = f64::INFINITY;
        // The first pass is slower than the others.
        for _ in 0..4 {
            let begun = Instant::now();
            let features = precision
                .run(self.device, || Ok(net.features(&images, Mode::TRAIN)))
                .ok()?;
            let sum = features.to_kind(Kind::Float).sum(Kind::Float);
            sum.backward();
            // Waits for a GPU.
            let _ = sum.double_value(&[]);
            fastest = fastest.min(begun.elapsed().as_secs_f64());
        }
        let rate = batch as f64 / fastest;
        self.known.insert(name, rate);
        Some(rate)
    }
}
