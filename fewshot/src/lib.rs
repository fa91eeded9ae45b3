//! The few-shot probe: how well do frozen features separate classes never seen in pretraining, from a few
//! images each?
//!
//! [`EpisodeSet`] draws or reads the tasks, [`logistic`] fits every task's linear classifier at its exact
//! optimum, and [`score()`] turns features and episodes into a mean accuracy with its confidence interval.
//! [`eval`] does all of it with a backbone and a pack.
//!
//! ```
//! use camtrast_common::progress::Silent;
//! use camtrast_fewshot::{EpisodeSet, Protocol, ScoreOptions, score};
//! use tch::{Kind, Tensor};
//!
//! // Twenty images of each of five classes, whose features lie around five corners.
//! let labels: Vec<i64> = (0..100).map(|image| image % 5).collect();
//! let corners = Tensor::from_slice(&labels).one_hot(5).to_kind(Kind::Float);
//! let features = &corners + 0.01 * corners.randn_like(); // [N, D]
//!
//! let protocol = Protocol { episodes: 20, ..Protocol::default() }; // 5-way 1-shot, 15 queries
//! let episodes = EpisodeSet::sample(&labels, &protocol, 0)?;
//! let accuracy = score(&features, &labels, &episodes, &ScoreOptions::default(), &Silent)?;
//! assert_eq!(accuracy.mean, 1.0);
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod episodes;
mod eval;
pub mod logistic;
pub mod score;

pub use episodes::*;
pub use eval::{EvalOptions, EvalResult, eval};
pub use score::*;
