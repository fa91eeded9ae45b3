//! Batch norm, with what follows it.

use super::mode::Mode;
use super::{kernels, sync};
use crate::precise_bn::Population;
use std::cell::RefCell;
use tch::nn::Path;
use tch::{Kind, Tensor, no_grad};

/// What follows batch norm, computed with it: on a CPU in one pass over the tensors.
#[derive(Debug, Clone, Copy)]
pub enum Then<'a> {
    /// Nothing.
    Nothing,
    /// ReLU.
    Relu,
    /// The addition of a residual block's shortcut, then ReLU.
    AddRelu(&'a Tensor),
}

impl Then<'_> {
    // By libtorch's operations.
    fn apply(self, mut y: Tensor) -> Tensor {
        match self {
            Then::Nothing => y,
            Then::Relu => y.relu_(),
            Then::AddRelu(shortcut) => (y + shortcut).relu_(),
        }
    }
}

/// Batch normalisation over all but the channel dimension, torch's defaults (momentum 0.1, epsilon 1e-5).
#[derive(Debug)]
pub struct BatchNorm {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    population: RefCell<Option<Population>>,
}

impl BatchNorm {
    const MOMENTUM: f64 = 0.1;
    const EPSILON: f64 = 1e-5;

    /// Sets the learned scale, where there is one, to zero.
    pub(crate) fn zero_scale(&self) {
        if let Some(weight) = &self.weight {
            let _ = no_grad(|| weight.shallow_clone().zero_());
        }
    }

    /// With a learned scale and shift.
    pub fn new(vs: &Path, channels: i64) -> Self {
        Self::build(vs, channels, true)
    }

    /// Without a learned scale and shift, as at the end of SimSiam's projector.
    pub fn without_affine(vs: &Path, channels: i64) -> Self {
        Self::build(vs, channels, false)
    }

    fn build(vs: &Path, channels: i64, affine: bool) -> Self {
        BatchNorm {
            weight: affine.then(|| vs.ones("weight", &[channels])),
            bias: affine.then(|| vs.zeros("bias", &[channels])),
            running_mean: vs.zeros_no_train("running_mean", &[channels]),
            running_var: vs.ones_no_train("running_var", &[channels]),
            num_batches_tracked: vs.add(
                "num_batches_tracked",
                Tensor::zeros([0i64; 0], (Kind::Int64, vs.device())),
                false,
            ),
            population: RefCell::new(None),
        }
    }

    /// Normalises [N, C] or [N, C, H, W].
    pub fn forward(&self, x: &Tensor, mode: Mode, then: Then) -> Tensor {
        match mode {
            Mode::Eval => {
                let running = (&self.running_mean, &self.running_var);
                self.normalise(x, running, None, then)
            }
            Mode::Measure { round } => self.measure(x, round, then),
            Mode::Train { splits } => {
                let _ = no_grad(|| self.num_batches_tracked.shallow_clone().g_add_scalar_(1));
                self.split(x, splits, then)
            }
            Mode::Sync { group } => {
                let _ = no_grad(|| self.num_batches_tracked.shallow_clone().g_add_scalar_(1));
                let tensors = sync::Tensors {
                    weight: self.weight.as_ref(),
                    bias: self.bias.as_ref(),
                    running_mean: &self.running_mean,
                    running_var: &self.running_var,
                };
                then.apply(sync::normalise(x, tensors, Self::MOMENTUM, Self::EPSILON, group))
            }
        }
    }

    /// Normalises images [n, C, h, w] of several sizes as one batch, with statistics over all their positions
    /// together: what synchronised batch norm does with one tensor per device. `then` is what follows, for
    /// all the same but for the shortcut. The batch is not split.
    pub fn forward_all<'a>(
        &self,
        parts: &[Tensor],
        mode: Mode,
        then: impl Fn(usize) -> Then<'a>,
    ) -> Vec<Tensor> {
        if parts.len() == 1 || mode == Mode::Eval {
            let parts = parts.iter().enumerate();
            return parts.map(|(i, x)| self.forward(x, mode, then(i))).collect();
        }
        // In the memory order of channels-last images: all positions of all images one after the other.
        let rows = |x: &Tensor| x.permute([0, 2, 3, 1]).reshape([1, -1, 1, x.size()[1]]);
        let joined = Tensor::cat(&parts.iter().map(rows).collect::<Vec<_>>(), 1).permute([0, 3, 1, 2]);
        let of_all = match then(0) {
            Then::AddRelu(_) => Then::Nothing,
            then => then,
        };
        let y = self.forward(&joined, mode, of_all).permute([0, 2, 3, 1]);
        let places: Vec<i64> = parts.iter().map(|x| x.numel() as i64 / x.size()[1]).collect();
        let split = y.split_with_sizes(&places, 1);
        let shaped = |(i, (y, x)): (usize, (Tensor, &Tensor))| {
            let (n, channels, h, w) = x.size4().expect("images [n, C, h, w]");
            let y = y.reshape([n, h, w, channels]).permute([0, 3, 1, 2]);
            match then(i) {
                then @ Then::AddRelu(_) => then.apply(y),
                _ => y,
            }
        };
        split.into_iter().zip(parts).enumerate().map(shaped).collect()
    }

    // Each part updates a copy of the running statistics; the mean of the copies is kept, as in
    // SplitBatchNorm.
    fn split(&self, x: &Tensor, splits: i64, then: Then) -> Tensor {
        let running = (&self.running_mean, &self.running_var);
        let update = Some((splits, Self::MOMENTUM));
        if splits == 1 {
            return self.normalise(x, running, update, then);
        }
        if let Some(y) = self.at_once(x, running, update, then) {
            return y;
        }
        let means = self.running_mean.repeat([splits, 1]);
        let vars = self.running_var.repeat([splits, 1]);
        let parts: Vec<Tensor> = (x.chunk(splits, 0).iter().enumerate())
            .map(|(i, part)| {
                let copy = (&means.get(i as i64), &vars.get(i as i64));
                self.normalise(part, copy, Some((1, Self::MOMENTUM)), Then::Nothing)
            })
            .collect();
        no_grad(|| {
            self.running_mean
                .shallow_clone()
                .copy_(&means.mean_dim(0, false, None));
            self.running_var
                .shallow_clone()
                .copy_(&vars.mean_dim(0, false, None));
        });
        then.apply(Tensor::cat(&parts, 0))
    }

    fn measure(&self, x: &Tensor, round: u64, then: Then) -> Tensor {
        // With a momentum of 1 these become the statistics of the batch.
        let (mean, var) = no_grad(|| (self.running_mean.zeros_like(), self.running_var.zeros_like()));
        let y = self.normalise(x, (&mean, &var), Some((1, 1.0)), then);
        let mut population = self.population.borrow_mut();
        let population = match &mut *population {
            Some(population) if population.round == round => population,
            other => other.insert(Population::new(round, &mean)),
        };
        population.add(x.numel() as i64 / x.size()[1], &mean, &var);
        let (mean, var) = population.statistics();
        no_grad(|| {
            self.running_mean.shallow_clone().copy_(mean);
            self.running_var.shallow_clone().copy_(&var);
        });
        y
    }

    // By the given mean and variance, or by those of the batch, which update them with a momentum.
    fn normalise(&self, x: &Tensor, running: Running, update: Option<(i64, f64)>, then: Then) -> Tensor {
        if let Some(y) = self.at_once(x, running, update, then) {
            return y;
        }
        let (mean, var) = running;
        let momentum = update.map_or(0.0, |(_, momentum)| momentum);
        let (weight, bias) = (self.weight.as_ref(), self.bias.as_ref());
        let (mean, var, train) = (Some(mean), Some(var), update.is_some());
        then.apply(x.batch_norm(weight, bias, mean, var, train, momentum, Self::EPSILON, true))
    }

    // With what follows, where there is a kernel for it.
    fn at_once(
        &self,
        x: &Tensor,
        running: Running,
        update: Option<(i64, f64)>,
        then: Then,
    ) -> Option<Tensor> {
        kernels::norm(&kernels::Norm {
            x,
            weight: self.weight.as_ref(),
            bias: self.bias.as_ref(),
            running,
            update,
            epsilon: Self::EPSILON,
            shortcut: match then {
                Then::AddRelu(shortcut) => Some(shortcut),
                _ => None,
            },
            relu: !matches!(then, Then::Nothing),
        })
    }
}

// Mean and variance.
type Running<'a> = (&'a Tensor, &'a Tensor);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::channels_last;
    use tch::Device;
    use tch::nn::VarStore;

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

    // Numbers around 0 and 4 in turns: normalised, none is so near to zero that rounding would decide on
    // which side.
    fn random(shape: &[i64]) -> Tensor {
        let mut places = shape.to_vec();
        places[1] = 1;
        let turn = Tensor::arange(places.iter().product::<i64>(), FLOAT).remainder(2);
        let x = Tensor::randn(shape, FLOAT) * 0.2 + turn.view(&places[..]) * 4;
        if shape.len() == 4 { channels_last(&x) } else { x }
    }

    fn layer(channels: i64) -> (VarStore, BatchNorm) {
        let vs = VarStore::new(Device::Cpu);
        let norm = BatchNorm::new(&vs.root(), channels);
        no_grad(|| {
            for (tensor, mean) in [
                (norm.weight.as_ref().unwrap(), 1.0),
                (norm.bias.as_ref().unwrap(), 0.0),
                (&norm.running_mean, 2.0),
                (&norm.running_var, 4.0),
            ] {
                let change = Tensor::randn([channels], FLOAT) * 0.05;
                tensor.shallow_clone().copy_(&(change + mean));
            }
        });
        (vs, norm)
    }

    // Result, gradients of input, shortcut, scale and shift, running statistics after `run`, in float64.
    fn all(
        norm: &BatchNorm,
        x: &Tensor,
        shortcut: &Tensor,
        run: impl Fn(&Tensor, &Tensor) -> Tensor,
    ) -> Vec<Tensor> {
        let running = [&norm.running_mean, &norm.running_var];
        let before = running.map(Tensor::copy);
        let parameters = [norm.weight.as_ref().unwrap(), norm.bias.as_ref().unwrap()];
        parameters.iter().for_each(|p| p.shallow_clone().zero_grad());
        let [x, shortcut] = [x, shortcut].map(|t| t.detach().copy().set_requires_grad(true));
        let y = run(&x, &shortcut);
        // In the precision of the input, so that it is rounded nowhere.
        let upstream = (Tensor::arange(y.numel() as i64, FLOAT).sin() + 0.05).to_kind(x.kind());
        let upstream = upstream.to_kind(Kind::Double).view_as(&y);
        (y.to_kind(Kind::Double) * upstream).sum(Kind::Double).backward();
        let gradients = [&x, &shortcut, parameters[0], parameters[1]].map(Tensor::grad);
        let after = running.map(Tensor::copy);
        no_grad(|| {
            for (tensor, before) in running.iter().zip(&before) {
                tensor.shallow_clone().copy_(before);
            }
        });
        let all = [y.detach()].into_iter().chain(gradients).chain(after);
        // Copies: gradients of parameters are set to zero in their place.
        let double = |t: Tensor| if t.defined() { t.to_kind(Kind::Double) } else { t };
        all.map(double).collect()
    }

    // In float64.
    fn library(norm: &BatchNorm, x: &Tensor, splits: i64, train: bool) -> Tensor {
        let (means, vars) = (
            norm.running_mean.to_kind(Kind::Double).repeat([splits, 1]),
            norm.running_var.to_kind(Kind::Double).repeat([splits, 1]),
        );
        let parameter = |tensor: &Option<Tensor>| tensor.as_ref().map(|t| t.to_kind(Kind::Double));
        let (weight, bias) = (parameter(&norm.weight), parameter(&norm.bias));
        let parts: Vec<Tensor> = (x.chunk(splits, 0).iter().enumerate())
            .map(|(i, part)| {
                part.batch_norm(
                    weight.as_ref(),
                    bias.as_ref(),
                    Some(&means.get(i as i64)),
                    Some(&vars.get(i as i64)),
                    train,
                    0.1,
                    1e-5,
                    true,
                )
            })
            .collect();
        no_grad(|| {
            norm.running_mean
                .shallow_clone()
                .copy_(&means.mean_dim(0, false, None));
            norm.running_var
                .shallow_clone()
                .copy_(&vars.mean_dim(0, false, None));
        });
        Tensor::cat(&parts, 0)
    }

    fn compare(shape: &[i64], kind: Kind, splits: i64, train: bool, step: usize, tolerance: f64) {
        let (_vs, norm) = layer(shape[1]);
        let (x, shortcut) = (
            random(shape).to_kind(kind),
            ((random(shape) - 2) * 4).to_kind(kind),
        );
        let mode = if train { Mode::Train { splits } } else { Mode::Eval };
        let ours = all(&norm, &x, &shortcut, |x, shortcut| {
            let then = [Then::Nothing, Then::Relu, Then::AddRelu(shortcut)][step];
            norm.forward(x, mode, then)
        });
        let expected = all(&norm, &x, &shortcut, |x, shortcut| {
            let y = library(&norm, &x.to_kind(Kind::Double), splits, train);
            match step {
                0 => y,
                1 => y.relu(),
                _ => (y + shortcut).relu(),
            }
        });
        let names = ["y", "dx", "dshortcut", "dweight", "dbias", "mean", "var"];
        for (name, (ours, expected)) in names.iter().zip(ours.iter().zip(&expected)) {
            assert_eq!(ours.defined(), expected.defined(), "{name} of step {step}");
            if ours.defined() {
                let error = (ours - expected).abs().max() / expected.abs().max().clamp_min(0.1);
                let error = error.double_value(&[]);
                assert!(
                    error <= tolerance,
                    "{name} of {shape:?}, {splits} parts, train {train}, step {step}: {error:e}"
                );
            }
        }
    }

    #[test]
    fn with_what_follows_it_equals_the_librarys_operations() {
        let shapes: [&[i64]; 9] = [
            &[4, 8, 5, 7],
            &[2, 72, 3, 3],
            &[3, 24, 1, 1],
            &[1, 40, 1, 2],
            &[33, 40],
            &[16, 512, 3, 3],
            &[6, 64, 41, 40],
            // Not by the kernels: channels, and the layout of a single row.
            &[4, 12, 5, 7],
            &[5, 3],
        ];
        for shape in shapes {
            for step in 0..3 {
                compare(shape, Kind::Float, 1, true, step, 1e-5);
                compare(shape, Kind::Float, 1, false, step, 1e-5);
            }
        }
    }

    #[test]
    fn parts_of_a_batch_have_their_own_statistics() {
        for step in 0..3 {
            compare(&[8, 16, 5, 3], Kind::Float, 4, true, step, 1e-5);
            compare(&[64, 64, 11, 11], Kind::Float, 8, true, step, 1e-5);
            compare(&[8, 6, 5, 3], Kind::Float, 4, true, step, 1e-5);
        }
    }

    #[test]
    fn in_bfloat16_only_the_results_are_rounded() {
        for step in 0..3 {
            // A clamped pixel more or less changes a gradient by a term of its sum.
            compare(&[8, 16, 9, 9], Kind::BFloat16, 1, true, step, 0.02);
            compare(&[8, 16, 9, 9], Kind::BFloat16, 1, false, step, 0.02);
        }
    }

    #[test]
    fn statistics_are_those_of_float64_to_seven_digits() {
        let (_vs, norm) = layer(16);
        let x = channels_last(&(random(&[64, 16, 21, 21]) + 1000));
        let (mean, var) = (Tensor::zeros([16], FLOAT), Tensor::zeros([16], FLOAT));
        // With a momentum of 1 these become the statistics of the batch.
        let y = norm.normalise(&x, (&mean, &var), Some((1, 1.0)), Then::Nothing);
        assert!(y.abs().max().double_value(&[]) < 3.0);
        let exact = x.to_kind(Kind::Double).transpose(0, 1).flatten(1, -1);
        let exact = [
            exact.mean_dim(1i64, false, None),
            exact.var_dim(&[1i64][..], true, false),
        ];
        for (ours, exact) in [mean, var].iter().zip(&exact) {
            let error = ((ours - exact) / exact).abs().max().double_value(&[]);
            assert!(error < 1e-6, "{error:e}");
        }
    }

    #[test]
    fn not_a_number_stays_one_and_threads_change_no_byte() {
        let (_vs, norm) = layer(64);
        let x = random(&[16, 64, 21, 21]);
        let [one, two] = [1, 2].map(|threads| {
            tch::set_num_threads(threads);
            all(&norm, &x, &x, |x, shortcut| {
                norm.forward(x, Mode::TRAIN, Then::AddRelu(shortcut))
            })
        });
        assert!(one.iter().zip(&two).all(|(one, two)| one.equal(two)));
        let _ = x.get(3).get(5).get(2).get(2).fill_(f64::NAN);
        let count = |y: Tensor| y.isnan().sum(Kind::Int64).int64_value(&[]);
        assert_eq!(count(norm.forward(&x, Mode::Eval, Then::Relu)), 1);
        assert_eq!(count(norm.forward(&x, Mode::TRAIN, Then::Relu)), 16 * 21 * 21);
    }

    #[test]
    fn the_kernels_are_used_where_they_can_be() {
        let used = |x: &Tensor| {
            let (_vs, norm) = layer(x.size()[1]);
            let running = (&norm.running_mean, &norm.running_var);
            norm.at_once(x, running, Some((1, 0.1)), Then::Relu).is_some()
        };
        let available = std::is_x86_feature_detected!("avx2");
        for x in [random(&[2, 8, 3, 3]), random(&[2, 16])] {
            assert_eq!(used(&x), available);
            assert_eq!(used(&x.to_kind(Kind::BFloat16)), available);
            assert!(!used(&x.to_kind(Kind::Double)));
        }
        assert!(!used(&random(&[2, 12, 3, 3])));
        assert!(!used(&random(&[2, 8, 3, 3]).contiguous()));
        assert!(!used(&random(&[1, 8])));
    }
}
