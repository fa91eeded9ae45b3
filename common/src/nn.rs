//! The few layers everything is built from, with train and eval as explicit arguments.
//!
//! Symbols: N images, C channels, H x W pixels, D features. Tensors are [N, C, H, W], laid out channels-last.

mod kernels;
pub(crate) mod mode;
mod norm;
pub(crate) mod sync;

pub use mode::{Mode, Modes};
pub use norm::{BatchNorm, Then};

use crate::device::channels_last;
use crate::native;
use tch::nn::{Init, Path, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

/// A convolution. Weights [out, in, k, k] from He's normal initialisation over the fan-out and no bias, as in
/// torchvision's ResNet, unless built otherwise.
#[derive(Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
    dilation: i64,
    groups: i64,
}

impl Conv2d {
    /// A `kernel` x `kernel` convolution, padded by `kernel / 2`.
    pub fn new(vs: &Path, inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Self {
        let deviation = (2.0 / (outputs * kernel * kernel) as f64).sqrt();
        let weight = vs.randn("weight", &[outputs, inputs, kernel, kernel], 0.0, deviation);
        Conv2d {
            weight,
            bias: None,
            stride,
            padding: kernel / 2,
            dilation: 1,
            groups: 1,
        }
    }

    /// A `kernel` x `kernel` convolution of stride 1 with a bias that starts at zero and weights from `init`.
    pub fn with_bias(vs: &Path, inputs: i64, outputs: i64, kernel: i64, init: Init) -> Self {
        let weight = vs.var("weight", &[outputs, inputs, kernel, kernel], init);
        let bias = Some(vs.zeros("bias", &[outputs]));
        Conv2d {
            weight,
            bias,
            stride: 1,
            padding: kernel / 2,
            dilation: 1,
            groups: 1,
        }
    }

    /// A depthwise `kernel` x `kernel` convolution of stride 1; weights [channels, 1, k, k]. Torch's
    /// `kaiming_normal_` counts all channels in the fan-out, so the initial weights of mmcv's separable
    /// convolutions are this small.
    pub fn depthwise(vs: &Path, channels: i64, kernel: i64) -> Self {
        let deviation = (2.0 / (channels * kernel * kernel) as f64).sqrt();
        let weight = vs.randn("weight", &[channels, 1, kernel, kernel], 0.0, deviation);
        Conv2d {
            weight,
            bias: None,
            stride: 1,
            padding: kernel / 2,
            dilation: 1,
            groups: channels,
        }
    }

    /// The same with dilation `dilation`, padded to keep the size.
    pub fn dilated(self, dilation: i64) -> Self {
        let padding = dilation * (self.weight.size()[2] / 2);
        Conv2d {
            padding,
            dilation,
            ..self
        }
    }

    /// [N, in, H, W] to [N, out, H / stride, W / stride].
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (_, inputs, kernel, _) = self.weight.size4().expect("weights [out, in, k, k]");
        if self.stride > 1 && kernel == 1 && inputs < ONEDNN_BLOCK {
            // The same result on the positions that are used: oneDNN's weight gradient of this case writes
            // outside its memory (oneDNN issue 6035).
            let places = |x: &Tensor, dim| x.slice(dim, None, None, self.stride);
            return places(&places(x, 2), 3).conv2d(&self.weight, self.bias.as_ref(), 1, 0, 1, self.groups);
        }
        if self.is_product(x) {
            return native::product_convolution(x, &self.weight, self.stride, self.padding)
                .expect("shapes of a convolution");
        }
        let (weight, padding) = self.on_map(x);
        if self.groups == 1 && padding == [self.padding; 2] {
            let steps = kernels::Steps {
                stride: self.stride,
                padding: self.padding,
                dilation: self.dilation,
            };
            return kernels::convolution(x, &weight, self.bias.as_ref(), steps);
        }
        let conv = |x: &Tensor| {
            x.conv2d(
                &weight,
                self.bias.as_ref(),
                self.stride,
                padding,
                self.dilation,
                self.groups,
            )
        };
        if self.planar(x) {
            channels_last(&conv(&x.contiguous()))
        } else {
            conv(x)
        }
    }

    /// The weights that lie on maps as large as `x`, and the padding in height and width for them. Where a
    /// map is not larger than the dilation, all but the middle row or column of the kernel see only padding:
    /// the atrous rates of DeepLab, up to 36, are larger than many maps.
    fn on_map(&self, x: &Tensor) -> (Tensor, [i64; 2]) {
        let mut weight = self.weight.shallow_clone();
        let mut padding = [self.padding; 2];
        if self.dilation > 1 && self.stride == 1 {
            let half = self.weight.size()[2] / 2;
            for (dim, padding) in (2..).zip(&mut padding) {
                let seen = (x.size()[dim as usize] - 1) / self.dilation;
                if seen < half {
                    weight = weight.narrow(dim, half - seen, 2 * seen + 1);
                    *padding = seen * self.dilation;
                }
            }
        }
        (weight, padding)
    }

    /// Whether the convolution is computed channels-first whatever the layout of `x`: oneDNN takes three to
    /// four times as long for a dilated depthwise convolution that is channels-last.
    pub fn planar(&self, x: &Tensor) -> bool {
        self.groups > 1 && self.dilation > 1 && x.device() == Device::Cpu
    }

    /// Whether the convolution of `x` is computed as matrix products: in bfloat16 on a CPU, oneDNN takes two
    /// to four times as long for maps of few pixels (measured with AVX-512 and bfloat16 instructions: 1x1 on
    /// maps up to 3 x 3, the weight gradient of 3x3 on maps up to 6 x 6).
    fn is_product(&self, x: &Tensor) -> bool {
        let largest = if self.weight.size()[2] == 1 { 3 } else { 6 };
        let (height, width) = (x.size()[2] / self.stride, x.size()[3] / self.stride);
        x.kind() == Kind::BFloat16
            && x.device() == Device::Cpu
            && (self.groups, self.dilation) == (1, 1)
            && self.bias.is_none()
            && height.max(width) <= largest
    }

    /// The same for several inputs.
    pub fn forward_all(&self, parts: &[Tensor]) -> Vec<Tensor> {
        parts.iter().map(|x| self.forward(x)).collect()
    }
}

/// Largest number of channels that oneDNN processes at once.
const ONEDNN_BLOCK: i64 = 16;

/// A linear layer, initialised as torch's.
#[derive(Debug)]
pub struct Linear {
    /// Weights `[out, in]`.
    pub weight: Tensor,
    /// Bias `[out]`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// From `inputs` to `outputs` features, with a bias.
    pub fn new(vs: &Path, inputs: i64, outputs: i64) -> Self {
        let linear = Self::without_bias(vs, inputs, outputs);
        Linear {
            bias: Some(vs.var("bias", &[outputs], init(inputs))),
            ..linear
        }
    }

    /// The same without a bias, for where batch norm follows.
    pub fn without_bias(vs: &Path, inputs: i64, outputs: i64) -> Self {
        Linear {
            weight: vs.var("weight", &[outputs, inputs], init(inputs)),
            bias: None,
        }
    }

    /// [N, in] to [N, out].
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

fn init(inputs: i64) -> Init {
    let bound = 1.0 / (inputs as f64).sqrt();
    Init::Uniform {
        lo: -bound,
        up: bound,
    }
}

/// Converts all convolution weights to channels-last once, so that no step has to do it.
pub fn weights_channels_last(vs: &VarStore) {
    no_grad(|| {
        for mut variable in vs.variables().into_values().filter(|v| v.dim() == 4) {
            let data = channels_last(&variable);
            variable.set_data(&data);
        }
    });
}

/// Rows of [N, D] scaled to length one, in float32 at least; a row of zeros stays zero, and its gradient is
/// divided by 1e-12, as in `torch.nn.functional.normalize`.
pub fn unit(x: &Tensor) -> Tensor {
    let x = if x.kind() == Kind::Double {
        x.shallow_clone()
    } else {
        x.to_kind(Kind::Float)
    };
    // Clamped before the root, whose gradient at zero is infinite and would turn to NaN.
    let square = x
        .square()
        .sum_dim_intlist([1i64].as_slice(), true, None)
        .clamp_min(1e-24);
    x / square.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::channels_last;
    use tch::nn::VarStore;

    #[test]
    fn weights_that_see_only_padding_are_left_out() {
        let options = (Kind::Double, Device::Cpu);
        for (height, width, dilation, seen) in [
            (4, 9, 4, [1, 3]),
            (9, 3, 4, [3, 1]),
            (1, 1, 2, [1, 1]),
            (5, 5, 4, [3, 3]),
            (3, 3, 1, [3, 3]),
        ] {
            for depthwise in [false, true] {
                let mut vs = VarStore::new(Device::Cpu);
                let conv = if depthwise {
                    Conv2d::depthwise(&vs.root(), 4, 3)
                } else {
                    Conv2d::new(&vs.root(), 4, 5, 3, 1)
                }
                .dilated(dilation);
                vs.double();
                let x = Tensor::randn([2, 4, height, width], options).set_requires_grad(true);
                assert_eq!(conv.on_map(&x).0.size()[2..], seen);
                let run = |y: Tensor| {
                    let upstream = Tensor::arange(y.numel() as i64, options).sin();
                    let of = [&x, &conv.weight];
                    let sum = (&y * upstream.view_as(&y)).sum(Kind::Double);
                    let gradients = Tensor::run_backward(&[sum], &of, false, false);
                    std::iter::once(y).chain(gradients).collect::<Vec<_>>()
                };
                let groups = if depthwise { 4 } else { 1 };
                let all = x.conv2d(&conv.weight, None::<&Tensor>, 1, dilation, dilation, groups);
                for (ours, expected) in run(conv.forward(&x)).iter().zip(run(all)) {
                    assert_eq!(ours.size(), expected.size());
                    assert!(ours.allclose(&expected, 1e-12, 1e-12, false));
                }
            }
        }
    }

    #[test]
    fn convolutions_as_products_equal_conv2d() {
        let random = |shape: &[i64]| channels_last(&Tensor::randn(shape, (Kind::Float, Device::Cpu)));
        for (kernel, stride, size) in [(1, 1, 3), (1, 2, 6), (3, 1, 6), (3, 2, 6), (3, 2, 5), (3, 1, 1)] {
            let (x, weight) = (
                random(&[4, 32, size, size + 1]),
                random(&[48, 32, kernel, kernel]),
            );
            let run = |product: bool| {
                let (x, weight) = (
                    x.detach().set_requires_grad(true),
                    weight.detach().set_requires_grad(true),
                );
                let y = if product {
                    native::product_convolution(&x, &weight, stride, kernel / 2).unwrap()
                } else {
                    x.conv2d(&weight, None::<&Tensor>, stride, kernel / 2, 1, 1)
                };
                (&y * y.detach().cos()).sum(Kind::Float).backward();
                [y.detach(), x.grad(), weight.grad()]
            };
            for (ours, expected) in run(true).iter().zip(&run(false)) {
                assert_eq!(ours.size(), expected.size());
                let error = (ours - expected).abs().max() / expected.abs().max();
                assert!(
                    error.double_value(&[]) < 1e-5,
                    "{kernel} {stride} {size}: {error:?}"
                );
            }
        }
    }

    #[test]
    fn in_autocast_small_maps_give_the_same_numbers_and_types() {
        let vs = VarStore::new(Device::Cpu);
        let convolutions = [
            Conv2d::new(&vs.root().sub("a"), 32, 48, 3, 1),
            Conv2d::new(&vs.root().sub("b"), 48, 32, 1, 1),
        ];
        let x = channels_last(&Tensor::randn([4, 32, 3, 3], (Kind::BFloat16, Device::Cpu)));
        assert!(convolutions.iter().all(|conv| conv.is_product(&x)));
        let autocast = native::Autocast::bf16(Device::Cpu).unwrap();
        let y = convolutions
            .iter()
            .fold(x.shallow_clone(), |x, conv| conv.forward(&x));
        drop(autocast);
        assert_eq!(y.kind(), Kind::BFloat16);
        y.to_kind(Kind::Float).square().sum(Kind::Float).backward();
        let expected = convolutions
            .iter()
            .fold(x.to_kind(Kind::Float), |x, conv| conv.forward(&x));
        let gradients = convolutions.each_ref().map(|conv| conv.weight.grad().copy());
        convolutions
            .iter()
            .for_each(|conv| conv.weight.shallow_clone().zero_grad());
        expected.square().sum(Kind::Float).backward();
        for (conv, ours) in convolutions.iter().zip(&gradients) {
            assert_eq!(ours.kind(), Kind::Float);
            let error = (ours - conv.weight.grad()).abs().max() / conv.weight.grad().abs().max();
            assert!(error.double_value(&[]) < 0.03, "{error:?}");
        }
    }

    #[test]
    fn narrow_strided_convolutions_have_the_right_gradient() {
        let vs = VarStore::new(Device::Cpu);
        let conv = Conv2d::new(&vs.root(), 8, 16, 1, 2);
        for (height, width) in [(64, 96), (32, 32), (7, 9)] {
            let x = channels_last(&Tensor::randn([2, 8, height, width], (Kind::Float, Device::Cpu)));
            let y = conv.forward(&x);
            assert_eq!(y.size(), [2, 16, (height + 1) / 2, (width + 1) / 2]);
            let upstream = y.randn_like();
            conv.weight.shallow_clone().zero_grad();
            (&y * &upstream).sum(Kind::Float).backward();
            let places = x.slice(2, None, None, 2).slice(3, None, None, 2);
            let expected = Tensor::einsum("nohw,nihw->oi", &[&upstream, &places], None::<i64>);
            let error = (conv.weight.grad().view([16, 8]) - &expected)
                .abs()
                .max()
                .double_value(&[]);
            assert!(
                error < 1e-3 * expected.abs().max().double_value(&[]),
                "{height} x {width}: {error}"
            );
        }
    }
}
