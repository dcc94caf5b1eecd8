//! Models and data from the hub or from disk, for a study that can be stopped while they are read.

use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};

use super::Reporter;
use super::event::Phase;
use crate::data::Fetch;
use crate::error::{Error, Result};
use crate::hub::{Hub, local_model};
use crate::interrupt::{Abandoned, interruptible};

/// The hub, opened when something is first needed from it.
pub(super) struct LazyHub {
    offline: bool,
    hub: Option<Hub>,
}

impl LazyHub {
    pub fn new(offline: bool) -> Self {
        Self { offline, hub: None }
    }

    fn open(&mut self) -> Result<&Hub> {
        if self.hub.is_none() {
            self.hub = Some(Hub::new(self.offline)?);
        }
        // It was put there the line before.
        self.hub.as_ref().ok_or_else(|| Error::failure("the hub's client is gone"))
    }

    /// Folder of a model: a path as it is, a hub id fetched.
    pub fn model(&mut self, source: &str, reporter: &mut Reporter) -> Result<PathBuf> {
        if let Some(path) = local_model(source) {
            return Ok(path);
        }
        reporter.phase(None, Phase::Download, 0, "bytes");
        self.open()?.model(source, reporter)
    }

    fn dataset_file(&mut self, repo: &str, file: &str, reporter: &mut Reporter) -> Result<PathBuf> {
        reporter.phase(None, Phase::Download, 0, "bytes");
        self.open()?.dataset_file(repo, file, reporter)
    }

    /// Runs work that reads data, until it is done or the study is to stop. Neither a file that is parsed nor a text that is
    /// tokenised can be asked to stop, so it is done on another thread, and left alone where nobody wants it any more.
    ///
    /// # Errors
    /// What the work says; [`Error::Cancelled`].
    pub fn read<T: Send + 'static>(
        &mut self,
        reporter: &mut Reporter,
        work: impl FnOnce(&mut DataFiles) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (requests, requested) = mpsc::channel::<FileRequest>();
        let mut go_on = || {
            while let Ok(request) = requested.try_recv() {
                let path = self.dataset_file(&request.repo, &request.file, reporter);
                // The thread that asked waits for the answer.
                let _ = request.reply.send(path);
            }
            reporter.boundary()
        };
        interruptible(&mut go_on, move |abandoned| {
            work(&mut DataFiles { requests, abandoned: abandoned.clone() })
        })
    }
}

/// A file of a data set that a reading thread needs.
struct FileRequest {
    repo: String,
    file: String,
    reply: Sender<Result<PathBuf>>,
}

/// Data sets for a reading thread: the thread that waits for it fetches them, since progress is reported there.
pub(super) struct DataFiles {
    requests: Sender<FileRequest>,
    pub abandoned: Abandoned,
}

impl Fetch for DataFiles {
    fn fetch(&mut self, repo: &str, file: &str) -> Result<PathBuf> {
        let (reply, answer) = mpsc::channel();
        let request = FileRequest { repo: repo.to_string(), file: file.to_string(), reply };
        // Both fail only where nobody waits any more.
        self.requests.send(request).map_err(|_| Error::Cancelled)?;
        answer.recv().unwrap_or(Err(Error::Cancelled))
    }

    fn go_on(&mut self) -> Result<()> {
        self.abandoned.check()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{mpsc, watch};

    use super::super::control::Control;
    use super::super::event::{Command, Progress};
    use super::super::progress::Tracker;
    use super::*;
    use crate::data::{self, Text, TextContent};
    use crate::model::{ModelFolder, Synthetic, load_tokenizer};

    fn reporter() -> (Reporter, Arc<Control>, mpsc::Receiver<super::super::Event>) {
        let control = Arc::new(Control::default());
        let (events, received) = mpsc::channel(16);
        let tracker = Tracker::new(watch::channel(Progress::default()).0);
        (Reporter::new(events, tracker, control.clone()), control, received)
    }

    #[test]
    fn the_first_request_to_stop_ends_reading_that_would_go_on_for_ever() {
        let (mut reporter, control, _events) = reporter();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (ended, has_ended) = std::sync::mpsc::channel();
        let client = std::thread::spawn(move || {
            has_begun.recv().unwrap();
            control.obey(Command::Shutdown { after_block: true });
        });
        let result = LazyHub::new(true).read::<()>(&mut reporter, move |files| {
            begun.send(()).unwrap();
            loop {
                if let Err(error) = files.abandoned.check() {
                    ended.send(()).unwrap();
                    return Err(error);
                }
                std::thread::yield_now();
            }
        });
        client.join().unwrap();
        assert!(matches!(result, Err(Error::Cancelled)));
        has_ended.recv_timeout(std::time::Duration::from_mins(1)).expect("the reader was told");
    }

    /// A tokenizer cannot be stopped within a text. This one would be at it for a second.
    #[test]
    fn a_text_that_is_being_tokenised_is_left_at_the_first_request() {
        let folder = tempfile::tempdir().unwrap();
        Synthetic::default().write(folder.path()).unwrap();
        let tokenizer = load_tokenizer(&ModelFolder::open(folder.path()).unwrap().tokenizer).unwrap();
        let (mut reporter, control, _events) = reporter();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (ended, has_ended) = std::sync::mpsc::channel();
        let client = std::thread::spawn(move || {
            has_begun.recv().unwrap();
            control.obey(Command::Shutdown { after_block: true });
        });
        let result = LazyHub::new(true).read(&mut reporter, move |_| {
            let text = Text::new("long", TextContent::Whole("lorem ipsum ".repeat(1 << 17)));
            begun.send(()).unwrap();
            let windows = data::evaluation_windows(&text, &tokenizer, 32, None);
            ended.send(()).unwrap();
            windows
        });
        client.join().unwrap();
        assert!(matches!(result, Err(Error::Cancelled)));
        assert!(has_ended.try_recv().is_err(), "the request came too late to stop anything");
    }

    #[test]
    fn what_the_hub_says_reaches_the_reader() {
        let (mut reporter, _control, mut events) = reporter();
        let mut hub = LazyHub::new(true);
        let result = hub.read(&mut reporter, |files| files.fetch("no/such-data", "a.txt"));
        let message = result.unwrap_err().to_string();
        assert!(
            message.contains("no/such-data") && message.contains("the network is switched off"),
            "{message}"
        );
        assert!(matches!(events.try_recv(), Ok(super::super::Event::Phase { phase: Phase::Download, .. })));
        assert_eq!(hub.read(&mut reporter, |_| Ok(7)).unwrap(), 7);
    }
}
