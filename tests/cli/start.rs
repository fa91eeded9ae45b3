//! Two programs: `camtrast`, which starts without libtorch and OpenCV's codecs, and `camtrast-torch`.

use crate::world::Place;
use std::fs;
use std::path::Path;
use std::process::Command;

const OWN: &str = env!("CARGO_BIN_EXE_camtrast");

/// A library that a program loads when it starts is named in it, and the name ends with a zero byte.
fn names(program: &str, library: &str) -> bool {
    let bytes = fs::read(program).unwrap();
    let needle = [library.as_bytes(), b"\0"].concat();
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn the_program_that_people_start_does_not_load_libtorch() {
    for library in ["libtorch_cpu.so", "libopencv_imgcodecs.so.406"] {
        assert!(!names(OWN, library), "{OWN} loads {library}");
    }
    assert!(names(env!("CARGO_BIN_EXE_camtrast-torch"), "libtorch_cpu.so"));
}

#[test]
fn alone_it_scores_and_says_what_is_missing_for_the_rest() {
    let place = Place::new();
    let alone = place.path("camtrast");
    fs::copy(OWN, &alone).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&alone);
        // It still needs the small libraries of libtorch and OpenCV that hold their error types.
        let libtorch = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/libtorch/lib");
        let done = command
            .args(arguments)
            .env("LD_LIBRARY_PATH", libtorch)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    let (code, version, _) = run(&["--version"]);
    assert!(code == Some(0) && version.starts_with("camtrast 0."), "{version}");
    let (code, _, error) = run(&["pretrain", "--method", "scratch", "--data", "x", "--out", "y"]);
    let expected = format!(
        "camtrast: {}: cannot be started",
        place.path("camtrast-torch").display()
    );
    assert!(code == Some(1) && error.starts_with(&expected), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// What a command that needs both programs prints is what the second prints alone.
#[test]
fn both_are_one_command_line() {
    for arguments in [
        &["--help"][..],
        &["checkpoint", "info", "none"],
        &["detection", "score"],
    ] {
        let of = |program: &str| {
            let done = Command::new(program).args(arguments).output().unwrap();
            (done.status.code(), done.stdout, done.stderr)
        };
        assert!(
            of(OWN) == of(env!("CARGO_BIN_EXE_camtrast-torch")),
            "{arguments:?}"
        );
    }
}
