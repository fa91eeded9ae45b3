//! What the processes of a training exchange: the state before the first step, and once a step, in one flat
//! buffer, gradients, running statistics of batch norm, losses, and whether one was asked to stop.

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
    statistics: Vec<Tensor>,
    flat: Tensor,
    stop: bool,
}

impl Exchange {
    /// Gives all processes rank 0's position and state, the optimiser's included; `statistics` are averaged
    /// in every step.
    pub(super) fn begin(
        group: Group,
        device: Device,
        position: &mut Position,
        states: [BTreeMap<String, Tensor>; 2],
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
        let flat = Tensor::zeros([0], (Kind::Float, device));
        Ok(Exchange {
            group,
            statistics,
            flat,
            stop: false,
        })
    }

    /// Averages over the processes, in place, the gradients of `params` and the losses of a step. `stop` asks
    /// all processes to stop after it.
    pub(super) fn average(&mut self, params: &[Tensor], losses: Vec<Loss>, stop: bool) -> Result<Vec<Loss>> {
        if self.group.is_alone() {
            self.stop = stop;
            return Ok(losses);
        }
        let scalar = |t: &Tensor| t.detach().to_kind(Kind::Float);
        let scalars = |loss: &Loss| -> Vec<Tensor> {
            let parts = loss.parts.iter().map(|(_, part)| scalar(part));
            std::iter::once(scalar(&loss.total)).chain(parts).collect()
        };
        let mut logged: Vec<Tensor> = losses.iter().flat_map(scalars).collect();
        logged.push(send(Tensor::from(f32::from(u8::from(stop))), self.flat.device()));
        let logged = Tensor::stack(&logged, 0);

        let trained: Vec<(&Tensor, Tensor)> = (params.iter().map(|param| (param, param.grad())))
            .filter(|(_, gradient)| gradient.defined())
            .collect();
        // In the memory order of parameters, which is the same in every process.
        let all = (trained.iter().map(|(param, gradient)| (*param, gradient)))
            .chain(self.statistics.iter().map(|tensor| (tensor, tensor)))
            .chain([(&logged, &logged)]);
        let numbers: usize = all.clone().map(|(like, _)| like.numel()).sum();
        if self.flat.numel() != numbers {
            self.flat = Tensor::zeros([numbers as i64], (Kind::Float, self.flat.device()));
        }
        let flat = &self.flat;
        let mut at = 0;
        let places: Vec<(Tensor, &Tensor)> = (all.map(|(like, tensor)| {
            let place = flat.as_strided(like.size(), like.stride(), at);
            at += like.numel() as i64;
            (place, tensor)
        }))
        .collect();
        no_grad(|| -> Result<()> {
            places
                .iter()
                .try_for_each(|(place, tensor)| place.shallow_clone().f_copy_(tensor).map(drop))?;
            self.group.all_reduce(flat)?;
            let _ = flat.shallow_clone().f_div_scalar_(self.group.world() as f64)?;
            places
                .iter()
                .try_for_each(|(place, tensor)| tensor.shallow_clone().f_copy_(place).map(drop))?;
            Ok(())
        })?;
        let mut logged = logged.unbind(0).into_iter();
        let mut next = || logged.next().expect("as many as were put in");
        let averaged = |loss: Loss| Loss {
            total: next(),
            parts: loss.parts.into_iter().map(|(name, _)| (name, next())).collect(),
        };
        let losses = losses.into_iter().map(averaged).collect();
        self.stop = next().double_value(&[]) > 0.0;
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
