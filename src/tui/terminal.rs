//! The terminal: taken over when the dashboard begins, given back whatever happens.

mod frame;

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::terminal::{
    Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen, SetTitle,
    disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// Whether the terminal is ours, so that it is given back once and only then.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while the dashboard has it.
pub(crate) struct TakenTerminal {
    /// A frame goes out in one write: over a slow line it appears whole.
    out: BufWriter<Stdout>,
    shown: Buffer,
    next: Buffer,
    mouse: bool,
}

impl TakenTerminal {
    /// Takes the terminal over.
    pub(crate) fn enter(mouse: bool) -> io::Result<Self> {
        let out = BufWriter::with_capacity(1 << 16, io::stdout());
        let mut screen =
            Self { out, shown: Buffer::empty(Rect::ZERO), next: Buffer::empty(Rect::ZERO), mouse };
        screen.take()?;
        Ok(screen)
    }

    fn take(&mut self) -> io::Result<()> {
        TAKEN.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        let mut out = io::stdout();
        execute!(out, EnterAlternateScreen, EnableBracketedPaste, SetTitle("secateur"), cursor::Hide)?;
        // A character that the terminal takes for wider than it is must not run over into the next row.
        execute!(out, DisableLineWrap)?;
        if self.mouse {
            execute!(out, EnableMouseCapture)?;
        }
        self.clear()
    }

    /// Gives the terminal back and takes it again after `between`: for suspending.
    pub(crate) fn without(&mut self, between: impl FnOnce()) -> io::Result<()> {
        restore();
        between();
        self.take()
    }

    /// Columns and rows.
    pub(crate) fn size() -> io::Result<(u16, u16)> {
        crossterm::terminal::size()
    }

    /// Has every character drawn again with the next frame.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        let (columns, rows) = Self::size()?;
        queue!(self.out, Clear(ClearType::All))?;
        self.shown = Buffer::empty(Rect::new(0, 0, columns, rows));
        Ok(())
    }

    /// Draws a frame: only what has changed is sent.
    pub(crate) fn draw(&mut self, view: impl FnOnce(Rect, &mut Buffer)) -> io::Result<()> {
        let (columns, rows) = Self::size()?;
        let area = Rect::new(0, 0, columns, rows);
        if self.shown.area != area {
            self.clear()?;
        }
        self.next.resize(area);
        self.next.reset();
        view(area, &mut self.next);
        frame::write(&mut self.out, &self.shown, &self.next)?;
        self.out.flush()?;
        std::mem::swap(&mut self.shown, &mut self.next);
        Ok(())
    }
}

impl Drop for TakenTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back, if it is ours. It may be gone already; then there is nothing to do.
pub(crate) fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout();
        let _ = execute!(
            out,
            DisableMouseCapture,
            DisableBracketedPaste,
            EnableLineWrap,
            LeaveAlternateScreen,
            cursor::Show
        );
        let _ = disable_raw_mode();
        let _ = out.flush();
    }
}
