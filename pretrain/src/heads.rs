//! Projection and prediction heads.

use camtrast_common::nn::{BatchNorm, Linear, Mode, Then};
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
        Projector {
            hidden: Linear::new(&(vs / 0), inputs, hidden),
            output: Linear::new(&(vs / 2), hidden, outputs),
        }
    }

    pub(crate) fn forward(&self, features: &Tensor) -> Tensor {
        self.output.forward(&self.hidden.forward(features).relu())
    }
}

/// The heads of SimSiam and BYOL: linear layers, each but the last followed by batch norm and ReLU.
#[derive(Debug)]
pub(crate) struct NormMlp {
    hidden: Vec<(Linear, BatchNorm)>,
    output: Linear,
    norm: Option<BatchNorm>,
}

impl NormMlp {
    /// Layers of these `sizes`, input first. `norm`: the output is also normalised, without scale and shift
    /// (SimSiam's projector). Layers have a bias only where no batch norm follows; variables are numbered as
    /// in an `nn.Sequential`.
    pub(crate) fn new(vs: &Path, sizes: &[i64], norm: bool) -> Self {
        let last = sizes.len() - 2;
        let hidden = (0..last)
            .map(|i| {
                let linear = Linear::without_bias(&(vs / (3 * i)), sizes[i], sizes[i + 1]);
                (linear, BatchNorm::new(&(vs / (3 * i + 1)), sizes[i + 1]))
            })
            .collect();
        let (path, inputs, outputs) = (vs / (3 * last), sizes[last], sizes[last + 1]);
        let output = if norm {
            Linear::without_bias(&path, inputs, outputs)
        } else {
            Linear::new(&path, inputs, outputs)
        };
        let norm = norm.then(|| BatchNorm::without_affine(&(vs / (3 * last + 1)), outputs));
        NormMlp { hidden, output, norm }
    }

    /// [N, inputs] to [N, outputs].
    pub(crate) fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let hidden = self.hidden.iter().fold(x.shallow_clone(), |x, (linear, norm)| {
            norm.forward(&linear.forward(&x), mode, Then::Relu)
        });
        let y = self.output.forward(&hidden);
        self.norm
            .as_ref()
            .map_or(y.shallow_clone(), |norm| norm.forward(&y, mode, Then::Nothing))
    }
}
