//! What is scored of a question with choices.

/// What a model finds of the choices of one question.
#[derive(Debug, Clone, Copy)]
pub struct ChoiceOutcome<'a> {
    /// `Σ ln p(token | before)` of every choice, in nats.
    pub log_likelihoods: &'a [f64],
    /// Characters of every choice; `None` where choices do not differ in what is scored.
    pub characters: Option<&'a [usize]>,
    /// Place of the right choice.
    pub gold: usize,
    /// There is one choice, which greedy decoding gives or does not.
    pub last_word: Option<bool>,
}
