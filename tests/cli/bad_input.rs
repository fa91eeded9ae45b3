//! Every error is one line that names the file or the setting and what to do, and nothing half-written is
//! left.

mod data;
mod files;
mod settings;
mod writing;
