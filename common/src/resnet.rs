//! ResNet-18/34/50/101 with torchvision's tensor names and shapes (stride on the 3x3 convolution of a
//! bottleneck).
//!
//! Source: He et al., "Deep Residual Learning for Image Recognition", and `torchvision.models.resnet`.

mod arch;

pub use arch::{Arch, Stem};

use crate::nn::{BatchNorm, Conv2d, Mode, Then};
use arch::StemLayer;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use tch::nn::Path;

/// One residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the channels at the end.
#[derive(Debug)]
struct Block {
    convs: Vec<(Conv2d, BatchNorm)>,
    downsample: Option<(Conv2d, BatchNorm)>,
}

impl Block {
    // `dilation` holds that of the first 3x3 convolution, and of the second where there is one.
    fn new(vs: &Path, bottleneck: bool, inputs: i64, planes: i64, stride: i64, dilation: [i64; 2]) -> Self {
        // (outputs, kernel, stride) of each convolution.
        let (shapes, outputs) = if bottleneck {
            (
                vec![(planes, 1, 1), (planes, 3, stride), (planes * 4, 1, 1)],
                planes * 4,
            )
        } else {
            (vec![(planes, 3, stride), (planes, 3, 1)], planes)
        };
        let mut channels = inputs;
        let mut dilation = dilation.into_iter();
        let convs = (shapes.into_iter().enumerate())
            .map(|(i, (outputs, kernel, stride))| {
                let conv = Conv2d::new(
                    &(vs / format!("conv{}", i + 1)),
                    channels,
                    outputs,
                    kernel,
                    stride,
                );
                let conv = if kernel == 3 {
                    conv.dilated(dilation.next().expect("two at most"))
                } else {
                    conv
                };
                channels = outputs;
                (conv, BatchNorm::new(&(vs / format!("bn{}", i + 1)), outputs))
            })
            .collect();
        let downsample = (stride != 1 || inputs != outputs).then(|| {
            let vs = vs / "downsample";
            (
                Conv2d::new(&(&vs / 0), inputs, outputs, 1, stride),
                BatchNorm::new(&(&vs / 1), outputs),
            )
        });
        Block { convs, downsample }
    }

    fn forward(&self, x: Vec<Tensor>, mode: Mode) -> Vec<Tensor> {
        let shortcut = match &self.downsample {
            Some((conv, bn)) => bn.forward_all(&conv.forward_all(&x), mode, |_| Then::Nothing),
            None => x.iter().map(Tensor::shallow_clone).collect(),
        };
        let last = self.convs.len() - 1;
        self.convs.iter().enumerate().fold(x, |y, (i, (conv, bn))| {
            bn.forward_all(&conv.forward_all(&y), mode, |image| match &shortcut[image] {
                shortcut if i == last => Then::AddRelu(shortcut),
                _ => Then::Relu,
            })
        })
    }
}

impl StemLayer {
    // A module's path has no dots: `stem.0` is `0` in `stem`.
    fn build(&self, vs: &Path) -> (Conv2d, BatchNorm) {
        let at = |name: &str| name.split('.').fold(vs.clone(), |vs, part| &vs / part);
        let conv = Conv2d::new(
            &at(self.conv),
            self.inputs,
            self.outputs,
            self.kernel,
            self.stride,
        );
        (conv, BatchNorm::new(&at(self.norm), self.outputs))
    }
}

/// Which 3x3 convolutions of a basic block (ResNet-18 and 34) are dilated in an atrous layer; bottlenecks
/// have only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BasicDilation {
    /// Both.
    #[default]
    Both,
    /// The first (mmsegmentation's `BasicBlock`).
    First,
}

/// The feature maps after each layer.
#[derive(Debug)]
pub struct Stages {
    /// After the stem: [N, width, H/4, W/4] (H x W with the small stem).
    pub stem: Tensor,
    /// After layer1 to layer4: strides 4, 8, 16, 32 (1, 2, 4, 8 with the small stem).
    pub layers: [Tensor; 4],
}

/// A ResNet without its classifier.
#[derive(Debug)]
pub struct ResNet {
    arch: Arch,
    stem: Vec<(Conv2d, BatchNorm)>,
    layers: [Vec<Block>; 4],
}

impl ResNet {
    /// Variables under `vs`, named as torchvision names them.
    pub fn new(vs: &Path, arch: Arch) -> Self {
        Self::atrous(vs, arch, 32, BasicDilation::Both)
    }

    /// With dilation in place of the strides that would go beyond `output_stride` (32, 16 or 8; a quarter of
    /// it with the small stem), as torchvision's `replace_stride_with_dilation`: same variables, same
    /// weights. The first block of such a layer keeps the dilation of the layer before (mmsegmentation's
    /// `contract_dilation`).
    pub fn atrous(vs: &Path, arch: Arch, output_stride: i64, basic: BasicDilation) -> Self {
        let mut channels = arch.width;
        let mut dilation = 1;
        let layers = std::array::from_fn(|l| {
            let vs = vs / format!("layer{}", l + 1);
            let planes = arch.width << l;
            let atrous = l > 0 && (4 << l) > output_stride;
            let before = dilation;
            if atrous {
                dilation *= 2;
            }
            (0..arch.blocks()[l])
                .map(|b| {
                    let stride = if b == 0 && l > 0 && !atrous { 2 } else { 1 };
                    let dilation = if b == 0 { before } else { dilation };
                    let second = if basic == BasicDilation::Both { dilation } else { 1 };
                    let dilation = [dilation, second];
                    let block = Block::new(&(&vs / b), arch.bottleneck(), channels, planes, stride, dilation);
                    channels = if arch.bottleneck() { planes * 4 } else { planes };
                    block
                })
                .collect()
        });
        ResNet {
            arch,
            stem: arch
                .stem_layers()
                .into_iter()
                .map(|layer| layer.build(vs))
                .collect(),
            layers,
        }
    }

    /// Depth, width and stem.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The stem's feature maps of images [n, 3, H, W] of several sizes: each [n, width, H/4, W/4] (H x W with
    /// the small stem). Batch norm takes its statistics from all of them.
    pub fn stem_of_all(&self, images: &[Tensor], mode: Mode) -> Vec<Tensor> {
        let mut maps: Vec<Tensor> = images.iter().map(Tensor::shallow_clone).collect();
        for (conv, bn) in &self.stem {
            maps = bn.forward_all(&conv.forward_all(&maps), mode, |_| Then::Relu);
        }
        match self.arch.stem {
            Stem::Standard | Stem::V1c => maps
                .iter()
                .map(|y| y.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false))
                .collect(),
            Stem::Small => maps,
        }
    }

    /// Layer `number` (1 to 4) on the feature maps before it, of several sizes.
    pub fn layer_of_all(&self, number: usize, maps: Vec<Tensor>, mode: Mode) -> Vec<Tensor> {
        self.layers[number - 1]
            .iter()
            .fold(maps, |maps, block| block.forward(maps, mode))
    }

    /// The stem's feature map of images [N, 3, H, W]: [N, width, H/4, W/4] (H x W with the small stem).
    pub fn stem(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.stem_of_all(std::slice::from_ref(x), mode).remove(0)
    }

    /// Layer `number` (1 to 4) on the feature map before it.
    pub fn layer(&self, number: usize, x: &Tensor, mode: Mode) -> Tensor {
        self.layer_of_all(number, vec![x.shallow_clone()], mode).remove(0)
    }

    /// All feature maps of images [N, 3, H, W].
    pub fn stages(&self, x: &Tensor, mode: Mode) -> Stages {
        self.stages_of_all(std::slice::from_ref(x), mode).remove(0)
    }

    /// All feature maps of images [n, 3, H, W] of several sizes.
    pub fn stages_of_all(&self, images: &[Tensor], mode: Mode) -> Vec<Stages> {
        let stem = self.stem_of_all(images, mode);
        let mut maps: Vec<Tensor> = stem.iter().map(Tensor::shallow_clone).collect();
        let mut layers = [1, 2, 3, 4].map(|number| {
            maps = self.layer_of_all(number, std::mem::take(&mut maps), mode);
            maps.iter()
                .map(Tensor::shallow_clone)
                .collect::<Vec<_>>()
                .into_iter()
        });
        let mut of_image = || {
            layers
                .each_mut()
                .map(|maps| maps.next().expect("a map of every image at every layer"))
        };
        stem.into_iter()
            .map(|stem| Stages {
                stem,
                layers: of_image(),
            })
            .collect()
    }

    /// Sets the scale of the last batch norm of every block to zero, so that every block is the identity at
    /// the start of training (Goyal et al. 2017; torchvision's `zero_init_residual`).
    pub fn zero_init_residuals(&self) {
        for (_, norm) in self
            .layers
            .iter()
            .flatten()
            .filter_map(|block| block.convs.last())
        {
            norm.zero_scale();
        }
    }

    /// The last feature map, [N, D, H/32, W/32].
    pub fn feature_map(&self, x: &Tensor, mode: Mode) -> Tensor {
        let [.., last] = self.stages(x, mode).layers;
        last
    }

    /// Globally average-pooled features, [N, D].
    pub fn features(&self, x: &Tensor, mode: Mode) -> Tensor {
        pool(&self.feature_map(x, mode))
    }
}

/// Global average pooling, [N, D, h, w] to [N, D].
pub fn pool(map: &Tensor) -> Tensor {
    map.mean_dim([2i64, 3].as_slice(), false, None)
}
