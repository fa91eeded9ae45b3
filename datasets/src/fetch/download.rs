//! One download over HTTP, which can be interrupted and continued.

use super::meter::{Meter, shown};
use camtrast_common::error::{Error, Result};
use camtrast_common::files::write_atomically;
use camtrast_common::progress::Progress;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::{Agent, Body};

/// Consecutive attempts without new data before it fails, with 1, 2, 4, ... seconds between them.
const ATTEMPTS: u32 = 4;
const CONNECT: Duration = Duration::from_secs(30);

/// An unfinished download, and the file that records its source.
pub(super) struct Part {
    path: PathBuf,
    origin: PathBuf,
}

impl Part {
    /// For the finished file.
    pub(super) fn new(whole: &Path) -> Self {
        let beside = |ending: &str| whole.with_file_name(format!("{}{ending}", shown(whole)));
        Part {
            path: beside(".part"),
            origin: beside(".part.json"),
        }
    }

    /// The bytes so far.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes both files.
    pub(super) fn remove(&self) {
        let _ = remove_if_there(&self.path).and_then(|()| remove_if_there(&self.origin));
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    // The existing bytes, if the download can be continued.
    fn origin(&self, url: &str) -> Option<Origin> {
        let origin: Origin = serde_json::from_slice(&fs::read(&self.origin).ok()?).ok()?;
        let fits = self.path.is_file() && origin.size.is_none_or(|size| self.length() <= size);
        (fits && origin.url == url).then_some(origin)
    }

    fn write_origin(&self, origin: &Origin) -> Result<()> {
        write_atomically(&self.origin, |out| Ok(serde_json::to_writer(out, origin)?))
    }
}

/// The server's description of the file, to detect a change.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq)]
struct Origin {
    url: String,
    etag: Option<String>,
    last_modified: Option<String>,
    /// Bytes of the whole file.
    size: Option<u64>,
}

/// Why an attempt ended.
enum Failure {
    /// Trying again is useless.
    Final(Error),
    /// The next attempt may succeed.
    Passing(String),
    /// The existing bytes cannot be continued, and were removed.
    Anew,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Final(error)
    }
}

/// Whether an address is valid.
pub(super) fn check(url: &str) -> Result<()> {
    let uri: Option<Uri> = url.parse().ok();
    let fits = uri.is_some_and(|u| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some());
    fits.then_some(()).ok_or_else(|| Error::Usage {
        problem: format!("{url:?} is not a valid address"),
        remedy: "give one that begins with https:// or http://".into(),
    })
}

/// Downloads the rest of `part`.
pub(super) fn download(
    url: &str,
    part: &Part,
    size: Option<u64>,
    stall: Duration,
    progress: &dyn Progress,
) -> Result<()> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT.min(stall)))
        .timeout_recv_response(Some(stall))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall))
        .user_agent(concat!("camtrast/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent = Agent::new_with_config(config);
    let (mut received, mut failures) = (false, 0);
    loop {
        let before = part.length();
        let problem = match attempt(&agent, url, part, size, received, progress) {
            Ok(()) => return Ok(()),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Anew) => continue,
            Err(Failure::Passing(problem)) => problem,
        };
        if part.length() > before {
            (received, failures) = (true, 0);
        }
        failures += 1;
        if failures == ATTEMPTS {
            let kept = if part.length() > 0 {
                "; the bytes received so far are kept"
            } else {
                ""
            };
            let problem = format!("{url}: {problem}, {ATTEMPTS} times in a row");
            return Err(Error::settings(
                problem,
                format!("check the network and run the same command again{kept}"),
            ));
        }
        progress.note(&format!("{url}: {problem}; trying again"));
        sleep(Duration::from_secs(1 << (failures - 1)));
    }
}

fn attempt(
    agent: &Agent,
    url: &str,
    part: &Part,
    size: Option<u64>,
    received: bool,
    progress: &dyn Progress,
) -> std::result::Result<(), Failure> {
    let earlier = part.origin(url);
    if earlier.is_none() {
        part.remove();
    }
    let from = part.length();
    if earlier.as_ref().is_some_and(|origin| origin.size == Some(from)) {
        return Ok(());
    }
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if from > 0 {
        request = request.header("Range", format!("bytes={from}-"));
    }
    let response = request.call().map_err(|error| failure(url, &error, received))?;
    let status = response.status();
    let origin = match (status, earlier) {
        (StatusCode::PARTIAL_CONTENT, Some(earlier)) if from > 0 => {
            if origin(url, &response, from).as_ref() != Some(&earlier) {
                progress.note(&format!("{url}: the file has changed; starting over"));
                part.remove();
                return Err(Failure::Anew);
            }
            earlier
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
            part.remove();
            return Err(Failure::Anew);
        }
        (StatusCode::OK, earlier) => {
            if earlier.is_some() && from > 0 {
                progress.note(&format!(
                    "{url}: the server cannot continue a download; starting over"
                ));
            }
            part.remove();
            let origin = origin(url, &response, 0).expect("always present for whole files");
            part.write_origin(&origin)?;
            origin
        }
        _ => return Err(refusal(url, status)),
    };
    let file = File::options().create(true).append(true).open(&part.path);
    let mut file = file.map_err(Error::io(&part.path, "write"))?;
    let mut meter = Meter::new(
        progress,
        "fetched",
        &shown(&part.path),
        origin.size.or(size),
        part.length(),
    );
    receive(response.into_body(), &mut file, part, &mut meter, url)?;
    drop(meter);
    file.sync_all().map_err(Error::io(&part.path, "write"))?;
    match origin.size {
        Some(size) if part.length() < size => Err(Failure::Passing("the connection was cut".into())),
        Some(_) => Ok(()),
        // Now its size is known, so it is not requested again.
        None => Ok(part.write_origin(&Origin {
            size: Some(part.length()),
            ..origin
        })?),
    }
}

fn receive(
    body: Body,
    file: &mut File,
    part: &Part,
    meter: &mut Meter,
    url: &str,
) -> std::result::Result<(), Failure> {
    let mut reader = body.into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failure(url, &ureq::Error::from(error), true)),
        };
        file.write_all(&buffer[..read])
            .map_err(Error::io(&part.path, "write"))?;
        meter.add(read);
    }
}

// The response's description of the whole file; `None` for a part that does not begin at `from`.
fn origin(url: &str, response: &Response<Body>, from: u64) -> Option<Origin> {
    let headers = response.headers();
    let size = match header(headers, "content-range") {
        Some(range) => {
            let (range, size) = range.strip_prefix("bytes ")?.split_once('/')?;
            let (begin, _) = range.split_once('-')?;
            if begin.trim().parse() != Ok(from) {
                return None;
            }
            size.trim().parse().ok()
        }
        None if from > 0 => return None,
        None => header(headers, "content-length").and_then(|length| length.parse().ok()),
    };
    let text = |name: &str| header(headers, name).map(String::from);
    Some(Origin {
        url: url.to_owned(),
        etag: text("etag"),
        last_modified: text("last-modified"),
        size,
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn refusal(url: &str, status: StatusCode) -> Failure {
    let last = |problem: &str, remedy: &str| {
        Failure::Final(Error::settings(
            format!("{url}: {problem} ({})", status.as_u16()),
            remedy,
        ))
    };
    match status.as_u16() {
        404 | 410 => last(
            "the server has no such file",
            "check the address, or give a mirror with --base-url",
        ),
        401 | 403 => last(
            "the server refuses access",
            "check whether it asks for an account",
        ),
        408 | 429 | 500..600 => Failure::Passing(format!("the server answers {}", status.as_u16())),
        _ => last(
            "the server's answer is not understood",
            "check the address, or give a mirror with --base-url",
        ),
    }
}

// Errors of the connection. A server that was never reached is not tried again, unless it is only slow.
fn failure(url: &str, error: &ureq::Error, received: bool) -> Failure {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidData, UnexpectedEof};
    let text = error.to_string();
    let (problem, again) = match error {
        ureq::Error::Timeout(_) => ("the server sends no data".into(), true),
        ureq::Error::Io(e) => match e.kind() {
            UnexpectedEof | ConnectionReset | ConnectionAborted => ("the connection was cut".into(), true),
            ConnectionRefused => ("the server refuses the connection".into(), received),
            // rustls reports its refusals with this kind.
            InvalidData => (format!("the server cannot be trusted ({e})"), false),
            // Errors of the resolver have no error kind.
            _ if text.contains("lookup address") => ("no server with this name was found".into(), received),
            _ => (e.to_string(), received),
        },
        ureq::Error::HostNotFound => ("no server with this name was found".into(), received),
        ureq::Error::ConnectionFailed => ("the server refuses the connection".into(), received),
        _ => (text, received),
    };
    let problem = problem.lines().next().unwrap_or_default().to_owned();
    match again {
        true => Failure::Passing(problem),
        false => Failure::Final(Error::settings(
            format!("{url}: {problem}"),
            "check the network and the address, or give a mirror with --base-url",
        )),
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path, "remove")(e)),
        _ => Ok(()),
    }
}
