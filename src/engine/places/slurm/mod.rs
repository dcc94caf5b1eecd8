//! Workers as jobs of a Slurm cluster. One job measures the base, and an array that depends on it computes the cells.
//! When jobs end before the cells do (their time was up, or they were killed), new ones are submitted.
//!
//! Jobs are found by their names, which hold a digest of the study's folder. So a ledger that comes after one that was
//! killed finds the jobs of that one too.

mod commands;
mod script;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub(crate) use self::commands::check;
use self::commands::{QueuedJob, cancel, jobs_of, submit};
pub(crate) use self::script::{JobKind, JobScripts};
use super::choice::SlurmChoice;
use super::folder::StopRequest;
use super::identity::ProcessIdentity;
use super::processes::own_program;
use super::starter::{WaitingWork, WorkerStarter};
use crate::engine::event::PlaceActivity;
use crate::error::{Error, Result};
use crate::store::checkpoint::write_atomically;

/// How often Slurm is asked.
const INTERVAL: Duration = Duration::from_secs(3);

/// So many deaths for each job, without progress between them, are enough.
const PATIENCE: usize = 4;

/// How long a job may go on after it was asked to stop at once.
const GRACE: Duration = Duration::from_secs(30);

/// The scripts of a study's jobs. Nothing is written or submitted.
///
/// # Errors
/// A program that cannot tell where it is, or a current folder that is gone.
pub(crate) fn scripts(study: &Path, options: &str, memory: u64) -> Result<JobScripts> {
    let study = std::path::absolute(study).map_err(|e| Error::io("cannot find", study, e))?;
    let working = std::env::current_dir()
        .map_err(|e| Error::Io { context: "cannot find the current folder".into(), source: e })?;
    let digest = Sha256::digest(study.as_os_str().as_encoded_bytes());
    let short = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let folder = study.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(JobScripts {
        name: format!("secateur-{folder}-{short:08x}"),
        program: own_program()?,
        study,
        working,
        options: options.to_owned(),
        memory,
    })
}

/// The jobs of a study.
#[derive(Debug)]
pub(crate) struct SlurmJobs {
    scripts: JobScripts,
    /// Most jobs that compute cells at the same time.
    wanted: usize,
    /// Those that Slurm knew when it was last asked, and that had not ended.
    living: Vec<QueuedJob>,
    asked: Option<Instant>,
    /// What Slurm's last silence was said to be.
    silence: Option<String>,
    /// The jobs that this process has cancelled.
    cancelled: Vec<String>,
    /// Arrays that wait for a job of the base: Slurm cancels them when it does not end well.
    dependent: Vec<String>,
    deaths: usize,
    stopping: Option<(StopRequest, Instant)>,
}

impl SlurmJobs {
    /// Writes the scripts; submits nothing yet.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn new(scripts: JobScripts, choice: &SlurmChoice) -> Result<Self> {
        let folder = scripts.folder();
        fs::create_dir_all(&folder).map_err(|e| Error::io("cannot create", &folder, e))?;
        for kind in [JobKind::Base, JobKind::Cells] {
            let text = scripts.text(kind);
            write_atomically(&script_path(&scripts, kind), |file| file.write_all(text.as_bytes()))?;
        }
        Ok(Self {
            scripts,
            wanted: choice.jobs,
            living: Vec::new(),
            asked: None,
            silence: None,
            cancelled: Vec::new(),
            dependent: Vec::new(),
            deaths: 0,
            stopping: None,
        })
    }

    /// Asks Slurm; returns the jobs that have ended since it was last asked, as far as it still knows them.
    fn ask(&mut self) -> Result<Vec<QueuedJob>> {
        let names = [JobKind::Base, JobKind::Cells].map(|kind| self.scripts.job_name(kind));
        let (living, ended): (Vec<_>, Vec<_>) = jobs_of(&names)?.into_iter().partition(QueuedJob::lives);
        let before = std::mem::replace(&mut self.living, living);
        let was_there = |job: &QueuedJob| before.iter().any(|known| known.id == job.id);
        Ok(ended.into_iter().filter(was_there).collect())
    }

    /// Asks again at the next opportunity.
    fn ask_soon(&mut self) {
        self.asked = None;
    }

    fn of_kind(&self, kind: JobKind) -> impl Iterator<Item = &QueuedJob> {
        let name = self.scripts.job_name(kind);
        self.living.iter().filter(move |job| job.name == name)
    }

    /// What is to be said of a job that has ended; nothing of one that ended as it should.
    fn last_words(&self, job: &QueuedJob) -> Option<String> {
        let array = job.id.split('_').next().unwrap_or_default();
        let has_lost_its_base =
            job.state == "CA" && job.node.is_empty() && self.dependent.iter().any(|known| known == array);
        if job.state == "CD" || has_lost_its_base || self.cancelled.contains(&job.id) {
            return None;
        }
        let kind =
            if job.name == self.scripts.job_name(JobKind::Base) { JobKind::Base } else { JobKind::Cells };
        let task = job.id.split_once('_').map_or("", |(_, task)| task);
        let log = self.scripts.log(kind).to_string_lossy().replace("%A", array).replace("%a", task);
        let log = fs::read_to_string(log.replace("%j", &job.id)).unwrap_or_default();
        let of_worker = log.lines().rev().find(|line| !line.starts_with("slurmstepd"));
        match of_worker {
            Some(line) if line.starts_with("stopped;") && job.state != "CA" => None,
            Some(line) if line.starts_with("error: ") => {
                Some(format!("job {}: {}", job.id, line.trim_start_matches("error: ")))
            }
            _ => Some(format!("job {} of Slurm: {}", job.id, job.describe())),
        }
    }

    fn note_end(&mut self, job: &QueuedJob) -> Option<String> {
        let words = self.last_words(job)?;
        if job.state == "CA" && self.stopping.is_none() {
            // Whoever cancels a job in Slurm does not want another one in its place.
            self.wanted -= usize::from(job.name == self.scripts.job_name(JobKind::Cells) && self.wanted > 0);
            return Some(format!("{words}; no other one is submitted in its place"));
        }
        self.deaths += 1;
        Some(words)
    }

    fn submit(&mut self, kind: JobKind, more: &[String]) -> Result<String> {
        self.ask_soon();
        submit(&script_path(&self.scripts, kind), more)
    }

    /// Submits so many jobs for cells, which begin when the job of the base has ended well, where one is named.
    fn submit_cells(&mut self, count: usize, base: Option<&str>) -> Result<()> {
        let mut more = vec![format!("--array=0-{}", count - 1)];
        if let Some(base) = base {
            more.extend([format!("--dependency=afterok:{base}"), "--kill-on-invalid-dep=yes".into()]);
        }
        let id = self.submit(JobKind::Cells, &more)?;
        if base.is_some() {
            self.dependent.push(id.clone());
        }
        let name = self.scripts.job_name(JobKind::Cells);
        // As Slurm will list them.
        let task = |n: usize| QueuedJob {
            id: format!("{id}_{n}"),
            name: name.clone(),
            state: "PD".into(),
            node: String::new(),
            reason: String::new(),
        };
        self.living.extend((0..count).map(task));
        Ok(())
    }

    fn cancel(&mut self, ids: Vec<String>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        cancel(&ids)?;
        self.living.retain(|job| !(job.waits() && ids.contains(&job.id)));
        self.cancelled.extend(ids);
        self.ask_soon();
        Ok(())
    }

    /// Sees to it that the base is measured, and that cells follow.
    fn fill_base(&mut self, jobs: usize) -> Result<()> {
        if self.of_kind(JobKind::Base).next().is_some() {
            return Ok(());
        }
        // Those that depend on a job of the base that has gone.
        let waiting =
            self.of_kind(JobKind::Cells).filter(|job| job.waits()).map(|job| job.id.clone()).collect();
        self.cancel(waiting)?;
        let base = self.submit(JobKind::Base, &[])?;
        self.living.push(QueuedJob {
            id: base.clone(),
            name: self.scripts.job_name(JobKind::Base),
            state: "PD".into(),
            node: String::new(),
            reason: String::new(),
        });
        if jobs > 0 { self.submit_cells(jobs, Some(&base)) } else { Ok(()) }
    }
}

fn script_path(scripts: &JobScripts, kind: JobKind) -> PathBuf {
    scripts.folder().join(format!("{}.sh", kind.word()))
}

impl WorkerStarter for SlurmJobs {
    fn has(&self, worker: &ProcessIdentity) -> bool {
        worker.job.as_ref().is_some_and(|job| self.living.iter().any(|known| known.id == *job))
    }

    fn is_empty(&self) -> bool {
        // Before Slurm was asked, nothing is known.
        self.asked.is_some() && self.living.is_empty()
    }

    fn forgive(&mut self) {
        self.deaths = 0;
    }

    fn reap(&mut self) -> Result<Vec<String>> {
        if self.asked.is_some_and(|asked| asked.elapsed() < INTERVAL) {
            return Ok(Vec::new());
        }
        let ended = match self.ask() {
            Ok(ended) => ended,
            Err(error) => {
                // The controller may be restarting: what runs runs on.
                self.asked = Some(Instant::now());
                let said = error.to_string();
                let is_new = self.silence.as_ref() != Some(&said);
                self.silence = Some(said.clone());
                return Ok(if is_new { vec![format!("Slurm does not answer: {said}")] } else { Vec::new() });
            }
        };
        self.silence = None;
        self.asked = Some(Instant::now());
        let said: Vec<String> = ended.iter().filter_map(|job| self.note_end(job)).collect();
        if let Some((StopRequest::Now, since)) = self.stopping
            && since.elapsed() > GRACE
            && !self.living.is_empty()
        {
            self.cancel(self.living.iter().map(|job| job.id.clone()).collect())?;
        }
        match said.last() {
            Some(last) if self.wanted == 0 && self.stopping.is_none() => {
                Err(Error::failure(format!("all jobs were cancelled in Slurm: {last}")))
            }
            Some(last) if self.deaths >= PATIENCE * self.wanted.max(1) => Err(Error::failure(format!(
                "jobs end before there is any progress, {} of them so far; {last}",
                self.deaths
            ))),
            _ => Ok(said),
        }
    }

    fn fill(&mut self, work: &WaitingWork, others: usize) -> Result<()> {
        if self.stopping.is_some() || self.asked.is_none() {
            return Ok(());
        }
        let wanted = self.wanted.min(work.cells);
        if work.base {
            return self.fill_base(wanted);
        }
        let there = self.of_kind(JobKind::Cells).count() + others;
        if there < wanted {
            return self.submit_cells(wanted - there, None);
        }
        let is_idle = |job: &&QueuedJob| job.waits() || work.idle_jobs.contains(&job.id);
        let of_no_use = self.of_kind(JobKind::Cells).filter(|job| !self.cancelled.contains(&job.id));
        let mut of_no_use: Vec<&QueuedJob> = of_no_use.filter(is_idle).collect();
        of_no_use.sort_by_key(|job| !job.waits());
        let ids = of_no_use.into_iter().map(|job| job.id.clone()).take(there - wanted).collect();
        self.cancel(ids)
    }

    fn stop(&mut self, how: StopRequest) {
        self.stopping = Some((how, Instant::now()));
        let waiting = self.living.iter().filter(|job| job.waits()).map(|job| job.id.clone()).collect();
        // What cannot be cancelled now finds the request to stop when it begins.
        let _ = self.cancel(waiting);
    }

    fn queued(&self) -> Vec<PlaceActivity> {
        let waiting = self.living.iter().filter(|job| job.waits());
        waiting.map(|job| PlaceActivity::of_waiting_job(&job.id, &job.describe())).collect()
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn full_look(&self) -> Duration {
        Duration::from_secs(5)
    }
}
