//! All randomness, derived from (seed, purpose, epoch, step): nothing needs saving to resume a run exactly.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A generator for one purpose at one step of a run. The same four values give the same numbers on every
/// machine.
///
/// `purpose` names the use, such as `"sampler"` or `"augment/query"`; two purposes never share numbers.
pub fn generator(seed: u64, purpose: &str, epoch: u64, step: u64) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(epoch.to_le_bytes());
    hash.update(step.to_le_bytes());
    hash.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// A seed for libtorch's own generators, derived in the same way.
pub fn torch_seed(seed: u64, purpose: &str, epoch: u64, step: u64) -> i64 {
    generator(seed, purpose, epoch, step).random_range(0..i64::MAX)
}

/// `count` of the items, or all if there are fewer, in random order: the first steps of a Fisher-Yates
/// shuffle.
pub fn draw<T>(mut items: Vec<T>, count: usize, generator: &mut ChaCha8Rng) -> Vec<T> {
    let count = count.min(items.len());
    for next in 0..count {
        let other = generator.random_range(next..items.len());
        items.swap(next, other);
    }
    items.truncate(count);
    items
}

/// The numbers `0..n` in random order (Fisher-Yates).
pub fn permutation(n: usize, generator: &mut ChaCha8Rng) -> Vec<i64> {
    let mut order: Vec<i64> = (0..n as i64).collect();
    for last in (1..n).rev() {
        order.swap(last, generator.random_range(0..=last));
    }
    order
}
