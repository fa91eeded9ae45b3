//! Projection heads.

use common::nn::Linear;
use tch::Tensor;
use tch::nn::Path;

/// MoCo v2's projector: Linear, ReLU, Linear.
#[derive(Debug)]
pub(crate) struct Projector {
    hidden: Linear,
    output: Linear,
}

impl Projector {
    /// [N, inputs] to [N, outputs].
    pub(crate) fn new(vs: &Path, inputs: i64, hidden: i64, outputs: i64) -> Self {
        Projector { hidden: Linear::new(&(vs / 0), inputs, hidden), output: Linear::new(&(vs / 2), hidden, outputs) }
    }

    pub(crate) fn forward(&self, features: &Tensor) -> Tensor {
        self.output.forward(&self.hidden.forward(features).relu())
    }
}
