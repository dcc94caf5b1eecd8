//! What one window of a corpus shows of a model, and each of its positions.

/// What one position of a text says of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Position {
    /// `−ln q(next token)` in nats; 0 where there is no next token.
    pub nll: f64,
    /// The same of the base, `−ln p(next token)`; 0 where nothing is compared.
    pub base_nll: f64,
    /// Jensen–Shannon divergence from the base, in nats.
    pub js: f64,
    /// KL(base‖cell), in nats.
    pub kl: f64,
    /// Whether both rank the same token first (the lower id of equals).
    pub agrees: bool,
}

impl Position {
    /// How much more likely the next token is to the cell than to the base: `q − p`.
    pub(super) fn delta_p(&self) -> f64 {
        (-self.nll).exp() - (-self.base_nll).exp()
    }
}

/// Means over the positions of a window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WindowMeans {
    /// Negative log-likelihood of the next token, in nats.
    pub nll: f64,
    /// The same of the base.
    pub base_nll: f64,
    /// Jensen–Shannon divergence from the base, in nats.
    pub js: f64,
    /// KL(base‖cell), in nats.
    pub kl: f64,
    /// Share of positions at which base and cell rank the same token first.
    pub agreement: f64,
}

/// The positions of a window that count, with their means.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Window {
    pub(crate) means: WindowMeans,
    pub(crate) positions: Vec<Position>,
    /// So many of them, from the first on, have a next token.
    targets: usize,
}

impl Window {
    /// A window of these positions, of which the first `targets` have a next token.
    pub(crate) fn new(positions: Vec<Position>, targets: usize) -> Self {
        let mut sums = WindowMeans::default();
        for Position { nll, base_nll, js, kl, agrees } in &positions {
            sums.nll += nll;
            sums.base_nll += base_nll;
            sums.js += js;
            sums.kl += kl;
            sums.agreement += f64::from(u8::from(*agrees));
        }
        let (n, of_targets) = (positions.len() as f64, (targets as f64).max(1.0));
        let means = WindowMeans {
            nll: sums.nll / of_targets,
            base_nll: sums.base_nll / of_targets,
            js: sums.js / n,
            kl: sums.kl / n,
            agreement: sums.agreement / n,
        };
        Self { means, positions, targets }
    }

    /// A window of which only its means are known.
    #[cfg(test)]
    pub fn of_means(means: WindowMeans) -> Self {
        Self { means, ..Self::default() }
    }

    /// The positions that have a next token.
    pub(crate) fn with_target(&self) -> &[Position] {
        &self.positions[..self.targets]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "small integers are exact")]

    use super::*;

    #[test]
    fn likelihoods_are_averaged_over_next_tokens_and_divergences_over_positions() {
        let position = |nll: f64, js: f64| Position { nll, base_nll: nll / 2.0, js, ..Position::default() };
        let window = Window::new(vec![position(2.0, 3.0), position(4.0, 3.0), position(0.0, 6.0)], 2);
        assert_eq!((window.means.nll, window.means.base_nll, window.means.js), (3.0, 1.5, 4.0));
        assert_eq!(window.with_target().len(), 2);
        let half = Window::new(vec![position(2.0, 3.0), position(4.0, 3.0)], 2);
        assert_eq!((half.means.nll, half.means.js), (3.0, 3.0), "every position has a next token");
    }
}
