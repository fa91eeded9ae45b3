//! The part of training data that is held out, so that settings can be chosen on it and not on test data.

use crate::random::{generator, permutation};
use crate::settings::check_range;
use crate::{Error, Result};

/// Number of samples that a share of `total` is: at least one is held out, and at least one left.
///
/// # Errors
/// [`Error::Settings`] for a share that is not above 0 and at most 0.9, and for fewer than two samples.
pub fn count(total: usize, share: f64) -> Result<usize> {
    check_range("holdout", share, 1e-6..=0.9, "above 0 and at most 0.9")?;
    if total < 2 {
        return Err(Error::settings(
            "--holdout needs at least two training images",
            "name more of them",
        ));
    }
    Ok(((share * total as f64).round() as usize).clamp(1, total - 1))
}

/// Whether each of `total` samples is held out: a share of them, the same for everybody.
///
/// # Errors
/// As [`count`].
pub fn drawn(total: usize, share: f64) -> Result<Vec<bool>> {
    let mut held = vec![false; total];
    let count = count(total, share)?;
    for &place in &permutation(total, &mut generator(0, "holdout", 0, 0))[..count] {
        held[place as usize] = true;
    }
    Ok(held)
}

/// Whether each of `total` samples is held out: the last share of them, so that neighbours in a sorted list,
/// such as frames of one film, stay together.
///
/// # Errors
/// As [`count`].
pub fn last(total: usize, share: f64) -> Result<Vec<bool>> {
    let left = total - count(total, share)?;
    Ok((0..total).map(|place| place >= left).collect())
}

/// Divides samples into those to train on and those held out.
pub fn divide<T>(samples: Vec<T>, held: &[bool]) -> [Vec<T>; 2] {
    let (mut training, mut out) = (Vec::new(), Vec::new());
    for (sample, &held) in samples.into_iter().zip(held) {
        if held { &mut out } else { &mut training }.push(sample);
    }
    [training, out]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_held_out_and_always_the_same() {
        let held = drawn(50, 0.2).unwrap();
        assert_eq!(held.iter().filter(|held| **held).count(), 10);
        assert_eq!(held, drawn(50, 0.2).unwrap());
        assert_ne!(held, last(50, 0.2).unwrap());
        assert_eq!(last(5, 0.2).unwrap(), [false, false, false, false, true]);
        let [training, out] = divide((0..5).collect(), &last(5, 0.4).unwrap());
        assert_eq!((training, out), (vec![0, 1, 2], vec![3, 4]));
        // Never all, never none.
        assert_eq!([0.01, 0.9].map(|share| count(2, share).unwrap()), [1, 1]);
        assert!(count(1, 0.2).is_err() && count(9, 0.0).is_err() && count(9, 1.0).is_err());
    }
}
