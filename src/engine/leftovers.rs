//! What finished cells leave on the disk and nobody needs any more, removed beside the computing: for gigabytes of hidden
//! states a disk takes up to a second.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::snapshot::Snapshots;
use crate::store::{checkpoint, remove_unfinished};

/// The threads that still remove something. What cannot be removed takes room and harms nobody.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    removing: Mutex<Vec<JoinHandle<()>>>,
}

impl Leftovers {
    /// Removes the hidden states of a cell from its folder, also those that are still being written.
    pub fn remove_states(&self, folder: &Path, saving: Snapshots) {
        saving.abandon();
        let folder = folder.to_path_buf();
        self.begin(move || {
            drop(saving);
            let _ = checkpoint::remove_states(&folder);
        });
    }

    /// Removes what a killed process did not come to remove from the folders of cells that are done.
    pub fn remove_all_states(&self, folders: Vec<PathBuf>) {
        self.begin(move || {
            for folder in folders {
                let _ = checkpoint::remove_states(&folder);
                remove_unfinished(&folder);
            }
        });
    }

    /// Waits until all of it is gone.
    pub fn finish(&mut self) {
        let removing = self.removing.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in removing.drain(..) {
            // A panic has been told by its thread.
            let _ = thread.join();
        }
    }

    fn begin(&self, remove: impl FnOnce() + Send + 'static) {
        // No code panics while it holds the lock; a poisoned one would still be whole.
        let mut removing = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
        removing.retain(|thread| !thread.is_finished());
        // Where no thread can be had, dropping what was to be done waits for what is being written.
        removing.extend(thread::Builder::new().name("leftovers".into()).spawn(remove));
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn states_are_gone_in_the_end_also_those_that_were_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| dir.path().join(name);
        let states = || vec![("evaluation.00000".into(), Tensor::new(&[[1f32]], &Device::Cpu).unwrap())];
        let saving = |name: &str| Snapshots::new(checkpoint::states_path(&folder(name)));
        let mut saved = saving("saved");
        saved.save(1, states()).unwrap();
        let mut being_written = saving("being-written");
        being_written.begin(1, states(), None).unwrap();
        saving("killed").save(1, states()).unwrap();
        std::fs::write(folder("killed").join(".states.safetensors.part"), "torn").unwrap();

        let leftovers = Leftovers::default();
        leftovers.remove_states(&folder("saved"), saved);
        leftovers.remove_states(&folder("being-written"), being_written);
        leftovers.remove_states(&folder("nothing"), saving("nothing"));
        leftovers.remove_all_states(vec![folder("killed"), folder("nothing")]);
        drop(leftovers);
        for name in ["saved", "being-written", "killed"] {
            assert_eq!(std::fs::read_dir(folder(name)).unwrap().count(), 0, "{name}");
        }
        assert!(!folder("nothing").exists());
    }
}
