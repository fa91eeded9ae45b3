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

/// The first program in a folder without the second.
struct Alone {
    place: Place,
}

impl Alone {
    fn new() -> Self {
        let place = Place::new();
        fs::copy(OWN, place.path("camtrast")).unwrap();
        Alone { place }
    }

    /// Exit code, standard output and standard error.
    fn run(&self, arguments: &str) -> (Option<i32>, String, String) {
        // It still needs the small libraries of libtorch and OpenCV that hold their error types.
        let libtorch = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/libtorch/lib");
        let done = Command::new(self.place.path("camtrast"))
            .args(arguments.split_whitespace())
            .current_dir(self.place.path("."))
            .env("LD_LIBRARY_PATH", libtorch)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    }

    fn ok(&self, arguments: &str) -> String {
        let (code, output, error) = self.run(arguments);
        assert_eq!(code, Some(0), "camtrast {arguments}\n{error}");
        output
    }
}

#[test]
fn alone_it_says_what_is_missing_for_the_rest() {
    let alone = Alone::new();
    assert!(alone.ok("--version").starts_with("camtrast 0."));
    let scene = "detection score --voc world/VOCdevkit --test 2007:test --detections none";
    for needed in [
        "pretrain --method scratch --data x --out y",
        &format!("{scene} --out folder"),
    ] {
        let (code, _, error) = alone.run(needed);
        let program = alone.place.path("camtrast-torch");
        let expected = format!("camtrast: {}: cannot be started", program.display());
        assert!(code == Some(1) && error.starts_with(&expected), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let (code, _, error) = alone.run(&format!("{scene} --out scores.json"));
    assert!(code == Some(1) && error.contains("none: "), "{error}");
}

#[test]
fn alone_it_looks_into_data_scores_and_reports() {
    let alone = Alone::new();
    for (data, shown) in [
        ("train.pack", "checksum"),
        ("world", "pixels (%)"),
        ("world/VOCdevkit", "--classes "),
    ] {
        let info = alone.ok(&format!("data info {data}"));
        assert!(info.contains(shown), "{info}");
    }
    let truth = "world/gtFine/val";
    alone.ok(&format!(
        "segmentation score --ground-truth {truth} --predictions {truth} --out run"
    ));
    let image = fs::read_dir(alone.place.path("world/leftImg8bit/val")).unwrap();
    let image = image.map(|city| fs::read_dir(city.unwrap().path()).unwrap().next());
    let image = image.flatten().next().unwrap().unwrap().path();
    fs::create_dir(alone.place.path("run/cam")).unwrap();
    fs::copy(image, alone.place.path("run/cam/cam.png")).unwrap();
    assert!(alone.ok("report run --out report").contains("100.0"));
    let page = alone.place.text("report/report.html");
    assert!(page.contains("data:image/jpeg;base64,"), "a picture");
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
