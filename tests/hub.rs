//! Downloads from a hub that each test starts on the loopback interface.

#[path = "common/loopback.rs"]
mod loopback;
#[path = "common/synthetic.rs"]
mod synthetic;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loopback::{COMMIT, PIECE, Server};
use secateur::Error;
use secateur::hub::{Download, DownloadWatcher, Hub, HubSettings};
use secateur::model::ModelFolder;
use synthetic::Synthetic;

/// A synthetic model as the files of a repository, with some that nobody needs.
fn model_files(model: &Synthetic) -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    model.write(dir.path()).unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.insert("README.md".into(), b"# A model".to_vec());
    files.insert("pytorch_model.bin".into(), vec![1; 1000]);
    files
}

fn mistake(result: Result<PathBuf, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

fn quiet(_: Download) {}

/// Says no when it is asked for the `no_at`th time, and may not be asked again.
struct Impatient {
    no_at: usize,
    asked: usize,
}

impl DownloadWatcher for Impatient {
    fn downloaded(&mut self, _: Download) {}

    fn go_on(&mut self) -> Result<(), Error> {
        self.asked += 1;
        assert!(self.asked <= self.no_at, "asked again after a no");
        if self.asked == self.no_at { Err(Error::Cancelled) } else { Ok(()) }
    }
}

#[test]
fn a_model_comes_once_from_the_hub_and_then_from_the_cache() {
    let files = model_files(&Synthetic { sharded: Some(2), ..Synthetic::default() });
    let server = Server::start(&[("models/org/tiny", files.clone())]);
    let home = tempfile::tempdir().unwrap();
    let mut progress: BTreeMap<String, Vec<Download>> = BTreeMap::new();
    let hub = server.hub(home.path());
    let folder = hub
        .model("org/tiny", &mut |d: Download| progress.entry(d.file.clone()).or_default().push(d))
        .unwrap();
    ModelFolder::open(&folder).unwrap();
    for (file, steps) in &progress {
        assert_eq!(std::fs::read(folder.join(file)).unwrap(), files[file], "{file}");
        assert!(steps.is_sorted_by_key(|d| d.done_bytes), "{steps:?}");
        let last = steps.last().unwrap();
        assert_eq!((last.done_bytes, last.total_bytes), (files[file].len() as u64, files[file].len() as u64));
    }
    assert!(!folder.join("pytorch_model.bin").exists() && !folder.join("README.md").exists());
    assert!(server.downloads().iter().all(|r| r.token.as_deref() == Some("Bearer secret")));

    let before = server.downloads().len();
    assert_eq!(hub.model("org/tiny", &mut quiet).unwrap(), folder);
    assert_eq!(server.downloads().len(), before, "nothing is fetched twice");

    let settings = server.settings(home.path());
    drop(server);
    let offline = Hub::with(HubSettings { offline: true, ..settings.clone() }).unwrap();
    assert_eq!(offline.model("org/tiny", &mut quiet).unwrap(), folder);
    let unreachable = Hub::with(settings).unwrap();
    assert_eq!(unreachable.model("org/tiny", &mut quiet).unwrap(), folder);
}

#[test]
fn a_download_that_broke_off_goes_on_where_it_stopped() {
    let files = model_files(&Synthetic::default());
    let weights = &files["model.safetensors"];
    let server = Server::start(&[("models/org/tiny", files.clone())]);
    let home = tempfile::tempdir().unwrap();
    let small: usize =
        files.iter().filter(|(f, _)| f.contains("json")).map(|(_, content)| content.len()).sum();
    server.site.budget.store(small as i64 + 3 * PIECE as i64 + 1000, Ordering::SeqCst);
    let error = server.hub(home.path()).model("org/tiny", &mut quiet).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let kept = 3 * PIECE;
    let message = error.to_string();
    for part in [format!("{kept} of {} bytes", weights.len()), "to resume".into(), "model.safetensors".into()]
    {
        assert!(message.contains(&part), "{message}");
    }
    let offline = Hub::with(HubSettings { offline: true, ..server.settings(home.path()) }).unwrap();
    assert!(mistake(offline.model("org/tiny", &mut quiet)).contains("not whole"), "half a model is none");

    server.site.budget.store(i64::MAX, Ordering::SeqCst);
    server.site.requests.lock().unwrap().clear();
    let mut first = None;
    let folder = server
        .hub(home.path())
        .model("org/tiny", &mut |d: Download| {
            if d.file == "model.safetensors" {
                first.get_or_insert(d.done_bytes);
            }
        })
        .unwrap();
    assert_eq!(first, Some(kept), "progress goes on, too");
    let starts: Vec<usize> =
        server.downloads().iter().filter_map(|r| r.range).map(|(from, _)| from).collect();
    assert_eq!(starts.iter().min(), Some(&(kept as usize)), "{starts:?}");
    assert_eq!(&std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn a_connection_that_breaks_once_is_not_noticed() {
    let files = model_files(&Synthetic::default());
    let server = Server::start(&[("models/org/tiny", files.clone())]);
    let home = tempfile::tempdir().unwrap();
    server.site.budget.store(2 * PIECE as i64, Ordering::SeqCst);
    let site = Arc::clone(&server.site);
    // The hub recovers as soon as a connection has been cut.
    let healer = std::thread::spawn(move || {
        while site.budget.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        site.budget.store(i64::MAX, Ordering::SeqCst);
    });
    let settings = HubSettings { retry_delay: Duration::from_millis(200), ..server.settings(home.path()) };
    let folder = Hub::with(settings).unwrap().model("org/tiny", &mut quiet).unwrap();
    healer.join().unwrap();
    ModelFolder::open(&folder).unwrap();
}

#[test]
fn a_server_that_ignores_ranges_will_do() {
    let files = model_files(&Synthetic::default());
    let server = Server::start_with(&[("models/org/tiny", files)], false);
    let home = tempfile::tempdir().unwrap();
    ModelFolder::open(&server.hub(home.path()).model("org/tiny", &mut quiet).unwrap()).unwrap();
}

#[test]
fn a_hub_that_does_not_answer_is_waited_for_only_as_long_as_wanted() {
    // Connections are accepted by the system, and nobody ever reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = tempfile::tempdir().unwrap();
    let settings = HubSettings {
        endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        token: None,
        cache: Some(home.path().join("hub")),
        offline: false,
        piece_bytes: PIECE,
        retries: 1,
        retry_delay: Duration::from_millis(1),
    };
    let mut watcher = Impatient { no_at: 5, asked: 0 };
    let result = Hub::with(settings).unwrap().model("org/tiny", &mut watcher);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(watcher.asked, 5);
}

#[test]
fn a_download_that_stalls_ends_when_told_to_and_is_resumed() {
    let files = model_files(&Synthetic::default());
    let server = Server::start(&[("models/org/tiny", files)]);
    let home = tempfile::tempdir().unwrap();
    server.site.stalls.store(true, Ordering::SeqCst);
    let mut watcher = Impatient { no_at: 40, asked: 0 };
    let result = server.hub(home.path()).model("org/tiny", &mut watcher);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(watcher.asked, 40);
    server.site.stalls.store(false, Ordering::SeqCst);
    ModelFolder::open(&server.hub(home.path()).model("org/tiny", &mut quiet).unwrap()).unwrap();
}

#[test]
fn a_download_of_another_process_is_waited_for_only_as_long_as_wanted() {
    let files = BTreeMap::from([("a.txt".to_string(), vec![7; 1000])]);
    let server = Server::start(&[("datasets/org/texts", files)]);
    let home = tempfile::tempdir().unwrap();
    let blobs = home.path().join("hub/datasets--org--texts/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let other = std::fs::File::create(blobs.join(format!("{COMMIT}-a.txt.incomplete"))).unwrap();
    other.lock().unwrap();
    let mut watcher = Impatient { no_at: 20, asked: 0 };
    let result = server.hub(home.path()).dataset_file("org/texts", "a.txt", &mut watcher);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    drop(other);
    let path = server.hub(home.path()).dataset_file("org/texts", "a.txt", &mut quiet).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), vec![7; 1000]);
}

#[test]
fn a_file_of_a_data_set_lies_where_it_lies_in_the_repository() {
    let files = BTreeMap::from([("en/part1.json.gz".to_string(), vec![7; 100_000])]);
    let server = Server::start(&[("datasets/org/texts", files)]);
    let home = tempfile::tempdir().unwrap();
    let message = mistake(server.hub(home.path()).dataset_file("org/texts", "en/part2.json.gz", &mut quiet));
    assert!(message.contains("data set org/texts") && message.contains("en/part2.json.gz"), "{message}");
    let path = server.hub(home.path()).dataset_file("org/texts", "en/part1.json.gz", &mut quiet).unwrap();
    assert!(path.ends_with("en/part1.json.gz"));
    assert_eq!(std::fs::read(&path).unwrap(), vec![7; 100_000]);
    let settings = server.settings(home.path());
    drop(server);
    let offline = Hub::with(HubSettings { offline: true, ..settings }).unwrap();
    assert_eq!(offline.dataset_file("org/texts", "en/part1.json.gz", &mut quiet).unwrap(), path);
}

#[test]
fn what_goes_wrong_is_said_with_what_to_do() {
    let files = model_files(&Synthetic::default());
    let without = |name: &str| {
        let mut files = files.clone();
        files.remove(name);
        files
    };
    let server = Server::start(&[
        ("models/org/gated", files.clone()),
        ("models/org/bin", without("model.safetensors")),
        ("models/org/blind", without("tokenizer.json")),
    ]);
    let home = tempfile::tempdir().unwrap();
    let hub = server.hub(home.path());
    for (id, parts) in [
        ("org/gated", vec!["org/gated", "restricted", "HF_TOKEN"]),
        ("org/none", vec!["no model org/none", "folder", "HF_TOKEN"]),
        ("org/bin", vec!["org/bin", "no safetensors", "model.safetensors.index.json"]),
        ("org/blind", vec!["org/blind", "tokenizer.json"]),
    ] {
        let message = mistake(hub.model(id, &mut quiet));
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let good = HubSettings { token: Some("good".into()), ..server.settings(home.path()) };
    Hub::with(good).unwrap().model("org/gated", &mut quiet).unwrap();

    let settings = server.settings(home.path());
    let endpoint = settings.endpoint.clone().unwrap();
    drop(server);
    let cache = home.path().join("hub").display().to_string();
    let message = mistake(Hub::with(settings.clone()).unwrap().model("org/new", &mut quiet));
    for part in ["org/new", "cannot be reached", &endpoint, &cache, "HF_HOME"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = mistake(
        Hub::with(HubSettings { offline: true, ..settings.clone() }).unwrap().model("org/new", &mut quiet),
    );
    assert!(message.contains("switched off") && message.contains(&cache), "{message}");
    let error = Hub::with(HubSettings { endpoint: Some("hub".into()), ..settings }).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn workers_fetch_nothing_that_their_run_has_fetched() {
    let files = model_files(&Synthetic::default());
    let asked = ["1", "2"].map(|workers| {
        let server = Server::start(&[("models/org/tiny", files.clone())]);
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("text.txt"), "some words that stand for a text ".repeat(40)).unwrap();
        let line = "run --model org/tiny --methods magnitude --sparsity 0.3,0.5 --corpus text.txt --seq-len 32 \
                    --store s.db --device cpu --workers";
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_secateur"));
        command.args(line.split_whitespace()).arg(workers).current_dir(home.path()).env_clear();
        command.env("HOME", home.path()).env("HF_ENDPOINT", server.endpoint());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server.downloads().len()
    });
    assert!(asked[0] > 2 && asked[0] == asked[1], "{asked:?}");
}
