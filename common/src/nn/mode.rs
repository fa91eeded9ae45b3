//! Train and eval, as batch norm and dropout are given them.

use crate::distributed::Group;
use crate::settings::BatchNormMode;

/// How batch normalisation takes its statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// From the batch, in `splits` equal, independent parts (1: the whole batch, as usual). Running
    /// statistics are updated.
    Train {
        /// Number of parts of the batch, as if each were on a separate device (MoCo's CIFAR demo:
        /// `SplitBatchNorm`).
        splits: i64,
    },
    /// From the batches of all processes together.
    Sync {
        /// The processes.
        group: Group,
    },
    /// From the batch, as [`Mode::TRAIN`]; running statistics become those over all batches of the round so
    /// far. See [`crate::precise_bn::re_estimate`], which numbers the rounds.
    Measure {
        /// Number of the round.
        round: u64,
    },
    /// From the running statistics, which are not changed.
    Eval,
}

impl Mode {
    /// Training on the whole batch.
    pub const TRAIN: Mode = Mode::Train { splits: 1 };
}

/// The mode of batch norm in the two parts of a fine-tuned network.
#[derive(Debug, Clone, Copy)]
pub struct Modes {
    /// In the pretrained backbone.
    pub backbone: Mode,
    /// In the task's own layers; dropout acts in training.
    pub head: Mode,
}

impl Modes {
    /// Running statistics everywhere, no dropout.
    pub const EVAL: Modes = Modes {
        backbone: Mode::Eval,
        head: Mode::Eval,
    };
    /// Batch statistics everywhere.
    pub const TRAIN: Modes = Modes {
        backbone: Mode::TRAIN,
        head: Mode::TRAIN,
    };

    /// Training as `--batch-norm` says. Over all processes is the same as over the batch where there is one
    /// process.
    pub fn training(backbone: BatchNormMode, group: Group) -> Modes {
        match backbone {
            BatchNormMode::Sync if !group.is_alone() => {
                let mode = Mode::Sync { group };
                Modes {
                    backbone: mode,
                    head: mode,
                }
            }
            BatchNormMode::Train | BatchNormMode::Sync => Modes::TRAIN,
            BatchNormMode::Frozen => Modes {
                backbone: Mode::Eval,
                ..Modes::TRAIN
            },
        }
    }

    /// The same with another training mode, such as [`Mode::Measure`]; parts in [`Mode::Eval`] keep it.
    pub fn with_training(self, mode: Mode) -> Modes {
        let of = |own| if own == Mode::Eval { own } else { mode };
        Modes {
            backbone: of(self.backbone),
            head: of(self.head),
        }
    }
}
