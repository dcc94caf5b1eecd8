//! The terminal: taken over when the dashboard begins, given back whatever happens.

mod frame;

use std::io::{self, Write};
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
    /// What the terminal is sent next. A frame goes out in one write: over a slow line it appears whole. What is not
    /// sent when the program fails is dropped: it would erase the message.
    waiting: Vec<u8>,
    /// What the terminal shows; of no size where that is not known.
    shown: Buffer,
    next: Buffer,
    mouse: bool,
}

impl TakenTerminal {
    /// Takes the terminal over.
    pub(crate) fn enter(mouse: bool) -> io::Result<Self> {
        let nothing = || Buffer::empty(Rect::ZERO);
        let mut screen = Self { waiting: Vec::new(), shown: nothing(), next: nothing(), mouse };
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
        self.clear();
        Ok(())
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
    pub(crate) fn clear(&mut self) {
        self.shown.resize(Rect::ZERO);
    }

    /// Draws a frame: only what has changed is sent.
    pub(crate) fn draw(&mut self, view: impl FnOnce(Rect, &mut Buffer)) -> io::Result<()> {
        // Asked once a frame: the answer may be another a moment later.
        let (columns, rows) = Self::size()?;
        self.compose(Rect::new(0, 0, columns, rows), view)?;
        let mut out = io::stdout().lock();
        out.write_all(&self.waiting)?;
        out.flush()
    }

    /// Puts what the terminal needs to show the next frame into `waiting`.
    fn compose(&mut self, area: Rect, view: impl FnOnce(Rect, &mut Buffer)) -> io::Result<()> {
        self.waiting.clear();
        if self.shown.area != area {
            queue!(self.waiting, Clear(ClearType::All))?;
            self.shown = Buffer::empty(area);
        }
        self.next.resize(area);
        self.next.reset();
        view(area, &mut self.next);
        frame::write(&mut self.waiting, &self.shown, &self.next)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_another_size_begins_with_an_empty_screen() {
        let nothing = || Buffer::empty(Rect::ZERO);
        let mut screen =
            TakenTerminal { waiting: Vec::new(), shown: nothing(), next: nothing(), mouse: false };
        let mut sent = |columns, rows, clear: bool| {
            if clear {
                screen.clear();
            }
            let draw = |area: Rect, buffer: &mut Buffer| {
                buffer.set_string(0, area.height - 1, "foot", ratatui::style::Style::default());
            };
            screen.compose(Rect::new(0, 0, columns, rows), draw).unwrap();
            String::from_utf8(screen.waiting.clone()).unwrap()
        };
        let erased = |text: &str| text.starts_with("\x1b[2J") && text.contains("foot");
        for size in [(100, 30), (40, 12), (120, 12), (1, 1), (80, 24)] {
            let first = sent(size.0, size.1, false);
            assert!(first.starts_with("\x1b[2J"), "{size:?}: {first:?}");
            assert!(!sent(size.0, size.1, false).contains('f'), "{size:?}: nothing has changed");
        }
        assert!(erased(&sent(80, 24, true)));
    }
}
