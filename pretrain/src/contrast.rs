//! InfoNCE against a queue of keys (He et al. 2020, `moco/builder.py`; Sun et al. 2022, eq. 4).

use camtrast_common::Result;
use camtrast_common::device::send;
pub use camtrast_common::nn::unit;
use tch::{Device, Kind, Tensor, no_grad};

/// The last K keys, unit vectors [K, P], overwritten in a ring.
#[derive(Debug)]
pub struct Queue {
    /// Keys [K, P].
    pub keys: Tensor,
    /// Label of each key's image, i64 `[K]`; -1 where it is not known.
    pub labels: Tensor,
    /// Position of the next key, i64 [].
    pub pointer: Tensor,
}

impl Queue {
    /// Filled with random directions from libtorch's CPU generator, as MoCo's.
    pub fn new(size: i64, dim: i64, device: Device) -> Self {
        let keys = send(
            unit(&Tensor::randn([size, dim], (Kind::Float, Device::Cpu))),
            device,
        );
        Queue {
            keys,
            labels: Tensor::full([size], -1, (Kind::Int64, device)),
            pointer: Tensor::zeros([0i64; 0], (Kind::Int64, device)),
        }
    }

    /// Replaces the oldest keys by `keys` [N, P], N <= K, and their labels by `labels` i64 `[N]`, if known.
    pub fn push(&mut self, keys: &Tensor, labels: Option<&Tensor>) {
        let (size, n) = (self.keys.size()[0], keys.size()[0]);
        let index = (Tensor::arange(n, (Kind::Int64, keys.device())) + &self.pointer).remainder(size);
        no_grad(|| {
            let _ = self.keys.index_copy_(0, &index, &keys.to_kind(Kind::Float));
            if let Some(labels) = labels {
                let _ = self.labels.index_copy_(0, &index, labels);
            }
        });
        self.pointer += n;
        let _ = self.pointer.remainder_(size);
    }
}

/// `-log(exp(q.k/T) / (exp(q.k/T) + sum_j exp(q.k_j/T)))`, averaged over the batch, and the share of queries
/// whose own key is the nearest.
///
/// `q`, `k` f32 [N, P] and `negatives` f32 [K, P] are unit vectors; the gradient flows through `q` alone.
/// `excluded` bool [N, K] marks keys that are not negatives of a query (Exemplar: those of its own class).
///
/// # Errors
/// [`camtrast_common::Error::Torch`] when shapes do not fit.
pub fn info_nce(
    q: &Tensor,
    k: &Tensor,
    negatives: &Tensor,
    excluded: Option<&Tensor>,
    temperature: f64,
) -> Result<(Tensor, Tensor)> {
    let (k, negatives) = (k.detach(), negatives.detach().to_kind(q.kind()));
    let positive = (q * k).sum_dim_intlist([1i64].as_slice(), true, None); // [N, 1]
    let mut negative = q.f_matmul(&negatives.tr())?; // [N, K]
    if let Some(excluded) = excluded {
        negative = negative.f_masked_fill(excluded, f64::NEG_INFINITY)?;
    }
    let logits = Tensor::cat(&[positive, negative], 1) / temperature;
    let labels = Tensor::zeros([q.size()[0]], (Kind::Int64, q.device()));
    let accuracy = crate::supervised::accuracy(&logits, &labels);
    Ok((logits.cross_entropy_for_logits(&labels), accuracy))
}
