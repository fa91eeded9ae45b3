//! The functions and classes whose results can be described. No code here can call any of them.

use super::Dtype;

/// A function or class that a pickle names.
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
    /// `_codecs.encode`, with which protocols 0 to 2 write bytes.
    Encode,
    /// Anything else: its number, for [`Machine::foreign_name`](super::Machine::foreign_name).
    Foreign(u32),
}

impl Callable {
    // `None` for all unknown names.
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
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Callable::RebuildParameter
            }
            ("torch._tensor", "_rebuild_from_type_v2") => Callable::RebuildFromType,
            ("torch" | "torch.storage" | "torch.cuda", name) if name.ends_with("Storage") => {
                Callable::Storage(Dtype::of_storage(name)?)
            }
            (module, "_reconstruct") if array(module) => Callable::NumpyReconstruct,
            (module, "_frombuffer") if numeric(module) => Callable::NumpyFromBuffer,
            ("numpy", "dtype") => Callable::NumpyType,
            ("_codecs", "encode") => Callable::Encode,
            _ => return None,
        })
    }
}
