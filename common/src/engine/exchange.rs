//! What the processes of a training exchange: the state before the first step, and in every step gradients,
//! running statistics of batch norm, losses, and whether one was asked to stop.

use super::gradients::Gradients;
use super::task::Loss;
use crate::device::{on_host, send};
use crate::distributed::Group;
use crate::error::Result;
use crate::run::Position;
use crate::tensor_file::{bytes_of, hex};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor, no_grad};

/// The exchange between the processes of one training; it does nothing in one process.
pub(super) struct Exchange {
    group: Group,
    device: Device,
    statistics: Vec<Tensor>,
    /// `None` in one process.
    gradients: Option<Gradients>,
    stop: bool,
}

impl Exchange {
    /// Gives all processes rank 0's position and state, the optimiser's included. The gradients of
    /// `parameters` and the `statistics` are averaged in every step.
    pub(super) fn begin(
        (group, device): (Group, Device),
        position: &mut Position,
        states: [BTreeMap<String, Tensor>; 2],
        parameters: &[Tensor],
        statistics: Vec<Tensor>,
    ) -> Result<Self> {
        if !group.is_alone() {
            let place = send(
                Tensor::from_slice(&[position.step as f64, position.seconds]),
                device,
            );
            group.broadcast(&place)?;
            (position.step, position.seconds) = (place.double_value(&[0]) as u64, place.double_value(&[1]));
            states
                .iter()
                .flat_map(BTreeMap::values)
                .try_for_each(|tensor| group.broadcast(tensor))?;
        }
        let gradients = (!group.is_alone()).then(|| Gradients::of(group, parameters));
        Ok(Exchange {
            group,
            device,
            statistics,
            gradients: gradients.transpose()?,
            stop: false,
        })
    }

    /// Comes before the last backward pass of a step, from which on gradients are averaged.
    pub(super) fn expect_gradients(&self) -> Result<()> {
        self.gradients.as_ref().map_or(Ok(()), Gradients::expect)
    }

    /// Averages over the processes, in place, gradients and statistics, and the losses of a step. `stop` asks
    /// all processes to stop after it.
    pub(super) fn average(&mut self, losses: Vec<Loss>, stop: bool) -> Result<Vec<Loss>> {
        let Some(gradients) = &self.gradients else {
            self.stop = stop;
            return Ok(losses);
        };
        let flat = |tensor: &Tensor| tensor.detach().to_kind(Kind::Float).reshape([-1]);
        let asked = send(Tensor::from_slice(&[f32::from(u8::from(stop))]), self.device);
        let logged = losses
            .iter()
            .flat_map(|loss| std::iter::once(&loss.total).chain(loss.parts.iter().map(|(_, part)| part)));
        let others: Vec<Tensor> = (self.statistics.iter().chain(logged).chain([&asked]))
            .map(flat)
            .collect();
        let sizes: Vec<i64> = others.iter().map(|tensor| tensor.numel() as i64).collect();
        let others = Tensor::cat(&others, 0);
        self.group.all_reduce(&others)?;
        gradients.average()?;
        let mut averages = (others / self.group.world() as f64)
            .split_with_sizes(sizes, 0)
            .into_iter();
        let mut next = || averages.next().expect("as many as were put in");
        no_grad(|| {
            for tensor in &self.statistics {
                tensor.shallow_clone().copy_(&next().view_as(tensor));
            }
        });
        let averaged = |loss: Loss| Loss {
            total: next().squeeze(),
            parts: (loss.parts.into_iter())
                .map(|(name, _)| (name, next().squeeze()))
                .collect(),
        };
        let losses = losses.into_iter().map(averaged).collect();
        self.stop = next().double_value(&[0]) > 0.0;
        Ok(losses)
    }

    /// Refuses processes that no longer hold the same bytes: each would train another network.
    pub(super) fn verify(&self, states: [BTreeMap<String, Tensor>; 2]) -> Result<()> {
        if self.group.is_alone() {
            return Ok(());
        }
        let mut hash = Sha256::new();
        for (name, tensor) in states.iter().flatten() {
            hash.update(name);
            hash.update(bytes_of(&on_host(tensor)));
        }
        let sum = hex(&hash.finalize()[..8]);
        self.group.agree("weights", &sum, |first, other| {
            (first != other).then(|| (format!("weights {first}"), format!("weights {other}")))
        })
    }

    /// Whether a process was asked to stop, as all know from the last step.
    pub(super) fn stops(&self) -> bool {
        self.stop
    }
}
