//! Writes our backbones in the formats of other tools. Pickles are written here with the few opcodes that a
//! dict of tensors needs: `torch.load(weights_only=True)` and `pickle.load` accept them, and they only call
//! torch's and numpy's functions that create arrays.

use camtrast_common::checkpoint::Backbone;
use camtrast_common::device::on_host;
use camtrast_common::files::{WholeFile, write_atomically};
use camtrast_common::resnet::Stem;
use camtrast_common::tensor_file::{self, bytes_of};
use camtrast_common::{Error, Result};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;
use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The tool that will load a backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// torchvision, and all tools with its names (segmentation_models_pytorch, lightly, ...).
    Torchvision,
    /// timm: the same names.
    Timm,
    /// detectron2: `stem.conv1`, `res2.0.conv1`, as its `matching_heuristics` expects.
    Detectron2,
    /// mmdetection: torchvision's names in a `state_dict`.
    Mmdet,
    /// mmsegmentation: likewise.
    Mmseg,
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "torchvision" => Target::Torchvision,
            "timm" => Target::Timm,
            "detectron2" => Target::Detectron2,
            "mmdet" => Target::Mmdet,
            "mmseg" => Target::Mmseg,
            _ => {
                return Err(format!(
                    "{text:?} is not one of torchvision, timm, detectron2, mmdet, mmseg"
                ));
            }
        })
    }
}

impl Target {
    /// The tool's name of one of torchvision's; `None` for tensors that it does not have.
    pub fn rename(self, name: &str) -> Option<String> {
        if let (Target::Timm, Some(rest)) = (self, name.strip_prefix("stem.")) {
            return Some(
                rest.strip_prefix("7.")
                    .map_or_else(|| format!("conv1.{rest}"), |part| format!("bn1.{part}")),
            );
        }
        if self != Target::Detectron2 {
            return Some(name.to_owned());
        }
        // Its frozen batch norm has no counters.
        if name.ends_with("num_batches_tracked") {
            return None;
        }
        let norm = |block: &str, part: &str| format!("{block}.norm.{part}");
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            ["conv1", part] => Some(format!("stem.conv1.{part}")),
            ["bn1", part] => Some(norm("stem.conv1", part)),
            [layer, block, ref rest @ ..] => {
                let stage = format!(
                    "res{}.{block}",
                    layer.strip_prefix("layer")?.parse::<u32>().ok()? + 1
                );
                match *rest {
                    ["downsample", "0", part] => Some(format!("{stage}.shortcut.{part}")),
                    ["downsample", "1", part] => Some(norm(&format!("{stage}.shortcut"), part)),
                    [bn, part] if bn.starts_with("bn") => {
                        Some(norm(&format!("{stage}.conv{}", &bn[2..]), part))
                    }
                    [conv, part] => Some(format!("{stage}.{conv}.{part}")),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// The result of an export.
#[derive(Debug, Clone)]
pub struct ExportReport {
    /// Tensors.
    pub tensors: usize,
    /// Notes on how to load it correctly.
    pub notes: Vec<String>,
}

/// Writes a backbone for a tool, in the format of `out`'s extension: `.safetensors`, `.pth` (or `.pt`),
/// `.pkl`.
///
/// # Errors
/// [`Error::Usage`] for an extension that the tool does not read, [`Error::Io`] when the file cannot be
/// written.
pub fn export(backbone: &Backbone, target: Target, out: &Path) -> Result<ExportReport> {
    if backbone.info.arch.stem == Stem::V1c && matches!(target, Target::Torchvision | Target::Detectron2) {
        return Err(Error::Usage {
            problem: format!(
                "{} has three convolutions in its stem, which this tool's ResNets do not have",
                backbone.info.arch
            ),
            remedy: "export it --to mmseg, mmdet or timm".into(),
        });
    }
    let ending = out
        .extension()
        .map(|e| e.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let variables = backbone.vs.variables().into_iter();
    let tensors: BTreeMap<String, Tensor> = variables
        .filter_map(|(name, tensor)| Some((target.rename(&name)?, on_host(&tensor))))
        .collect();
    match (ending.as_str(), target) {
        ("safetensors", _) => save_safetensors(out, &tensors, backbone)?,
        ("pth" | "pt", _) => save_torch(out, &tensors, target)?,
        ("pkl", Target::Detectron2) => write_atomically(out, |file| {
            file.write_all(b"\x80\x03")?;
            file.write_all(&wrapped(target, &tensors, |file, _, tensor| {
                write_array(file, tensor)
            })?)?;
            file.write_all(b".")
        })?,
        _ => {
            return Err(Error::Usage {
                problem: format!(
                    "{}: this tool does not read files with this extension",
                    out.display()
                ),
                remedy: "give --out a name that ends in .safetensors or .pth (or .pkl, for detectron2 only)"
                    .into(),
            });
        }
    }
    Ok(ExportReport {
        tensors: tensors.len(),
        notes: notes(backbone, target),
    })
}

fn notes(backbone: &Backbone, target: Target) -> Vec<String> {
    let info = &backbone.info;
    let mut notes = Vec::new();
    if info.arch.width != 64 || info.arch.stem == Stem::Small {
        notes.push(format!(
            "{} is not a published network: the tool's ResNets have 64 channels and a 7x7 stem",
            info.arch
        ));
    }
    if info.arch.stem == Stem::V1c {
        let own = match target {
            Target::Timm => "stem_type='deep', stem_width=32, as in resnet50c",
            Target::Mmdet => "deep_stem=True",
            _ => "ResNetV1c's",
        };
        notes.push(format!("the stem is {own}"));
    }
    let scaled = |v: [f64; 3]| v.map(|x| format!("{:.3}", x * 255.0)).join(", ");
    if target == Target::Detectron2 && info.arch.depth < 50 {
        notes.push(format!(
            "warning: detectron2's C4 models build res5 of bottleneck blocks only, so layer4 of a ResNet-{} \
             is lost \
             there; use an FPN or DC5 model",
            info.arch.depth
        ));
    }
    match target {
        Target::Detectron2 => notes.push(format!(
            "set MODEL.RESNETS.STRIDE_IN_1X1 False, INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [{}], \
             MODEL.PIXEL_STD [{}]",
            scaled(info.mean),
            scaled(info.std)
        )),
        Target::Mmdet | Target::Mmseg => notes.push(format!(
            "set style='pytorch' and the preprocessor's bgr_to_rgb=True, mean=[{}], std=[{}]",
            scaled(info.mean),
            scaled(info.std)
        )),
        Target::Torchvision | Target::Timm => {
            notes.push(format!(
                "normalise RGB images in 0..1 with mean {:?}, std {:?}",
                info.mean, info.std
            ));
        }
    }
    notes
}

fn save_safetensors(out: &Path, tensors: &BTreeMap<String, Tensor>, backbone: &Backbone) -> Result<()> {
    let info = &backbone.info;
    let metadata = [
        // Other tools expect this in a file with torch's tensors.
        ("format", "pt".to_owned()),
        ("arch", info.arch.to_string()),
        ("mean", serde_json::json!(info.mean).to_string()),
        ("std", serde_json::json!(info.std).to_string()),
        ("source", backbone.sha256.clone()),
    ];
    tensor_file::save(
        out,
        tensors,
        &metadata.map(|(key, value)| (key.to_owned(), value)).into(),
    )
}

// As torch.save: a zip of stored entries, each aligned to 64 bytes.
fn save_torch(out: &Path, tensors: &BTreeMap<String, Tensor>, target: Target) -> Result<()> {
    let mut whole = WholeFile::create(out)?;
    let mut fill = || -> io::Result<()> {
        let mut zip = ZipWriter::new(whole.file());
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .with_alignment(64);
        let mut entry = |name: &str, content: &[u8]| {
            zip.start_file(format!("archive/{name}"), options)?;
            zip.write_all(content)
        };
        let body = wrapped(target, tensors, write_torch_tensor)?;
        entry("data.pkl", &[b"\x80\x02", &body[..], b"."].concat())?;
        entry("byteorder", b"little")?;
        for (number, tensor) in tensors.values().enumerate() {
            entry(&format!("data/{number}"), bytes_of(tensor))?;
        }
        entry("version", b"3\n")?;
        zip.finish()?;
        Ok(())
    };
    fill().map_err(Error::io(out, "write"))?;
    whole.publish()
}

// The dict of tensors, inside the dicts that the tool expects.
fn wrapped(
    target: Target,
    tensors: &BTreeMap<String, Tensor>,
    write: impl Fn(&mut Vec<u8>, usize, &Tensor) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match target {
        Target::Torchvision | Target::Timm => {}
        Target::Detectron2 => {
            out.extend(b"}(");
            text(&mut out, "__author__");
            text(&mut out, "camtrast");
            text(&mut out, "matching_heuristics");
            out.push(TRUE);
            text(&mut out, "model");
        }
        Target::Mmdet | Target::Mmseg => {
            out.extend(b"}(");
            text(&mut out, "meta");
            out.extend(b"}");
            text(&mut out, "state_dict");
        }
    }
    out.extend(b"}(");
    for (number, (name, tensor)) in tensors.iter().enumerate() {
        text(&mut out, name);
        write(&mut out, number, tensor)?;
    }
    out.push(b'u');
    if !matches!(target, Target::Torchvision | Target::Timm) {
        out.push(b'u');
    }
    Ok(out)
}

const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;

// torch._utils._rebuild_tensor_v2(("storage", type, key, "cpu", length), 0, shape, stride, False,
// OrderedDict())
fn write_torch_tensor(out: &mut Vec<u8>, number: usize, tensor: &Tensor) -> io::Result<()> {
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(out, "storage");
    out.extend(if tensor.kind() == Kind::Int64 {
        b"ctorch\nLongStorage\n".as_slice()
    } else {
        b"ctorch\nFloatStorage\n"
    });
    text(out, &number.to_string());
    text(out, "cpu");
    int(out, tensor.numel() as i64)?;
    out.extend(b"tQ");
    int(out, 0)?;
    tuple(out, &tensor.size())?;
    tuple(out, &tensor.stride())?;
    out.push(FALSE);
    out.extend(b"ccollections\nOrderedDict\n)RtR");
    Ok(())
}

// numpy.core.multiarray._reconstruct(ndarray, (0,), b"b"), then its state: (1, shape, dtype, False, bytes)
fn write_array(out: &mut Vec<u8>, tensor: &Tensor) -> io::Result<()> {
    out.extend(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n");
    tuple(out, &[0])?;
    out.extend(b"C\x01btR(");
    int(out, 1)?;
    tuple(out, &tensor.size())?;
    out.extend(b"cnumpy\ndtype\n(");
    text(out, if tensor.kind() == Kind::Int64 { "i8" } else { "f4" });
    out.extend([FALSE, TRUE]);
    out.extend(b"tR(");
    int(out, 3)?;
    text(out, "<");
    out.extend(b"NNN");
    [-1, -1, 0].into_iter().try_for_each(|n| int(out, n))?;
    out.extend(b"tb");
    out.push(FALSE);
    let bytes = bytes_of(tensor);
    out.push(b'B');
    out.extend(
        u32::try_from(bytes.len())
            .map_err(io::Error::other)?
            .to_le_bytes(),
    );
    out.extend(bytes);
    out.extend(b"tb");
    Ok(())
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn int(out: &mut Vec<u8>, value: i64) -> io::Result<()> {
    out.push(b'J');
    out.extend(i32::try_from(value).map_err(io::Error::other)?.to_le_bytes());
    Ok(())
}

fn tuple(out: &mut Vec<u8>, values: &[i64]) -> io::Result<()> {
    out.push(b'(');
    values.iter().try_for_each(|&value| int(out, value))?;
    out.push(b't');
    Ok(())
}
