//! Parity with torch, torchvision and cityscapesScripts on stored cases, see `tests/golden/*/export.py`.

mod crops;
mod masks;
mod mmseg;
mod network;
mod scores;
