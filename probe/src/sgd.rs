//! The linear classifier of the literature on self-supervision: SGD with momentum over many learning rates,
//! the best chosen on validation images (Oquab et al. 2023, DINOv2's linear evaluation). All rates are
//! trained side by side, each batch of features being read once.

use crate::features::Normalisation;
use crate::logistic::Classifier;
use crate::task::ProbeTask;
use camtrast_common::device::send;
use camtrast_common::progress::Progress;
use camtrast_common::random::{generator, permutation, torch_seed};
use std::f64::consts::PI;
use tch::{Kind, Tensor, no_grad};

/// DINOv2's learning rates, for batches of 256; proportionally more for larger ones.
pub const RATES: [f64; 13] = [
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1,
];
const MOMENTUM: f64 = 0.9;

/// The course of a training.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// Passes over the images.
    pub epochs: usize,
    /// Images per step, fewer in the last step of a pass.
    pub batch_size: usize,
    /// Seed of the first weights and of the order of images.
    pub seed: u64,
}

/// Trains a classifier at each of `rates` on some rows of the training features. The rate falls to zero along
/// a cosine; there is no weight decay.
pub fn train(
    task: &ProbeTask,
    normalisation: &Normalisation,
    rows: &[i64],
    rates: &[f64],
    course: Course,
    progress: &dyn Progress,
) -> Vec<Classifier> {
    let Course {
        epochs,
        batch_size,
        seed,
    } = course;
    let x = &task.train.x;
    let (device, d) = (x.device(), x.size()[1]);
    let (c, r) = (task.classes.len() as i64, rates.len() as i64);
    no_grad(|| {
        let targets = send(Tensor::from_slice(&task.train.labels), device);
        tch::manual_seed(torch_seed(seed, "linear probe", 0, 0));
        // Intercepts are the last column.
        let first = Tensor::randn([c, d + 1], (Kind::Float, tch::Device::Cpu)) * 0.01;
        let _ = first.select(1, d).fill_(0.0);
        let mut weights = send(first, device).repeat([r, 1]); // [r c, D + 1]
        let mut momentum = weights.zeros_like();
        let rates: Vec<f32> = rates
            .iter()
            .map(|rate| (rate * batch_size as f64 / 256.0) as f32)
            .collect();
        let rates = send(Tensor::from_slice(&rates), device)
            .repeat_interleave_self_int(c, 0, None)
            .unsqueeze(1);
        let steps = epochs * rows.len().div_ceil(batch_size);
        let mut step = 0;
        progress.start("linear classifiers", steps as u64, 0);
        for epoch in 0..epochs {
            let order = permutation(rows.len(), &mut generator(seed, "linear probe", epoch as u64, 0));
            for chosen in order.chunks(batch_size) {
                let chosen: Vec<i64> = chosen.iter().map(|&place| rows[place as usize]).collect();
                let chosen = send(Tensor::from_slice(&chosen), device);
                let n = chosen.size()[0];
                let batch = normalisation.centred(&x.index_select(0, &chosen));
                let batch = Tensor::cat(&[batch, Tensor::ones([n, 1], (Kind::Float, device))], 1);
                let logits = batch.matmul(&weights.tr()).view([n, r, c]);
                let wanted = targets.index_select(0, &chosen).one_hot(c).unsqueeze(1);
                let residual = (logits.softmax(-1, Kind::Float) - wanted).view([n, r * c]) / n as f64;
                momentum = momentum * MOMENTUM + residual.tr().matmul(&batch);
                let falling = 0.5 * (1.0 + (PI * step as f64 / steps as f64).cos());
                weights -= &momentum * (&rates * falling);
                step += 1;
                progress.advance(1, "");
            }
        }
        progress.finish();
        let parts = weights.to_kind(Kind::Double).split(c, 0);
        parts.into_iter().map(Classifier).collect()
    })
}
