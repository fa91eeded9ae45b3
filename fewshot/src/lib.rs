//! The few-shot probe: how well do frozen features separate classes never seen in pretraining, from a few
//! images each?
//!
//! [`EpisodeSet`] draws or reads the tasks, [`logistic`] fits every task's linear classifier at its exact
//! optimum, and [`score()`] turns features and episodes into a mean accuracy with its confidence interval.
//! [`eval`] does all of it with a backbone and a pack.
//!
//! ```
//! use camtrast_common::progress::Silent;
//! use camtrast_fewshot::{EpisodeSet, Features, Protocol, ScoreOptions, score};
//!
//! // Twenty images of each of five classes, whose features lie around five corners.
//! let labels: Vec<i64> = (0..100).map(|image| image % 5).collect();
//! let wave = |image: usize| 0.01 * (image as f32 * 0.7).sin();
//! let near = |image: usize, d: usize| f32::from(u8::from(d == image % 5)) + wave(image);
//! let values: Vec<f32> = (0..500).map(|at| near(at / 5, at % 5)).collect();
//! let features = Features::new(values, 5)?; // [N, D]
//!
//! let protocol = Protocol { episodes: 20, ..Protocol::default() }; // 5-way 1-shot, 15 queries
//! let episodes = EpisodeSet::sample(&labels, &protocol, 0)?;
//! let accuracy = score(&features, &labels, &episodes, &ScoreOptions::default(), &Silent)?;
//! assert_eq!(accuracy.mean, 1.0);
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod episodes;
mod eval;
mod features;
pub mod logistic;
mod matrix;
mod products;
pub mod score;

pub use episodes::*;
pub use eval::{EvalOptions, EvalResult, eval};
pub use features::Features;
pub use matrix::Matrix;
pub use score::*;
