//! Layers by kernels of `native/`, where they are faster than libtorch's on a CPU.

use crate::native::{check, handle};
use std::ffi::c_void;
use std::ptr::null_mut;
use tch::Tensor;

type Handle = *mut c_void;

unsafe extern "C" {
    #[rustfmt::skip]
    fn camtrast_convolution(
        x: Handle,
        weight: Handle,
        bias: Handle,
        stride: i64,
        padding: i64,
        dilation: i64,
        out: *mut Handle,
    ) -> i32;
    #[rustfmt::skip]
    fn camtrast_norm(
        x: Handle,
        weight: Handle,
        bias: Handle,
        shortcut: Handle,
        running_mean: Handle,
        running_var: Handle,
        groups: i64,
        train: i32,
        momentum: f64,
        epsilon: f64,
        relu: i32,
        out: *mut Handle,
    ) -> i32;
}

/// Stride, padding and dilation of a convolution, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) stride: i64,
    pub(super) padding: i64,
    pub(super) dilation: i64,
}

/// A convolution of `x` [N, in, H, W] with `weight` [out, in, k, k] and a bias `[out]`.
/// In float32 on a CPU with AVX2 and without AVX-512 one of 3x3 that keeps the size is computed by Winograd's
/// algorithm, with a third of the multiplications and rounding errors up to about 2.5 times those of
/// `conv2d`; others of 3x3, and of 1x1 with stride, take the gradient of the weights as a matrix product.
/// Everything else is `conv2d`.
pub(super) fn convolution(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, steps: Steps) -> Tensor {
    let mut out = null_mut();
    let bias = bias.map_or(null_mut(), handle);
    let Steps {
        stride,
        padding,
        dilation,
    } = steps;
    // SAFETY: live tensors; the shim stores a new tensor, which is owned here.
    check(unsafe {
        camtrast_convolution(
            handle(x),
            handle(weight),
            bias,
            stride,
            padding,
            dilation,
            &mut out,
        )
    })
    .expect("shapes of a convolution");
    // SAFETY: as above.
    unsafe { Tensor::from_ptr(out.cast()) }
}

/// Batch norm of [N, C] or [N, C, H, W] with what follows it.
pub(super) struct Norm<'a> {
    pub(super) x: &'a Tensor,
    /// Scale and shift `[C]`.
    pub(super) weight: Option<&'a Tensor>,
    pub(super) bias: Option<&'a Tensor>,
    /// Running mean and variance `[C]`.
    pub(super) running: (&'a Tensor, &'a Tensor),
    /// Number of parts of the batch with statistics of their own, and the momentum with which these update
    /// the running ones. `None`: by the running ones.
    pub(super) update: Option<(i64, f64)>,
    pub(super) epsilon: f64,
    /// Added to the result.
    pub(super) shortcut: Option<&'a Tensor>,
    /// Clamps it at zero then.
    pub(super) relu: bool,
}

/// `None` where there is no kernel for it: off the CPU, without AVX2, for numbers that are neither float32
/// nor bfloat16, channels that are no multiple of 8, tensors that are not channels-last.
pub(super) fn norm(of: &Norm) -> Option<Tensor> {
    let maybe = |tensor: Option<&Tensor>| tensor.map_or(null_mut(), handle);
    let (groups, momentum) = of.update.unwrap_or((1, 0.0));
    let mut out = null_mut();
    // SAFETY: live tensors; the shim stores a new tensor, which is owned here, or nothing.
    check(unsafe {
        camtrast_norm(
            handle(of.x),
            maybe(of.weight),
            maybe(of.bias),
            maybe(of.shortcut),
            handle(of.running.0),
            handle(of.running.1),
            groups,
            of.update.is_some() as i32,
            momentum,
            of.epsilon,
            of.relu as i32,
            &mut out,
        )
    })
    .expect("tensors of batch norm");
    // SAFETY: as above.
    (!out.is_null()).then(|| unsafe { Tensor::from_ptr(out.cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::channels_last;
    use tch::{Device, Kind};

    // Numbers between -1 and 1 that look random and are the same in every run, so that an error is, too.
    fn random(shape: &[i64]) -> Tensor {
        let options = (Kind::Double, Device::Cpu);
        let places = Tensor::arange(shape.iter().product::<i64>(), options) + shape.iter().sum::<i64>();
        let numbers = ((places * 78.233).sin() * 43_758.545_3).frac();
        let shaped = numbers.to_kind(Kind::Float).view(shape);
        if shape.len() == 4 {
            channels_last(&shaped)
        } else {
            shaped
        }
    }

    // Result and all gradients of a convolution in the precision of its arguments: x, weight, bias.
    fn all(of: &[Tensor; 3], convolve: impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor) -> [Tensor; 4] {
        let [x, weight, bias] = of.each_ref().map(|t| t.detach().copy().set_requires_grad(true));
        let y = convolve(&x, &weight, &bias);
        // The same upstream gradient for all: a sine of the place.
        let upstream = Tensor::arange(y.numel() as i64, (Kind::Double, Device::Cpu)).sin();
        let upstream = upstream.to_kind(Kind::Float).to_kind(y.kind());
        (&y * upstream.view_as(&y)).sum(y.kind()).backward();
        [y.detach(), x.grad(), weight.grad(), bias.grad()]
    }

    fn library(dilation: i64) -> impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor {
        move |x, weight, bias| x.conv2d(weight, Some(bias), 1, dilation, dilation, 1)
    }

    // One that keeps the size of maps.
    fn same_size(dilation: i64) -> Steps {
        Steps {
            stride: 1,
            padding: dilation,
            dilation,
        }
    }

    fn ours(dilation: i64) -> impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor {
        move |x, weight, bias| convolution(x, weight, Some(bias), same_size(dilation))
    }

    // Maps, weights and a bias.
    fn arguments(shape: [i64; 4], outputs: i64) -> [Tensor; 3] {
        let bias = random(&[outputs]);
        [random(&shape), random(&[outputs, shape[1], 3, 3]), bias]
    }

    #[test]
    fn convolutions_by_tiles_equal_those_in_double_precision() {
        // Maps that tiles of 3 fill and that they do not, of one pixel and one row; few and many channels;
        // dilations that divide the map and that do not, or are larger than it.
        for (images, inputs, outputs, height, width, dilation) in [
            (33, 16, 32, 3, 3, 1),
            (20, 32, 48, 5, 7, 1),
            (8, 48, 16, 21, 20, 1),
            (40, 32, 32, 1, 1, 1),
            (40, 16, 16, 1, 6, 1),
            (64, 32, 48, 2, 2, 1),
            (9, 144, 160, 6, 11, 1),
            (1, 16, 16, 40, 40, 1),
            (2, 32, 48, 12, 24, 2),
            (2, 32, 48, 12, 24, 4),
            (3, 16, 32, 23, 17, 4),
            (40, 16, 16, 3, 5, 6),
        ] {
            let arguments = arguments([images, inputs, height, width], outputs);
            let doubles = arguments.each_ref().map(|t| t.to_kind(Kind::Double));
            let expected = all(&doubles, library(dilation));
            for (what, (ours, expected)) in ["y", "dx", "dw", "db"]
                .iter()
                .zip(all(&arguments, ours(dilation)).iter().zip(&expected))
            {
                assert_eq!(ours.size(), expected.size());
                let error = (ours - expected).abs().max() / expected.abs().max();
                let error = error.double_value(&[]);
                assert!(
                    error < 5e-6,
                    "{what} of {images} {inputs}->{outputs} {height}x{width}, dilation {dilation}: {error:e}"
                );
            }
        }
    }

    #[test]
    fn tiles_are_used_where_they_can_be_and_give_the_same_bytes_with_any_number_of_threads() {
        let used = std::is_x86_feature_detected!("avx2") && !std::is_x86_feature_detected!("avx512f");
        for dilation in [1, 2] {
            let arguments = arguments([16, 32, 9, 9], 64);
            let [one, two] = [1, 2].map(|threads| {
                tch::set_num_threads(threads);
                all(&arguments, ours(dilation))
            });
            assert!(one.iter().zip(&two).all(|(one, two)| one.equal(two)));
            let [x, weight, bias] = &arguments;
            let plain = convolution(x, weight, None, same_size(dilation));
            assert!(
                (&one[0] - plain - bias.view([-1, 1, 1]))
                    .abs()
                    .max()
                    .double_value(&[])
                    < 1e-5
            );
            let expected = all(&arguments, library(dilation));
            // Their rounding differs.
            assert!(
                one[..3]
                    .iter()
                    .zip(&expected)
                    .all(|(one, library)| one.equal(library) != used)
            );
        }
    }

    #[test]
    fn gradients_of_weights_as_products_equal_those_in_double_precision() {
        let mut differ = false;
        let used = std::is_x86_feature_detected!("avx2") && !std::is_x86_feature_detected!("avx512f");
        for (images, size, inputs, kernel, stride, dilation) in [
            (2, 6, 64, 3, 1, 1),
            (2, 6, 64, 3, 1, 2),
            (3, 5, 80, 3, 2, 1),
            (2, 6, 64, 3, 2, 1),
            (2, 7, 64, 1, 2, 1),
        ] {
            let steps = Steps {
                stride,
                padding: dilation * (kernel / 2),
                dilation,
            };
            let weight = random(&[32, inputs, kernel, kernel]);
            let arguments = [
                random(&[images, inputs, size, size + 1]),
                weight,
                Tensor::zeros([32], (Kind::Float, Device::Cpu)),
            ];
            let product = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
                convolution(x, weight, None, steps) + bias.view([-1, 1, 1])
            };
            let library = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
                x.conv2d(weight, None::<&Tensor>, stride, steps.padding, dilation, 1) + bias.view([-1, 1, 1])
            };
            let doubles = arguments.each_ref().map(|t| t.to_kind(Kind::Double));
            let (products, plain) = (all(&arguments, product), all(&arguments, library));
            differ |= !products[2].equal(&plain[2]);
            for (ours, expected) in products.iter().zip(all(&doubles, library)) {
                let error = (ours - &expected).abs().max() / expected.abs().max();
                assert!(error.double_value(&[]) < 5e-6, "{steps:?}: {error:?}");
            }
        }
        // In another order of sums.
        assert_eq!(differ, used);
    }

    #[test]
    fn other_convolutions_are_the_librarys() {
        let same = |[x, weight, bias]: &[Tensor; 3], dilation: i64| {
            ours(dilation)(x, weight, bias).equal(&library(dilation)(x, weight, bias))
        };
        for (shape, outputs) in [([40, 24, 6, 6], 32), ([40, 16, 6, 6], 24), ([2, 16, 6, 6], 16)] {
            assert!(same(&arguments(shape, outputs), 1));
        }
        // Its parts are maps of two pixels, where tiles are slower.
        assert!(same(&arguments([4, 16, 12, 24], 16), 6));
        let doubles = arguments([40, 16, 6, 6], 16).map(|t| t.to_kind(Kind::Double));
        assert!(same(&doubles, 1));
    }

    #[test]
    fn not_a_number_stays_one() {
        let [x, weight, bias] = arguments([16, 16, 6, 6], 16);
        let _ = x.get(3).get(5).get(2).get(2).fill_(f64::NAN);
        let seen = ours(1)(&x, &weight, &bias).isnan();
        assert!(
            seen.logical_or(&library(1)(&x, &weight, &bias).isnan().logical_not())
                .all()
                .int64_value(&[])
                == 1
        );
        assert_eq!(seen.get(2).any().int64_value(&[]), 0);
    }
}
