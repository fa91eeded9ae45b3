//! DeepLab v3+: Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
//! Segmentation".
//!
//! Symbols: N images of H x W pixels, K classes, C channels of the head (256), s the output stride (16 or 8).
//!
//! ```text
//! images [N, 3, H, W] -- ResNet, layer4 (and layer3 for s = 8) atrous --> [N, D, H/s, W/s]
//!     -- ASPP: 1x1, three 3x3 at the atrous rates, image pooling;
//!        concatenated, projected (1x1 or 3x3) --> [N, C, H/s, W/s]
//!     -- upsampled to layer1's size, concatenated with layer1's features reduced to 48 channels
//!        --> [N, C + 48, H/4, W/4]
//!     -- two 3x3 convolutions, 1x1 classifier --> logits [N, K, H/4, W/4], upsampled to H x W outside
//! ```
//!
//! ASPP's tensors are named as in `torchvision.models.segmentation.deeplabv3.ASPP`; where it ends in a 3x3
//! convolution, the weights of image pooling are a separate tensor, `project.pooled.weight`.

use camtrast_common::nn::{BatchNorm, Conv2d, Mode, Modes, Then};
use camtrast_common::resnet::{Arch, BasicDilation, ResNet};
use serde::{Deserialize, Serialize};
use tch::nn::{Init, Path};
use tch::{Kind, Reduction, Tensor};

use crate::classes::IGNORE;
use crate::linear_head::LinearHead;

/// Where dropout acts, and on which values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DropoutPlace {
    /// On single values of ASPP's output, and before the auxiliary classifier (torchvision's heads)
    #[default]
    Aspp,
    /// On whole channels before each classifier (mmsegmentation's `Dropout2d`)
    Classifier,
}

/// The divisor of the sum of the pixels' losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LossAverage {
    /// The number of labelled pixels, as in torch's `cross_entropy`
    Labelled,
    /// The number of all pixels of the crops, including ignored ones (mmsegmentation's
    /// `avg_non_ignore=False`)
    All,
}

/// What follows the backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// DeepLab v3+: ASPP and decoder
    #[default]
    Deeplab,
    /// Batch norm and a 1x1 convolution: with --tune frozen the linear probe
    Linear,
}

/// The settings of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeepLabConfig {
    /// The backbone.
    pub arch: Arch,
    /// What follows it.
    #[serde(default)]
    pub head: Head,
    /// Stride of ASPP's input feature map: 16 or 8.
    pub output_stride: i64,
    /// Which convolutions of basic blocks are dilated for it.
    #[serde(default)]
    pub basic_dilation: BasicDilation,
    /// Dilations (atrous rates) of ASPP's three 3x3 convolutions.
    pub atrous_rates: [i64; 3],
    /// Side of the convolution that ends ASPP: 1 or 3.
    #[serde(default = "one")]
    pub aspp_kernel: i64,
    /// C, channels of the head.
    pub channels: i64,
    /// Whether ASPP's and the decoder's 3x3 convolutions are depthwise ones followed by 1x1.
    pub separable: bool,
    /// Probability of dropout in training.
    pub dropout: f64,
    /// Where it acts.
    #[serde(default)]
    pub dropout_place: DropoutPlace,
    /// K, the number of classes.
    pub classes: i64,
    /// Whether layer3 has an auxiliary classifier, for training only.
    pub auxiliary: bool,
}

fn one() -> i64 {
    1
}

/// Channels that layer1's features are reduced to.
const LOW_LEVEL_CHANNELS: i64 = 48;

/// Class scores before the softmax, at the resolution at which they are computed.
#[derive(Debug)]
pub struct Logits {
    /// [N, K, H/4, W/4]; [N, K, H/s, W/s] of a linear head.
    pub main: Tensor,
    /// [N, K, H/16, W/16], in training with an auxiliary classifier.
    pub auxiliary: Option<Tensor>,
}

/// The network.
#[derive(Debug)]
pub struct DeepLab {
    backbone: ResNet,
    head: Layers,
    auxiliary: Option<Auxiliary>,
    dropout: Dropout,
}

/// The layers of a [`Head`].
#[derive(Debug)]
enum Layers {
    Deeplab(Box<(Aspp, Decoder)>),
    Linear(LinearHead),
}

impl DeepLab {
    /// Variables under `vs`: `backbone.*`; `aspp.*` and `decoder.*`, or `linear.*`; and `auxiliary.*` if
    /// there is one.
    pub fn new(vs: &Path, config: &DeepLabConfig) -> Self {
        let features = config.arch.features();
        let layer1 = features / 8;
        DeepLab {
            backbone: ResNet::atrous(
                &(vs / "backbone"),
                config.arch,
                config.output_stride,
                config.basic_dilation,
            ),
            head: match config.head {
                Head::Deeplab => Layers::Deeplab(Box::new((
                    Aspp::new(&(vs / "aspp"), features, config),
                    Decoder::new(
                        &(vs / "decoder"),
                        layer1,
                        config.channels,
                        config.classes,
                        config.separable,
                    ),
                ))),
                Head::Linear => Layers::Linear(LinearHead::new(&(vs / "linear"), features, config.classes)),
            },
            auxiliary: config.auxiliary.then(|| {
                Auxiliary::new(
                    &(vs / "auxiliary"),
                    features / 2,
                    config.channels / 2,
                    config.classes,
                )
            }),
            dropout: Dropout {
                probability: config.dropout,
                place: config.dropout_place,
            },
        }
    }

    /// Logits of normalised images [N, 3, H, W].
    pub fn forward(&self, images: &Tensor, modes: Modes) -> Logits {
        let stem = self.backbone.stem(images, modes.backbone);
        let layer1 = self.backbone.layer(1, &stem, modes.backbone);
        let layer2 = self.backbone.layer(2, &layer1, modes.backbone);
        let layer3 = self.backbone.layer(3, &layer2, modes.backbone);
        let layer4 = self.backbone.layer(4, &layer3, modes.backbone);
        let training = modes.head != Mode::Eval;
        let dropout = |x: Tensor, place| self.dropout.forward(x, place, training);
        let main = match &self.head {
            Layers::Deeplab(layers) => {
                let (aspp, decoder) = &**layers;
                let context = dropout(aspp.forward(&layer4, modes.head), DropoutPlace::Aspp);
                let features = decoder.features(&context, &layer1, modes.head);
                decoder.classify(&dropout(features, DropoutPlace::Classifier))
            }
            Layers::Linear(head) => head.forward(&layer4, modes.head),
        };
        Logits {
            main,
            auxiliary: self.auxiliary.as_ref().filter(|_| training).map(|auxiliary| {
                let features = auxiliary.conv.forward(&layer3, modes.head);
                auxiliary
                    .classifier
                    .forward(&dropout(features, self.dropout.place))
            }),
        }
    }
}

/// Resizes [N, C, h, w] to [N, C, H, W] bilinearly; pixels are areas, not points (`align_corners=False`).
pub fn upsample(x: &Tensor, height: i64, width: i64) -> Tensor {
    x.upsample_bilinear2d([height, width], false, None, None)
}

/// Cross-entropy of the pixels of labels i64 [N, H, W] that are not [`IGNORE`], averaged; 0 when there is
/// none. Logits [N, K, h, w] are resized to H x W, in float32 or more precise.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, average: LossAverage) -> Tensor {
    let (height, width) = (labels.size()[1], labels.size()[2]);
    let precise = if logits.kind() == Kind::Double {
        Kind::Double
    } else {
        Kind::Float
    };
    let logits = upsample(&logits.to_kind(precise), height, width);
    let sum = logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Sum, i64::from(IGNORE), 0.0);
    match average {
        LossAverage::Labelled => sum / labels.not_equal(i64::from(IGNORE)).sum(precise).clamp_min(1.0),
        LossAverage::All => sum / labels.numel() as f64,
    }
}

/// Dropout of single values or whole channels, in one of two places.
#[derive(Debug, Clone, Copy)]
struct Dropout {
    probability: f64,
    place: DropoutPlace,
}

impl Dropout {
    // Of what lies at `place`.
    fn forward(&self, x: Tensor, place: DropoutPlace, training: bool) -> Tensor {
        match place {
            _ if place != self.place || !training => x,
            DropoutPlace::Aspp => x.dropout(self.probability, training),
            DropoutPlace::Classifier => x.feature_dropout(self.probability, training),
        }
    }
}

/// Convolution, batch norm, ReLU; `0` and `1` of a `torch.nn.Sequential`.
#[derive(Debug)]
struct Unit {
    conv: Conv2d,
    bn: BatchNorm,
}

impl Unit {
    fn new(vs: &Path, inputs: i64, outputs: i64, kernel: i64) -> Self {
        Self::of(vs, |vs| Conv2d::new(vs, inputs, outputs, kernel, 1), outputs)
    }

    fn of(vs: &Path, conv: impl FnOnce(&Path) -> Conv2d, outputs: i64) -> Self {
        Unit {
            conv: conv(&(vs / 0)),
            bn: BatchNorm::new(&(vs / 1), outputs),
        }
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.bn.forward(&self.conv.forward(x), mode, Then::Relu)
    }
}

/// 3x3 convolution, plain or separable, each convolution with batch norm and ReLU (mmcv's
/// `DepthwiseSeparableConvModule`).
#[derive(Debug)]
struct Wide(Vec<Unit>);

impl Wide {
    fn new(vs: &Path, inputs: i64, outputs: i64, rate: i64, separable: bool) -> Self {
        if separable {
            let depthwise = Unit::of(
                &(vs / "depthwise"),
                |vs| Conv2d::depthwise(vs, inputs, 3).dilated(rate),
                inputs,
            );
            Wide(vec![
                depthwise,
                Unit::new(&(vs / "pointwise"), inputs, outputs, 1),
            ])
        } else {
            Wide(vec![Unit::of(
                vs,
                |vs| Conv2d::new(vs, inputs, outputs, 3, 1).dilated(rate),
                outputs,
            )])
        }
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.0
            .iter()
            .fold(x.shallow_clone(), |x, unit| unit.forward(&x, mode))
    }
}

/// Atrous spatial pyramid pooling.
#[derive(Debug)]
pub struct Aspp {
    point: Unit,
    atrous: Vec<Wide>,
    pool: Conv2d,
    pool_bn: BatchNorm,
    project: Unit,
    pooled: Option<Conv2d>,
}

impl Aspp {
    /// From `inputs` to the head's channels.
    pub fn new(vs: &Path, inputs: i64, config: &DeepLabConfig) -> Self {
        let outputs = config.channels;
        let convs = vs / "convs";
        let atrous = config.atrous_rates.iter().enumerate().map(|(i, &rate)| {
            let vs = &convs / (i + 1);
            Wide::new(&vs, inputs, outputs, rate, config.separable)
        });
        let (pool, project) = (&convs / 4, vs / "project");
        // A 3x3 convolution of all branches is a sum of one of the four maps and one of image pooling, which
        // is far less work when computed separately.
        let wide = config.aspp_kernel > 1;
        Aspp {
            point: Unit::new(&(&convs / 0), inputs, outputs, 1),
            atrous: atrous.collect(),
            pool: Conv2d::new(&(&pool / 1), inputs, outputs, 1, 1),
            pool_bn: BatchNorm::new(&(&pool / 2), outputs),
            project: Unit::new(
                &project,
                if wide { 4 } else { 5 } * outputs,
                outputs,
                config.aspp_kernel,
            ),
            pooled: wide
                .then(|| Conv2d::new(&(&project / "pooled"), outputs, outputs, config.aspp_kernel, 1)),
        }
    }

    /// [N, inputs, h, w] to [N, outputs, h, w].
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let mut branches = vec![self.point.forward(x, mode)];
        // Converted once for the three of them.
        let for_atrous = if self.atrous[0].0[0].conv.planar(x) {
            x.contiguous()
        } else {
            x.shallow_clone()
        };
        branches.extend(self.atrous.iter().map(|branch| branch.forward(&for_atrous, mode)));
        let pooled = x.adaptive_avg_pool2d([1, 1]);
        let pooled = self
            .pool_bn
            .forward(&self.pool.forward(&pooled), mode, Then::Relu);
        let (height, width) = (x.size()[2], x.size()[3]);
        // Bilinear upsampling of a single pixel is that pixel.
        let constant = |height, width| pooled.expand([-1, -1, height, width], false);
        let Some(conv) = &self.pooled else {
            branches.push(constant(height, width));
            return self.project.forward(&Tensor::cat(&branches, 1), mode);
        };
        let y = self.project.conv.forward(&Tensor::cat(&branches, 1))
            + convolve_constant(conv, &pooled, height, width);
        self.project.bn.forward(&y, mode, Then::Relu)
    }
}

// A 3x3 convolution of the map [N, C, height, width] that is `x` [N, C, 1, 1] everywhere. Only the first and
// last rows and columns of the result differ from the rest.
fn convolve_constant(conv: &Conv2d, x: &Tensor, height: i64, width: i64) -> Tensor {
    let small = conv.forward(&x.expand([-1, -1, height.min(3), width.min(3)], false));
    repeat_middle(&repeat_middle(&small, 2, height), 3, width)
}

// Repeats the middle one of three positions of a dimension until there are `length`.
fn repeat_middle(x: &Tensor, dim: i64, length: i64) -> Tensor {
    if length <= 3 {
        return x.shallow_clone();
    }
    let mut size = x.size();
    size[dim as usize] = length - 2;
    let place = |i| x.narrow(dim, i, 1);
    Tensor::cat(&[place(0), place(1).expand(size, false), place(2)], dim)
}

/// Upsamples context to the resolution of layer1.
#[derive(Debug)]
pub struct Decoder {
    low_level: Unit,
    convs: [Wide; 2],
    classifier: Conv2d,
}

impl Decoder {
    /// From `channels` of context and `low_level` of layer1 to `classes` logits.
    pub fn new(vs: &Path, low_level: i64, channels: i64, classes: i64, separable: bool) -> Self {
        let wide = |i: i64, inputs: i64| Wide::new(&(vs / "convs" / i), inputs, channels, 1, separable);
        Decoder {
            low_level: Unit::new(&(vs / "low_level"), low_level, LOW_LEVEL_CHANNELS, 1),
            convs: [wide(0, channels + LOW_LEVEL_CHANNELS), wide(1, channels)],
            classifier: classifier(&(vs / "classifier"), channels, classes),
        }
    }

    /// Context [N, C, h, w] and features of layer1 [N, _, H, W] to [N, C, H, W].
    pub fn features(&self, context: &Tensor, layer1: &Tensor, mode: Mode) -> Tensor {
        let low = self.low_level.forward(layer1, mode);
        let context = upsample(context, low.size()[2], low.size()[3]);
        let joined = Tensor::cat(&[context, low], 1);
        self.convs.iter().fold(joined, |y, conv| conv.forward(&y, mode))
    }

    /// [N, C, H, W] to logits [N, K, H, W].
    pub fn classify(&self, features: &Tensor) -> Tensor {
        self.classifier.forward(features)
    }
}

/// mmsegmentation's auxiliary `FCNHead` on layer3.
#[derive(Debug)]
struct Auxiliary {
    conv: Unit,
    classifier: Conv2d,
}

impl Auxiliary {
    fn new(vs: &Path, inputs: i64, channels: i64, classes: i64) -> Self {
        let conv = Unit::new(&(vs / "conv"), inputs, channels, 3);
        Auxiliary {
            conv,
            classifier: classifier(&(vs / "classifier"), channels, classes),
        }
    }
}

fn classifier(vs: &Path, inputs: i64, classes: i64) -> Conv2d {
    Conv2d::with_bias(
        vs,
        inputs,
        classes,
        1,
        Init::Randn {
            mean: 0.0,
            stdev: 0.01,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::nn::VarStore;
    use tch::{Device, Kind};

    #[test]
    fn constant_maps_are_convolved_as_any_other() {
        let mut vs = VarStore::new(Device::Cpu);
        let conv = Conv2d::new(&vs.root(), 2, 3, 3, 1);
        vs.double();
        let x = Tensor::randn([2, 2, 1, 1], (Kind::Double, Device::Cpu));
        for (height, width) in [(1, 1), (1, 5), (2, 3), (3, 2), (4, 7)] {
            let whole = conv.forward(&x.expand([-1, -1, height, width], false).contiguous());
            let ours = convolve_constant(&conv, &x, height, width);
            assert!(ours.allclose(&whole, 1e-12, 1e-12, false), "{height} x {width}");
        }
    }
}
