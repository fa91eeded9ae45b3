//! Data packs and the public layouts they are made from.

pub mod synth;
