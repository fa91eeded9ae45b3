//! The order of samples, for training counted in steps: pass after pass over the data, each in another random
//! order; a batch may span two passes.

use crate::distributed::Group;
use crate::random::{generator, permutation};

/// The order of the samples, from the seed alone.
#[derive(Debug)]
pub struct Passes {
    samples: u64,
    seed: u64,
    group: Group,
    /// The current pass, and its order.
    order: (u64, Vec<i64>),
}

impl Passes {
    /// A sampler over this many samples (at least 1). Every process of `group` gets its part of each batch.
    pub fn new(samples: usize, seed: u64, group: Group) -> Self {
        Passes {
            samples: samples as u64,
            seed,
            group,
            order: (u64::MAX, Vec::new()),
        }
    }

    /// The sample at a position (from 0) of the whole training.
    pub fn sample(&mut self, place: u64) -> usize {
        let pass = place / self.samples;
        if self.order.0 != pass {
            self.order = (
                pass,
                permutation(
                    self.samples as usize,
                    &mut generator(self.seed, "sampler", pass, 0),
                ),
            );
        }
        self.order.1[(place % self.samples) as usize] as usize
    }

    /// Positions and samples of this process's part of the batch with this index; a batch may span two
    /// passes, so that any number of samples works.
    pub fn batch(&mut self, number: u64, size: u64) -> Vec<(u64, usize)> {
        let part = self.group.share(size as usize);
        (number * size + part.start as u64..number * size + part.end as u64)
            .map(|place| (place, self.sample(place)))
            .collect()
    }
}

/// Steps after which the engine logs means, its "epoch" when training is counted in steps: the smallest
/// divisor of `steps` that is at least `pass`, the steps of one pass.
pub fn period(steps: u64, pass: u64) -> u64 {
    (pass.max(1)..=steps)
        .find(|period| steps.is_multiple_of(*period))
        .unwrap_or(steps.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_holds_every_sample_once() {
        let mut passes = Passes::new(7, 3, Group::ALONE);
        let orders: Vec<Vec<usize>> = (0..3)
            .map(|p| (p * 7..p * 7 + 7).map(|i| passes.sample(i)).collect())
            .collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6]);
        }
        assert_ne!(orders[0], orders[1]);
        assert_eq!(passes.sample(0), orders[0][0], "any place at any time");
    }

    #[test]
    fn a_period_divides_the_steps() {
        assert_eq!(
            [
                period(24_000, 1035),
                period(100, 7),
                period(13, 5),
                period(5, 9),
                period(0, 3)
            ],
            [1200, 10, 13, 5, 1]
        );
    }
}
