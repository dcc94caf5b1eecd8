//! How the dashboard behaves while every core computes: time from a key to the screen, bytes written, processor at
//! rest. Prints figures; asserts nothing.
//!
//! Run with `cargo bench --bench dashboard`.

#[path = "../tests/pty/mod.rs"]
mod pty;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pty::Terminal;

/// Keys whose effect on the screen is timed.
const KEYS: usize = 200;
/// How long bytes and processor time are counted, in seconds.
const SECONDS: u64 = 15;

fn main() {
    let mut terminal = Terminal::start(&[], 160, 48);
    terminal.wait_for(&["can run"]);
    std::thread::sleep(Duration::from_secs(2));
    let (bytes, cpu) = spent(&terminal);
    println!("at rest     {bytes:8.0} bytes/s   {:.2}% of a core", cpu * 100.0);

    terminal.press("r");
    terminal.wait_for_cells(1);
    let (bytes, cpu) = spent(&terminal);
    println!("running     {bytes:8.0} bytes/s   {cpu:.2} cores, the engine's included");

    let mut times = Vec::with_capacity(KEYS);
    for i in 0..KEYS {
        // Each key goes to the other of two screens, whose tab shows that it was taken.
        let (key, word) = if i % 2 == 0 { ("3", "[3 Compare]") } else { ("2", "[2 Run]") };
        let started = Instant::now();
        terminal.press(key);
        while !terminal.screen().contains(word) {
            std::thread::sleep(Duration::from_micros(500));
        }
        times.push(started.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(37));
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!("key         {:8.1} ms at the median, {:.1} ms at the 99th percentile", at(0.5), at(0.99));
    terminal.press("\x03\x03");
    terminal.end();
}

/// Bytes written a second, and cores used.
fn spent(terminal: &Terminal) -> (f64, f64) {
    let id = terminal.child.process_id().unwrap_or(0);
    let (bytes, cpu) = (terminal.written.load(Ordering::Relaxed), processor(id));
    std::thread::sleep(Duration::from_secs(SECONDS));
    let seconds = SECONDS as f64;
    let written = (terminal.written.load(Ordering::Relaxed) - bytes) as f64;
    (written / seconds, (processor(id) - cpu) / seconds)
}

/// Seconds of processor time that a process has used (Linux).
fn processor(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    // User and system time, fields 14 and 15, in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}
