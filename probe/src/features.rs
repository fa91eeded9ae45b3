//! Labelled features, read where they lie, and how they are normalised.

use camtrast_common::device::{on_host, send};
use camtrast_common::tensor_file::{TensorFile, bytes_of, hex};
use camtrast_common::{Error, Result};
use clap::ValueEnum;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::Path;
use tch::{Device, Kind, Tensor, no_grad};

/// Rows that are processed at a time on a CPU: a few megabytes, so that what two operations need is read
/// from memory once.
const ROWS: i64 = 2048;
/// The same on a GPU.
const GPU_ROWS: i64 = 65_536;

/// Features of labelled images.
pub struct Features {
    /// f32 [N, D].
    pub x: Tensor,
    /// Class of each, `[N]`.
    pub labels: Vec<i64>,
    /// The file that `x` lies in, if it was not copied.
    file: Option<TensorFile>,
}

impl Features {
    /// Features f32 [N, D] and their labels `[N]`.
    ///
    /// # Errors
    /// [`Error::Settings`] for other shapes, and NaN or infinite values.
    pub fn new(x: Tensor, labels: Vec<i64>) -> Result<Self> {
        let shape = x.size();
        if shape.len() != 2 || shape[0] != labels.len() as i64 || shape[0] * shape[1] == 0 {
            return Err(Error::settings(
                format!("features are {shape:?} for {} labels", labels.len()),
                "there must be one row of features for every label, and at least one",
            ));
        }
        let features = Features {
            x,
            labels,
            file: None,
        };
        features.check_values()?;
        Ok(features)
    }

    /// Maps a safetensors file with `features` (f32, N x D) and `labels` (i64, N): on a CPU its features are
    /// not copied.
    ///
    /// # Errors
    /// Those of [`TensorFile::open`] and [`Features::new`], naming the file.
    pub fn open(path: &Path, device: Device) -> Result<Self> {
        let file = TensorFile::open(path)?;
        file.bytes("labels", Kind::Int64)?;
        let labels = Vec::<i64>::try_from(file.tensor("labels")?.view([-1]))?;
        let (shape, bytes) = file.bytes("features", Kind::Float)?;
        let aligned = bytes.as_ptr().cast::<f32>().is_aligned() && !bytes.is_empty();
        let x = if device == Device::Cpu && aligned {
            let strides: Vec<i64> = (0..shape.len())
                .map(|i| shape[i + 1..].iter().product())
                .collect();
            // SAFETY: the bytes are as many as the shape says and lie in the file's map, which is kept with
            // the tensor and stays where it is when the file moves. Nothing writes into the tensor.
            unsafe { Tensor::from_blob(bytes.as_ptr(), &shape, &strides, Kind::Float, Device::Cpu) }
        } else {
            send(file.any_tensor("features")?, device)
        };
        let features = Features::new(x, labels).map_err(|error| match error {
            Error::Settings { problem, remedy } => Error::file(path, problem, remedy),
            other => other,
        })?;
        Ok(Features {
            file: Some(file),
            ..features
        })
    }

    /// D.
    pub fn dimension(&self) -> i64 {
        self.x.size()[1]
    }

    /// N.
    pub fn count(&self) -> i64 {
        self.labels.len() as i64
    }

    /// Where the features lie.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(TensorFile::path)
    }

    /// Checksum of features and labels, in hexadecimal.
    pub fn sum(&self) -> String {
        let mut hash = Sha256::new();
        for (_, rows) in chunks(&self.x) {
            hash.update(bytes_of(&on_host(&rows)));
        }
        for label in &self.labels {
            hash.update(label.to_le_bytes());
        }
        hex(&hash.finalize())
    }

    fn check_values(&self) -> Result<()> {
        for (start, rows) in chunks(&self.x) {
            let broken = rows.isfinite().all_dim(1, false).logical_not();
            if broken.any().int64_value(&[]) != 0 {
                let row = start + broken.to_kind(Kind::Int64).argmax(0, false).int64_value(&[]);
                return Err(Error::settings(
                    format!("row {row} of the features holds NaN or infinite values"),
                    "check for a diverged backbone or broken images, then compute the features again",
                ));
            }
        }
        Ok(())
    }
}

/// Parts of the rows of a tensor [N, ...], each with the row it begins at, without copies.
pub fn chunks(x: &Tensor) -> impl Iterator<Item = (i64, Tensor)> {
    let n = x.size()[0];
    let rows = if x.device().is_cuda() { GPU_ROWS } else { ROWS };
    (0..n)
        .step_by(rows as usize)
        .map(move |start| (start, x.narrow(0, start, rows.min(n - start))))
}

/// How features are normalised before a probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// As they are
    #[default]
    None,
    /// Each feature vector divided by its length
    L2,
    /// Each dimension with mean 0 and variance 1 over the training features (batch norm without scale and
    /// shift, variance + 1e-5)
    BatchNorm,
}

/// A normalisation with the statistics of the training features.
pub struct Normalisation {
    how: Normalize,
    /// Mean of the features, of unit length with [`Normalize::L2`]: `[D]` float64.
    pub(crate) mean: Tensor,
    /// Factor on each dimension after the mean was subtracted, `[D]` float64.
    pub(crate) scale: Tensor,
}

impl Normalisation {
    /// That of these training features [N, D].
    pub fn of(how: Normalize, x: &Tensor) -> Self {
        no_grad(|| {
            let mut normalisation = Normalisation {
                how,
                mean: Tensor::zeros([x.size()[1]], (Kind::Double, x.device())),
                scale: Tensor::ones([x.size()[1]], (Kind::Double, x.device())),
            };
            normalisation.mean = normalisation.column_mean(x, |rows| rows);
            if how == Normalize::BatchNorm {
                let variance = normalisation.column_mean(x, |rows| (rows - &normalisation.mean).square());
                normalisation.scale = (variance + 1e-5).rsqrt();
            }
            normalisation
        })
    }

    /// Mean over all rows of a function of them in float64, `[D]`.
    fn column_mean(&self, x: &Tensor, of: impl Fn(Tensor) -> Tensor) -> Tensor {
        let sums = chunks(x).map(|(_, rows)| {
            let lengths = self.inverse_lengths(&rows);
            let rows = rows.to_kind(Kind::Double);
            let rows = lengths.map_or(rows.shallow_clone(), |lengths| &rows * lengths);
            of(rows).sum_dim_intlist(0, false, None)
        });
        sums.reduce(|a, b| a + b).expect("at least one row") / x.size()[0] as f64
    }

    /// Factors [N, 1] on rows that have to be of unit length; rows of zeros stay zero.
    pub(crate) fn inverse_lengths(&self, rows: &Tensor) -> Option<Tensor> {
        (self.how == Normalize::L2).then(|| {
            let lengths = rows.norm_scalaropt_dim(2, 1, true);
            lengths
                .reciprocal()
                .where_self(&lengths.gt(0.0), &lengths.zeros_like())
        })
    }

    /// Normalised features of some rows, f32 [N, D].
    pub fn apply(&self, rows: &Tensor) -> Tensor {
        match self.how {
            Normalize::BatchNorm => self.centred(rows),
            _ => self
                .inverse_lengths(rows)
                .map_or(rows.shallow_clone(), |lengths| rows * lengths),
        }
    }

    /// The same with the mean subtracted, which changes no distance: rounding is smaller around zero.
    pub fn centred(&self, rows: &Tensor) -> Tensor {
        let [mean, scale] = [&self.mean, &self.scale].map(|t| t.to_kind(Kind::Float));
        let unit = self.inverse_lengths(rows);
        let centred = unit.map_or_else(|| rows - &mean, |lengths| rows * lengths - &mean);
        match self.how {
            Normalize::BatchNorm => centred * scale,
            _ => centred,
        }
    }
}
