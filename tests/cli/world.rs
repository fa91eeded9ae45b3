//! What the tests share: a tiny world, drawn and packed once by the executable itself, and a fresh folder for
//! every test.

use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

/// One thread on the CPU: what byte-identical results are promised for.
pub const PLAIN: &str = "--device cpu --threads 1";
/// A network and a batch small enough for 50 steps in two seconds: 400 images of 50 classes, 25 steps an
/// epoch.
pub const TINY: &str = "--data train.pack --arch resnet18 --width 8 --stem small --batch-size 16 --epochs 2 \
                        --device cpu --threads 1";
/// The same for methods with a queue.
pub const CONTRAST: &str = "--queue-size 64 --bn-splits 2";

/// The executable: the one that cargo has built, or, where these tests are carried to another machine, the
/// one that `CAMTRAST_PROGRAM` names.
fn program() -> PathBuf {
    std::env::var_os("CAMTRAST_PROGRAM").map_or(env!("CARGO_BIN_EXE_camtrast").into(), PathBuf::from)
}

/// A command line of the executable in `folder`, its arguments divided by blanks.
fn camtrast(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(program());
    command.args(arguments.split_whitespace()).current_dir(folder);
    // Threads that wait should not take the processor from other tests.
    command
        .env("OMP_WAIT_POLICY", "PASSIVE")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null());
    command
}

/// `world/` (as `data synth` leaves it), `train.pack` (50 classes of 8 images) and `test.pack` (20 of 20), 32
/// pixels.
fn shared() -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    SHARED.get_or_init(|| {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        remove_folders_of_dead_processes(scratch);
        let folder = scratch.join(format!("cli-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for line in [
            "data synth --out world --size 32 --images-per-class 8 --evaluation-images-per-class 20 \
             --scenes 12 --test-scenes 6 --scene-size 64 --streets 4 --val-streets 2 --street-size 32",
            "data prepare miniimagenet --from world --out train.pack --size 32 --split train",
            "data prepare miniimagenet --from world --out test.pack --size 32 --split test",
        ] {
            let done = Done::of(camtrast(&folder, line).output().unwrap());
            assert_eq!(done.code, Some(0), "camtrast {line}\n{}", done.stderr);
        }
        folder
    })
}

// A static has no destructor, so each process clears up after those before it.
fn remove_folders_of_dead_processes(scratch: &Path) {
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|n| n.strip_prefix("cli-")?.parse::<u32>().ok());
        if process.is_some_and(|p| !Path::new(&format!("/proc/{p}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// How a command ended.
pub struct Done {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Done {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("all output is UTF-8");
        Done {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// A fresh folder with links to the shared packs. Relative names make the configurations of different tests
/// alike.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir_in(shared().parent().unwrap()).unwrap();
        for name in ["world", "train.pack", "test.pack"] {
            symlink(shared().join(name), folder.path().join(name)).unwrap();
        }
        Place { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &str) -> Command {
        camtrast(self.folder.path(), arguments)
    }

    /// Runs a command to its end, whatever that is.
    pub fn run(&self, arguments: &str) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    /// A command that must succeed.
    pub fn ok(&self, arguments: &str) -> Done {
        let done = self.run(arguments);
        assert_eq!(done.code, Some(0), "camtrast {arguments}\n{}", done.stderr);
        done
    }

    /// A command that must fail with exit code 1 and one line that says all of `saying`.
    pub fn fails(&self, arguments: &str, saying: &[&str]) -> Done {
        self.ends(self.run(arguments), 1, arguments, saying)
    }

    /// A command that must be refused as misuse: exit code 2 and a message that says all of `saying`.
    pub fn misused(&self, arguments: &str, saying: &[&str]) {
        self.ends(self.run(arguments), 2, arguments, saying);
    }

    /// Checks a failure: its exit code, that its message is one line (clap's messages have more), and that
    /// nothing half-written is left.
    pub fn ends(&self, done: Done, code: i32, what: &str, saying: &[&str]) -> Done {
        let context = format!("camtrast {what}\n{}", done.stderr);
        assert_eq!(done.code, Some(code), "{context}");
        let ours: Vec<&str> = done
            .stderr
            .lines()
            .filter(|l| l.starts_with("camtrast: "))
            .collect();
        let message = if code == 2 && ours.is_empty() {
            assert!(done.stderr.starts_with("error: "), "{context}");
            done.stderr.as_str()
        } else {
            assert_eq!(ours.len(), 1, "{context}");
            assert_eq!(done.stderr.lines().last(), Some(ours[0]), "{context}");
            assert!(ours[0].len() < 400, "{context}");
            ours[0]
        };
        for part in saying {
            assert!(message.contains(part), "does not say {part:?}: {context}");
        }
        for mark in ["panicked", "RUST_BACKTRACE", "internal error", "terminate called"] {
            assert!(!done.stderr.contains(mark), "{context}");
        }
        assert_eq!(self.parts(), [""; 0], "{context}");
        done
    }

    /// Names of temporary files that are left in the folder and its run folders.
    fn parts(&self) -> Vec<String> {
        let here = list(self.folder.path());
        let below = here
            .iter()
            .filter(|n| *n != "world")
            .flat_map(|n| list(&self.path(n)));
        here.iter()
            .cloned()
            .chain(below)
            .filter(|n| n.ends_with(".part"))
            .collect()
    }

    /// Runs a command until `ready` holds, then sends it a signal and waits for its end.
    pub fn signalled(&self, arguments: &str, signal: i32, ready: impl Fn() -> bool) -> Done {
        let mut child = self.spawn(arguments);
        while !ready() && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(5));
        }
        send(&child, signal);
        Done::of(child.wait_with_output().unwrap())
    }

    /// Starts a command.
    pub fn spawn(&self, arguments: &str) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Copies a run folder.
    pub fn copy(&self, from: &str, to: &str) {
        fs::create_dir(self.path(to)).unwrap();
        for name in list(&self.path(from)) {
            fs::copy(self.path(from).join(&name), self.path(to).join(&name)).unwrap();
        }
    }

    /// The objects of log.jsonl of one kind, `step` or `epoch`.
    pub fn log(&self, run: &str, kind: &str) -> Vec<Value> {
        let text = self.text(&format!("{run}/log.jsonl"));
        let objects = text.lines().map(|line| serde_json::from_str(line).unwrap());
        objects.filter(|object: &Value| object["kind"] == kind).collect()
    }
}

/// What depends on how fast a run went.
const TIMES: [&str; 7] = [
    "probe/images_per_second",
    "seconds",
    "images_per_second",
    "data_wait_share",
    "pretrain/images_per_second",
    "detection/images_per_second",
    "segmentation/images_per_second",
];

fn timeless(mut object: Value) -> Value {
    object
        .as_object_mut()
        .expect("an object")
        .retain(|key, _| !TIMES.contains(&&key[..]));
    object
}

/// log.jsonl and metrics.json of two finished runs are the same but for times and rates, and every step is
/// logged once.
pub fn assert_same_records(place: &Place, run: &str, reference: &str) {
    for kind in ["step", "epoch"] {
        let [ours, theirs] =
            [run, reference].map(|r| place.log(r, kind).into_iter().map(timeless).collect::<Vec<_>>());
        assert_eq!(ours, theirs, "{kind} lines of {run}/log.jsonl");
        let steps: Vec<u64> = ours.iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert!(
            steps.is_sorted_by(|a, b| a < b),
            "{kind} lines of {run}/log.jsonl: {steps:?}"
        );
    }
    let [ours, theirs] = [run, reference].map(|r| timeless(place.json(&format!("{r}/metrics.json"))));
    assert_eq!(ours, theirs, "{run}/metrics.json");
}

/// Names in a folder, sorted; none when it is no folder.
pub fn list(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn send(child: &Child, signal: i32) {
    // SAFETY: a plain system call; the child is not yet waited for, so its number is its own.
    unsafe { libc::kill(child.id() as i32, signal) };
}

/// A file of ours with the first number of its first float tensor turned to NaN, and checksums that fit.
pub fn poisoned(bytes: &[u8]) -> Vec<u8> {
    let (length, rest) = bytes.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let mut data = data.to_vec();
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(header).unwrap();
    let Some(Value::Object(mut metadata)) = header.remove("__metadata__") else {
        panic!("no metadata")
    };
    let tensors: BTreeMap<String, Value> = header
        .iter()
        .map(|(name, entry)| (name.clone(), entry.clone()))
        .collect();
    let place = |entry: &Value, i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
    let first = tensors
        .values()
        .find(|entry| entry["dtype"] == "F32")
        .expect("a float tensor");
    data[place(first, 0)..][..4].copy_from_slice(&f32::NAN.to_le_bytes());

    let hex = |hash: Sha256| {
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let mut hash = Sha256::new();
    for (name, entry) in &tensors {
        let shape: Vec<i64> = serde_json::from_value(entry["shape"].clone()).unwrap();
        hash.update(format!(
            "{name}\0{}\0{shape:?}\0",
            entry["dtype"].as_str().unwrap()
        ));
        hash.update(&data[place(entry, 0)..place(entry, 1)]);
    }
    metadata.remove("metadata_checksum");
    metadata.insert("checksum".into(), hex(hash).into());
    let mut hash = Sha256::new();
    let sorted: BTreeMap<&String, &Value> = metadata.iter().collect();
    sorted
        .iter()
        .for_each(|(key, value)| hash.update(format!("{key}\0{}\0", value.as_str().unwrap())));
    metadata.insert("metadata_checksum".into(), hex(hash).into());
    header.insert("__metadata__".into(), metadata.into());
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// A safetensors file: metadata, and of each tensor its type and shape with its bytes.
pub type Content = (BTreeMap<String, String>, BTreeMap<String, (String, Vec<u8>)>);

pub fn content(bytes: &[u8]) -> Content {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let metadata = header
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView)| {
        (
            name,
            (
                format!("{:?} {:?}", view.dtype(), view.shape()),
                view.data().to_vec(),
            ),
        )
    };
    (metadata, tensors.tensors().into_iter().map(tensor).collect())
}
