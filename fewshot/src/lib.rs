//! The few-shot probe: how well do frozen features separate classes never seen in pretraining, from a few
//! images each?
//!
//! [`EpisodeSet`] draws or reads the tasks, [`logistic`] fits every task's linear classifier at its exact
//! optimum, and [`score()`] turns features and episodes into a mean accuracy with its confidence interval.

pub mod episodes;
mod eval;
pub mod logistic;
pub mod score;

pub use episodes::*;
pub use eval::{EvalOptions, EvalResult, eval};
pub use score::*;
