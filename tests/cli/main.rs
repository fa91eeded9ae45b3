//! The real executable, driven as a user drives it: resuming, bad input, and every command's files.

mod analysis;
mod architecture;
mod arithmetic;
mod bad_input;
mod commands;
mod detection;
mod distributed;
mod examples;
mod fetch;
mod gpu;
mod help;
mod honest;
mod install;
mod interop;
mod probe;
mod resume;
mod segmentation;
mod shell;
mod start;
mod streams;
mod suite;
mod track;
mod world;
