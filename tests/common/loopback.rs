//! A hub on the loopback interface, for tests: what it has, and how well it behaves.

#![allow(dead_code, reason = "every test program uses its own part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secateur::hub::{Hub, HubSettings};
use serde_json::json;

/// The commit that the branch of every repository is at.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Bytes that are asked for at once.
pub const PIECE: u64 = 64 << 10;

/// One request, as far as tests look at it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub range: Option<(usize, usize)>,
    pub token: Option<String>,
}

/// What the server has and how it behaves.
pub struct Site {
    /// Repositories: `models/org/name` or `datasets/org/name`, to files.
    pub repos: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Bytes of file content that may still be sent before every connection breaks.
    pub budget: AtomicI64,
    /// Whether ranges are understood.
    pub ranges: bool,
    /// Whether files are promised and never sent.
    pub stalls: AtomicBool,
    pub requests: Mutex<Vec<Request>>,
    stop: AtomicBool,
}

/// The hub while it runs; it ends when this is dropped.
pub struct Server {
    /// What it has.
    pub site: Arc<Site>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// A hub with these repositories.
    pub fn start(repos: &[(&str, BTreeMap<String, Vec<u8>>)]) -> Self {
        Self::start_with(repos, true)
    }

    /// The same; whether it understands ranges.
    pub fn start_with(repos: &[(&str, BTreeMap<String, Vec<u8>>)], ranges: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let site = Arc::new(Site {
            repos: repos.iter().map(|(name, files)| ((*name).to_string(), files.clone())).collect(),
            budget: AtomicI64::new(i64::MAX),
            ranges,
            stalls: AtomicBool::new(false),
            requests: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&site);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    break;
                }
                let site = Arc::clone(&shared);
                std::thread::spawn(move || stream.map(|stream| site.answer(stream)));
            }
        });
        Self { site, address }
    }

    /// Its client, with a cache below `home`.
    pub fn hub(&self, home: &Path) -> Hub {
        Hub::with(self.settings(home)).unwrap()
    }

    /// What leads the client here.
    pub fn settings(&self, home: &Path) -> HubSettings {
        HubSettings {
            endpoint: Some(self.endpoint()),
            token: Some("secret".into()),
            cache: Some(home.join("hub")),
            offline: false,
            piece_bytes: PIECE,
            retries: 1,
            retry_delay: Duration::from_millis(1),
        }
    }

    /// Its address, as `HF_ENDPOINT` has it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Paths that were asked for with GET below `/resolve/`.
    pub fn downloads(&self) -> Vec<Request> {
        let requests = self.site.requests.lock().unwrap();
        requests.iter().filter(|r| r.method == "GET" && r.path.contains("/resolve/")).cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.site.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which then closes its socket.
        let _ = TcpStream::connect(self.address);
    }
}

impl Site {
    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let request = read_request(&stream)?;
        self.requests.lock().unwrap().push(request.clone());
        let path = request.path.split('?').next()?;
        if let Some(api) = path.strip_prefix("/api/") {
            let mut parts = api.splitn(5, '/');
            let id = [parts.next()?, parts.next()?, parts.next()?].join("/");
            let (what, rest) = (parts.next()?, parts.next()?);
            let Some(files) = self.repos.get(&id) else { return respond(&mut stream, 404, &[], b"{}") };
            let body = match (what, rest) {
                ("revision", "main") => json!({"id": id, "sha": COMMIT}),
                ("tree", rest) => tree(files, rest.strip_prefix(COMMIT)?.trim_start_matches('/')),
                _ => return respond(&mut stream, 404, &[], b"{}"),
            };
            return respond(&mut stream, 200, &[], body.to_string().as_bytes());
        }
        let (repo, file) = path.trim_start_matches('/').split_once("/resolve/")?;
        let repo = if repo.starts_with("datasets/") { repo.to_string() } else { format!("models/{repo}") };
        let file = file.strip_prefix(COMMIT)?.trim_start_matches('/');
        if repo.contains("gated") && request.token.as_deref() != Some("Bearer good") {
            let message = ["X-Error-Message: Access to this model is restricted".to_string()];
            return respond(&mut stream, 401, &message, b"{}");
        }
        match self.repos.get(&repo).and_then(|files| files.get(file)) {
            Some(content) => self.send(&mut stream, &request, content),
            None => respond(&mut stream, 404, &[], b"{}"),
        }
    }

    fn send(&self, stream: &mut TcpStream, request: &Request, content: &[u8]) -> Option<()> {
        let mut headers = vec![format!("ETag: \"{:x}\"", content.len()), format!("X-Repo-Commit: {COMMIT}")];
        if request.method == "HEAD" {
            headers.push(format!("Content-Length: {}", content.len()));
            return respond(stream, 200, &headers, b"");
        }
        while self.stalls.load(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (status, body) = match request.range {
            Some((from, to)) if self.ranges => {
                headers.push(format!("Content-Range: bytes {from}-{to}/{}", content.len()));
                (206, &content[from..=to])
            }
            _ => (200, content),
        };
        let left = self.budget.fetch_sub(body.len() as i64, Ordering::SeqCst);
        if left >= body.len() as i64 {
            return respond(stream, status, &headers, body);
        }
        // The connection breaks in the middle of the body.
        headers.push(format!("Content-Length: {}", body.len()));
        respond(stream, status, &headers, &body[..usize::try_from(left).unwrap_or(0).min(body.len())])
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ').map(str::to_string);
    let mut request = Request { method: words.next()?, path: words.next()?, ..Request::default() };
    for line in lines {
        let line = line.ok()?;
        match line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
            Some((name, value)) if name == "authorization" => request.token = Some(value.to_string()),
            Some((name, value)) if name == "range" => {
                let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
                request.range = Some((from.parse().ok()?, to.parse().ok()?));
            }
            None => break,
            _ => {}
        }
    }
    Some(request)
}

fn respond(stream: &mut TcpStream, status: u16, headers: &[String], body: &[u8]) -> Option<()> {
    let mut head = vec![format!("HTTP/1.1 {status} X"), "Connection: close".into()];
    head.extend_from_slice(headers);
    if !headers.iter().any(|h| h.starts_with("Content-Length")) {
        head.push(format!("Content-Length: {}", body.len()));
    }
    stream.write_all(format!("{}\r\n\r\n", head.join("\r\n")).as_bytes()).ok()?;
    stream.write_all(body).ok()
}

/// A folder of a repository, as the hub lists it.
fn tree(files: &BTreeMap<String, Vec<u8>>, folder: &str) -> serde_json::Value {
    let inside = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
    files
        .iter()
        .filter(|(path, _)| inside(path))
        .map(|(path, content)| json!({"type": "file", "oid": "0", "size": content.len(), "path": path}))
        .collect()
}
