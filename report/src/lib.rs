//! One page of everything that was measured: which pretraining transfers best, how sure that is, and how to do it again.

pub mod record;
