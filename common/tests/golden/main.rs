//! Our numbers beside those of torch and torchvision: `tests/golden/<case>/export.py` says what each case
//! holds.

mod augment;
mod resnet;
mod training;
