//! Settings, each of which is a flag, a TOML key and a line of config.toml, and the types of their values.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeBounds;
use std::str::FromStr;

/// Declares a struct of optional settings under a heading of `--help`. A field's documentation is its help;
/// its default comes from a method or preset, so that `None` means "not given". The struct gets `or(others)`,
/// which fills unset fields from `others`, and `given()`, the flags that are set. Callers need `clap` and
/// `serde`.
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
            /// These settings, with unset ones taken from `others`.
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

/// The largest number of epochs, steps or images per batch: far beyond any use, and small enough that no
/// product overflows.
pub const MOST: u64 = 100_000_000;

/// Refuses a number outside a range, NaN included. `words` describes the range, after "give a number".
///
/// # Errors
/// [`Error::Settings`] naming the flag.
pub fn check_range(flag: &str, value: f64, range: impl RangeBounds<f64>, words: &str) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::settings(
        format!("--{flag} {value} is out of range"),
        format!("give a number {words}"),
    ))
}

/// Refuses negative, infinite and NaN values; `None` is accepted.
///
/// # Errors
/// As [`check_range`].
pub fn check_not_negative(settings: &[(&str, Option<f64>)]) -> Result<()> {
    let mut given = settings
        .iter()
        .filter_map(|(flag, value)| Some((flag, (*value)?)));
    given.try_for_each(|(flag, value)| check_range(flag, value, 0.0..=f64::MAX, "of at least 0"))
}

/// Refuses counts above [`MOST`]; `None` is accepted.
///
/// # Errors
/// As [`check_range`].
pub fn check_counts(settings: &[(&str, Option<u64>)]) -> Result<()> {
    let mut given = settings
        .iter()
        .filter_map(|(flag, value)| Some((flag, (*value)? as f64)));
    given
        .try_for_each(|(flag, value)| check_range(flag, value, ..=MOST as f64, &format!("of at most {MOST}")))
}

/// Refuses milestones that are not whole numbers from 0 in rising order.
///
/// # Errors
/// [`Error::Settings`].
pub fn check_milestones(milestones: &Option<Numbers>) -> Result<()> {
    let Some(list) = milestones else { return Ok(()) };
    let whole = list
        .0
        .iter()
        .all(|m| m.fract() == 0.0 && (0.0..=MOST as f64).contains(m));
    if whole && list.0.is_sorted() {
        return Ok(());
    }
    Err(Error::settings(
        format!("--milestones {list} are not whole numbers in rising order"),
        "give them as 60,80",
    ))
}

/// The value of a setting that defaults guarantee.
pub fn set<T: Clone>(option: &Option<T>) -> T {
    option.clone().expect("every setting that is read has a default")
}

/// A list of numbers, written `0.4,0.4,0.4,0.1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Numbers(pub Vec<f64>);

impl FromStr for Numbers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            part.trim()
                .parse()
                .map_err(|_| format!("{part:?} is not a number"))
        };
        text.split(',')
            .filter(|p| !p.trim().is_empty())
            .map(number)
            .collect::<Result<_, _>>()
            .map(Numbers)
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
    /// On
    On,
    /// Off
    Off,
}

/// How fine-tuning treats the backbone's batch norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormMode {
    /// Batch statistics; scale and shift are trained
    Train,
    /// The checkpoint's statistics, scale and shift are not changed
    Frozen,
    /// Batch statistics over all processes (see --nproc): with one process the same as `train`
    Sync,
}
