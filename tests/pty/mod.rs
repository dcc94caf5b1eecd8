//! The program in a real pseudo-terminal, with an emulator that reads what it draws.

#![allow(dead_code, reason = "every program that includes this uses its own part")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use tempfile::TempDir;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A terminal with the program in it, in a home of its own.
pub struct Terminal {
    /// Home, data, cache and working folder of the program.
    pub home: TempDir,
    /// The program, or the shell it runs in.
    pub child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    master: Option<Box<dyn MasterPty + Send>>,
    emulator: Arc<Mutex<vt100::Parser>>,
    /// Bytes that the program has written.
    pub written: Arc<AtomicU64>,
    /// Nothing is read any more.
    deaf: Arc<AtomicBool>,
}

impl Terminal {
    /// The program with these arguments in a terminal of `columns` × `rows`.
    pub fn start(args: &[&str], columns: u16, rows: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_secateur"));
        command.args(args);
        Self::with(home, command, columns, rows)
    }

    /// Any command in a terminal, in this home.
    pub fn with(home: TempDir, mut command: CommandBuilder, columns: u16, rows: u16) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let ours = ["SECATEUR_", "XDG_", "LC_"].iter().any(|prefix| name.starts_with(prefix));
            if ours || name == "NO_COLOR" {
                command.env_remove(name);
            }
        }
        command.cwd(home.path());
        command.env("HOME", home.path());
        command.env("LANG", "C.UTF-8");
        command.env("TERM", "xterm-256color");
        command.env("COLORTERM", "");
        let child = pair.slave.spawn_command(command).unwrap();
        // The last end of the slave is the program's: its end is seen here.
        drop(pair.slave);
        let emulator = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let written = Arc::new(AtomicU64::new(0));
        let mut out = pair.master.try_clone_reader().unwrap();
        let deaf = Arc::new(AtomicBool::new(false));
        let (screen, count, ears) = (emulator.clone(), written.clone(), deaf.clone());
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(n @ 1..) = out.read(&mut bytes) {
                if ears.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(n as u64, Ordering::Relaxed);
                screen.lock().unwrap().process(&bytes[..n]);
            }
        });
        let keys = pair.master.take_writer().unwrap();
        Self { home, child, keys, master: Some(pair.master), emulator, written, deaf }
    }

    /// Presses keys, given as the bytes that a terminal sends.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// What stands on the screen.
    pub fn screen(&self) -> String {
        self.emulator.lock().unwrap().screen().contents()
    }

    /// What stands in the first and in the last column of every row.
    pub fn edges(&self) -> Vec<(String, String)> {
        let emulator = self.emulator.lock().unwrap();
        let screen = emulator.screen();
        let (rows, columns) = screen.size();
        let at = |row, column| {
            screen.cell(row, column).map_or_else(String::new, |cell| cell.contents().to_owned())
        };
        (0..rows).map(|row| (at(row, 0), at(row, columns - 1))).collect()
    }

    /// Whether the program's own screen is shown, and whether the cursor is hidden.
    pub fn taken(&self) -> (bool, bool) {
        let emulator = self.emulator.lock().unwrap();
        (emulator.screen().alternate_screen(), emulator.screen().hide_cursor())
    }

    /// Waits until the screen shows all of `words`.
    pub fn wait_for(&mut self, words: &[&str]) -> String {
        self.wait(&format!("{words:?}"), |screen| words.iter().all(|word| screen.contains(word)))
    }

    /// Waits until the screen is as it should be.
    pub fn wait(&mut self, what: &str, good: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if good(&screen) {
                return screen;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(started.elapsed() < PATIENCE, "{what} did not appear; ended: {ended:?}; on:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nothing more is drawn.
    pub fn settle(&self) {
        let mut before = u64::MAX;
        while std::mem::replace(&mut before, self.written.load(Ordering::Relaxed)) != before {
            std::thread::sleep(Duration::from_millis(400));
        }
    }

    /// Waits until at least `count` cells are done: a cell may take less than it takes to look.
    pub fn wait_for_cells(&mut self, count: usize) -> String {
        self.wait(&format!("{count} cells done"), |screen| cells_done(screen).is_some_and(|n| n >= count))
    }

    /// Changes the size of the terminal.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.emulator.lock().unwrap().screen_mut().set_size(rows, columns);
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        self.master.as_ref().unwrap().resize(size).unwrap();
    }

    /// Takes the terminal away, as a dead connection does. It goes with the next thing that the program draws: then the
    /// last that holds it lets go.
    pub fn hang_up(&mut self) {
        self.deaf.store(true, Ordering::Relaxed);
        self.master = None;
        self.keys = Box::new(std::io::sink());
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.process_id().unwrap()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for the program to end; its exit code.
    pub fn end(&mut self) -> u32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.exit_code();
            }
            assert!(started.elapsed() < PATIENCE, "it does not end; it shows:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The results database in the program's home.
    pub fn store(&self) -> PathBuf {
        self.home.path().join(".local/share/secateur/studies.db")
    }

    /// Files of the working folder whose names end so.
    pub fn files(&self, ending: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.home.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path: &PathBuf| path.to_string_lossy().ends_with(ending)).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// Flags that make the built-in study small.
pub const SMALL: &[&str] =
    &["--max-windows", "4", "--task-limit", "4", "--calibration-samples", "8", "--max-new-tokens", "8"];

/// Those flags, and others.
pub fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SMALL.iter().copied().chain(more.iter().copied()).collect()
}

/// Where a file is, for messages.
pub fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// How many cells are done by the title of their list.
pub fn cells_done(screen: &str) -> Option<usize> {
    screen.split("Cells: ").nth(1)?.split(' ').next()?.parse().ok()
}
