//! `scripts/install.sh`, behind `make install`: what it installs runs from anywhere.

use crate::world::{Place, TINY, list};
use std::path::Path;
use std::process::{Command, Output};

fn installed(place: &Place) -> String {
    let built = Path::new(env!("CARGO_BIN_EXE_camtrast")).parent().unwrap();
    let done = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install.sh"))
        .arg(built)
        .env("PREFIX", place.path("prefix"))
        .env_remove("DESTDIR")
        .env("LINK", "1")
        .output()
        .unwrap();
    let errors = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{errors}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Runs a command with an empty environment, in which no library is found by accident.
fn run(program: &str, arguments: &str, place: &Place) -> Output {
    Command::new(program)
        .args(arguments.split_whitespace())
        .current_dir(place.path(""))
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn an_installed_program_runs_from_anywhere() {
    let place = Place::new();
    let program = installed(&place);
    assert_eq!(Path::new(&program), place.path("prefix/bin/camtrast"));
    for arguments in [
        "--version".to_owned(),
        "data info train.pack".to_owned(),
        "data prepare miniimagenet --from world --out again.pack --size 32 --split train".to_owned(),
        format!("pretrain --method supervised {TINY} --out run"),
    ] {
        let done = run(&program, &arguments, &place);
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "camtrast {arguments}: {errors}");
    }
    assert!(place.path("run/backbone.safetensors").exists());
    // The same pictures are read by the smaller OpenCV.
    let pack = |name: &str| std::fs::read(place.path(name)).unwrap();
    assert!(pack("again.pack") == pack("train.pack"));

    let share = place.path("prefix/share");
    let said = |file: &str| std::fs::read_to_string(share.join(file)).unwrap();
    for file in [
        "bash-completion/completions/camtrast",
        "zsh/site-functions/_camtrast",
        "fish/vendor_completions.d/camtrast.fish",
    ] {
        assert!(said(file).contains("print-config"), "{file}");
    }
    assert!(list(&share.join("man/man1")).contains(&"camtrast-pretrain.1".to_owned()));
    // Again, over what is there.
    installed(&place);
    assert!(run(&program, "--help", &place).status.success());
}

#[test]
fn installed_programs_load_no_opencv_of_the_machine() {
    let place = Place::new();
    installed(&place);
    for program in ["camtrast", "camtrast-torch"] {
        let program = place.path(&format!("prefix/lib/camtrast/bin/{program}"));
        let done = Command::new("ldd").arg(program).output().unwrap();
        let libraries = String::from_utf8(done.stdout).unwrap();
        assert!(!libraries.contains("not found"), "{libraries}");
        let opencv = libraries.lines().filter(|line| line.contains("opencv"));
        assert_eq!(opencv.count(), 1, "{libraries}");
        assert!(!libraries.contains("gdal"), "{libraries}");
    }
}
