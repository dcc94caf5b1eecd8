//! Facts about the host and this process: memory, time, disk, cores.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Memory that this process may use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HostMemory {
    /// The machine's memory, or the control group's limit where that is lower.
    pub total: u64,
    /// What of it can still be had without swapping.
    pub available: u64,
}

/// Memory that this process uses, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ProcessMemory {
    /// Resident now.
    pub resident: u64,
    /// Most that was ever resident; where the system does not keep it, the most that was seen by this function.
    pub peak: u64,
}

/// The host's memory, bounded by the control groups (v2 or v1) that the process is in. Zeroes where unknown.
pub(crate) fn host_memory() -> HostMemory {
    let Ok(mut system) = System::new() else { return HostMemory::default() };
    system.refresh_memory();
    let host = HostMemory { total: system.total_memory(), available: system.available_memory() };
    let Ok(groups) = fs::read_to_string("/proc/self/cgroup") else { return host };
    bounded(host, &groups, Path::new("/sys/fs/cgroup"))
}

/// `host` bounded by every memory group in `groups` (the text of `/proc/self/cgroup`) below `root`.
fn bounded(host: HostMemory, groups: &str, root: &Path) -> HostMemory {
    let mut memory = host;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            narrow(&mut memory, root, path, ["memory.max", "memory.current", "inactive_file"]);
        } else if controllers.split(',').any(|c| c == "memory") {
            let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
            narrow(&mut memory, &root.join("memory"), path, names);
        }
    }
    memory
}

/// Takes the limits of a group and of all groups that hold it. Inside a container the path may not exist below
/// the mount; the mount's root then is the container's group, and is looked at in any case.
fn narrow(memory: &mut HostMemory, mount: &Path, group: &str, [limit, usage, inactive]: [&str; 3]) {
    let deepest = mount.join(group);
    let whole = memory.total;
    for folder in deepest.ancestors().take_while(|folder| folder.starts_with(mount)) {
        let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let Some(limit) = number(limit).filter(|&limit| limit < whole) else { continue };
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        // File pages count as used, but the kernel gives them back before it kills anyone.
        let reclaimable = stat
            .lines()
            .find_map(|line| line.strip_prefix(inactive)?.trim().parse::<u64>().ok())
            .unwrap_or_default();
        let used = number(usage).unwrap_or_default().saturating_sub(reclaimable);
        memory.total = memory.total.min(limit);
        memory.available = memory.available.min(limit.saturating_sub(used));
    }
}

/// This process's resident memory, now and at its highest.
pub(crate) fn process_memory() -> ProcessMemory {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let memory = match fs::read_to_string("/proc/self/status") {
        Ok(status) => from_status(&status),
        Err(_) => ProcessMemory { resident: this_process(sysinfo::Process::memory), peak: 0 },
    };
    let seen = SEEN.fetch_max(memory.resident, Ordering::Relaxed);
    ProcessMemory { peak: memory.peak.max(memory.resident).max(seen), ..memory }
}

fn from_status(status: &str) -> ProcessMemory {
    let kilobytes = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
            .unwrap_or_default()
    };
    ProcessMemory { resident: kilobytes("VmRSS:") * 1024, peak: kilobytes("VmHWM:") * 1024 }
}

/// Processor time that this process has used on all cores, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    this_process(sysinfo::Process::accumulated_cpu_time) as f64 / 1000.0
}

fn this_process(read: impl Fn(&sysinfo::Process) -> u64) -> u64 {
    let Ok(mut system) = System::new() else { return 0 };
    let pid = Pid::from_u32(std::process::id());
    let what = ProcessRefreshKind::nothing().with_cpu().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
    system.process(pid).map(read).unwrap_or_default()
}

/// Threads that can run at once: cores, less what affinity and control groups take away.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The load average of the last minute, where the system keeps one.
pub(crate) fn load_average() -> Option<f64> {
    System::load_average().ok().map(|load| load.one).filter(|load| load.is_finite())
}

/// Bytes that can still be written below `path`, which need not exist yet; `None` where that cannot be told.
pub(crate) fn disk_available(path: &Path) -> Option<u64> {
    free_bytes(&nearest_existing(path)?)
}

/// `path`, or the folder nearest to it that exists.
pub(crate) fn nearest_existing(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find(|folder| folder.exists()).map(Path::to_owned)
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(path: &Path) -> Option<u64> {
    let path = path.canonicalize().ok()?;
    let disks = sysinfo::Disks::new_with_refreshed_list();
    let of_path = disks.iter().filter(|disk| path.starts_with(disk.mount_point()));
    of_path.max_by_key(|disk| disk.mount_point().as_os_str().len()).map(sysinfo::Disk::available_space)
}

/// The widest vector instructions that kernels can use here: `avx512`, `avx2+fma`, `neon` or `scalar`.
pub(crate) fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            return "avx512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "avx2+fma";
        }
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "scalar" }
}

/// Operating system and architecture: `linux x86_64`.
pub(crate) fn platform() -> String {
    format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostMemory = HostMemory { total: 8_000, available: 6_000 };

    fn write(folder: &Path, name: &str, text: &str) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
    }

    #[test]
    fn a_v2_limit_anywhere_above_the_group_bounds_memory() {
        let root = tempfile::tempdir().unwrap();
        let (outer, inner) = (root.path().join("a"), root.path().join("a/b"));
        write(&inner, "memory.max", "max\n");
        write(&outer, "memory.max", "2000\n");
        write(&outer, "memory.current", "900\n");
        write(&outer, "memory.stat", "anon 600\ninactive_file 300\n");
        assert_eq!(bounded(HOST, "0::/a/b\n", root.path()), HostMemory { total: 2_000, available: 1_400 });
        assert_eq!(bounded(HOST, "0::/elsewhere\n", root.path()), HOST);
    }

    #[test]
    fn a_v1_limit_bounds_memory_even_where_the_path_is_the_hosts() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("memory");
        write(&mount, "memory.limit_in_bytes", "3000\n");
        write(&mount, "memory.usage_in_bytes", "2500\n");
        let groups = "5:cpu:/x\n4:memory,hugetlb:/docker/1234\n";
        assert_eq!(bounded(HOST, groups, root.path()), HostMemory { total: 3_000, available: 500 });
        write(&mount, "memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(bounded(HOST, groups, root.path()), HOST);
    }

    #[test]
    fn this_machine_and_process_have_plausible_figures() {
        let host = host_memory();
        assert!(host.total > 100_000_000 && host.available <= host.total, "{host:?}");
        let ballast = std::hint::black_box(vec![1u8; 50_000_000]);
        let memory = process_memory();
        assert!(memory.resident > 50_000_000 && memory.peak >= memory.resident, "{memory:?}");
        drop(ballast);
        assert!(process_memory().peak >= memory.resident);
        assert!(cores() >= 1 && disk_available(Path::new("no/such/folder/yet")).is_some());
    }

    #[test]
    fn processor_time_grows_with_work() {
        let before = cpu_seconds();
        let start = std::time::Instant::now();
        let mut x = 1u64;
        while start.elapsed().as_millis() < 60 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(cpu_seconds() > before);
    }
}
