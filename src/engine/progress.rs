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
    /// Left of the current base or cell.
    left: f64,
    /// To come with the cells that wait.
    waiting: f64,
}

/// What workers do: one of them in detail, and all together.
#[derive(Debug)]
pub(super) struct WorkersAtWork {
    pub cell: Option<String>,
    pub phase: Option<Phase>,
    pub done: u64,
    pub total: u64,
    pub unit: &'static str,
    /// Of all of them.
    pub tokens_per_second: f64,
    /// Seconds that each has left of its cell.
    pub left: Vec<f64>,
    /// How many places compute without slowing each other down.
    pub apart: usize,
    /// Seconds that the waiting cells take, where places tell that better than this process.
    pub waiting_seconds: Option<f64>,
    /// Seconds since workers began.
    pub elapsed: f64,
}

/// Follows the work of a study and publishes the latest progress.
#[derive(Debug)]
pub(super) struct Tracker {
    publish: watch::Sender<Progress>,
    now: Progress,
    paces: Vec<(Work, Pace)>,
    /// Operations per second, measured on this machine before anything ran.
    speed: f64,
    /// Seconds of work in earlier runs of the study.
    earlier: f64,
    recent: Option<(Instant, f64, f64)>,
}

impl Tracker {
    pub fn new(publish: watch::Sender<Progress>) -> Self {
        Self {
            publish,
            now: Progress::default(),
            paces: Work::ALL.iter().map(|&w| (w, Pace::default())).collect(),
            speed: 1e11,
            earlier: 0.0,
            recent: None,
        }
    }

    /// Begins a study on a machine of `speed` operations per second.
    pub fn begin(&mut self, speed: f64) {
        (self.speed, self.earlier) = (speed, 0.0);
        self.now = Progress::default();
        for (_, pace) in &mut self.paces {
            *pace = Pace::default();
        }
    }

    /// Earlier runs of the study have spent so many seconds on what they have left.
    pub fn continues(&mut self, seconds: f64) {
        self.earlier = seconds;
    }

    /// The base or a cell begins, of which so much is left; what was left of the one before does not come any more.
    pub fn unit(&mut self, amounts: &Amounts) {
        for (work, pace) in &mut self.paces {
            pace.left = of(amounts, *work);
        }
        self.tell();
    }

    /// So much is to come with all cells that wait.
    pub fn waiting(&mut self, amounts: &Amounts) {
        for (work, pace) in &mut self.paces {
            pace.waiting = of(amounts, *work);
        }
        self.tell();
        self.send();
    }

    /// Notes that `amount` of a kind of work took `seconds`.
    pub fn did(&mut self, work: Work, amount: f64, seconds: f64) {
        let pace = self.pace(work);
        pace.done += amount;
        pace.seconds += seconds;
        pace.left = (pace.left - amount).max(0.0);
        self.tell();
    }

    /// Notes that `amount` of a kind of work need not be done.
    pub fn skip(&mut self, work: Work, amount: f64) {
        let pace = self.pace(work);
        pace.left = (pace.left - amount).max(0.0);
        self.tell();
    }

    /// Seconds of work so far.
    pub fn spent(&self) -> f64 {
        self.paces.iter().map(|(_, p)| p.seconds).sum()
    }

    /// Seconds that are left: each kind of work at its own pace so far, or at the pace of all where none was done.
    pub fn left(&self) -> f64 {
        let foretold: f64 = self.paces.iter().map(|(_, p)| p.done / self.speed).sum();
        let overall = if foretold > 0.0 { self.spent() / foretold } else { 1.0 };
        self.paces
            .iter()
            .map(|(_, p)| {
                let pace = if p.done > 0.0 { p.seconds / (p.done / self.speed) } else { overall };
                (p.left + p.waiting) / self.speed * pace
            })
            .sum()
    }

    /// Time left and share done follow from the paces; both are told with the next step.
    fn tell(&mut self) {
        let (spent, left) = (self.spent(), self.left());
        self.now.eta_seconds = Some(left);
        self.now.study = share(self.earlier + spent, left);
    }

    /// A phase begins, of `total` steps.
    pub fn phase(&mut self, cell: Option<&str>, phase: Phase, total: u64, unit: &'static str) {
        self.now.cell = cell.map(str::to_string);
        self.now.phase = Some(phase);
        (self.now.done, self.now.total, self.now.unit) = (0, total, unit);
        self.send();
    }

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

    /// Workers compute cells, each at its own pace. Those that share this machine are together as fast as one process.
    pub fn elsewhere(&mut self, seen: WorkersAtWork) {
        let longest = seen.left.iter().copied().fold(0.0, f64::max);
        let mean = seen.left.iter().sum::<f64>() / seen.left.len().max(1) as f64;
        let waiting = seen.waiting_seconds.unwrap_or_else(|| self.left() / seen.apart.max(1) as f64);
        let left = (waiting + mean).max(longest);
        let spent = self.earlier + self.spent() + seen.elapsed;
        self.now.eta_seconds = Some(left);
        self.now.study = share(spent, left);
        (self.now.cell, self.now.phase) = (seen.cell, seen.phase);
        (self.now.done, self.now.total, self.now.unit) = (seen.done, seen.total, seen.unit);
        self.now.tokens_per_second = seen.tokens_per_second;
        self.send();
    }

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

/// How much of the seconds are spent.
fn share(spent: f64, left: f64) -> f64 {
    if spent > 0.0 { (spent / (spent + left)).clamp(0.0, 1.0) } else { 0.0 }
}

fn of(amounts: &Amounts, work: Work) -> f64 {
    amounts.iter().filter(|(w, _)| *w == work).map(|(_, amount)| amount).sum()
}

#[cfg(test)]
mod tests {
    use super::super::costs::Sizes;
    use super::*;
    use crate::methods::Procedure;
    use crate::model::read_config;
    use crate::study::{Parameters, ScoredPositions};

    fn procedure(method: &str, sparsity: f64) -> Procedure {
        Procedure::of(&format!("{method}@{sparsity}").parse().unwrap(), &Parameters::new()).unwrap()
    }

    fn tracker() -> Tracker {
        let mut tracker = Tracker::new(watch::channel(Progress::default()).0);
        tracker.begin(10.0);
        tracker
    }

    #[test]
    fn what_is_left_follows_the_pace_of_each_kind() {
        let mut tracker = tracker();
        tracker.unit(&vec![(Work::Forward, 100.0), (Work::Head, 50.0)]);
        assert!((tracker.left() - 15.0).abs() < 1e-9);
        tracker.did(Work::Forward, 50.0, 10.0);
        // Forward is half as fast as foretold; the head is taken to be as slow until it is seen.
        assert!((tracker.left() - 20.0).abs() < 1e-9);
        tracker.did(Work::Head, 25.0, 1.0);
        assert!((tracker.left() - 11.0).abs() < 1e-9);
        // Eleven seconds were spent, eleven are left.
        assert!((tracker.now.study - 0.5).abs() < 1e-9);
        tracker.skip(Work::Head, 25.0);
        assert!((tracker.left() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_study_that_is_resumed_is_as_far_as_it_was() {
        let mut tracker = tracker();
        tracker.continues(30.0);
        tracker.unit(&vec![(Work::Forward, 100.0)]);
        assert!((tracker.now.study - 0.75).abs() < 1e-9, "thirty seconds of forty");
        tracker.did(Work::Forward, 50.0, 5.0);
        assert!((tracker.now.study - 35.0 / 40.0).abs() < 1e-9);
        tracker.begin(10.0);
        tracker.unit(&vec![(Work::Forward, 100.0)]);
        assert!(tracker.now.study.abs() < 1e-9, "another study");
    }

    #[test]
    fn cells_that_come_and_go_change_what_is_left() {
        let mut tracker = tracker();
        let cell = vec![(Work::Forward, 40.0)];
        tracker.unit(&vec![(Work::Forward, 100.0)]);
        tracker.did(Work::Forward, 100.0, 10.0);
        assert!((tracker.now.study - 1.0).abs() < 1e-9);
        tracker.waiting(&vec![(Work::Forward, 80.0)]);
        assert!((tracker.now.eta_seconds.unwrap() - 8.0).abs() < 1e-9);
        assert!((tracker.now.study - 10.0 / 18.0).abs() < 1e-9);
        // One of the two begins, half is done, then it is cancelled.
        tracker.unit(&cell);
        tracker.waiting(&cell);
        tracker.did(Work::Forward, 20.0, 2.0);
        assert!((tracker.left() - 6.0).abs() < 1e-9);
        tracker.unit(&cell);
        tracker.waiting(&Vec::new());
        assert!((tracker.left() - 4.0).abs() < 1e-9);
        assert!((tracker.publish.borrow().study - 0.75).abs() < 1e-9);
    }

    /// SmolLM2-135M with 32 windows of 512 tokens to calibrate on and 32 to measure.
    fn smollm2() -> Sizes {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        let config = serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
            "rope_theta": 100_000.0, "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2
        });
        std::fs::write(&file, config.to_string()).unwrap();
        let config = read_config(&file).unwrap();
        Sizes {
            modules: config.select_modules(&["*".into()]).unwrap(),
            config,
            seq_len: 512,
            calibration_windows: 32,
            evaluation_windows: 32,
            choice_tokens: 0,
            choice_rows: 0,
            prompts: 0,
            prompt_tokens: 0,
            answer_tokens: 0,
            longest_text: 0,
            scored: ScoredPositions::All,
            disagreement: true,
            batch_tokens: 2048,
            batch_prompts: 16,
            blocks: (0, 30),
            compute_bytes: 4,
            disk_bytes: 2,
            on_host: true,
            states_on_device: true,
            held_experts: usize::MAX,
            host_slower: 1.0,
        }
    }

    #[test]
    fn zeroes_take_no_time_on_the_host_alone() {
        let time = |sizes: &Sizes, sparsity: f64| -> f64 {
            let amounts = sizes.cell(&procedure("wanda", sparsity), 0, 0);
            amounts.into_iter().map(|(_, amount)| amount).sum()
        };
        let host = smollm2();
        let device = Sizes { on_host: false, ..host.clone() };
        assert!(time(&host, 0.9) < 0.9 * time(&host, 0.0));
        assert!((time(&device, 0.9) / time(&device, 0.0) - 1.0).abs() < 1e-9);
        // Two blocks of thirty are pruned: little is saved.
        let part = Sizes { blocks: (0, 2), ..host };
        let share = time(&part, 0.9) / time(&part, 0.0);
        assert!((0.9..1.0).contains(&share), "{share}");
    }

    #[test]
    fn hidden_states_count_where_they_are_between_blocks() {
        let moved = Sizes { on_host: false, states_on_device: false, ..smollm2() };
        let kept = Sizes { states_on_device: true, ..moved.clone() };
        let cells = [procedure("wanda", 0.5)];
        let (moved, kept) = (moved.memory(&cells), kept.memory(&cells));
        assert!(kept.device_bytes > moved.device_bytes);
        assert_eq!(kept.device_bytes - moved.device_bytes, moved.host_bytes - kept.host_bytes);
    }

    #[test]
    fn two_blocks_of_the_base_tell_how_long_a_study_will_take() {
        // What the README measured on a quiet machine, in seconds: the base 28.6; a cell's measurement 35.2 with a second
        // head, so that a head takes 6.6 and 30 blocks 22; a Wanda cell's calibration and pruning 38.1, SparseGPT's 47.7.
        const BLOCK: f64 = 22.0 / 30.0;
        let sizes = smollm2();
        for (method, pruning) in [("wanda", 38.1), ("sparsegpt", 47.7)] {
            let mut tracker = Tracker::new(watch::channel(Progress::default()).0);
            tracker.begin(1e11);
            tracker.unit(&sizes.base(0));
            tracker.waiting(&sizes.cell(&procedure(method, 0.0), 0, 0));
            for _ in 0..2 {
                tracker.did(Work::Forward, sizes.forward(sizes.evaluation_tokens()), BLOCK);
                tracker.did(Work::Block, sizes.block(), 0.004);
            }
            let truth = 28.0 * BLOCK + 6.6 + pruning + 35.2;
            let off = tracker.left() / truth - 1.0;
            assert!(off.abs() < 0.25, "{method}: {:.1} s told, {truth:.1} s in truth", tracker.left());
        }
    }
}
