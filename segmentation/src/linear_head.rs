//! The dense linear probe: batch norm and a 1x1 convolution on the backbone's last map (Oquab et al. 2023,
//! DINOv2's linear segmentation).

use camtrast_common::nn::{BatchNorm, Conv2d, Mode, Then};
use tch::Tensor;
use tch::nn::{Init, Path};

/// Logits of the positions of a map, each from its features alone.
#[derive(Debug)]
pub struct LinearHead {
    norm: BatchNorm,
    classifier: Conv2d,
}

impl LinearHead {
    /// From `features` channels to `classes` logits; variables `norm.*` and `classifier.*`.
    pub fn new(vs: &Path, features: i64, classes: i64) -> Self {
        let first = Init::Randn {
            mean: 0.0,
            stdev: 0.01,
        };
        LinearHead {
            norm: BatchNorm::new(&(vs / "norm"), features),
            classifier: Conv2d::with_bias(&(vs / "classifier"), features, classes, 1, first),
        }
    }

    /// [N, D, h, w] to logits [N, K, h, w].
    pub fn forward(&self, map: &Tensor, mode: Mode) -> Tensor {
        self.classifier
            .forward(&self.norm.forward(map, mode, Then::Nothing))
    }
}
