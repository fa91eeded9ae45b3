//! Feature pyramid: the backbone's four feature maps made equally deep and semantically strong from the top
//! down.
//!
//! Source: Lin et al. 2017, "Feature Pyramid Networks for Object Detection", and
//! `torchvision.ops.FeaturePyramidNetwork` with `LastLevelMaxPool`.

use camtrast_common::nn::Conv2d;
use tch::Tensor;
use tch::nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use tch::nn::{Init, Path};

/// A feature pyramid; see the module.
#[derive(Debug)]
pub struct Fpn {
    inner: Vec<Conv2d>,
    layer: Vec<Conv2d>,
}

impl Fpn {
    /// For feature maps with these numbers of channels, the finest first. Variables `inner.N` and `layer.N`.
    pub fn new(vs: &Path, inputs: &[i64], channels: i64) -> Self {
        // kaiming_uniform_(a=1): bound sqrt(3 / fan_in), which is tch's for a linear layer.
        let init = Init::Kaiming {
            dist: NormalOrUniform::Uniform,
            fan: FanInOut::FanIn,
            non_linearity: NonLinearity::Linear,
        };
        let convs = |name: &str, kernel: i64, from: &dyn Fn(usize) -> i64| {
            let vs = vs / name;
            (0..inputs.len())
                .map(|i| Conv2d::with_bias(&(&vs / i), from(i), channels, kernel, init))
                .collect()
        };
        Fpn {
            inner: convs("inner", 1, &|i| inputs[i]),
            layer: convs("layer", 3, &|_| channels),
        }
    }

    /// From maps [N, inputs, H, W], the finest first, to as many of [N, channels, H, W] and one of half the
    /// coarsest's size.
    pub fn forward(&self, maps: &[Tensor]) -> Vec<Tensor> {
        let mut levels: Vec<Tensor> = Vec::new();
        let mut above: Option<Tensor> = None;
        for ((map, inner), layer) in maps.iter().zip(&self.inner).zip(&self.layer).rev() {
            let lateral = inner.forward(map);
            let merged = match above {
                Some(above) => {
                    let (_, _, h, w) = lateral.size4().expect("a feature map");
                    lateral + above.upsample_nearest2d([h, w], None, None)
                }
                None => lateral,
            };
            levels.push(layer.forward(&merged));
            above = Some(merged);
        }
        levels.reverse();
        let coarsest = levels[levels.len() - 1].max_pool2d([1, 1], [2, 2], [0, 0], [1, 1], false);
        levels.push(coarsest);
        levels
    }
}
