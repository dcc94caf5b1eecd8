//! The terminal: taken over when the dashboard begins, given back whatever happens.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, SetTitle, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// Whether the terminal is ours, so that it is given back once and only then.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The screen.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    mouse: bool,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// What the terminal refuses.
    pub fn enter(mouse: bool) -> io::Result<Self> {
        // A frame goes out in one write: over a slow line it appears whole.
        let out = BufWriter::with_capacity(1 << 16, io::stdout());
        let terminal = Terminal::new(CrosstermBackend::new(out))?;
        let mut screen = Self { terminal, mouse };
        screen.take()?;
        Ok(screen)
    }

    fn take(&mut self) -> io::Result<()> {
        TAKEN.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        let mut out = io::stdout();
        execute!(out, EnterAlternateScreen, EnableBracketedPaste, SetTitle("secateur"), cursor::Hide)?;
        if self.mouse {
            execute!(out, EnableMouseCapture)?;
        }
        self.terminal.clear()
    }

    /// Gives the terminal back and takes it again after `between`: for suspending.
    ///
    /// # Errors
    /// What the terminal refuses.
    pub fn without(&mut self, between: impl FnOnce()) -> io::Result<()> {
        restore();
        between();
        self.take()
    }

    /// Columns and rows.
    ///
    /// # Errors
    /// What the terminal refuses.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Draws every character anew with the next frame.
    ///
    /// # Errors
    /// What the terminal refuses.
    pub fn clear(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }

    /// Draws a frame: only what has changed is sent.
    ///
    /// # Errors
    /// What the terminal refuses.
    pub fn draw(&mut self, view: impl FnOnce(Rect, &mut Buffer)) -> io::Result<()> {
        self.terminal.draw(|frame| view(frame.area(), frame.buffer_mut()))?;
        self.terminal.backend_mut().flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back, if it is ours. It may be gone already; then there is nothing to do.
pub fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout();
        let _ = execute!(out, DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
        let _ = out.flush();
    }
}
