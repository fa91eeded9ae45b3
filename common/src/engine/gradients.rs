//! Gradients that become their averages over the processes while the backward pass goes on, by
//! `native/gradients.cpp`.

use crate::distributed::Group;
use crate::error::Result;
use crate::native::{check, handles};
use std::ffi::c_void;
use std::ptr::null_mut;
use tch::{Device, Kind, Tensor};

type Handle = *mut c_void;

unsafe extern "C" {
    fn camtrast_gradients_open(
        parameters: *const *const c_void,
        n: usize,
        buffer: *const c_void,
        world: i64,
        piece: i64,
        gloo: Handle,
        out: *mut Handle,
    ) -> i32;
    fn camtrast_gradients_expect(gradients: Handle) -> i32;
    fn camtrast_gradients_complete(gradients: Handle) -> i32;
    fn camtrast_gradients_wait(gradients: Handle) -> i32;
    fn camtrast_gradients_close(gradients: Handle);
}

/// Numbers that are summed together: large enough for the network, and small enough that few remain when the
/// backward pass ends.
const PIECE: i64 = 1 << 21;

/// The gradients of a training's parameters in one buffer.
pub(super) struct Gradients {
    handle: Handle,
    buffer: Tensor,
    group: Group,
    /// Whether sums begin in the backward pass: Gloo's do.
    overlap: bool,
}

impl Gradients {
    /// Of `parameters`, which are float32 leaves of the graph, the same in all processes of `group`.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] without memory for the buffer.
    pub(super) fn of(group: Group, parameters: &[Tensor]) -> Result<Self> {
        Self::in_pieces(group, parameters, PIECE)
    }

    fn in_pieces(group: Group, parameters: &[Tensor], piece: i64) -> Result<Self> {
        let numbers: usize = parameters.iter().map(Tensor::numel).sum();
        let device = parameters.first().map_or(Device::Cpu, Tensor::device);
        let buffer = Tensor::f_zeros([numbers as i64], (Kind::Float, device))?;
        let all = handles(parameters);
        let mut handle = null_mut();
        let gloo = group.gloo_of_gradients();
        // SAFETY: live tensors, of which the shim keeps references; so it does of Gloo.
        check(unsafe {
            camtrast_gradients_open(
                all.as_ptr(),
                all.len(),
                buffer.as_ptr().cast(),
                group.world() as i64,
                piece,
                gloo.unwrap_or(null_mut()),
                &mut handle,
            )
        })?;
        Ok(Gradients {
            handle,
            buffer,
            group,
            overlap: gloo.is_some(),
        })
    }

    /// The next backward pass is the last of a step: its gradients, added to those of earlier passes, are to
    /// be averaged.
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub(super) fn expect(&self) -> Result<()> {
        // SAFETY: opened by `in_pieces`; likewise below.
        check(unsafe { camtrast_gradients_expect(self.handle) })
    }

    /// Waits until the gradients are the averages over all processes. A parameter without one counts as
    /// zero, and still has none.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub(super) fn average(&self) -> Result<()> {
        check(unsafe { camtrast_gradients_complete(self.handle) })?;
        match self.overlap {
            true => (self.group).waiting(|| check(unsafe { camtrast_gradients_wait(self.handle) })),
            false => self.group.all_reduce(&self.buffer),
        }
    }
}

impl Drop for Gradients {
    fn drop(&mut self) {
        unsafe { camtrast_gradients_close(self.handle) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::Place;
    use std::net::TcpListener;
    use std::thread::{scope, sleep};
    use std::time::{Duration, Instant};

    // Both processes of a group as threads of this one.
    fn in_two(work: impl Fn(Group) + Sync) {
        let port = {
            let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            free.local_addr().unwrap().port()
        };
        let member = |rank: u64| {
            let variables = [
                ("RANK", rank),
                ("LOCAL_RANK", rank),
                ("WORLD_SIZE", 2),
                ("MASTER_PORT", u64::from(port)),
            ];
            let find = |name: &str| match name {
                "MASTER_ADDR" => Some("127.0.0.1".to_owned()),
                _ => variables
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, value)| value.to_string()),
            };
            let place = Place::find(find).unwrap().unwrap();
            let group = Group::join(place, Device::Cpu, Duration::from_secs(30)).unwrap();
            work(group);
            group.leave();
        };
        scope(|scope| {
            scope.spawn(|| member(0));
            member(1);
        });
    }

    fn leaf(shape: &[i64]) -> Tensor {
        Tensor::ones(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true)
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.reshape([-1])).unwrap()
    }

    #[test]
    fn gradients_become_averages_where_they_lie_before_anybody_waits() {
        in_two(|group| {
            let (first, last) = (leaf(&[3]), leaf(&[2, 3, 2, 2]));
            // Weights of convolutions lie channels-last.
            let dense = last.detach().permute([0, 2, 3, 1]).contiguous();
            let last_weight = dense.permute([0, 3, 1, 2]).set_requires_grad(true);
            let idle = leaf(&[5]);
            let all = [
                first.shallow_clone(),
                idle.shallow_clone(),
                last_weight.shallow_clone(),
            ];
            let gradients = Gradients::in_pieces(group, &all, 4).unwrap();
            let scale = group.rank() as f64 + 1.0;
            let ramp = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([2, 3, 2, 2]);
            for step in 1..4 {
                crate::native::forget_gradients(&all);
                let loss = || {
                    let one = (&first * (scale * f64::from(step))).sum(Kind::Float);
                    one + (&last_weight * &ramp * scale).sum(Kind::Float)
                };
                // Two passes make a step.
                loss().backward();
                assert_eq!(numbers(&first.grad()), [(scale * f64::from(step)) as f32; 3]);
                gradients.expect().unwrap();
                loss().backward();
                let expected: Vec<f32> = numbers(&ramp).iter().map(|x| 2.0 * 1.5 * x).collect();
                let begun = Instant::now();
                while numbers(&last_weight.grad()) != expected {
                    assert!(
                        begun.elapsed() < Duration::from_secs(20),
                        "the sum does not begin by itself"
                    );
                    sleep(Duration::from_millis(5));
                }
                gradients.average().unwrap();
                assert_eq!(numbers(&first.grad()), [2.0 * 1.5 * step as f32; 3]);
                assert_eq!(last_weight.grad().stride(), last_weight.stride());
                assert!(!idle.grad().defined());
            }
            drop(gradients);
            crate::native::forget_gradients(&all);
            (&first * scale).sum(Kind::Float).backward();
            assert_eq!(
                numbers(&first.grad()),
                [scale as f32; 3],
                "nothing is averaged afterwards"
            );
        });
    }
}
