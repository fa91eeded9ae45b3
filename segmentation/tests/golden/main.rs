//! Parity with torch, torchvision and cityscapesScripts on stored cases, see `tests/golden/*/export.py`.

mod network;
mod scores;
