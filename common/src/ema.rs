//! An exponential moving average of one network's parameters in another of the same shape.

use crate::error::Result;
use crate::native;
use std::collections::HashMap;
use tch::nn::VarStore;
use tch::{Tensor, no_grad};

/// Parameters: the averages (`xi`) and those that they follow (`theta`), in one order.
#[derive(Debug)]
pub struct Ema {
    averages: Vec<Tensor>,
    followed: Vec<Tensor>,
}

impl Ema {
    /// Makes `average` a copy of `online`, buffers included, without gradients, and prepares to follow it.
    ///
    /// Names in `average` must all be in `online`; other parameters of `online` are ignored.
    pub fn new(average: &VarStore, online: &VarStore) -> Self {
        let online: HashMap<String, Tensor> = online.variables();
        let mut ema = Ema {
            averages: Vec::new(),
            followed: Vec::new(),
        };
        for (name, tensor) in average.variables() {
            let followed = &online[&name];
            no_grad(|| tensor.shallow_clone().copy_(followed));
            if followed.requires_grad() {
                ema.averages.push(tensor.set_requires_grad(false));
                ema.followed.push(followed.shallow_clone());
            }
        }
        ema
    }

    /// `xi <- m xi + (1 - m) theta` for every parameter. Buffers (batch statistics) stay each network's own.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] from the kernels.
    pub fn update(&mut self, momentum: f64) -> Result<()> {
        native::ema(&self.averages, &self.followed, momentum)
    }
}
