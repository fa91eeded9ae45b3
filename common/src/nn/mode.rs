//! Train and eval, as batch norm and dropout are given them.

use crate::settings::BatchNormMode;

/// How batch normalisation takes its statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// From the batch, in `splits` equal parts that do not see each other (1: the whole batch, as usual).
    /// Running statistics move.
    Train {
        /// Parts the batch is cut into, as if each lay on a device of its own (MoCo's CIFAR demo:
        /// `SplitBatchNorm`).
        splits: i64,
    },
    /// From the batch, as [`Mode::TRAIN`]; running statistics become those of all batches of the round so
    /// far. See [`crate::precise_bn::re_estimate`], which numbers the rounds.
    Measure {
        /// Tells one round from the next.
        round: u64,
    },
    /// From the running statistics, which stay as they are.
    Eval,
}

impl Mode {
    /// Training on the whole batch.
    pub const TRAIN: Mode = Mode::Train { splits: 1 };
}

/// How batch norm works in either half of a network that is fine-tuned.
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

    /// Training as `--batch-norm` says. Over all processes is the same as over the batch while there is one
    /// process.
    pub fn training(backbone: BatchNormMode) -> Modes {
        match backbone {
            BatchNormMode::Train | BatchNormMode::Sync => Modes::TRAIN,
            BatchNormMode::Frozen => Modes {
                backbone: Mode::Eval,
                ..Modes::TRAIN
            },
        }
    }

    /// The same with another mode of training, such as [`Mode::Measure`]; what stays in [`Mode::Eval`] stays.
    pub fn with_training(self, mode: Mode) -> Modes {
        let of = |own| if own == Mode::Eval { own } else { mode };
        Modes {
            backbone: of(self.backbone),
            head: of(self.head),
        }
    }
}
