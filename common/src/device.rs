//! Where and how precisely tensors are computed.

use crate::error::{Error, Result};
use crate::native::{self, Autocast};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use tch::{Cuda, Device, Tensor};

/// What `--device` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DeviceChoice {
    /// The first CUDA device if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("{text:?} is none of auto, cpu, cuda, cuda:N")),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> String {
        choice.to_string()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl DeviceChoice {
    /// Finds the device, loading libtorch's CUDA half where it is wanted. Call once, before anything else touches libtorch.
    ///
    /// # Errors
    /// [`Error::Settings`] when a CUDA device is asked for by name and there is none.
    pub fn open(self) -> Result<Device> {
        let wanted = match self {
            Self::Cpu => return Ok(Device::Cpu),
            Self::Auto => 0,
            Self::Cuda(n) => n,
        };
        let loaded = native::load_cuda();
        if loaded.is_ok() && Cuda::is_available() && (wanted as i64) < Cuda::device_count() {
            return Ok(Device::Cuda(wanted));
        }
        if self == Self::Auto {
            return Ok(Device::Cpu);
        }
        let reason = match loaded {
            Err(error) => format!("({error})"),
            Ok(()) if !Cuda::is_available() => "(no NVIDIA driver answers)".into(),
            Ok(()) => format!("(this machine has {})", Cuda::device_count()),
        };
        let remedy = "use --device cpu, or run `make setup CUDA=1` on a machine with an NVIDIA driver";
        Err(Error::settings(format!("there is no CUDA device {wanted} {reason}"), remedy))
    }
}

/// What `--precision` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Everything in float32.
    Fp32,
    /// Convolutions and matrix products in bfloat16 (autocast); weights, norms and losses in float32.
    Bf16,
}

impl Precision {
    /// Runs a forward pass in this precision. The backward pass belongs outside.
    ///
    /// # Errors
    /// Those of `forward`, and [`Error::Torch`] when the device lacks autocast.
    pub fn run<T>(self, device: Device, forward: impl FnOnce() -> Result<T>) -> Result<T> {
        let _autocast = match self {
            Precision::Fp32 => None,
            Precision::Bf16 => Some(Autocast::bf16(device)?),
        };
        forward()
    }
}

impl FromStr for Precision {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fp32" => Ok(Self::Fp32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("{text:?} is none of fp32, bf16")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
        })
    }
}

/// `cpu` or `cuda:N`.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(n) => format!("cuda:{n}"),
        _ => "cpu".into(),
    }
}

/// The same [N, C, H, W] tensor, laid out with the channels last, which convolutions are faster on.
pub fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
