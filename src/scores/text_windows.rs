//! What is kept of every window of a text, so that models can be compared window by window.

/// Means over the positions of every window of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextWindows {
    /// Short name of the text.
    pub corpus: String,
    /// Negative log-likelihood of the next token, in nats.
    pub nll: Vec<f64>,
    /// Jensen-Shannon divergence from the base and KL(base‖cell), in nats; `None` of the base.
    pub divergences: Option<[Vec<f64>; 2]>,
}
