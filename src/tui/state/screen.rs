//! The screens and their parts.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs, reason = "named on screen as here")]
pub(crate) enum Screen {
    #[default]
    Study,
    Run,
    Compare,
    Inspect,
    History,
}

impl Screen {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 5] = [Self::Study, Self::Run, Self::Compare, Self::Inspect, Self::History];

    /// Its name on screen and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Study => "Study",
            Self::Run => "Run",
            Self::Compare => "Compare",
            Self::Inspect => "Inspect",
            Self::History => "History",
        }
    }

    pub(crate) fn number(self) -> usize {
        self as usize
    }
}

/// A part of a screen that can be saved alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the parts are named as on screen")]
pub(crate) enum Panel {
    Fields,
    Grid,
    Queue,
    Map,
    Machine,
    Log,
    Perplexity,
    Divergence,
    Scores,
    Table,
    Prompts,
    Answers,
    Modules,
    Studies,
}
