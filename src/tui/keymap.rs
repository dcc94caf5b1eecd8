//! Which key does what. The help page, the footer and the README's list of keys are made from this one table.

use std::fmt::Write;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A place where keys have a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Context {
    /// Everywhere, unless the place itself says otherwise.
    Everywhere,
    /// The fields of the study screen.
    Fields,
    Grid,
    Run,
    Compare,
    Inspect,
    History,
}

impl Context {
    /// Every context, in the order of the help page.
    pub(crate) const ALL: [Self; 7] =
        [Self::Everywhere, Self::Fields, Self::Grid, Self::Run, Self::Compare, Self::Inspect, Self::History];

    pub(crate) fn title(self) -> &'static str {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table's help texts say what each is")]
pub(crate) enum Action {
    Quit,
    Screen(usize),
    NextScreen,
    PreviousScreen,
    Palette,
    Help,
    SaveScreen,
    SavePanel,
    ExportComparison,
    CompareTwo,
    RankCorrelations,
    ChooseColumns,
    FindEdge,
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
    AddLevel,
    DropLevel,
    NextPane,
    CancelCell,
    MoveEarlier,
    MoveLater,
    SwitchMap,
    NextScore,
    NextCorpus,
    NextAxis,
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
    NextOrder,
    NextFilter,
    AllRecords,
    ShowModules,
    OpenStudy,
    ResumeStudy,
    Overlay,
    ExportModel,
    DeleteStudy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyPress {
    /// Which one; letters carry their case.
    pub code: KeyCode,
    /// Whether Ctrl is held.
    pub ctrl: bool,
}

impl KeyPress {
    /// The key of a terminal's event. Shift counts only where it makes another character.
    pub(crate) fn of(event: &KeyEvent) -> Self {
        Self { code: event.code, ctrl: event.modifiers.contains(KeyModifiers::CONTROL) }
    }

    /// How the key is written: `q`, `Ctrl-Z`, `Space`, `←`; arrows as words where only ASCII will do.
    pub(crate) fn name(self, ascii: bool) -> String {
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

#[derive(Debug)]
pub(crate) struct Binding {
    /// Where it holds.
    pub context: Context,
    /// Any of these keys.
    pub keys: &'static [KeyPress],
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
pub(crate) const BINDINGS: &[Binding] = bindings! {
    Everywhere: [ch('1')] A::Screen(0), "Study: what to run";
    Everywhere: [ch('2')] A::Screen(1), "Run: progress of the study";
    Everywhere: [ch('3')] A::Screen(2), "Compare: perplexity, JS and task scores side by side";
    Everywhere: [ch('4')] A::Screen(3), "Inspect: answers side by side, and the modules of a cell";
    Everywhere: [ch('5')] A::Screen(4), "History: the studies in the store";
    Everywhere: [key(K::Tab)] A::NextScreen, "next screen", "screens";
    Everywhere: [key(K::BackTab)] A::PreviousScreen, "previous screen";
    Everywhere: [ch(':'), ctrl('p')] A::Palette, "list all commands", "commands";
    Everywhere: [ch('?')] A::Help, "this help", "help";
    Everywhere: [ch('r')] A::StartStudy, "run the study on the Study screen";
    Everywhere: [ch('a')] A::AddCell, "add a cell to the study";
    Everywhere: [ch('p')] A::Pause, "pause or resume the engine";
    Everywhere: [ch('s')] A::SaveScreen, "save the screen as SVG, PNG and text";
    Everywhere: [ch('S')] A::SavePanel, "save the focused panel as SVG, PNG and text";
    Everywhere: [ch('e')] A::ExportComparison, "export the comparison as CSV, JSON and Markdown";
    Everywhere: [ctrl('l')] A::Redraw, "redraw the screen";
    Everywhere: [ctrl('z')] A::Suspend, "suspend (fg resumes)";
    Everywhere: [ch('q'), ctrl('c')] A::Quit, "quit; asks first while a study runs; Ctrl-C twice always quits", "quit";

    Fields: [key(K::Up), ch('k')] A::Up, "previous field";
    Fields: [key(K::Down), ch('j')] A::Down, "next field";
    Fields: [key(K::Left), ch('h')] A::Left, "previous choice";
    Fields: [key(K::Right), ch('l')] A::Right, "next choice, or go to the grid";
    Fields: [key(K::Enter), ch(' ')] A::Confirm, "edit the field; Enter saves, Esc cancels", "edit";
    Fields: [ch('w')] A::NextPane, "go to the grid", "grid";
    Fields: [ch('r')] A::StartStudy, "start the study", "run";

    Grid: [key(K::Up), ch('k')] A::Up, "previous row";
    Grid: [key(K::Down), ch('j')] A::Down, "next row";
    Grid: [key(K::Left), ch('h')] A::Left, "previous column";
    Grid: [key(K::Right), ch('l')] A::Right, "next column";
    Grid: [ch(' '), key(K::Enter)] A::Toggle, "select or deselect the cell", "toggle";
    Grid: [ch('x')] A::ToggleRow, "select or deselect the row", "row";
    Grid: [ch('c')] A::ToggleColumn, "select or deselect the column", "column";
    Grid: [ch('A')] A::ToggleAll, "select or deselect the whole grid";
    Grid: [ch('+'), ch('=')] A::AddLevel, "add a level to the section, or a recipe", "level";
    Grid: [ch('-'), key(K::Delete)] A::DropLevel, "remove the column or recipe";
    Grid: [ch('w')] A::NextPane, "go to the fields", "fields";
    Grid: [ch('r')] A::StartStudy, "start the study", "run";

    Run: [key(K::Up), ch('k')] A::Up, "previous cell";
    Run: [key(K::Down), ch('j')] A::Down, "next cell";
    Run: [key(K::Home), ch('g')] A::First, "first cell";
    Run: [key(K::End), ch('G')] A::Last, "last cell";
    Run: [key(K::PageUp)] A::PageUp, "older lines of the log";
    Run: [key(K::PageDown)] A::PageDown, "newer lines of the log";
    Run: [key(K::Enter)] A::Confirm, "inspect the cell";
    Run: [ch('a')] A::AddCell, "add a cell", "add cell";
    Run: [ch('x')] A::CancelCell, "cancel the cell", "cancel cell";
    Run: [ch('K')] A::MoveEarlier, "move a waiting cell up the queue", "earlier";
    Run: [ch('J')] A::MoveLater, "move a waiting cell down the queue", "later";
    Run: [ch('m')] A::SwitchMap, "heat map: switch between sparsity and reconstruction error", "map";
    Run: [ch('p'), ch(' ')] A::Pause, "pause or resume", "pause";

    Compare: [key(K::Left), ch('h')] A::Left, "move the cursor left", "cursor";
    Compare: [key(K::Right), ch('l')] A::Right, "move the cursor right";
    Compare: [key(K::Up), ch('k')] A::Up, "previous row";
    Compare: [key(K::Down), ch('j')] A::Down, "next row";
    Compare: [key(K::PageUp)] A::PageUp, "page up";
    Compare: [key(K::PageDown)] A::PageDown, "page down";
    Compare: [key(K::Home), ch('g')] A::First, "first row";
    Compare: [key(K::End), ch('G')] A::Last, "last row";
    Compare: [ch('t')] A::NextScore, "next task score, then all of them", "score";
    Compare: [ch('c')] A::NextCorpus, "next corpus";
    Compare: [ch('x')] A::NextAxis, "x axis: sparsity, bits per weight, size", "axis";
    Compare: [ch('b')] A::Relative, "switch between absolute values and values relative to the base", "relative";
    Compare: [ch('v')] A::NextPanel, "focus the next panel", "panel";
    Compare: [ch('z')] A::ZoomIn, "zoom in on the cursor", "zoom";
    Compare: [ch('Z')] A::ZoomOut, "zoom out";
    Compare: [ch('0')] A::ZoomReset, "reset the zoom";
    Compare: [ch(' ')] A::Pin, "pin or unpin the selected cell", "pin";
    Compare: [ch('d')] A::CompareTwo, "differences of two models: those pinned, or the selected one and the base", "differences";
    Compare: [ch('w')] A::RankCorrelations, "which metric ranks the cells as the tasks do: the rank correlations";
    Compare: [ch('f')] A::FindEdge, "find the level at which a recipe breaks a bound";
    Compare: [ch('o')] A::Sort, "sort the table by the next column", "sort";
    Compare: [ch('O')] A::SortReverse, "reverse the order";
    Compare: [ch('C')] A::ChooseColumns, "choose the columns of the table";
    Compare: [ch('/')] A::Filter, "filter the rows by words", "filter";
    Compare: [key(K::Esc)] A::ClearFilter, "clear the filter";
    Compare: [ch('a')] A::AddCell, "add a cell", "add cell";
    Compare: [key(K::Enter)] A::Confirm, "inspect the selected cell";

    Inspect: [key(K::Up), ch('k')] A::Up, "previous prompt, line or module";
    Inspect: [key(K::Down), ch('j')] A::Down, "next prompt, line or module";
    Inspect: [key(K::PageUp)] A::PageUp, "page up";
    Inspect: [key(K::PageDown)] A::PageDown, "page down";
    Inspect: [key(K::Home), ch('g')] A::First, "first";
    Inspect: [key(K::End), ch('G')] A::Last, "last";
    Inspect: [key(K::Right), ch('l')] A::OtherCell, "next cell on the right side", "cell";
    Inspect: [key(K::Left), ch('h')] A::Left, "previous cell";
    Inspect: [ch('b')] A::OtherSide, "next model on the left side: the base, then the cells", "against";
    Inspect: [ch('o')] A::NextOrder, "order: as in the task, by JS divergence, by margin; modules: by error", "order";
    Inspect: [ch('f')] A::NextFilter, "records: all, only flipped, only wrong ones", "filter";
    Inspect: [key(K::Esc)] A::AllRecords, "show all records";
    Inspect: [ch('w')] A::NextPane, "cycle focus: list, prompt, answers", "pane";
    Inspect: [ch('m')] A::ShowModules, "switch between answers and modules", "modules";

    History: [key(K::Up), ch('k')] A::Up, "previous study";
    History: [key(K::Down), ch('j')] A::Down, "next study";
    History: [key(K::PageUp)] A::PageUp, "page up";
    History: [key(K::PageDown)] A::PageDown, "page down";
    History: [key(K::Home), ch('g')] A::First, "newest study";
    History: [key(K::End), ch('G')] A::Last, "oldest study";
    History: [key(K::Enter), ch('o')] A::OpenStudy, "open the study", "open";
    History: [ch('R')] A::ResumeStudy, "resume the study", "resume";
    History: [ch('v')] A::Overlay, "overlay the study on the comparison, or remove it", "overlay";
    History: [ch('x')] A::ExportModel, "export a finished cell as a model folder", "export model";
    History: [ch('d'), key(K::Delete)] A::DeleteStudy, "delete the study (asks first)", "delete";
};

/// What a key asks for in a context; the context's own lines come first.
pub(crate) fn action(context: Context, pressed: KeyPress) -> Option<Action> {
    let of = |context| {
        BINDINGS.iter().find(|b| b.context == context && b.keys.contains(&pressed)).map(|b| b.action)
    };
    of(context).or_else(|| of(Context::Everywhere))
}

pub(crate) fn of(context: Context) -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(move |b| b.context == context)
}

/// The keys of a line, as they are written.
pub(crate) fn names(binding: &Binding, ascii: bool) -> String {
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
