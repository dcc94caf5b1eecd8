//! `secateur doctor`: what this machine has and what a study would use.

use std::env;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::Basics;
use crate::device;
use crate::error::Result;
use crate::hub::folders;
use crate::human::{bytes, escape};
use crate::sysinfo;

/// Everything that `secateur doctor` says.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// Operating system and architecture.
    pub platform: String,
    /// Cores and what is to run on them.
    pub processor: Processor,
    /// Memory of the host, in bytes.
    pub memory: Memory,
    /// Devices, and what `auto` means.
    pub compute: Compute,
    /// The results database.
    pub store: Place,
    /// Where models and data sets from the hub are.
    pub hub: Hub,
    /// The config file that was read; `None` is the built-in one.
    pub config_file: Option<PathBuf>,
}

/// Cores and what is to run on them.
#[derive(Debug, Clone, Serialize)]
pub struct Processor {
    /// Threads that can run at once.
    pub cores: usize,
    /// Worker threads that a study would start.
    pub threads: usize,
    /// Widest vector instructions.
    pub simd: &'static str,
    /// Load average of the last minute.
    pub load: Option<f64>,
}

/// Memory of the host, in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// The machine's, or what the control group allows.
    pub total_bytes: u64,
    /// What of it can be had now.
    pub available_bytes: u64,
}

/// Devices, and what `auto` means.
#[derive(Debug, Clone, Serialize)]
pub struct Compute {
    /// Whether this build can use NVIDIA GPUs.
    pub built_with_cuda: bool,
    /// GPUs that answer.
    pub devices: Vec<String>,
    /// The device as the settings ask for it.
    pub asked_device: String,
    /// The device that would be used.
    pub device: String,
    /// The precision as the settings ask for it.
    pub asked_dtype: String,
    /// The precision that would be computed in.
    pub dtype: String,
}

/// A file or folder that is written to.
#[derive(Debug, Clone, Serialize)]
pub struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// What is there.
    pub state: String,
    /// Whether it can be written, or made where it does not exist.
    pub writable: bool,
    /// Bytes free on its disk.
    pub disk_available_bytes: Option<u64>,
}

/// Where models and data sets from the hub are.
#[derive(Debug, Clone, Serialize)]
pub struct Hub {
    /// `HF_HOME` or what stands for it.
    pub home: PathBuf,
    /// The cache folder.
    pub cache: Place,
    /// Whether there is an access token, and where from; never the token.
    pub token: &'static str,
    /// Another hub than the usual one.
    pub endpoint: Option<String>,
    /// Whether the network is never asked.
    pub offline: bool,
}

impl Report {
    /// Looks at this machine through the settings.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] when the settings ask for a device or precision that cannot be had.
    pub fn gather(basics: &Basics) -> Result<Self> {
        let host = sysinfo::host_memory();
        let cores = sysinfo::cores();
        let device = device::choose_device(&basics.device)?;
        let dtype = device::choose_dtype(&basics.dtype, &device)?;
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            platform: sysinfo::platform(),
            processor: Processor {
                cores,
                threads: basics.threads.unwrap_or(cores),
                simd: sysinfo::simd(),
                load: sysinfo::load_average(),
            },
            memory: Memory { total_bytes: host.total, available_bytes: host.available },
            compute: Compute {
                built_with_cuda: device::BUILT_WITH_CUDA,
                devices: gpus(),
                asked_device: basics.device.clone(),
                device: device::device_name(&device),
                asked_dtype: basics.dtype.clone(),
                dtype: dtype.as_str().to_owned(),
            },
            store: place(&basics.store, store_state(&basics.store)),
            hub: hub(basics.offline),
            config_file: basics.config_file.clone(),
        })
    }

    /// The report as lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<12}{value}");
        };
        line("secateur", self.version);
        line("platform", &self.platform);
        let processor = &self.processor;
        let load = processor.load.map(|load| format!(", load {load:.1}")).unwrap_or_default();
        line(
            "processor",
            &format!(
                "{} cores, {} threads would work, {}{load}",
                processor.cores, processor.threads, processor.simd
            ),
        );
        line(
            "memory",
            &format!("{} free of {}", bytes(self.memory.available_bytes), bytes(self.memory.total_bytes)),
        );
        line(
            "cuda",
            &match (self.compute.built_with_cuda, self.compute.devices.len()) {
                (false, _) => "not in this build (cargo build --release --features cuda)".to_owned(),
                (true, 0) => "in this build, but no GPU answers".to_owned(),
                (true, _) => self.compute.devices.join(", "),
            },
        );
        line("device", &meaning(&self.compute.asked_device, &self.compute.device));
        line("dtype", &meaning(&self.compute.asked_dtype, &self.compute.dtype));
        line("store", &self.store.text());
        line("hub cache", &self.hub.cache.text());
        line("hub home", &escape(&self.hub.home.to_string_lossy()));
        line("hub token", self.hub.token);
        if let Some(endpoint) = &self.hub.endpoint {
            line("hub", &escape(endpoint));
        }
        line(
            "network",
            if self.hub.offline { "never asked (offline)" } else { "asked for what the cache lacks" },
        );
        line(
            "config",
            &match &self.config_file {
                None => "built in".to_owned(),
                Some(path) => escape(&path.to_string_lossy()),
            },
        );
        text
    }
}

impl Place {
    fn text(&self) -> String {
        let writable = if self.writable { "" } else { ", NOT writable" };
        let free =
            self.disk_available_bytes.map(|free| format!(", {} free", bytes(free))).unwrap_or_default();
        format!("{} ({}{writable}{free})", escape(&self.path.to_string_lossy()), self.state)
    }
}

fn meaning(asked: &str, used: &str) -> String {
    if asked == used { used.to_owned() } else { format!("{used} ({asked})") }
}

fn place(path: &Path, state: String) -> Place {
    Place {
        path: path.to_owned(),
        state,
        writable: writable(path),
        disk_available_bytes: sysinfo::disk_available(path),
    }
}

/// Whether a file can be written at or below `path`: tried, since permissions do not tell of read-only disks.
fn writable(path: &Path) -> bool {
    let Some(existing) = sysinfo::nearest_existing(path) else { return false };
    let file_is_writable = || File::options().append(true).open(&existing).is_ok();
    let folder = if existing.is_dir() {
        existing.as_path()
    } else {
        // A folder that is to be made below a file cannot be made.
        let is_path = std::path::absolute(path).is_ok_and(|path| path == existing);
        if !is_path || !file_is_writable() {
            return false;
        }
        existing.parent().unwrap_or(Path::new("."))
    };
    tempfile::tempfile_in(folder).is_ok()
}

fn store_state(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else {
        return if path.exists() { "cannot be read".into() } else { "none yet".into() };
    };
    let size = file.metadata().map_or(0, |meta| meta.len());
    let mut head = [0; 16];
    if size > 0 && (file.read_exact(&mut head).is_err() || &head != b"SQLite format 3\0") {
        return "not a results database".into();
    }
    bytes(size)
}

fn hub(offline: bool) -> Hub {
    let cache = folders::cache();
    let state = if cache.is_dir() { "there" } else { "none yet" };
    let yes = |name: &str| {
        env::var(name).is_ok_and(|v| ["1", "true", "yes", "on"].contains(&v.to_ascii_lowercase().as_str()))
    };
    let token = if env::var_os("HF_TOKEN").is_some_and(|token| !token.is_empty()) {
        "set by HF_TOKEN"
    } else if folders::token_file().is_file() {
        "set by a token file"
    } else {
        "not set"
    };
    Hub {
        cache: place(&cache, state.into()),
        home: folders::home(),
        token,
        endpoint: env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty()).map(without_password),
        offline: offline || yes("HF_HUB_OFFLINE"),
    }
}

/// An address without the user and password that may stand in it.
fn without_password(address: String) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => address,
    }
}

#[cfg(feature = "cuda")]
fn gpus() -> Vec<String> {
    let there = |n: &usize| candle_core::Device::new_cuda(*n).is_ok();
    (0..16).take_while(there).map(|n| format!("cuda:{n}")).collect()
}

#[cfg(not(feature = "cuda"))]
fn gpus() -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writable_tells_folders_files_and_what_cannot_be_made() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(writable(root.path()));
        assert!(writable(&root.path().join("new/deeper.db")));
        assert!(writable(&file));
        assert!(!writable(&file.join("below.db")));
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
    }

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        assert_eq!(without_password("https://me:secret@hub.example/x".into()), "https://hub.example/x");
        assert_eq!(without_password("https://hub.example".into()), "https://hub.example");
    }
}
