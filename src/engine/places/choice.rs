//! Who is to compute the cells of a study.

use std::collections::BTreeSet;

use crate::device;
use crate::error::{Error, Result};

/// Who computes the cells of a study.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Places {
    /// This process alone.
    #[default]
    Here,
    /// Processes of this machine.
    Processes {
        /// How many at the same time.
        count: usize,
        /// Their devices, in turn; empty for the study's own.
        devices: Vec<String>,
    },
    /// Jobs of a Slurm cluster. This process computes nothing.
    Slurm(SlurmChoice),
}

/// What is asked of Slurm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlurmChoice {
    /// Most jobs that compute cells at the same time.
    pub jobs: usize,
    /// Options of `sbatch` for each of them, as typed.
    pub options: String,
}

impl Places {
    /// What a user asked for: `workers` is 1 where nothing was said, `slurm` the options of its jobs where they are to
    /// compute.
    ///
    /// # Errors
    /// [`Error::Mistake`] for devices of several kinds, more devices than workers, and wishes that contradict each other.
    pub fn of(workers: usize, devices: Vec<String>, slurm: Option<SlurmChoice>) -> Result<Self> {
        if let Some(slurm) = slurm {
            if workers > 1 || !devices.is_empty() {
                return Err(Error::mistake(
                    "--workers and --devices start processes on this machine, and --places slurm lets jobs compute: \
                     accepted is one of them (--jobs says how many jobs)",
                ));
            }
            return Ok(Self::Slurm(slurm));
        }
        for name in &devices {
            device::check_device(name)?;
        }
        let is_gpu = |name: &String| name.starts_with("cuda");
        if devices.iter().any(|name| name == "auto")
            || devices.iter().any(|name| is_gpu(name) != is_gpu(&devices[0]))
        {
            return Err(Error::mistake(format!(
                "devices {}: a study computes on devices of one kind, since others give slightly different numbers; \
                 accepted are GPUs (cuda:0,cuda:1) or cpu",
                devices.join(",")
            )));
        }
        if workers > 1 && devices.len() > workers {
            return Err(Error::mistake(format!(
                "{} devices and {workers} workers: accepted are at least as many workers as devices, or no --workers",
                devices.len()
            )));
        }
        let count = workers.max(devices.len());
        Ok(if count > 1 || !devices.is_empty() { Self::Processes { count, devices } } else { Self::Here })
    }

    /// Whether other processes compute the cells.
    pub(crate) fn are_elsewhere(&self) -> bool {
        match self {
            Self::Here => false,
            Self::Processes { count, .. } => *count > 1,
            Self::Slurm(_) => true,
        }
    }

    /// Whether this process computes nothing, not even the base.
    pub(crate) fn compute_base(&self) -> bool {
        matches!(self, Self::Slurm(_))
    }

    /// How many cells are computed at the same time on this machine.
    pub(crate) fn processes_here(&self) -> usize {
        match self {
            Self::Processes { count, .. } => *count,
            Self::Here | Self::Slurm(_) => 1,
        }
    }

    /// How many cells can be computed at the same time without one slowing the other down.
    pub(crate) fn machines(&self) -> usize {
        match self {
            Self::Here => 1,
            Self::Processes { .. } => self.devices(),
            Self::Slurm(slurm) => slurm.jobs,
        }
    }

    /// How many devices the processes of this machine have between them. All that compute on the CPU share it.
    pub(crate) fn devices(&self) -> usize {
        let Self::Processes { devices, .. } = self else { return 1 };
        let gpus: BTreeSet<&String> = devices.iter().filter(|name| *name != "cpu").collect();
        gpus.len().max(1)
    }

    /// The device of this process, for a study that asks for `device`.
    pub(crate) fn own_device<'a>(&'a self, device: &'a str) -> &'a str {
        match self {
            Self::Processes { devices, .. } => devices.first().map_or(device, String::as_str),
            Self::Here => device,
            Self::Slurm(_) => "cpu",
        }
    }

    /// The device that jobs are told to compute on. Left to themselves, each would choose what its machine has.
    pub(crate) fn device_of_jobs<'a>(&self, device: &'a str) -> &'a str {
        match self {
            Self::Slurm(slurm) if device == "auto" => {
                if device::BUILT_WITH_CUDA && slurm.asks_for_gpus() {
                    "cuda"
                } else {
                    "cpu"
                }
            }
            _ => device,
        }
    }

    /// The same with at most so many processes on this machine.
    pub(crate) fn at_most(self, most: usize) -> Self {
        match self {
            Self::Processes { count, mut devices } => {
                devices.truncate(most);
                Self::Processes { count: count.min(most), devices }
            }
            other => other,
        }
    }
}

impl SlurmChoice {
    fn asks_for_gpus(&self) -> bool {
        self.options.contains("gpu")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(workers: usize, devices: &[&str]) -> Result<Places> {
        Places::of(workers, devices.iter().map(|&name| name.to_owned()).collect(), None)
    }

    #[test]
    fn workers_and_devices_say_how_many_processes_compute() {
        assert_eq!(of(1, &[]).unwrap(), Places::Here);
        assert_eq!(of(3, &[]).unwrap(), Places::Processes { count: 3, devices: vec![] });
        assert_eq!(of(1, &["cpu", "cpu"]).unwrap().processes_here(), 2);
        assert_eq!(of(4, &["cpu", "cpu"]).unwrap().processes_here(), 4);
        let one = of(1, &["cpu"]).unwrap();
        assert!(!one.are_elsewhere(), "one process is this one");
        assert_eq!(one.own_device("auto"), "cpu");
        let fewer = of(4, &["cpu", "cpu"]).unwrap().at_most(1);
        assert_eq!(fewer, Places::Processes { count: 1, devices: vec!["cpu".into()] });
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_what_is_accepted() {
        let slurm = || Some(SlurmChoice { jobs: 2, options: String::new() });
        for (found, word) in [
            (of(2, &["cpu", "cpu", "cpu"]), "at least as many workers"),
            (of(1, &["auto", "cpu"]), "of one kind"),
            (of(1, &["tpu"]), "auto, cpu, cuda"),
            (Places::of(2, vec![], slurm()), "--jobs"),
            (Places::of(1, vec!["cpu".into()], slurm()), "--jobs"),
        ] {
            let error = found.unwrap_err();
            assert!(error.to_string().contains(word) && error.exit_code() == 2, "{error}");
        }
        let places = Places::of(1, vec![], slurm()).unwrap();
        assert!(places.are_elsewhere() && places.compute_base());
        assert_eq!((places.own_device("cuda"), places.device_of_jobs("cuda")), ("cpu", "cuda"));
        assert_eq!(places.device_of_jobs("auto"), "cpu");
    }
}
