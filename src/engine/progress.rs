//! How far a study is, and how long the rest will take.

use std::time::Instant;

use tokio::sync::watch;

use super::costs::{Amounts, Work};
use super::event::{Phase, Progress};

/// Speed of one kind of work, against what was foretold.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    done: f64,
    seconds: f64,
    left: f64,
}

/// Follows the work of a study and publishes the latest progress.
#[derive(Debug)]
pub(super) struct Tracker {
    publish: watch::Sender<Progress>,
    now: Progress,
    paces: Vec<(Work, Pace)>,
    /// Operations per second, measured on this machine before anything ran.
    speed: f64,
    /// Work of studies already over, so that the share of the whole can be told.
    total: f64,
    recent: Option<(Instant, f64, f64)>,
}

impl Tracker {
    pub fn new(publish: watch::Sender<Progress>) -> Self {
        Self {
            publish,
            now: Progress::default(),
            paces: Work::ALL.iter().map(|&w| (w, Pace::default())).collect(),
            speed: 1e11,
            total: 0.0,
            recent: None,
        }
    }

    /// Begins a study on a machine of `speed` operations per second.
    pub fn begin(&mut self, speed: f64) {
        self.speed = speed;
        self.total = 0.0;
        self.now = Progress::default();
        for (_, pace) in &mut self.paces {
            *pace = Pace::default();
        }
    }

    /// Adds work to what is left.
    pub fn expect(&mut self, amounts: &Amounts) {
        for &(work, amount) in amounts {
            self.pace(work).left += amount;
            self.total += amount;
        }
    }

    /// What is left of every kind of work, to be settled by [`Self::settle`].
    pub fn left_by_kind(&self) -> Amounts {
        self.paces.iter().map(|(work, pace)| (*work, pace.left)).collect()
    }

    /// A cell of these amounts has ended, with `before` left when it began: whatever it did or did not do of them, no
    /// more of it is to come.
    pub fn settle(&mut self, before: &Amounts, amounts: &Amounts) {
        for &(work, left) in before {
            let share: f64 = amounts.iter().filter(|(w, _)| *w == work).map(|(_, a)| a).sum();
            self.pace(work).left = (left - share).max(0.0);
        }
    }

    /// Notes that `amount` of a kind of work took `seconds`.
    pub fn did(&mut self, work: Work, amount: f64, seconds: f64) {
        let pace = self.pace(work);
        pace.done += amount;
        pace.seconds += seconds;
        pace.left = (pace.left - amount).max(0.0);
        self.now.eta_seconds = Some(self.left());
        let left: f64 = self.paces.iter().map(|(_, p)| p.left).sum();
        if self.total > 0.0 {
            self.now.study = (1.0 - left / self.total).clamp(0.0, 1.0);
        }
    }

    /// Seconds that are left: each kind of work at its own pace so far, or at the pace of all where none was done.
    pub fn left(&self) -> f64 {
        let foretold: f64 = self.paces.iter().map(|(_, p)| p.done / self.speed).sum();
        let taken: f64 = self.paces.iter().map(|(_, p)| p.seconds).sum();
        let overall = if foretold > 0.0 { taken / foretold } else { 1.0 };
        self.paces
            .iter()
            .map(|(_, p)| {
                let pace = if p.done > 0.0 { p.seconds / (p.done / self.speed) } else { overall };
                p.left / self.speed * pace
            })
            .sum()
    }

    /// A phase begins, of `total` steps.
    pub fn phase(&mut self, cell: Option<&str>, phase: Phase, total: u64, unit: &'static str) {
        self.now.cell = cell.map(str::to_string);
        self.now.phase = Some(phase);
        (self.now.done, self.now.total, self.now.unit) = (0, total, unit);
        self.send();
    }

    /// `done` steps of the phase are done.
    pub fn step(&mut self, done: u64) {
        self.now.done = done;
        self.send();
    }

    /// Like [`Self::step`] where the number of steps becomes known on the way.
    pub fn step_of(&mut self, done: u64, total: u64) {
        self.now.total = total;
        self.step(done);
    }

    /// `tokens` tokens went through `blocks` blocks.
    pub fn throughput(&mut self, tokens: f64, blocks: f64) {
        let now = Instant::now();
        if let Some((since, t, b)) = self.recent {
            let seconds = now.duration_since(since).as_secs_f64();
            let (t, b) = (t + tokens, b + blocks);
            if seconds > 0.0 {
                self.now.tokens_per_second = t / seconds;
                self.now.blocks_per_second = b / seconds;
            }
            self.recent = if seconds > 5.0 { Some((now, 0.0, 0.0)) } else { Some((since, t, b)) };
        } else {
            self.recent = Some((now, 0.0, 0.0));
        }
    }

    /// Whether the engine is paused.
    pub fn paused(&mut self, paused: bool) {
        if self.now.paused != paused {
            self.now.paused = paused;
            self.send();
        }
    }

    /// Nothing runs any more.
    pub fn rest(&mut self) {
        (self.now.cell, self.now.phase) = (None, None);
        (self.now.eta_seconds, self.recent) = (None, None);
        self.send();
    }

    fn send(&self) {
        self.publish.send_replace(self.now.clone());
    }

    fn pace(&mut self, work: Work) -> &mut Pace {
        let at = self.paces.iter().position(|(w, _)| *w == work).unwrap_or(0);
        &mut self.paces[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_the_pace_of_each_kind() {
        let mut tracker = Tracker::new(watch::channel(Progress::default()).0);
        tracker.begin(10.0);
        tracker.expect(&vec![(Work::Forward, 100.0), (Work::Head, 50.0)]);
        assert!((tracker.left() - 15.0).abs() < 1e-9);
        tracker.did(Work::Forward, 50.0, 10.0);
        // Forward is half as fast as foretold; the head is taken to be as slow until it is seen.
        assert!((tracker.left() - 20.0).abs() < 1e-9);
        tracker.did(Work::Head, 25.0, 1.0);
        assert!((tracker.left() - 11.0).abs() < 1e-9);
        assert!((tracker.now.study - 0.5).abs() < 1e-9);
        tracker.settle(&vec![(Work::Forward, 100.0), (Work::Head, 50.0)], &vec![(Work::Forward, 100.0)]);
        assert_eq!(tracker.left_by_kind()[..1], [(Work::Forward, 0.0)]);
    }
}
