//! An exponential moving average of one network's parameters in another of the same shape.

use std::collections::HashMap;
use tch::nn::VarStore;
use tch::{Tensor, no_grad};

/// Pairs of parameters: the average (`xi`) and what it follows (`theta`).
#[derive(Debug)]
pub struct Ema {
    pairs: Vec<(Tensor, Tensor)>,
}

impl Ema {
    /// Makes `average` a copy of `online`, buffers included, without gradients, and prepares to follow it.
    ///
    /// Names in `average` must all be in `online`; other parameters of `online` are ignored.
    pub fn new(average: &VarStore, online: &VarStore) -> Self {
        let online: HashMap<String, Tensor> = online.variables();
        let mut pairs = Vec::new();
        for (name, tensor) in average.variables() {
            let followed = &online[&name];
            no_grad(|| tensor.shallow_clone().copy_(followed));
            if followed.requires_grad() {
                pairs.push((tensor.set_requires_grad(false), followed.shallow_clone()));
            }
        }
        Ema { pairs }
    }

    /// `xi <- m xi + (1 - m) theta` for every parameter. Buffers (batch statistics) stay each network's own.
    pub fn update(&mut self, momentum: f64) {
        no_grad(|| {
            for (average, online) in &mut self.pairs {
                let _ = average.g_mul_scalar_(momentum);
                let _ = average.g_add_(&(&*online * (1.0 - momentum)));
            }
        });
    }
}
