//! `data fetch` against a server of a few lines that misbehaves as asked.

use crate::world::{Done, Place, list, send};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the server does to one request; after the last named, all is well.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Whole,
    /// Closes the connection after this many bytes of the body.
    Cut(usize),
    /// The same, but keeps it open and sends nothing more.
    Stall(usize),
    /// Takes no notice of Range.
    NoRange,
    /// Another version of the file under the same name.
    Changed,
    Status(u16),
}

/// A server of one file. It runs until the tests end.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn new(content: Vec<u8>, answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/some/where/set.tar", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answers, content) = (asked.clone(), answers.to_vec(), Arc::new(content));
        thread::spawn(move || {
            for (i, stream) in listener.incoming().enumerate() {
                let answer = answers.get(i).copied().unwrap_or(Answer::Whole);
                let (stream, content, log) = (stream.unwrap(), content.clone(), log.clone());
                thread::spawn(move || serve(stream, &content, answer, &log));
            }
        });
        Server { url, asked }
    }

    /// Where each request so far began; `None` without Range.
    fn asked(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, content: &[u8], answer: Answer, log: &Mutex<Vec<Option<usize>>>) {
    let mut begin = None;
    for line in BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok)
        .take_while(|l| !l.is_empty())
    {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            begin = Some(range.trim_end_matches('-').parse::<usize>().unwrap());
        }
    }
    log.lock().unwrap().push(begin);
    if let Answer::Status(status) = answer {
        let _ = write!(
            stream,
            "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        return;
    }
    let begin = begin.filter(|_| answer != Answer::NoRange);
    let body = &content[begin.unwrap_or(0)..];
    let (status, range) = match begin {
        Some(b) => (
            "206 Partial",
            format!(
                "Content-Range: bytes {b}-{}/{}\r\n",
                content.len() - 1,
                content.len()
            ),
        ),
        None => ("200 OK", String::new()),
    };
    let etag = if answer == Answer::Changed {
        "second"
    } else {
        "first"
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{range}ETag: \"{etag}\"\r\nConnection: \
         close\r\n\r\n"
    );
    let sent = match answer {
        Answer::Cut(bytes) | Answer::Stall(bytes) => bytes,
        _ => length,
    };
    // The client may be gone.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&body[..sent]))
        .and_then(|()| stream.flush());
    if matches!(answer, Answer::Stall(_)) {
        thread::sleep(Duration::from_secs(5));
    }
}

/// A tar of `set/` with files of these names.
fn archive(place: &Place, names: &[&str]) -> Vec<u8> {
    let folder = place.path("made");
    fs::create_dir_all(folder.join("set/deep")).unwrap();
    for (i, name) in names.iter().enumerate() {
        fs::write(folder.join("set").join(name), vec![i as u8; 100_000]).unwrap();
    }
    let made = Command::new("tar")
        .args(["-cf", "../made.tar", "set"])
        .current_dir(&folder)
        .status()
        .unwrap();
    assert!(made.success());
    fs::read(place.path("made.tar")).unwrap()
}

fn sha256(place: &Place, bytes: &[u8]) -> String {
    place.write("summed", bytes);
    let sum = Command::new("sha256sum")
        .arg(place.path("summed"))
        .output()
        .unwrap();
    String::from_utf8(sum.stdout)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned()
}

fn line(server: &Server, sum: &str) -> String {
    format!("data fetch --url {} --sha256 {sum} --out got", server.url)
}

fn run(place: &Place, line: &str) -> Done {
    Done::of(direct(place, line).output().unwrap())
}

// No proxy between us and the server.
fn direct(place: &Place, line: &str) -> Command {
    let mut command = place.command(line);
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
}

fn ok(place: &Place, line: &str) -> Done {
    let done = run(place, line);
    assert_eq!(done.code, Some(0), "{line}\n{}", done.stderr);
    done
}

fn fails(place: &Place, line: &str, saying: &[&str]) {
    place.ends(run(place, line), 1, line, saying);
}

const FILES: [&str; 3] = ["one", "deep/two", "three"];

fn assert_unpacked(place: &Place) {
    for (i, name) in FILES.iter().enumerate() {
        assert!(
            place.bytes(&format!("got/set/{name}")) == vec![i as u8; 100_000],
            "{name}"
        );
    }
    assert_eq!(list(&place.path("got")), [".lock", ".set.tar.files", "set"]);
}

#[test]
fn a_data_set_is_fetched_once() {
    let place = Place::new();
    let content = archive(&place, &FILES);
    let server = Server::new(content.clone(), &[]);
    let line = line(&server, &sha256(&place, &content));
    let done = ok(&place, &line);
    assert_eq!(done.stdout, "got/set: 3 files of set.tar, 0.3 MB\n");
    assert_unpacked(&place);
    let again = ok(&place, &line);
    assert_eq!(
        again.stdout,
        "got/set: 3 files of set.tar, 0.3 MB, there already\n"
    );
    assert_eq!(server.asked(), [None]);

    // What was lost is fetched again; what the user added stays.
    fs::remove_file(place.path("got/set/one")).unwrap();
    place.write("got/set/mine", "x");
    assert!(!ok(&place, &line).stdout.contains("already"));
    assert_eq!(
        (place.text("got/set/mine"), server.asked().len()),
        ("x".into(), 2)
    );
    fs::remove_file(place.path("got/set/mine")).unwrap();
    assert_unpacked(&place);

    let line = line.replace("--out got", "--out kept --no-unpack --quiet");
    assert_eq!(
        ok(&place, &line).stdout,
        format!(
            "kept/set.tar: 1 file of set.tar, {:.1} MB\n",
            content.len() as f64 / 1e6
        )
    );
    assert!(place.bytes("kept/set.tar") == content);
    assert!(ok(&place, &line).stdout.contains("there already"));
    assert_eq!(server.asked().len(), 3);
    // An archive that is there is unpacked without asking, and stays.
    ok(&place, &line.replace("--no-unpack", ""));
    assert_eq!((server.asked().len(), list(&place.path("kept")).len()), (3, 4));
}

#[test]
fn a_cut_or_silent_connection_is_gone_on_with() {
    let place = Place::new();
    let content = archive(&place, &FILES);
    let answers = [Answer::Cut(70_000), Answer::Status(503), Answer::Stall(50_000)];
    let server = Server::new(content.clone(), &answers);
    let done = ok(
        &place,
        &format!("{} --stall 1", line(&server, &sha256(&place, &content))),
    );
    assert!(
        done.stderr.contains("the connection was cut; trying again"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("answers 503"), "{}", done.stderr);
    assert!(done.stderr.contains("sends no data"), "{}", done.stderr);
    assert_eq!(server.asked(), [None, Some(70_000), Some(70_000), Some(120_000)]);
    assert_unpacked(&place);
}

#[test]
fn a_killed_fetch_is_gone_on_with() {
    let place = Place::new();
    let content = archive(&place, &FILES);
    let server = Server::new(content.clone(), &[Answer::Stall(70_000)]);
    let line = line(&server, &sha256(&place, &content));
    let mut child = direct(&place, &line)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let part = place.path("got/set.tar.part");
    while fs::metadata(&part).map_or(0, |m| m.len()) < 70_000 && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(5));
    }
    send(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), None);
    assert_eq!(
        list(&place.path("got")),
        [".lock", "set.tar.part", "set.tar.part.json"]
    );
    ok(&place, &line);
    assert_eq!(server.asked(), [None, Some(70_000)]);
    assert_unpacked(&place);
}

#[test]
fn what_cannot_be_gone_on_with_is_begun_anew() {
    let place = Place::new();
    let content = archive(&place, &FILES);
    let sum = sha256(&place, &content);
    for (second, note, requests) in [
        (Answer::NoRange, "cannot continue a download", 2),
        (Answer::Changed, "has changed", 3),
        (Answer::Status(416), "", 3),
    ] {
        let server = Server::new(content.clone(), &[Answer::Cut(70_000), second]);
        let done = ok(&place, &line(&server, &sum));
        assert!(done.stderr.contains(note), "{}", done.stderr);
        assert_eq!(server.asked()[..2], [None, Some(70_000)]);
        assert_eq!(server.asked().len(), requests);
        assert_unpacked(&place);
        fs::remove_dir_all(place.path("got")).unwrap();
    }
    // A part of who knows what.
    let server = Server::new(content.clone(), &[]);
    fs::create_dir(place.path("got")).unwrap();
    place.write("got/set.tar.part", vec![1; 2 * content.len()]);
    ok(&place, &line(&server, &sum));
    assert_eq!(server.asked(), [None]);
    assert_unpacked(&place);
}

#[test]
fn a_bad_source_is_told_and_leaves_nothing() {
    let place = Place::new();
    let content = archive(&place, &FILES);
    let server = Server::new(content.clone(), &[]);
    let wrong = "0".repeat(64);
    fails(
        &place,
        &line(&server, &wrong),
        &["got/set.tar", &server.url, "SHA-256", &wrong, "was removed"],
    );
    assert_eq!(list(&place.path("got")), [".lock"]);

    // Somebody's own file is not removed.
    place.write("got/set.tar", "mine");
    fails(
        &place,
        &line(&server, &wrong),
        &["got/set.tar", "SHA-256", "remove it"],
    );
    assert_eq!(place.text("got/set.tar"), "mine");
    fs::remove_file(place.path("got/set.tar")).unwrap();

    for (status, saying) in [(404, "no such file (404)"), (403, "(403)"), (418, "(418)")] {
        let server = Server::new(content.clone(), &[Answer::Status(status)]);
        fails(&place, &line(&server, &wrong), &[&server.url, saying]);
    }
    let text = b"<html>Please log in</html>".to_vec();
    let (server, sum) = (Server::new(text.clone(), &[]), sha256(&place, &text));
    fails(
        &place,
        &line(&server, &sum),
        &["neither tar, tar.gz nor zip", "--no-unpack"],
    );

    fs::create_dir_all(place.path("made/inner")).unwrap();
    symlink("/", place.path("made/inner/link")).unwrap();
    place.write("made/evil", "x");
    let made = Command::new("tar")
        .args(["-cPf", "../../made.tar", "../evil", "link"])
        .current_dir(place.path("made/inner"))
        .status();
    assert!(made.unwrap().success());
    let evil = place.bytes("made.tar");
    let (server, sum) = (Server::new(evil.clone(), &[]), sha256(&place, &evil));
    fails(
        &place,
        &line(&server, &sum),
        &["set.tar", "../evil", "leads out of the folder"],
    );
    assert!(!place.path("evil").exists());
    assert_eq!(list(&place.path("got")), [".lock"]);

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("data fetch cifar-100 --base-url http://{closed}/mirror --out got");
    fails(
        &place,
        &nobody,
        &[
            "/mirror/cifar-100-python.tar.gz",
            "refuses the connection",
            "check the network",
        ],
    );
}

#[test]
fn command_lines_that_mean_nothing() {
    let place = Place::new();
    for (line, saying) in [
        ("data fetch --out got", "NAME"),
        ("data fetch cifar --out got", "cifar-100"),
        ("data fetch cityscapes --out got", "docs/data.md"),
        ("data fetch voc imagenet --out got", "image-net.org"),
        ("data fetch --url http://a.org/b.tar --out got", "--sha256"),
        (
            "data fetch --url http://a.org/b.tar --sha256 abc --out got",
            "64 hexadecimal digits",
        ),
        (
            "data fetch --url ftp://a.org/b.tar --md5 00000000000000000000000000000000 --out got",
            "https://",
        ),
        (
            "data fetch --url http://a.org/ --md5 00000000000000000000000000000000 --out got",
            "does not end with a file name",
        ),
        (
            "data fetch voc --url http://a.org/b.tar --out got",
            "cannot be used with",
        ),
    ] {
        place.misused(line, &[saying]);
    }
    assert!(!place.path("got").exists());
}
