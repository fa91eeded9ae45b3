//! Where and how precisely tensors are computed.

use crate::error::{Error, Result};
use crate::native::{self, Autocast};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use tch::{Cuda, Device, Tensor};

/// The value of `--device`.
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
                .ok_or_else(|| format!("{text:?} is not one of auto, cpu, cuda, cuda:N")),
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

/// A device, and how it was chosen.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    /// The device.
    pub device: Device,
    /// Why it is this one.
    pub why: String,
    /// Whether the machine has an NVIDIA GPU that [`DeviceChoice::Auto`] could not use.
    pub unused_gpu: bool,
}

impl DeviceChoice {
    /// As [`DeviceChoice::find`], without the reasons.
    ///
    /// # Errors
    /// As [`DeviceChoice::find`].
    pub fn open(self) -> Result<Device> {
        Ok(self.find()?.device)
    }

    /// Whether [`DeviceChoice::Auto`] can use a GPU. Loads libtorch's CUDA half, as [`DeviceChoice::find`].
    pub fn has_gpu() -> bool {
        native::load_cuda().is_ok() && Cuda::is_available()
    }

    /// Finds the device, loading libtorch's CUDA half where it is wanted. Call once, before anything else
    /// touches libtorch.
    ///
    /// # Errors
    /// [`Error::Settings`] when a CUDA device is asked for by name and there is none.
    pub fn find(self) -> Result<ChosenDevice> {
        let found = |device, why: &str| ChosenDevice {
            device,
            why: why.to_owned(),
            unused_gpu: false,
        };
        let wanted = match self {
            Self::Cpu => return Ok(found(Device::Cpu, "--device cpu")),
            Self::Auto => 0,
            Self::Cuda(n) => n,
        };
        let loaded = native::load_cuda();
        if loaded.is_ok() && Cuda::is_available() && (wanted as i64) < Cuda::device_count() {
            let why = if self == Self::Auto {
                "the first CUDA device"
            } else {
                "as --device says"
            };
            return Ok(found(Device::Cuda(wanted), why));
        }
        let reason = match loaded {
            Err(error) => error.to_string(),
            Ok(()) if !Cuda::is_available() => {
                "no NVIDIA driver answers, or it is older than libtorch's CUDA".into()
            }
            Ok(()) => format!("this machine has {}", Cuda::device_count()),
        };
        if self == Self::Auto {
            let seen = has_nvidia_gpu(Path::new("/")) && !gpus_are_hidden();
            let why = if seen {
                reason
            } else {
                "no NVIDIA GPU found".into()
            };
            return Ok(ChosenDevice {
                device: Device::Cpu,
                why,
                unused_gpu: seen,
            });
        }
        let remedy = "use --device cpu, or run `make setup CUDA=1` on a machine with an NVIDIA driver";
        Err(Error::settings(
            format!("there is no CUDA device {wanted} ({reason})"),
            remedy,
        ))
    }
}

/// Whether the kernel knows an NVIDIA GPU, whatever its driver's version. `root` is the root of the file
/// system.
fn has_nvidia_gpu(root: &Path) -> bool {
    let listed =
        std::fs::read_dir(root.join("proc/driver/nvidia/gpus")).is_ok_and(|mut gpus| gpus.next().is_some());
    listed || root.join("dev/nvidia0").exists()
}

/// Whether the user hides GPUs from this process on purpose.
fn gpus_are_hidden() -> bool {
    std::env::var("CUDA_VISIBLE_DEVICES").is_ok_and(|devices| devices.is_empty() || devices.starts_with('-'))
}

/// Copies the numbers of a tensor from any device to the host. Errors of kernels that ran before are reported
/// here.
///
/// # Errors
/// [`Error::Torch`], also when the elements are of another type.
pub fn to_host<T>(tensor: &Tensor) -> Result<Vec<T>>
where
    Vec<T>: TryFrom<Tensor, Error = tch::TchError>,
{
    native::count_read();
    Ok(Vec::try_from(tensor.f_to_device(Device::Cpu)?)?)
}

/// A tensor's elements on the host, one after the other in memory and without a gradient; no copy where they
/// already are so.
pub fn on_host(tensor: &Tensor) -> Tensor {
    tensor.detach().to_device(Device::Cpu).contiguous()
}

/// Sends a tensor to a device. The copy to a GPU is from pinned memory and blocks nobody: this is the one
/// place where tensors go to a device, batches by the loader thread.
pub fn send(tensor: Tensor, device: Device) -> Tensor {
    if tensor.device() == device || !device.is_cuda() {
        return tensor.to_device(device);
    }
    let kind = tensor.kind();
    tensor
        .pin_memory(device)
        .to_device_(device, kind, /* non_blocking */ true, /* copy */ false)
}

/// The value of `--precision`.
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
            _ => Err(format!("{text:?} is not one of fp32, bf16")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_seen_without_a_driver_that_works() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_nvidia_gpu(root.path()));
        // The folder of a driver whose GPU is gone.
        let gpus = root.path().join("proc/driver/nvidia/gpus");
        std::fs::create_dir_all(&gpus).unwrap();
        assert!(!has_nvidia_gpu(root.path()));
        std::fs::create_dir(gpus.join("0000:01:00.0")).unwrap();
        assert!(has_nvidia_gpu(root.path()));

        let container = tempfile::tempdir().unwrap();
        std::fs::create_dir(container.path().join("dev")).unwrap();
        std::fs::write(container.path().join("dev/nvidia0"), "").unwrap();
        assert!(has_nvidia_gpu(container.path()));
    }

    #[test]
    fn the_reason_is_given() {
        let found = DeviceChoice::Cpu.find().unwrap();
        assert_eq!(
            (found.device, found.why.as_str(), found.unused_gpu),
            (Device::Cpu, "--device cpu", false)
        );
    }
}
