//! Experts of a mixture see the tokens that are routed to them, which may be few.

use crate::number::NamedNumbers;

/// Names of the details of an expert's module.
const TOKENS: &str = "tokens";
const COLUMNS: &str = "columns";

/// How many calibration tokens were routed to an expert, and how many columns its matrix has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutedTokens {
    /// Tokens.
    pub tokens: usize,
    /// Features of an input.
    pub columns: usize,
}

impl RoutedTokens {
    /// What the details of a module say; `None` of a module that is no expert's, or was compressed without data.
    pub fn of(details: &NamedNumbers) -> Option<Self> {
        Some(Self { tokens: details.get(TOKENS)? as usize, columns: details.get(COLUMNS)? as usize })
    }

    /// As details of a module.
    pub fn details(self) -> NamedNumbers {
        [(TOKENS, self.tokens as f64), (COLUMNS, self.columns as f64)].into_iter().collect()
    }

    /// Whether there are fewer tokens than columns: then the Hessian says nothing of most directions.
    pub fn are_few(self) -> bool {
        self.tokens < self.columns
    }

    /// What damping is multiplied by: columns for every token, where there are fewer tokens than columns.
    ///
    /// The largest eigenvalue of a Hessian is at most its trace, columns times the mean diagonal. With
    /// `damping · columns / tokens` of the mean diagonal added, the condition number is at most `1 + tokens / damping`,
    /// however many columns there are. Without tokens the Hessian is the identity, and needs no more.
    pub fn damping_factor(self) -> f64 {
        if self.tokens == 0 { 1.0 } else { (self.columns as f64 / self.tokens as f64).max(1.0) }
    }

    /// Columns for a token: of two experts, the one with the larger number knows less.
    pub fn shortage(self) -> f64 {
        self.columns as f64 / self.tokens as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damping_grows_with_columns_for_a_token_and_details_come_back() {
        let routed = |tokens, columns| RoutedTokens { tokens, columns };
        for (tokens, factor) in [(100, 1.0), (50, 1.0), (10, 5.0), (0, 1.0)] {
            assert!((routed(tokens, 50).damping_factor() - factor).abs() < 1e-12, "{tokens}");
        }
        assert_eq!([routed(49, 50).are_few(), routed(50, 50).are_few()], [true, false]);
        assert_eq!(RoutedTokens::of(&routed(3, 7).details()), Some(routed(3, 7)));
        assert_eq!(RoutedTokens::of(&NamedNumbers::default()), None);
    }
}
