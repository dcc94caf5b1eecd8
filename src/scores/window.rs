//! What one window of a corpus shows of a model, and each of its positions.

/// What one position of a text says of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Position {
    /// `−ln q(next token)` in nats; 0 where there is no next token.
    pub nll: f64,
    /// Jensen–Shannon divergence from the base, in nats.
    pub js: f64,
    /// KL(base‖cell), in nats.
    pub kl: f64,
    /// Whether both rank the same token first (the lower id of equals).
    pub agrees: bool,
}

/// Means over the positions of a window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WindowMeans {
    /// Negative log-likelihood of the next token, in nats.
    pub nll: f64,
    /// Jensen–Shannon divergence from the base, in nats.
    pub js: f64,
    /// KL(base‖cell), in nats.
    pub kl: f64,
    /// Share of positions at which base and cell rank the same token first.
    pub agreement: f64,
}

/// The same in the making.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WindowSums {
    sums: WindowMeans,
}

impl WindowSums {
    /// Adds positions of the window, the last of which has no next token.
    pub fn add(&mut self, positions: &[Position]) {
        for Position { nll, js, kl, agrees } in positions {
            self.sums.nll += nll;
            self.sums.js += js;
            self.sums.kl += kl;
            self.sums.agreement += f64::from(u8::from(*agrees));
        }
    }

    /// The means over all `tokens` of the window.
    pub fn means(self, tokens: usize) -> WindowMeans {
        let n = tokens as f64;
        let WindowMeans { nll, js, kl, agreement } = self.sums;
        WindowMeans { nll: nll / (n - 1.0).max(1.0), js: js / n, kl: kl / n, agreement: agreement / n }
    }
}
