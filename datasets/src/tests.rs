//! From a layout to a pack and back.

mod layouts;
mod overviews;
mod packs;
mod subsets;

use super::fixtures::*;
use super::*;
use camtrast_common::progress::Silent;
use std::fs;
use std::path::Path;

fn options(layout: &str, root: &Path) -> PrepareOptions {
    PrepareOptions {
        size: 8,
        ..PrepareOptions::new(layout.parse().unwrap(), root, root.join("out.pack"))
    }
}

fn failure(options: &PrepareOptions) -> String {
    let message = prepare(options, &Silent).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    assert!(!options.out.exists());
    let parts = fs::read_dir(options.out.parent().unwrap()).unwrap();
    let parts = parts.filter(|e| {
        e.as_ref()
            .unwrap()
            .path()
            .extension()
            .is_some_and(|x| x == "part")
    });
    assert_eq!(parts.count(), 0, "a part is left behind");
    message
}
