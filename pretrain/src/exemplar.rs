//! Exemplar: Zhao et al. 2021, "What Makes Instance Discrimination Good for Transfer Learning?".
//!
//! MoCo v2 (see `moco.rs`) in which keys of the query's own class are not negatives, so that labels never
//! push two images of a class apart:
//!
//! `L = -log exp(q.k/T) / (exp(q.k/T) + sum over j with y_j != y of exp(q.k_j/T))`.

use crate::method::Setting;
use crate::moco::{self, Moco};
use crate::options::PretrainOptions;
use camtrast_common::Result;

/// MoCo v2's.
pub(crate) fn defaults(setting: &Setting, given: &PretrainOptions) -> PretrainOptions {
    moco::defaults(setting, given)
}

/// Exemplar; see the module.
pub(crate) fn new(setting: &Setting, options: &PretrainOptions) -> Result<Moco> {
    let mut moco = Moco::new(setting, options)?;
    moco.spares_own_class = true;
    Ok(moco)
}
