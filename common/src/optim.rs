//! SGD, Adam, AdamW and LARS over named parameters, with state that can be saved.
//!
//! The arithmetic is `torch.optim`'s, run by libtorch's fused kernels where it has them.

use crate::error::{Error, Result};
use crate::native::{self, AdamStep};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use tch::nn::VarStore;
use tch::{Kind, Tensor, no_grad};

/// Which rule updates the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// `torch.optim.SGD`, dampening 0.
    Sgd,
    /// `torch.optim.Adam`, betas (0.9, 0.999), eps 1e-8.
    Adam,
    /// `torch.optim.AdamW`, betas (0.9, 0.999), eps 1e-8.
    AdamW,
    /// Layer-wise adaptive rate scaling (You et al. 2017) as SimCLR and BYOL use it: trust coefficient 0.001,
    /// and parameters of one dimension (biases, norms) neither decayed nor adapted.
    Lars,
}

impl FromStr for Algorithm {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sgd" => Ok(Self::Sgd),
            "adam" => Ok(Self::Adam),
            "adamw" => Ok(Self::AdamW),
            "lars" => Ok(Self::Lars),
            _ => Err(format!("{text:?} is not one of sgd, adam, adamw, lars")),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sgd => "sgd",
            Self::Adam => "adam",
            Self::AdamW => "adamw",
            Self::Lars => "lars",
        })
    }
}

/// An algorithm and its settings other than the learning rate.
#[derive(Debug, Clone, Copy)]
pub struct OptimizerConfig {
    /// Which rule.
    pub algorithm: Algorithm,
    /// Momentum of SGD and LARS.
    pub momentum: f64,
    /// Nesterov's form of SGD's momentum.
    pub nesterov: bool,
    /// Weight decay, for groups that do not set one.
    pub weight_decay: f64,
}

/// Parameters that share settings.
#[derive(Debug)]
pub struct ParamGroup {
    /// Named parameters.
    pub params: Vec<(String, Tensor)>,
    /// Factor on the learning rate.
    pub lr_scale: f64,
    /// Whether the learning rate stays at its base value instead of following the schedule (SimSiam's
    /// predictor).
    pub constant_lr: bool,
    /// Weight decay of this group, if it differs.
    pub weight_decay: Option<f64>,
}

impl ParamGroup {
    /// All trainable variables of a store, sorted by name, with the settings of the whole.
    pub fn all(vs: &VarStore) -> Self {
        Self::matching(vs, |_| true)
    }

    /// The trainable variables whose names `wanted` accepts, sorted by name, with the settings of the whole.
    pub fn matching(vs: &VarStore, wanted: impl Fn(&str) -> bool) -> Self {
        let mut params: Vec<_> = vs
            .variables()
            .into_iter()
            .filter(|(n, t)| t.requires_grad() && wanted(n))
            .collect();
        params.sort_by(|a, b| a.0.cmp(&b.0));
        ParamGroup {
            params,
            lr_scale: 1.0,
            constant_lr: false,
            weight_decay: None,
        }
    }
}

/// An optimiser with its moments.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    groups: Vec<ParamGroup>,
    /// Moments by `<parameter>/<moment>`.
    state: BTreeMap<String, Tensor>,
}

impl Optimizer {
    /// Moments begin at zero.
    pub fn new(config: OptimizerConfig, groups: Vec<ParamGroup>) -> Self {
        let mut state = BTreeMap::new();
        for (name, param) in groups.iter().flat_map(|g| &g.params) {
            for moment in moments(config.algorithm) {
                let zeros = if *moment == "step" {
                    Tensor::zeros([0i64; 0], (Kind::Float, param.device()))
                } else {
                    param.detach().zeros_like() // keeps the parameter's channels-last layout
                };
                state.insert(format!("{name}/{moment}"), zeros);
            }
        }
        Optimizer {
            config,
            groups,
            state,
        }
    }

    /// The parameters, group after group.
    pub fn params(&self) -> Vec<Tensor> {
        let params = self.groups.iter().flat_map(|g| &g.params);
        params.map(|(_, param)| param.shallow_clone()).collect()
    }

    /// Clears all gradients (`zero_grad(set_to_none=True)`).
    pub fn zero_grad(&mut self) {
        native::forget_gradients(&self.params());
    }

    /// Scales all gradients down so that their joint Euclidean norm is at most `max_norm`; returns the norm
    /// before, a scalar on their device (`torch.nn.utils.clip_grad_norm_`).
    pub fn clip_gradients(&mut self, max_norm: f64) -> Tensor {
        let grads: Vec<Tensor> = self
            .groups
            .iter()
            .flat_map(|g| &g.params)
            .map(|(_, p)| p.grad())
            .filter(Tensor::defined)
            .collect();
        let norms: Vec<Tensor> = grads.iter().map(|g| g.norm()).collect();
        if norms.is_empty() {
            return Tensor::from(0.0);
        }
        let total = Tensor::stack(&norms, 0).norm();
        let scale = (max_norm / (&total + 1e-6)).clamp_max(1.0);
        grads.into_iter().for_each(|mut g| {
            let _ = g.g_mul_(&scale);
        });
        total
    }

    /// Updates every parameter that has a gradient. `base_lr` is the configured learning rate, `lr` its
    /// scheduled value at this step.
    ///
    /// # Errors
    /// [`Error::Torch`] from the kernels.
    pub fn step(&mut self, base_lr: f64, lr: f64) -> Result<()> {
        let Optimizer {
            config,
            groups,
            state,
        } = self;
        for group in groups {
            let lr = group.lr_scale * if group.constant_lr { base_lr } else { lr };
            let decay = group.weight_decay.unwrap_or(config.weight_decay);
            let mut params = Vec::with_capacity(group.params.len());
            let mut grads = Vec::with_capacity(group.params.len());
            let mut moment_lists: Vec<Vec<Tensor>> =
                moments(config.algorithm).iter().map(|_| Vec::new()).collect();
            for (name, param) in &group.params {
                let grad = param.grad();
                if !grad.defined() {
                    continue;
                }
                for (list, moment) in moment_lists.iter_mut().zip(moments(config.algorithm)) {
                    list.push(state[&format!("{name}/{moment}")].shallow_clone());
                }
                params.push(param.shallow_clone());
                grads.push(grad);
            }
            let adam = AdamStep {
                lr,
                betas: (0.9, 0.999),
                weight_decay: decay,
                eps: 1e-8,
                decoupled: config.algorithm == Algorithm::AdamW,
            };
            match (config.algorithm, moment_lists.as_slice()) {
                _ if params.is_empty() => {}
                (Algorithm::Sgd, [momentum]) => native::fused_sgd(
                    &params,
                    &grads,
                    momentum,
                    lr,
                    config.momentum,
                    decay,
                    config.nesterov,
                )?,
                (Algorithm::Lars, [momentum]) => {
                    for ((param, grad), buffer) in params.iter().zip(&grads).zip(momentum) {
                        lars(param, grad, buffer, lr, config.momentum, decay);
                    }
                }
                (_, [exp_avg, exp_avg_sq, step]) => {
                    native::fused_adam(&params, &grads, exp_avg, exp_avg_sq, step, adam)?
                }
                _ => unreachable!("moments() fits the algorithm"),
            }
        }
        Ok(())
    }

    /// The moments, for a checkpoint.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        self.state
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect()
    }

    /// Restores the moments from a checkpoint.
    ///
    /// # Errors
    /// [`Error::Settings`] when a moment is missing or has another shape.
    pub fn load_state(&mut self, saved: &BTreeMap<String, Tensor>) -> Result<()> {
        copy_into(&self.state, saved, "the optimiser's state")
    }
}

fn moments(algorithm: Algorithm) -> &'static [&'static str] {
    match algorithm {
        Algorithm::Sgd | Algorithm::Lars => &["momentum"],
        Algorithm::Adam | Algorithm::AdamW => &["exp_avg", "exp_avg_sq", "step"],
    }
}

// g <- g + decay w; g <- trust |w| / |g| g; v <- momentum v + g; w <- w - lr v.
fn lars(param: &Tensor, grad: &Tensor, buffer: &Tensor, lr: f64, momentum: f64, decay: f64) {
    const TRUST: f64 = 0.001;
    no_grad(|| {
        let mut update = grad.shallow_clone();
        if param.dim() > 1 {
            update = grad + param * decay;
            let (w, g) = (param.norm(), update.norm());
            let trust = (&w * TRUST / &g).where_self(&w.gt(0).logical_and(&g.gt(0)), &w.ones_like());
            update *= trust;
        }
        let mut buffer = buffer.shallow_clone();
        let _ = buffer.g_mul_scalar_(momentum);
        let _ = buffer.g_add_(&update);
        let _ = param.shallow_clone().g_sub_(&(buffer * lr));
    });
}

/// Copies saved tensors over live ones of the same names, in place.
///
/// # Errors
/// [`Error::Settings`] naming the first tensor that is missing, unexpected or of another shape.
pub fn copy_into(
    live: &BTreeMap<String, Tensor>,
    saved: &BTreeMap<String, Tensor>,
    what: &str,
) -> Result<()> {
    let remedy = "it was saved by another configuration: use another --out, or --overwrite to start again";
    if let Some(name) = saved.keys().find(|name| !live.contains_key(*name)) {
        return Err(Error::settings(
            format!("{what} holds {name:?}, which this run does not have"),
            remedy,
        ));
    }
    for (name, tensor) in live {
        let Some(source) = saved.get(name) else {
            return Err(Error::settings(format!("{what} has no {name:?}"), remedy));
        };
        if source.size() != tensor.size() {
            let problem = format!(
                "{what} has {name:?} of shape {:?}, not {:?}",
                source.size(),
                tensor.size()
            );
            return Err(Error::settings(problem, remedy));
        }
        no_grad(|| tensor.shallow_clone().copy_(source));
    }
    Ok(())
}
