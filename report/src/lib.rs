//! One page of everything that was measured: which pretraining transfers best, how sure that is, and how to do it again.

pub mod chart;
pub mod compare;
pub mod gather;
pub mod log;
pub mod record;
pub mod stats;
pub mod table;

mod folder;
