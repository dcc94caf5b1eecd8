//! What only the history screen knows.

use crate::store::StudySummary;

/// The list of studies and the cursor in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistoryView {
    /// The studies of the store, the newest first.
    pub studies: Vec<StudySummary>,
    /// The store was read at least once.
    pub read: bool,
    /// Number of the selected study; `None` is the newest.
    selected: Option<i64>,
}

impl HistoryView {
    pub(crate) fn place(&self) -> usize {
        self.selected.and_then(|id| self.studies.iter().position(|study| study.id == id)).unwrap_or(0)
    }

    pub(crate) fn selected(&self) -> Option<&StudySummary> {
        self.studies.get(self.place())
    }

    /// Selects the study at a place of the list.
    pub(crate) fn select(&mut self, place: usize) {
        self.selected = self.studies.get(place).map(|study| study.id);
    }

    /// Takes in the studies of the store, the oldest first.
    pub(crate) fn listed(&mut self, mut studies: Vec<StudySummary>) {
        studies.reverse();
        if let Some(id) = self.selected.filter(|id| !studies.iter().any(|study| study.id == *id)) {
            // Where the selected study is gone, the one that takes its place is selected.
            let place = self.studies.iter().position(|study| study.id == id).unwrap_or(0);
            self.selected = studies.get(place).or(studies.last()).map(|study| study.id);
        }
        self.studies = studies;
        self.read = true;
    }
}
