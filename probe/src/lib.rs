//! Probes of frozen features on a labelled data set: how well are its classes separated by a linear
//! classifier, and by nearest neighbours?
//!
//! [`ProbeTask`] holds training and test features, [`score()`] runs the probes on them: [`logistic`] at the
//! optimum of scikit-learn's `LogisticRegression` with C chosen on a part of the training images, [`sgd`] as
//! the literature on self-supervision trains it, [`neighbours`] by plain or weighted vote. [`finetune`]
//! trains the whole network in place of a probe.
//!
//! ```
//! use camtrast_common::progress::Silent;
//! use camtrast_probe::{Features, Normalize, ProbeTask, Protocol, ScoreOptions, score};
//! use tch::{Kind, Tensor};
//!
//! // A hundred images of each of three classes, whose features lie around three corners.
//! let part = |noise: f64| {
//!     let labels: Vec<i64> = (0..300).map(|image| image % 3).collect();
//!     let corners = Tensor::from_slice(&labels).one_hot(3).to_kind(Kind::Float);
//!     Features::new(&corners + noise * corners.randn_like(), labels) // f32 [N, D]
//! };
//! let task = ProbeTask::of_numbers(part(0.1)?, part(0.1)?)?;
//! let options = ScoreOptions {
//!     normalize: Normalize::None,
//!     linear: Some(Protocol::Exact(vec![0.1, 1.0, 10.0])),
//!     ks: vec![5],
//!     temperature: None,
//!     weighted: false,
//!     validation: 0.2,
//!     seed: 0,
//! };
//! let found = score(&task, &options, &Silent)?;
//! assert_eq!(found.linear.unwrap().accuracy.top1, 1.0);
//! assert_eq!(found.neighbours[0].accuracy().top1, 1.0);
//! # Ok::<(), camtrast_common::Error>(())
//! ```

pub mod accuracy;
mod features;
pub mod finetune;
pub mod linear;
pub mod logistic;
pub mod neighbours;
mod score;
pub mod sgd;
pub mod source;
mod split;
mod task;

pub use features::{Features, Normalisation, Normalize};
pub use linear::Protocol;
pub use score::{Score, ScoreOptions, Vote, score};
pub use split::Split;
pub use task::{ProbeTask, repeated};
