//! Settings that are a flag, a TOML key and a line of config.toml at once, and the kinds of values they take.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Declares a struct of optional settings under a heading of `--help`. A field's documentation is its help; its default comes from a
/// method or preset, so that `None` means "not given".
///
/// The struct gets `or(others)`, these settings and `others` where they say nothing, and `given()`, the flags that are set.
/// Callers need `clap` and `serde`.
#[macro_export]
macro_rules! settings {
    (
        $(#[$outer:meta])*
        pub struct $name:ident under $heading:literal {
            $( $(#[$attribute:meta])* $field:ident: $type:ty, )*
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Default, PartialEq, ::serde::Serialize, ::serde::Deserialize, ::clap::Args)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct $name { $(
            $(#[$attribute])*
            #[arg(long, help_heading = $heading)]
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $field: Option<$type>,
        )* }

        impl $name {
            /// These settings, and `others` where they say nothing.
            pub fn or(self, others: Self) -> Self {
                Self { $( $field: self.$field.or(others.$field), )* }
            }

            /// The flags, without dashes before them, of the settings that are set.
            pub fn given(&self) -> Vec<String> {
                let fields = [ $( (stringify!($field), self.$field.is_some()), )* ];
                fields.iter().filter(|(_, set)| *set).map(|(name, _)| name.replace('_', "-")).collect()
            }
        }
    };
}

/// The value of a setting that defaults guarantee.
pub fn set<T: Clone>(option: &Option<T>) -> T {
    option.clone().expect("defaults are complete for what reads them")
}

/// A list of numbers, written `0.4,0.4,0.4,0.1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Numbers(pub Vec<f64>);

impl FromStr for Numbers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.trim().parse().map_err(|_| format!("{part:?} is no number"));
        text.split(',').filter(|p| !p.trim().is_empty()).map(number).collect::<Result<_, _>>().map(Numbers)
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(f64::to_string).collect::<Vec<_>>().join(","))
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// With it.
    On,
    /// Without it.
    Off,
}

/// What fine-tuning does with the backbone's batch norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormMode {
    /// Batch statistics, scale and shift are trained.
    Train,
    /// The checkpoint's statistics, scale and shift stay as they are.
    Frozen,
    /// Batch statistics over all processes: on one device the same as `train`.
    Sync,
}
