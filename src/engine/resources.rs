//! What the machine is doing, sampled about once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::event::{Event, ResourceSample};
use super::gpu::Gpu;
use crate::sysinfo;

/// Samples the machine until dropped.
pub(super) struct Sampler {
    done: Arc<AtomicBool>,
}

impl Sampler {
    /// Starts sampling, the GPU too where the device is one that tells. A sample that the client has no room for is not sent: only the newest is of interest.
    pub fn start(events: mpsc::Sender<Event>, gpu: Option<Gpu>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let flag = done.clone();
        std::thread::spawn(move || {
            let (mut at, mut cpu) = (Instant::now(), sysinfo::cpu_seconds());
            while !flag.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(250));
                let passed = at.elapsed().as_secs_f64();
                if passed < 1.0 {
                    continue;
                }
                let now = sysinfo::cpu_seconds();
                let memory = sysinfo::host_memory();
                let gpu = gpu.as_ref().and_then(Gpu::sample);
                let sample = ResourceSample {
                    cpu_cores: ((now - cpu) / passed) as f32,
                    host_cores: sysinfo::cores(),
                    rss_bytes: sysinfo::process_memory().resident,
                    host_used_bytes: memory.total.saturating_sub(memory.available),
                    host_total_bytes: memory.total,
                    gpu: gpu.and_then(|gpu| gpu.busy),
                    gpu_used_bytes: gpu.map(|gpu| gpu.used),
                    gpu_total_bytes: gpu.map(|gpu| gpu.total),
                };
                (at, cpu) = (Instant::now(), now);
                let _ = events.try_send(Event::Resources { sample });
            }
        });
        Self { done }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}
