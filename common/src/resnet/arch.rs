//! Which ResNet it is: its name on the command line and in files, and the tensors that it has.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

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
pub(super) struct StemLayer {
    pub conv: &'static str,
    pub norm: &'static str,
    pub inputs: i64,
    pub outputs: i64,
    pub kernel: i64,
    pub stride: i64,
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
    pub(super) fn blocks(&self) -> [i64; 4] {
        match self.depth {
            18 => [2, 2, 2, 2],
            34 | 50 => [3, 4, 6, 3],
            _ => [3, 4, 23, 3],
        }
    }

    pub(super) fn bottleneck(&self) -> bool {
        self.depth >= 50
    }

    /// The stem's convolutions, each followed by batch norm and ReLU.
    pub(super) fn stem_layers(&self) -> Vec<StemLayer> {
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
