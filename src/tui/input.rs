//! A thread that reads keys, and notices when the terminal goes away.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossterm::event::{self, Event};
use tokio::sync::mpsc::UnboundedSender;

use super::message::Message;

/// How long the thread waits for a key before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(400);

/// How long it waits for more once something was typed. Not nothing: then the library would not even look.
const MORE: Duration = Duration::from_millis(20);

/// The thread; it ends when this is dropped.
pub(crate) struct Input {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Input {
    pub(crate) fn start(messages: UnboundedSender<Message>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let gone = match wait() {
                    Ok(Waited::Nothing) => continue,
                    Ok(Waited::Gone) | Err(_) => true,
                    Ok(Waited::Something) => pass_on(&messages).is_err(),
                };
                if gone {
                    // There may be nobody left to tell.
                    let _ = messages.send(Message::Terminate { hangup: true });
                    return;
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Waited {
    Nothing,
    Something,
    Gone,
}

/// Waits for input. The terminal's end is asked for here, since the library that reads keys would try again and again.
#[cfg(unix)]
fn wait() -> io::Result<Waited> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let input = rustix::stdio::stdin();
    let mut files = [PollFd::new(&input, PollFlags::IN)];
    let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE.subsec_nanos().into() };
    match poll(&mut files, Some(&patience)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Waited::Nothing),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let found = files[0].revents();
    if found.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return Ok(Waited::Gone);
    }
    Ok(Waited::Something)
}

#[cfg(not(unix))]
fn wait() -> io::Result<Waited> {
    Ok(if event::poll(PATIENCE)? { Waited::Something } else { Waited::Nothing })
}

/// Passes on all that has been typed.
fn pass_on(messages: &UnboundedSender<Message>) -> io::Result<()> {
    let mut any = false;
    while event::poll(MORE)? {
        any = true;
        let message = match event::read()? {
            Event::Key(key) => Message::Key(key),
            Event::Mouse(mouse) => Message::Mouse(mouse),
            Event::Paste(text) => Message::Paste(text),
            Event::Resize(columns, rows) => Message::Resize(columns, rows),
            Event::FocusGained | Event::FocusLost => continue,
        };
        if messages.send(message).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
    if !any {
        // Half a key: the rest is under way.
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
