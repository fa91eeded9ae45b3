//! What a library must do for processes that train together.

use crate::error::Result;
use tch::Tensor;

/// Operations in which all processes take part, in the same order and with tensors of one shape and type.
/// They return when they are done, or with an error when another process has ended or does not answer in
/// time.
pub(super) trait Collectives: Send {
    /// The sum of all processes' tensors takes the place of each.
    fn all_reduce(&self, tensor: &Tensor) -> Result<()>;
    /// Every process gets the tensor of rank 0.
    fn broadcast(&self, tensor: &Tensor) -> Result<()>;
    /// `output` [world, ..] gets every process's `input` [..].
    fn all_gather(&self, input: &Tensor, output: &Tensor) -> Result<()>;
}
