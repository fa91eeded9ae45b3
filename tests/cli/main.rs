//! The real executable, driven as a user drives it: resuming, bad input, and every command's files.

mod bad_input;
mod commands;
mod resume;
mod world;
