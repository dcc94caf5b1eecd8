//! Which key does what. The help page, the footer and the README's list of keys are made from this one table.

use std::fmt::Write;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A place where keys have a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Context {
    /// Everywhere, unless the place itself says otherwise.
    Everywhere,
    /// The fields of the study screen.
    Fields,
    /// The grid of the study screen.
    Grid,
    /// The run screen.
    Run,
    /// The compare screen.
    Compare,
    /// The inspect screen.
    Inspect,
    /// The history screen.
    History,
}

impl Context {
    /// Every context, in the order of the help page.
    pub const ALL: [Self; 7] =
        [Self::Everywhere, Self::Fields, Self::Grid, Self::Run, Self::Compare, Self::Inspect, Self::History];

    /// The heading of its keys.
    pub fn title(self) -> &'static str {
        match self {
            Self::Everywhere => "Everywhere",
            Self::Fields => "Study: fields",
            Self::Grid => "Study: grid",
            Self::Run => "Run",
            Self::Compare => "Compare",
            Self::Inspect => "Inspect",
            Self::History => "History",
        }
    }
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table's help texts say what each is")]
pub enum Action {
    Quit,
    Screen(usize),
    NextScreen,
    PreviousScreen,
    Palette,
    Help,
    SaveScreen,
    SavePanel,
    ExportComparison,
    Suspend,
    Redraw,
    StartStudy,
    AddCell,
    Pause,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    First,
    Last,
    Confirm,
    Toggle,
    ToggleRow,
    ToggleColumn,
    ToggleAll,
    AddSparsity,
    DropSparsity,
    NextPane,
    CancelCell,
    MoveEarlier,
    MoveLater,
    SwitchMap,
    NextScore,
    NextCorpus,
    Relative,
    ZoomIn,
    ZoomOut,
    ZoomReset,
    Pin,
    Sort,
    SortReverse,
    Filter,
    ClearFilter,
    NextPanel,
    OtherCell,
    OtherSide,
    ByDisagreement,
    ShowModules,
    OpenStudy,
    ResumeStudy,
    Overlay,
    ExportModel,
    DeleteStudy,
}

/// A key as it is pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPress {
    /// Which one; letters carry their case.
    pub code: KeyCode,
    /// Whether Ctrl is held.
    pub ctrl: bool,
}

impl KeyPress {
    /// The key of a terminal's event. Shift counts only where it makes another character.
    pub fn of(event: &KeyEvent) -> Self {
        Self { code: event.code, ctrl: event.modifiers.contains(KeyModifiers::CONTROL) }
    }

    /// How the key is written: `q`, `Ctrl-Z`, `Space`, `←`; arrows as words where only ASCII will do.
    pub fn name(self, ascii: bool) -> String {
        let name = match self.code {
            KeyCode::Char(' ') => "Space".into(),
            KeyCode::Char(c) if self.ctrl => c.to_ascii_uppercase().to_string(),
            KeyCode::Char(c) => c.to_string(),
            KeyCode::Enter => "Enter".into(),
            KeyCode::Esc => "Esc".into(),
            KeyCode::Tab => "Tab".into(),
            KeyCode::BackTab => "Shift-Tab".into(),
            KeyCode::Delete => "Del".into(),
            KeyCode::Home => "Home".into(),
            KeyCode::End => "End".into(),
            KeyCode::PageUp => "PgUp".into(),
            KeyCode::PageDown => "PgDn".into(),
            KeyCode::Up => if ascii { "Up" } else { "↑" }.into(),
            KeyCode::Down => if ascii { "Down" } else { "↓" }.into(),
            KeyCode::Left => if ascii { "Left" } else { "←" }.into(),
            KeyCode::Right => if ascii { "Right" } else { "→" }.into(),
            other => format!("{other:?}"),
        };
        if self.ctrl { format!("Ctrl-{name}") } else { name }
    }
}

/// One line of the table.
#[derive(Debug)]
pub struct Binding {
    /// Where it holds.
    pub context: Context,
    /// Any of these keys.
    pub keys: &'static [KeyPress],
    /// What they ask for.
    pub action: Action,
    /// What that is, for the help page and the README.
    pub help: &'static str,
    /// A word or two for the footer; empty where the footer leaves it out.
    pub footer: &'static str,
}

const fn ch(c: char) -> KeyPress {
    KeyPress { code: KeyCode::Char(c), ctrl: false }
}

const fn ctrl(c: char) -> KeyPress {
    KeyPress { code: KeyCode::Char(c), ctrl: true }
}

const fn key(code: KeyCode) -> KeyPress {
    KeyPress { code, ctrl: false }
}

macro_rules! bindings {
    ($($context:ident: [$($key:expr),+] $action:expr, $help:literal $(, $footer:literal)?;)*) => {
        &[$(Binding {
            context: Context::$context,
            keys: &[$($key),+],
            action: $action,
            help: $help,
            footer: concat!($($footer)?),
        }),*]
    };
}

use Action as A;
use KeyCode as K;

/// All keys. Within a context the first line that has a key wins; a screen's own lines win over `Everywhere`.
pub const BINDINGS: &[Binding] = bindings! {
    Everywhere: [ch('1')] A::Screen(0), "study: what to run";
    Everywhere: [ch('2')] A::Screen(1), "run: where the study stands";
    Everywhere: [ch('3')] A::Screen(2), "compare: perplexity, JS divergence and task scores side by side";
    Everywhere: [ch('4')] A::Screen(3), "inspect: answers side by side, and a cell's modules";
    Everywhere: [ch('5')] A::Screen(4), "history: the studies of the store";
    Everywhere: [key(K::Tab)] A::NextScreen, "next screen", "screens";
    Everywhere: [key(K::BackTab)] A::PreviousScreen, "previous screen";
    Everywhere: [ch(':'), ctrl('p')] A::Palette, "all commands by name", "commands";
    Everywhere: [ch('?')] A::Help, "this help", "help";
    Everywhere: [ch('r')] A::StartStudy, "run the study that the study screen defines";
    Everywhere: [ch('a')] A::AddCell, "add a cell to the study, at any sparsity";
    Everywhere: [ch('p')] A::Pause, "pause the engine, or let it go on";
    Everywhere: [ch('s')] A::SaveScreen, "save the screen as SVG, PNG and text";
    Everywhere: [ch('S')] A::SavePanel, "save the focused panel as SVG, PNG and text";
    Everywhere: [ch('e')] A::ExportComparison, "export the comparison as CSV, JSON and Markdown";
    Everywhere: [ctrl('l')] A::Redraw, "draw the screen anew";
    Everywhere: [ctrl('z')] A::Suspend, "suspend (fg comes back)";
    Everywhere: [ch('q'), ctrl('c')] A::Quit, "quit; asks while work runs, Ctrl-C twice always leaves", "quit";

    Fields: [key(K::Up), ch('k')] A::Up, "field above";
    Fields: [key(K::Down), ch('j')] A::Down, "field below";
    Fields: [key(K::Left), ch('h')] A::Left, "previous choice";
    Fields: [key(K::Right), ch('l')] A::Right, "next choice, or over to the grid";
    Fields: [key(K::Enter), ch(' ')] A::Confirm, "edit the field; Enter keeps, Esc drops", "edit";
    Fields: [ch('w')] A::NextPane, "over to the grid", "grid";
    Fields: [ch('r')] A::StartStudy, "start the study", "run";

    Grid: [key(K::Up), ch('k')] A::Up, "row above";
    Grid: [key(K::Down), ch('j')] A::Down, "row below";
    Grid: [key(K::Left), ch('h')] A::Left, "column to the left";
    Grid: [key(K::Right), ch('l')] A::Right, "column to the right";
    Grid: [ch(' '), key(K::Enter)] A::Toggle, "take the cell in, or leave it out", "toggle";
    Grid: [ch('x')] A::ToggleRow, "the whole row", "row";
    Grid: [ch('c')] A::ToggleColumn, "the whole column", "column";
    Grid: [ch('A')] A::ToggleAll, "the whole grid";
    Grid: [ch('+'), ch('=')] A::AddSparsity, "add a sparsity: a slider for percentages, or N:M", "sparsity";
    Grid: [ch('-'), key(K::Delete)] A::DropSparsity, "drop the column's sparsity";
    Grid: [ch('w')] A::NextPane, "over to the fields", "fields";
    Grid: [ch('r')] A::StartStudy, "start the study", "run";

    Run: [key(K::Up), ch('k')] A::Up, "cell above";
    Run: [key(K::Down), ch('j')] A::Down, "cell below";
    Run: [key(K::Home), ch('g')] A::First, "first cell";
    Run: [key(K::End), ch('G')] A::Last, "last cell";
    Run: [key(K::PageUp)] A::PageUp, "older lines of the log";
    Run: [key(K::PageDown)] A::PageDown, "newer lines of the log";
    Run: [key(K::Enter)] A::Confirm, "inspect the cell";
    Run: [ch('a')] A::AddCell, "add a cell", "add cell";
    Run: [ch('x')] A::CancelCell, "cancel the cell", "cancel cell";
    Run: [ch('K')] A::MoveEarlier, "move a waiting cell up the queue", "earlier";
    Run: [ch('J')] A::MoveLater, "move a waiting cell down the queue", "later";
    Run: [ch('m')] A::SwitchMap, "heat map: achieved sparsity, or reconstruction error", "map";
    Run: [ch('p'), ch(' ')] A::Pause, "pause, or go on", "pause";

    Compare: [key(K::Left), ch('h')] A::Left, "cursor to lower sparsity", "cursor";
    Compare: [key(K::Right), ch('l')] A::Right, "cursor to higher sparsity";
    Compare: [key(K::Up), ch('k')] A::Up, "row above";
    Compare: [key(K::Down), ch('j')] A::Down, "row below";
    Compare: [key(K::PageUp)] A::PageUp, "page up";
    Compare: [key(K::PageDown)] A::PageDown, "page down";
    Compare: [key(K::Home), ch('g')] A::First, "first row";
    Compare: [key(K::End), ch('G')] A::Last, "last row";
    Compare: [ch('t')] A::NextScore, "task score: exact match, F1, ROUGE-1, or all three", "score";
    Compare: [ch('c')] A::NextCorpus, "next text, where there are several";
    Compare: [ch('b')] A::Relative, "absolute values, or relative to the base", "relative";
    Compare: [ch('v')] A::NextPanel, "focus the next chart or the table", "panel";
    Compare: [ch('z')] A::ZoomIn, "zoom in on the cursor", "zoom";
    Compare: [ch('Z')] A::ZoomOut, "zoom out";
    Compare: [ch('0')] A::ZoomReset, "show everything again";
    Compare: [ch(' ')] A::Pin, "pin the selected cell to the top, or let it go", "pin";
    Compare: [ch('o')] A::Sort, "sort the table by the next column", "sort";
    Compare: [ch('O')] A::SortReverse, "turn the order around";
    Compare: [ch('/')] A::Filter, "show only rows that contain all the words", "filter";
    Compare: [key(K::Esc)] A::ClearFilter, "show all rows again";
    Compare: [ch('a')] A::AddCell, "add a cell at any sparsity", "add cell";
    Compare: [key(K::Enter)] A::Confirm, "inspect the selected cell";

    Inspect: [key(K::Up), ch('k')] A::Up, "prompt, line or module above";
    Inspect: [key(K::Down), ch('j')] A::Down, "prompt, line or module below";
    Inspect: [key(K::PageUp)] A::PageUp, "page up";
    Inspect: [key(K::PageDown)] A::PageDown, "page down";
    Inspect: [key(K::Home), ch('g')] A::First, "first";
    Inspect: [key(K::End), ch('G')] A::Last, "last";
    Inspect: [key(K::Right), ch('l')] A::OtherCell, "next cell on the right-hand side", "cell";
    Inspect: [key(K::Left), ch('h')] A::Left, "previous cell";
    Inspect: [ch('b')] A::OtherSide, "next cell on the left-hand side, from the base on", "against";
    Inspect: [ch('o')] A::ByDisagreement, "order: as it comes, or the largest disagreement or error first", "order";
    Inspect: [ch('w')] A::NextPane, "over to the prompt, to the answers, back to the list: what the arrows move", "pane";
    Inspect: [ch('m')] A::ShowModules, "answers, or the cell's modules", "modules";

    History: [key(K::Up), ch('k')] A::Up, "study above";
    History: [key(K::Down), ch('j')] A::Down, "study below";
    History: [key(K::PageUp)] A::PageUp, "page up";
    History: [key(K::PageDown)] A::PageDown, "page down";
    History: [key(K::Home), ch('g')] A::First, "newest study";
    History: [key(K::End), ch('G')] A::Last, "oldest study";
    History: [key(K::Enter), ch('o')] A::OpenStudy, "open the study", "open";
    History: [ch('R')] A::ResumeStudy, "go on with the study where it stopped", "resume";
    History: [ch('v')] A::Overlay, "lay the study over the comparison, or take it off", "overlay";
    History: [ch('x')] A::ExportModel, "export a finished cell as a model folder", "export model";
    History: [ch('d'), key(K::Delete)] A::DeleteStudy, "delete the study (asks)", "delete";
};

/// What a key asks for in a context; the context's own lines come first.
pub fn action(context: Context, pressed: KeyPress) -> Option<Action> {
    let of = |context| {
        BINDINGS.iter().find(|b| b.context == context && b.keys.contains(&pressed)).map(|b| b.action)
    };
    of(context).or_else(|| of(Context::Everywhere))
}

/// The lines of a context.
pub fn of(context: Context) -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(move |b| b.context == context)
}

/// The keys of a line, as they are written.
pub fn names(binding: &Binding, ascii: bool) -> String {
    binding.keys.iter().map(|key| key.name(ascii)).collect::<Vec<_>>().join(" ")
}

/// The README's list of keys, in Markdown.
pub fn markdown() -> String {
    let mut text = String::new();
    for context in Context::ALL {
        let _ = write!(text, "\n**{}**\n\n| key | does |\n| --- | --- |\n", context.title());
        for binding in of(context) {
            let keys: Vec<String> = binding.keys.iter().map(|key| format!("`{}`", key.name(false))).collect();
            let _ = writeln!(text, "| {} | {} |", keys.join(" "), binding.help);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_key_means_two_things_in_one_place() {
        for context in Context::ALL {
            let mut seen = HashSet::new();
            for binding in of(context) {
                for key in binding.keys {
                    assert!(seen.insert(key.name(true)), "{context:?}: {}", key.name(true));
                }
            }
        }
    }

    #[test]
    fn a_screen_wins_over_everywhere_and_falls_back_to_it() {
        assert_eq!(action(Context::Run, ch('p')), Some(Action::Pause));
        assert_eq!(action(Context::Grid, ch('x')), Some(Action::ToggleRow));
        assert_eq!(action(Context::Grid, ch('q')), Some(Action::Quit));
        assert_eq!(action(Context::Compare, ctrl('c')), Some(Action::Quit));
        assert_eq!(action(Context::History, ch('~')), None);
    }

    #[test]
    fn every_line_says_what_it_does() {
        for binding in BINDINGS {
            assert!(!binding.help.is_empty() && !binding.keys.is_empty(), "{binding:?}");
        }
    }
}
