//! A repository as the hub serves it over HTTP: its commit, its files, pieces of them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// The branch that is used.
pub(super) const BRANCH: &str = "main";

/// How long a silent connection counts as one, and how long one may take to come about.
const PATIENCE: Duration = Duration::from_mins(1);
/// Largest answer about a repository: a listing of some ten thousand files.
const LARGEST_ANSWER: u64 = 64 << 20;
/// Bytes between two reports.
const STEP: usize = 256 << 10;
/// What may stand in a path of an address as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// What kind of repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RepoKind {
    Model,
    Dataset,
}

impl RepoKind {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "data set",
        }
    }

    /// In addresses and in the cache.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// Why the hub did not give what it was asked for.
#[derive(Debug)]
pub(super) enum RemoteError {
    /// There is no connection to the hub.
    NoConnection(String),
    /// The server's passing trouble, or a connection that broke: a later try may help.
    Broken(String),
    /// Access is refused, in the hub's own words where it has some.
    Refused(String),
    /// No such repository, or no such branch.
    NoRepository,
    /// No such file.
    NoFile(String),
    /// An answer that makes no sense.
    Odd(String),
}

impl RemoteError {
    /// Why the hub gave no answer; `None` where it gave one.
    pub fn unreachable(&self) -> Option<&str> {
        match self {
            Self::NoConnection(why) | Self::Broken(why) => Some(why),
            _ => None,
        }
    }
}

type Result<T> = std::result::Result<T, RemoteError>;

/// The hub's address and who asks.
#[derive(Debug, Clone)]
pub(super) struct Server {
    agent: Agent,
    pub endpoint: String,
    token: Option<String>,
}

impl Server {
    /// A client for the hub at this address; `None` where it is none.
    pub fn new(endpoint: &str, token: Option<String>) -> Option<Self> {
        let address: Uri = endpoint.parse().ok()?;
        let scheme = address.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
        scheme.and(address.host())?;
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            // Answers are told apart by their status here.
            .http_status_as_error(false)
            .user_agent(concat!("secateur/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE));
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Some(Self { agent: config.build().new_agent(), endpoint, token })
    }

    fn get(&self, address: &str, range: Option<&Range<u64>>) -> Result<Response<Body>> {
        let mut request = self.agent.get(address);
        // The hub may name the next page of a listing elsewhere.
        let token = self.token.as_ref().filter(|_| address.starts_with(&self.endpoint));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header(header::RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        request.call().map_err(trouble)
    }
}

/// A repository of the hub.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub server: Server,
    pub kind: RepoKind,
    pub id: String,
}

impl Remote {
    /// The commit that the branch is at.
    pub fn commit(&self) -> Result<String> {
        let (answer, _) = self.ask(&self.api(&format!("revision/{BRANCH}")))?;
        let commit = answer["sha"].as_str().unwrap_or_default();
        if commit.is_empty() || !commit.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(RemoteError::Odd("no commit in what the hub says of the repository".into()));
        }
        Ok(commit.to_owned())
    }

    /// Files of a folder (`""` is the whole repository's uppermost) with their sizes in bytes.
    pub fn files(&self, commit: &str, folder: &str) -> Result<BTreeMap<String, u64>> {
        let mut files = BTreeMap::new();
        let mut page = Some(self.api(&format!("tree/{commit}/{folder}")).trim_end_matches('/').to_owned());
        while let Some(address) = page {
            let (entries, next) = self.ask(&address)?;
            let entries =
                entries.as_array().ok_or_else(|| RemoteError::Odd("a listing that is no list".into()))?;
            for entry in entries.iter().filter(|entry| entry["type"] == "file") {
                let (Some(path), Some(size)) = (entry["path"].as_str(), entry["size"].as_u64()) else {
                    return Err(RemoteError::Odd("a file without a path or a size in a listing".into()));
                };
                files.insert(path.to_owned(), size);
            }
            page = next;
        }
        Ok(files)
    }

    /// Bytes of a file. `progress` hears how many of them are there, and says whether to go on.
    pub fn read(
        &self,
        commit: &str,
        file: &str,
        range: Range<u64>,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<u8>> {
        let of_kind = if self.kind == RepoKind::Model { "" } else { "datasets/" };
        let path = utf8_percent_encode(file, PLAIN);
        let address = format!("{}/{of_kind}{}/resolve/{commit}/{path}", self.server.endpoint, self.id);
        let response = self.server.get(&address, Some(&range))?;
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => range.start,
            // A server that does not know ranges sends everything.
            StatusCode::OK => 0,
            _ => return Err(refusal(&response, Some(file))),
        };
        let mut bytes = read(response.into_body(), range.end - start, &mut |there| {
            progress(there.saturating_sub(range.start - start))
        })?;
        if bytes.len() as u64 != range.end - start {
            let got = bytes.len();
            return Err(RemoteError::Broken(format!("the connection ended after {got} bytes of a piece")));
        }
        Ok(bytes.split_off((range.start - start) as usize))
    }

    fn api(&self, what: &str) -> String {
        let what = utf8_percent_encode(what, PLAIN);
        format!("{}/api/{}/{}/{what}", self.server.endpoint, self.kind.plural(), self.id)
    }

    /// What the hub answers as JSON, and the address of the page behind it.
    fn ask(&self, address: &str) -> Result<(Value, Option<String>)> {
        let response = self.server.get(address, None)?;
        if !response.status().is_success() {
            return Err(refusal(&response, None));
        }
        let next = response.headers().get(header::LINK).and_then(|link| next_page(link.to_str().ok()?));
        let text =
            response.into_body().into_with_config().limit(LARGEST_ANSWER).read_to_vec().map_err(trouble)?;
        let answer = serde_json::from_slice(&text)
            .map_err(|e| RemoteError::Odd(format!("an answer that is not JSON ({e})")))?;
        Ok((answer, next))
    }
}

/// At most `wanted` bytes of a body.
fn read(body: Body, wanted: u64, progress: &mut dyn FnMut(u64) -> bool) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(wanted as usize);
    let mut reader = body.into_with_config().limit(u64::MAX).reader();
    while (bytes.len() as u64) < wanted {
        let step = (wanted - bytes.len() as u64).min(STEP as u64);
        let got = reader.by_ref().take(step).read_to_end(&mut bytes);
        // What came before the connection broke counts for nothing: a piece is asked for again as a whole.
        let got = got.map_err(|e| RemoteError::Broken(e.to_string()))?;
        if got == 0 || !progress(bytes.len() as u64) {
            break;
        }
    }
    Ok(bytes)
}

/// The address of the next page in a `Link` header.
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|link| {
        let (address, relation) = link.split_once(';')?;
        let next = relation.split(';').any(|part| part.trim() == "rel=\"next\"");
        next.then(|| address.trim().trim_start_matches('<').trim_end_matches('>').to_owned())
    })
}

/// What an answer that is no success means; `file` is the one that was asked for.
fn refusal(response: &Response<Body>, file: Option<&str>) -> RemoteError {
    let word = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let status = response.status();
    match status.as_u16() {
        401 | 403 => {
            RemoteError::Refused(word("x-error-message").map_or_else(|| status.to_string(), str::to_owned))
        }
        404 => match file.filter(|_| word("x-error-code") != Some("RepoNotFound")) {
            Some(file) => RemoteError::NoFile(file.to_owned()),
            None => RemoteError::NoRepository,
        },
        408 | 429 | 500.. => RemoteError::Broken(format!("it answers {status}")),
        _ => RemoteError::Odd(format!("it answers {status}")),
    }
}

/// A failure on the way to the hub and back.
fn trouble(error: ureq::Error) -> RemoteError {
    match error {
        ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => {
            RemoteError::NoConnection(e.to_string())
        }
        ureq::Error::Io(e) => RemoteError::Broken(e.to_string()),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
            RemoteError::NoConnection(error.to_string())
        }
        other => RemoteError::Broken(other.to_string()),
    }
}
