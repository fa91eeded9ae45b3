//! How precisely a device computes, and whether it gives the same bytes again.

use crate::device::Precision;
use crate::error::{Error, Result};
use crate::native::{Card, Settings, cuda_card};
use serde::{Deserialize, Serialize};
use tch::Device;

/// Flags of every command that trains, and keys of its config.toml.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case")]
pub struct Arithmetic {
    /// Let a GPU round the factors of float32 products to TF32 (10 bits in place of 23): faster, less precise
    #[arg(long, help_heading = "Common")]
    #[serde(default, skip_serializing_if = "is_off")]
    pub tf32: bool,
    /// Compute only by operations that give the same bytes again on the same device, and refuse others
    #[arg(long, help_heading = "Common")]
    #[serde(default, skip_serializing_if = "is_off")]
    pub deterministic: bool,
}

fn is_off(flag: &bool) -> bool {
    !flag
}

impl Arithmetic {
    /// Makes libtorch compute like this on a device, for the whole process. `one_shape`: whether all batches
    /// have one shape; cuDNN then tries out which of its algorithms is the fastest, unless the choice has to
    /// be the same every time.
    ///
    /// # Errors
    /// [`Error::Settings`] for TF32 on a CPU, which has none; [`Error::Torch`].
    pub fn begin(self, device: Device, one_shape: bool) -> Result<()> {
        if self.tf32 && !device.is_cuda() {
            let remedy = "a CPU computes in float32: leave it out, or use --device cuda";
            return Err(Error::settings("--tf32 is for GPUs", remedy));
        }
        let settings = Settings {
            tf32: self.tf32,
            deterministic: self.deterministic,
            benchmark: one_shape && !self.deterministic,
        };
        settings.set()
    }
}

/// Refuses a precision that a device does not compute in.
///
/// # Errors
/// [`Error::Settings`] naming the card; [`Error::Torch`].
pub fn check_precision(precision: Precision, device: Device) -> Result<()> {
    match device {
        Device::Cuda(index) if precision == Precision::Bf16 => check_bf16(&cuda_card(index)?),
        _ => Ok(()),
    }
}

/// Whether a precision takes many times longer than float32 on a device: bfloat16 on processors without
/// AVX-512, where oneDNN has no fast kernels for it (ResNet-18 on AVX2: 2.2 against 17 GFLOP/s).
pub fn is_slow(precision: Precision, device: Device) -> bool {
    #[cfg(target_arch = "x86_64")]
    let fast = is_x86_feature_detected!("avx512bw");
    #[cfg(not(target_arch = "x86_64"))]
    let fast = true;
    device == Device::Cpu && precision == Precision::Bf16 && !fast
}

/// The first compute capability with bfloat16, Ampere's.
const BF16: (i32, i32) = (8, 0);

fn check_bf16(card: &Card) -> Result<()> {
    if card.capability >= BF16 {
        return Ok(());
    }
    let (major, minor) = card.capability;
    let problem = format!(
        "{} (compute capability {major}.{minor}) has no bfloat16",
        card.name
    );
    Err(Error::settings(
        problem,
        "use --precision fp32, or a card of capability 8.0 or higher",
    ))
}

/// How a device computes now, in words: `fp32 without TF32`.
///
/// # Errors
/// [`Error::Torch`].
pub fn describe(precision: Precision, device: Device) -> Result<String> {
    Ok(words(precision, device, Settings::now()?))
}

fn words(precision: Precision, device: Device, now: Settings) -> String {
    let tf32 = match (precision, device.is_cuda(), now.tf32) {
        (Precision::Fp32, true, true) => " with TF32",
        (Precision::Fp32, true, false) => " without TF32",
        _ => "",
    };
    let deterministic = if now.deterministic { ", deterministic" } else { "" };
    format!("{precision}{tf32}{deterministic}")
}

/// Lines of config.toml's table `[build]` that say what computes, and how; none for a CPU, except that it is
/// deterministic.
///
/// # Errors
/// [`Error::Torch`].
pub fn record(device: Device) -> Result<String> {
    let now = Settings::now()?;
    let mut lines = String::new();
    if let Device::Cuda(index) = device {
        let name = serde_json::json!(cuda_card(index)?.name);
        let (tf32, benchmark) = (now.tf32, now.benchmark);
        lines += &format!("card = {name}\ntf32 = {tf32}\ncudnn_benchmark = {benchmark}\n");
    }
    if now.deterministic {
        lines += "deterministic = true\n";
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_card_refuses_bfloat16_by_name() {
        let card = |name: &str, capability| Card {
            name: name.into(),
            capability,
        };
        let refused = check_bf16(&card("Tesla V100-SXM2-16GB", (7, 0))).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Tesla V100-SXM2-16GB (compute capability 7.0) has no bfloat16; use --precision fp32, or a card \
             of capability 8.0 or higher"
        );
        check_bf16(&card("NVIDIA A100-SXM4-40GB", (8, 0))).unwrap();
        check_bf16(&card("NVIDIA H100 80GB HBM3", (9, 0))).unwrap();
    }

    // Of the process-wide settings, those that change nothing for the tests beside this one.
    #[test]
    fn a_process_computes_as_it_was_asked_to() {
        for (tf32, benchmark) in [(true, true), (false, true), (false, false)] {
            let settings = Settings {
                tf32,
                deterministic: false,
                benchmark,
            };
            settings.set().unwrap();
            assert_eq!(Settings::now().unwrap(), settings);
        }
        let plain = Arithmetic::default();
        plain.begin(Device::Cpu, true).unwrap();
        assert_eq!(record(Device::Cpu).unwrap(), "");
        let tf32 = Arithmetic { tf32: true, ..plain };
        let refused = tf32.begin(Device::Cpu, true).unwrap_err().to_string();
        assert_eq!(
            refused,
            "--tf32 is for GPUs; a CPU computes in float32: leave it out, or use --device cuda"
        );
    }

    #[test]
    fn fp32_says_what_it_is() {
        let now = |tf32, deterministic| Settings {
            tf32,
            deterministic,
            benchmark: false,
        };
        let (gpu, cpu) = (Device::Cuda(0), Device::Cpu);
        assert_eq!(words(Precision::Fp32, gpu, now(true, false)), "fp32 with TF32");
        assert_eq!(
            words(Precision::Fp32, gpu, now(false, true)),
            "fp32 without TF32, deterministic"
        );
        assert_eq!(words(Precision::Fp32, cpu, now(false, false)), "fp32");
        assert_eq!(words(Precision::Bf16, gpu, now(false, false)), "bf16");
    }
}
