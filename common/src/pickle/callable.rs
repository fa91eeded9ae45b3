//! What a pickle may name. There is no code here that could call any of it.

use super::Dtype;

/// Everything a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callable {
    /// `dict`, `OrderedDict`, `defaultdict`.
    OrderedDict,
    /// `list`, `tuple`, `set`, `torch.Size`.
    Sequence,
    /// torch's `_rebuild_tensor` and `_rebuild_tensor_v2`.
    RebuildTensor,
    /// torch's `_rebuild_parameter`.
    RebuildParameter,
    /// torch's `_rebuild_from_type_v2`.
    RebuildFromType,
    /// A torch storage class.
    Storage(Dtype),
    /// numpy's `_reconstruct`.
    NumpyReconstruct,
    /// `numpy.dtype`.
    NumpyType,
    /// numpy's `_frombuffer`.
    NumpyFromBuffer,
    /// Settings, dates and the like, which stand beside weights: not looked into.
    Inert,
}

/// Classes beside weights that say nothing of them. A name ending in a dot stands for a whole package of settings.
const INERT: &[&str] = &[
    "argparse.Namespace",
    "builtins.bytearray",
    "builtins.complex",
    "__builtin__.complex",
    "_codecs.encode",
    "collections.Counter",
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "builtins.object",
    "__builtin__.object",
    "builtins.dict",
    "builtins.list",
    "builtins.int",
    "builtins.float",
    "builtins.str",
    "datetime.",
    "pathlib.",
    "typing.Any",
    "easydict.EasyDict",
    "omegaconf.",
    "yacs.config.CfgNode",
    "fvcore.common.config.CfgNode",
    "detectron2.config.config.CfgNode",
    "mmengine.config.config.ConfigDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmcv.utils.config.ConfigDict",
    "torch.torch_version.TorchVersion",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "vissl.config.attr_dict.AttrDict",
    "vissl.utils.hydra_config.AttrDict",
    "addict.addict.Dict",
    "torch.device",
    "torch.Generator",
    "torch.serialization._get_layout",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
];

impl Callable {
    pub(super) fn named(module: &str, name: &str) -> Option<Callable> {
        let array = |module: &str| ["numpy.core.multiarray", "numpy._core.multiarray"].contains(&module);
        let numeric = |module: &str| ["numpy.core.numeric", "numpy._core.numeric"].contains(&module);
        let sequences = ["set", "frozenset", "list", "tuple"];
        Some(match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") => Callable::OrderedDict,
            ("builtins" | "__builtin__", "dict") => Callable::OrderedDict,
            ("torch", "Size") => Callable::Sequence,
            ("builtins" | "__builtin__", name) if sequences.contains(&name) => Callable::Sequence,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Callable::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Callable::RebuildParameter,
            ("torch._tensor", "_rebuild_from_type_v2") => Callable::RebuildFromType,
            ("torch" | "torch.storage" | "torch.cuda", name) if name.ends_with("Storage") => {
                Callable::Storage(Dtype::of_storage(name)?)
            }
            ("torch", name) if Dtype::is_torch_type(name) => Callable::Inert,
            ("torch" | "torch.nn.parameter", "Tensor" | "Parameter" | "Buffer") => Callable::Inert,
            (module, "_reconstruct") if array(module) => Callable::NumpyReconstruct,
            (module, "_frombuffer") if numeric(module) => Callable::NumpyFromBuffer,
            ("numpy", "dtype") => Callable::NumpyType,
            _ => {
                let full = format!("{module}.{name}");
                let known =
                    |entry: &&str| if entry.ends_with('.') { full.starts_with(*entry) } else { full == **entry };
                INERT.iter().any(known).then_some(Callable::Inert)?
            }
        })
    }
}
