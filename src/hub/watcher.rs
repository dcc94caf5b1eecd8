//! Whoever waits for the hub.

use crate::error::Result;

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The file, as the repository names it.
    pub file: String,
    /// Bytes of it on disk or on the way.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Whoever waits for the hub: hears of downloads, and says whether to go on with them. A function that hears of downloads
/// always goes on.
pub trait DownloadWatcher {
    /// More of a file is there.
    fn downloaded(&mut self, download: Download);

    /// Asked many times a second while the hub is waited for; an error ends that.
    ///
    /// # Errors
    /// [`Error::Cancelled`] to end the download. What is on disk by then is kept.
    fn go_on(&mut self) -> Result<()>;
}

impl<F: FnMut(Download)> DownloadWatcher for F {
    fn downloaded(&mut self, download: Download) {
        self(download);
    }

    fn go_on(&mut self) -> Result<()> {
        Ok(())
    }
}
