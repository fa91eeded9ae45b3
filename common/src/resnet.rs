//! ResNet-18/34/50/101 with torchvision's tensor names and shapes (stride on the 3x3 convolution of a
//! bottleneck).
//!
//! Source: He et al., "Deep Residual Learning for Image Recognition", and `torchvision.models.resnet`.

use crate::nn::{BatchNorm, Conv2d, Mode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use tch::Tensor;
use tch::nn::Path;

/// Depth, width and stem of a ResNet. Written `resnet50`, `resnet18-w16` (16 channels after the stem instead
/// of 64), `resnet18-w16-small` (small stem) or `resnet50-v1c` (three 3x3 convolutions in the stem).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Arch {
    /// 18, 34, 50 or 101 layers.
    pub depth: u32,
    /// Channels after the stem; 64 in the published networks.
    pub width: i64,
    /// First layers.
    pub stem: Stem,
}

/// The supported depths.
const DEPTHS: [u32; 4] = [18, 34, 50, 101];

/// The layers before `layer1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// 7x7 convolution of stride 2 and 3x3 max pooling of stride 2: for images of 64 pixels and more.
    Standard,
    /// 3x3 convolution of stride 1, no pooling: for 32-pixel images, as in the CIFAR variants of MoCo and
    /// SimCLR.
    Small,
    /// Three 3x3 convolutions, the first of stride 2, the first two with half the channels, then the max
    /// pooling: ResNet-C of He et al. 2019, "Bag of Tricks for Image Classification", mmsegmentation's
    /// `ResNetV1c`. Its tensors are named as there: `stem.0`, `stem.1` to `stem.7`.
    V1c,
}

/// One convolution of a stem.
struct StemLayer {
    conv: &'static str,
    norm: &'static str,
    inputs: i64,
    outputs: i64,
    kernel: i64,
    stride: i64,
}

impl FromStr for Stem {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "standard" => Ok(Stem::Standard),
            "small" => Ok(Stem::Small),
            "v1c" => Ok(Stem::V1c),
            _ => Err(format!("{text:?} is not one of standard, small, v1c")),
        }
    }
}

impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stem::Standard => "standard",
            Stem::Small => "small",
            Stem::V1c => "v1c",
        })
    }
}

impl Arch {
    /// Blocks per layer.
    fn blocks(&self) -> [i64; 4] {
        match self.depth {
            18 => [2, 2, 2, 2],
            34 | 50 => [3, 4, 6, 3],
            _ => [3, 4, 23, 3],
        }
    }

    fn bottleneck(&self) -> bool {
        self.depth >= 50
    }

    // The stem's convolutions, each followed by batch norm and ReLU.
    fn stem_layers(&self) -> Vec<StemLayer> {
        let layer = |conv, norm, inputs, outputs, kernel, stride| StemLayer {
            conv,
            norm,
            inputs,
            outputs,
            kernel,
            stride,
        };
        let (width, half) = (self.width, self.width / 2);
        match self.stem {
            Stem::Standard => vec![layer("conv1", "bn1", 3, width, 7, 2)],
            Stem::Small => vec![layer("conv1", "bn1", 3, width, 3, 1)],
            Stem::V1c => vec![
                layer("stem.0", "stem.1", 3, half, 3, 2),
                layer("stem.3", "stem.4", half, half, 3, 1),
                layer("stem.6", "stem.7", half, width, 3, 1),
            ],
        }
    }

    /// Name and shape of every tensor of the network, counters included, without building it.
    pub fn tensors(&self) -> BTreeMap<String, Vec<i64>> {
        let mut tensors = BTreeMap::new();
        let mut pair = |conv: String, norm: String, outputs: i64, inputs: i64, kernel: i64| {
            tensors.insert(format!("{conv}.weight"), vec![outputs, inputs, kernel, kernel]);
            for part in ["weight", "bias", "running_mean", "running_var"] {
                tensors.insert(format!("{norm}.{part}"), vec![outputs]);
            }
            tensors.insert(format!("{norm}.num_batches_tracked"), vec![]);
        };
        for layer in self.stem_layers() {
            pair(
                layer.conv.into(),
                layer.norm.into(),
                layer.outputs,
                layer.inputs,
                layer.kernel,
            );
        }
        let mut inputs = self.width;
        for (l, blocks) in self.blocks().into_iter().enumerate() {
            let planes = self.width << l;
            let outputs = planes * if self.bottleneck() { 4 } else { 1 };
            for b in 0..blocks {
                let block = format!("layer{}.{b}", l + 1);
                let shapes = if self.bottleneck() {
                    vec![(planes, inputs, 1), (planes, planes, 3), (outputs, planes, 1)]
                } else {
                    vec![(planes, inputs, 3), (planes, planes, 3)]
                };
                for (i, (outputs, inputs, kernel)) in (1..).zip(shapes) {
                    pair(
                        format!("{block}.conv{i}"),
                        format!("{block}.bn{i}"),
                        outputs,
                        inputs,
                        kernel,
                    );
                }
                if b == 0 && (l > 0 || inputs != outputs) {
                    pair(
                        format!("{block}.downsample.0"),
                        format!("{block}.downsample.1"),
                        outputs,
                        inputs,
                        1,
                    );
                }
                inputs = outputs;
            }
        }
        tensors
    }

    /// The architecture to which tensors with torchvision's names and these shapes belong; some may be
    /// missing.
    ///
    /// # Errors
    /// Why they belong to no known architecture, as part of a sentence about the file.
    pub fn detect<'a>(
        names: impl Iterator<Item = &'a str> + Clone,
        shape: impl Fn(&str) -> Option<Vec<i64>>,
    ) -> Result<Self, String> {
        let mut blocks = [0i64; 4];
        for name in names.clone() {
            let mut parts = name.split('.');
            let layer = parts
                .next()
                .and_then(|p| p.strip_prefix("layer")?.parse::<usize>().ok());
            let block = parts.next().and_then(|p| p.parse::<u16>().ok());
            if let (Some(layer @ 1..=4), Some(block)) = (layer, block) {
                blocks[layer - 1] = blocks[layer - 1].max(i64::from(block) + 1);
            }
        }
        let bottleneck = names.clone().any(|name| name.ends_with(".conv3.weight"));
        let of = |depth| Arch {
            depth,
            width: 64,
            stem: Stem::Standard,
        };
        let known = DEPTHS
            .map(of)
            .into_iter()
            .find(|a| a.bottleneck() == bottleneck && a.blocks() == blocks);
        let mut arch = known.ok_or_else(|| {
            let kind = if bottleneck { "bottlenecks" } else { "basic blocks" };
            format!("has stages of {blocks:?} {kind}, which no ResNet-18, 34, 50 or 101 has")
        })?;
        let first = [
            "conv1.weight",
            "bn1.weight",
            "stem.7.weight",
            "layer1.0.conv1.weight",
        ]
        .into_iter()
        .find_map(&shape);
        let width = first
            .and_then(|shape| shape.first().copied())
            .filter(|width| (4..=512).contains(width));
        arch.width = width.ok_or("has a stem that does not belong to a ResNet of 4 to 512 channels")?;
        if names.clone().any(|name| name.starts_with("stem.")) {
            arch.stem = Stem::V1c;
        } else if shape("conv1.weight").is_some_and(|shape| shape.get(2) == Some(&3)) {
            arch.stem = Stem::Small;
        }
        Ok(arch)
    }

    /// D, the number of pooled features: 512 for ResNet-18/34, 2048 for ResNet-50/101 at full width.
    pub fn features(&self) -> i64 {
        self.width * 8 * if self.bottleneck() { 4 } else { 1 }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "resnet{}", self.depth)?;
        if self.width != 64 {
            write!(f, "-w{}", self.width)?;
        }
        if self.stem == Stem::Standard {
            Ok(())
        } else {
            write!(f, "-{}", self.stem)
        }
    }
}

impl FromStr for Arch {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "{text:?} is not an architecture; known are resnet18, resnet34, resnet50, resnet101, with \
                 -wN, -small and -v1c"
            )
        };
        let mut parts = text.split('-');
        let depth = parts
            .next()
            .and_then(|p| p.strip_prefix("resnet"))
            .and_then(|d| d.parse().ok())
            .ok_or_else(unknown)?;
        let mut arch = Arch {
            depth,
            width: 64,
            stem: Stem::Standard,
        };
        if !DEPTHS.contains(&depth) {
            return Err(unknown());
        }
        for part in parts {
            match part.strip_prefix('w').and_then(|w| w.parse().ok()) {
                Some(width) if (4..=512).contains(&width) => arch.width = width,
                None => arch.stem = part.parse().map_err(|_| unknown())?,
                _ => return Err(unknown()),
            }
        }
        Ok(arch)
    }
}

impl TryFrom<String> for Arch {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Arch> for String {
    fn from(arch: Arch) -> String {
        arch.to_string()
    }
}

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
            Some((conv, bn)) => bn.forward_all(&conv.forward_all(&x), mode, |y| y),
            None => x.iter().map(Tensor::shallow_clone).collect(),
        };
        let last = self.convs.len() - 1;
        let y = self.convs.iter().enumerate().fold(x, |y, (i, (conv, bn))| {
            bn.forward_all(
                &conv.forward_all(&y),
                mode,
                |mut y| if i < last { y.relu_() } else { y },
            )
        });
        y.into_iter()
            .zip(shortcut)
            .map(|(y, shortcut)| (y + shortcut).relu_())
            .collect()
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
            maps = bn.forward_all(&conv.forward_all(&maps), mode, |mut y| y.relu_());
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
