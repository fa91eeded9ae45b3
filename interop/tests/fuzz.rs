//! Files that were damaged or made up: no panic, no hang, and never more memory than twice the file and a
//! little.
//!
//! `cargo test` changes the golden files some hundred times. `CAMTRAST_FUZZ_SECONDS=3600 cargo test -p
//! camtrast-interop --test fuzz` goes on for that long; the seed of every round is printed when one fails.

use camtrast_common::testing::golden_path;
use camtrast_interop::import::find;
use camtrast_interop::{SLACK, StateFile};
use flate2::read::GzDecoder;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// The system's allocator, counting what each thread holds and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: all work is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves, both are there.
        count(size as isize);
        let moved = unsafe { System.realloc(pointer, layout, size) };
        count(-(layout.size() as isize));
        moved
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Seconds this thread has computed: machines may be busy.
fn spent() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: fills the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Reads a file and takes its backbone out, as the import does; the most it took, if there was one.
fn read(bytes: Vec<u8>) -> Option<isize> {
    let size = bytes.len();
    let before = HELD.get();
    MOST.set(before);
    let start = spent();
    let outcome = StateFile::from_bytes(Path::new("made-up"), bytes).and_then(|file| {
        let found = find(&file, None)?;
        let taken: Vec<Vec<f32>> = found
            .tensors
            .values()
            .map(|stored| {
                let mut out = vec![0.0; stored.elements()];
                file.floats(stored, &mut out);
                out
            })
            .collect();
        Ok(taken.len())
    });
    let whole = outcome.is_ok();
    drop(outcome);
    let most = MOST.get() - before;
    assert!(
        most <= (2 * size + SLACK) as isize,
        "{most} bytes for a file of {size}"
    );
    let seconds = spent() - start;
    assert!(seconds < 20.0, "{seconds} s for a file of {size}");
    whole.then_some(most)
}

/// A zip file as `torch.serialization.set_crc32_options(False)` has it; none of anything else.
fn without_checksums(mut zip: Vec<u8>) -> Option<Vec<u8>> {
    let headers = [(&b"PK\x01\x02"[..], 16), (b"PK\x03\x04", 14)];
    for (mark, crc) in headers {
        let places: Vec<usize> = (0..zip.len()).filter(|&at| zip[at..].starts_with(mark)).collect();
        places.iter().for_each(|at| zip[at + crc..at + crc + 4].fill(0));
    }
    zip.starts_with(headers[1].0).then_some(zip)
}

fn golden() -> Vec<Vec<u8>> {
    let entries = fs::read_dir(golden_path("interop_import"))
        .unwrap()
        .map(|e| e.unwrap().path());
    let mut paths: Vec<_> = entries
        .filter(|p| p.extension().is_some_and(|e| e == "gz"))
        .collect();
    paths.sort();
    let unpacked = |path: &std::path::PathBuf| {
        let mut bytes = Vec::new();
        GzDecoder::new(fs::File::open(path).unwrap())
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    };
    let files: Vec<Vec<u8>> = paths.iter().map(unpacked).collect();
    // Without checksums, changes get past them.
    let unchecked: Vec<Vec<u8>> = files
        .iter()
        .filter_map(|file| without_checksums(file.clone()))
        .collect();
    [files, unchecked].concat()
}

#[derive(Debug, Clone)]
enum Change {
    Byte(f64, u8),
    Bit(f64, u8),
    // Lengths, offsets and counts lie in words.
    Word(f64, u64, usize),
    CutOff(f64),
    Remove(f64, usize),
    Insert(f64, Vec<u8>),
    Copy(f64, f64, usize),
}

// Mostly where files say what they hold: at their ends, and in headers.
fn place() -> impl Strategy<Value = f64> {
    prop_oneof![
        0.0..1.0,
        (0.0..1.0f64).prop_map(|x| x.powi(4)),
        (0.0..1.0f64).prop_map(|x| 1.0 - x.powi(4))
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let word = prop_oneof![
        any::<u64>(),
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        Just(i64::MAX as u64),
        (0u32..64).prop_map(|shift| 1 << shift),
        0u64..300,
    ];
    let codes = prop::collection::vec(
        prop_oneof![
            any::<u8>(),
            prop::sample::select(
                &b"]})(tuasebRQ0122N\x81\x82\x85\x86\x87\x8a\x8b\x8e\x93\x94\x96cqhjrGJKMXBCILFSVpgioPd\n'."
                    [..]
            )
        ],
        1..40,
    );
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        2 => (place(), 0u8..8).prop_map(|(at, bit)| Change::Bit(at, bit)),
        4 => (place(), word, prop::sample::select(vec![2usize, 4, 8]))
            .prop_map(|(at, v, n)| Change::Word(at, v, n)),
        1 => place().prop_map(Change::CutOff),
        2 => (place(), 1usize..200).prop_map(|(at, n)| Change::Remove(at, n)),
        3 => (place(), codes).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        2 => (place(), place(), 1usize..4000).prop_map(|(from, to, n)| Change::Copy(from, to, n)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let length = bytes.len();
        let at = |part: f64| ((part * length as f64) as usize).min(length.saturating_sub(1));
        if length == 0 {
            break;
        }
        match change {
            Change::Byte(place, byte) => bytes[at(*place)] = *byte,
            Change::Bit(place, bit) => bytes[at(*place)] ^= 1 << bit,
            Change::Word(place, value, count) => {
                let from = at(*place);
                let end = (from + count).min(length);
                bytes[from..end].copy_from_slice(&value.to_le_bytes()[..end - from]);
            }
            Change::CutOff(place) => bytes.truncate(at(*place)),
            Change::Remove(place, count) => drop(bytes.drain(at(*place)..(at(*place) + count).min(length))),
            Change::Insert(place, new) => drop(bytes.splice(at(*place)..at(*place), new.iter().copied())),
            Change::Copy(from, to, count) => {
                let part = bytes[at(*from)..(at(*from) + count).min(length)].to_vec();
                let _ = bytes.splice(at(*to)..at(*to), part);
            }
        }
    }
    bytes
}

fn round(files: &[Vec<u8>], seed: u64, cases: u32) {
    let strategy = (0..files.len(), prop::collection::vec(change(), 1..6));
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &key));
    let outcome = runner.run(&strategy, |(file, changes)| {
        read(changed(files[file].clone(), &changes));
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
}

#[test]
fn changed_files_neither_panic_nor_hang_nor_take_memory() {
    let files = golden();
    // Those of 44,000 weights: the count counts.
    let whole = files
        .iter()
        .filter_map(|file| read(file.clone()))
        .filter(|most| *most >= 170_000)
        .count();
    assert!(whole >= 38 + 20, "{whole}");
    let seconds = std::env::var("CAMTRAST_FUZZ_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    let Some(seconds) = seconds else {
        return round(&files, 0, 600);
    };
    let (start, mut seed) = (Instant::now(), std::process::id().into());
    while start.elapsed() < Duration::from_secs(seconds) {
        round(&files, seed, 2000);
        seed += 1;
        println!("{} s, next seed {seed}", start.elapsed().as_secs());
    }
}

#[test]
fn made_up_files_take_no_memory() {
    const SIZE: usize = 8 << 20;
    let pickle = |body: &[u8]| [b"\x80\x02", body, b"."].concat();
    let repeated = |head: &[u8], code: &[u8], tail: &[u8]| {
        pickle(&[head, &code.repeat(SIZE / code.len()), tail].concat())
    };
    let long = vec![b'a'; 300];
    let mut wide = b"}(".to_vec();
    for depth in 0..SIZE / 340 {
        // A dict of dicts that share their content, with long names.
        wide.extend(
            [
                b"X\x2c\x01\x00\x00",
                &long[..],
                b"}q",
                &[depth as u8],
                b"u(h",
                &[depth as u8],
            ]
            .concat(),
        );
    }
    // A tensor that claims a billion elements in a storage of one.
    let claim = |stride: &[u8]| {
        let head = b"}X\x12\x00\x00\x00layer1.0.conv1.weightctorch._utils\n_rebuild_tensor_v2\n\
            ((X\x07\x00\x00\x00storagectorch\nFloatStorage\n\
            X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00";
        pickle(
            &[
                &head[..],
                b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft(",
                stride,
                stride,
                b"t\x89}tRs",
            ]
            .concat(),
        )
    };
    // One array, written as text, under many names: to count its elements each time would take for ever.
    let mut shared = b"}(X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\n)R(K\x01J".to_vec();
    shared.extend((SIZE as u32 / 2).to_le_bytes());
    shared.extend(b"\x85cnumpy\ndtype\n(X\x02\x00\x00\x00u1tR\x89c_codecs\nencode\n(X");
    shared.extend((SIZE as u32 / 2).to_le_bytes());
    shared.extend([&vec![b'a'; SIZE / 2][..], b"NtRtbq\x00"].concat());
    (0..500).for_each(|i| shared.extend(format!("U\x04{i:04}h\0").into_bytes()));
    shared.push(b'u');
    let error = StateFile::from_bytes(Path::new("made-up"), pickle(&shared))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("share elements"), "{error}");
    let mut many_shapes = b"{".to_vec();
    for i in 0..SIZE / 60 {
        many_shapes.extend(
            format!("\"{i}\":{{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}},").into_bytes(),
        );
    }
    many_shapes.pop();
    many_shapes.push(b'}');
    let header = [&(many_shapes.len() as u64).to_le_bytes()[..], &many_shapes, b"\0"].concat();
    for (what, bytes) in [
        ("lists", repeated(b"", b"]", b"")),
        ("nested lists", repeated(b"", b"]", &b"a".repeat(SIZE))),
        ("nested tuples", repeated(b")", b"\x85", b"")),
        ("marks", repeated(b"", b"(", b"")),
        ("copies", repeated(b"]", b"2", b"")),
        ("memo", repeated(b"N", b"\x94", b"")),
        ("appended", repeated(b"](", b"N", b"e")),
        ("dict", repeated(b"}(", b"NN", b"u")),
        (
            "ordered dicts",
            repeated(b"(((NNtNt\x85q\x000", b"ccollections\nOrderedDict\nh\x00R", b""),
        ),
        (
            "tuples of the memo",
            repeated(b"Nq\x00", b"h\x00h\x00h\x00\x87", b""),
        ),
        ("arrays that share their text", pickle(&shared)),
        ("foreign names", repeated(b"", b"ca\nb\n", b"")),
        ("foreign calls", repeated(b"ca\nb\nq\x00", b"h\x00)R", b"")),
        (
            "weights that only calls would make",
            repeated(b"}ca\nb\n)Rq\x000(", b"U\x06weighth\x00", b"u"),
        ),
        ("numbers as text", repeated(b"", b"I1\n", b"")),
        (
            "classes with arguments",
            repeated(b"(ia\nb\nq\x00", b"(h\x00o", b""),
        ),
        (
            "text without an end",
            [b"(".to_vec(), b"V".repeat(SIZE), b".".to_vec()].concat(),
        ),
        ("text of 4 GB", pickle(b"X\xff\xff\xff\xff")),
        ("bytes of 2^63", pickle(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f")),
        ("number of 2 GB", pickle(b"\x8b\xff\xff\xff\x7f")),
        ("memo at 4 billion", pickle(b"Nr\xff\xff\xff\xff")),
        ("shared dicts", pickle(&wide)),
        ("expanded tensor", claim(b"K\x00")),
        ("tensor outside", claim(b"K\x01")),
        ("safetensors header", header),
        ("safetensors of 2^63", [&[0xff; 8][..], b"{}"].concat()),
        ("zip without directory", [b"PK\x03\x04", &[0; 64][..]].concat()),
        ("empty", Vec::new()),
        ("short", b"\x80".to_vec()),
    ] {
        assert_eq!(read(bytes), None, "{what}");
    }
    let entry = [b"PK\x01\x02", &[0; 42][..]].concat();
    let entries = SIZE / entry.len();
    // Entries without end of the same bytes: reading them all would take for ever.
    let local = |name: &[u8], body: &[u8]| {
        [
            b"PK\x03\x04",
            &[0; 22][..],
            &(name.len() as u16).to_le_bytes(),
            &[0; 2],
            name,
            body,
        ]
        .concat()
    };
    let central = |name: &[u8], crc: u32, size: usize, at: usize| {
        let [size, at] = [size, at].map(|n| (n as u32).to_le_bytes());
        let length = (name.len() as u16).to_le_bytes();
        [
            b"PK\x01\x02",
            &[0; 12][..],
            &crc.to_le_bytes(),
            &[0; 4],
            &size,
            &length,
            &[0; 12],
            &at,
            name,
        ]
        .concat()
    };
    let (pickle, body) = (b"\x80\x02}.", vec![7; SIZE / 2]);
    let first = local(b"a/data.pkl", pickle);
    let crc = crc32fast::hash(&body);
    let one = central(b"a/data/0", crc, body.len(), first.len());
    let directory = [
        central(b"a/data.pkl", 0, pickle.len(), 0),
        one.repeat(SIZE / 2 / one.len()),
    ]
    .concat();
    let mut zip = [&first[..], &local(b"a/data/0", &body)].concat();
    let start = zip.len() as u32;
    zip.extend([&directory[..], b"PK\x05\x06", &[0; 8]].concat());
    zip.extend((directory.len() as u32).to_le_bytes());
    zip.extend(start.to_le_bytes());
    zip.extend([0, 0]);
    let error = StateFile::from_bytes(Path::new("made-up"), zip.clone())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("entries overlap"), "{error}");
    assert_eq!(read(zip), None, "overlaid entries");
    let mut zip = [
        b"PK\x03\x04",
        &entry.repeat(entries)[..],
        b"PK\x05\x06",
        &[0xff; 8][..],
    ]
    .concat();
    zip.extend(((entries * entry.len()) as u32).to_le_bytes());
    zip.extend(4u32.to_le_bytes());
    zip.extend([0, 0]);
    assert_eq!(read(zip), None);
}
