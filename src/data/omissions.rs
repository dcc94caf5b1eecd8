//! Records that are left out of a text or task, and why.

use std::collections::BTreeMap;

/// Why a record is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Omission {
    /// A field that has to be there is null.
    Null(String),
    /// A question without an accepted answer.
    Unanswered,
    /// An answer that is none of the choices.
    NoSuchChoice,
    /// A message that is not text, or has none.
    NoText,
}

/// How many records of a file were left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Omissions {
    read: usize,
    reasons: BTreeMap<Omission, usize>,
}

impl Omissions {
    /// Counts a record; returns what was read of it, if it is not left out.
    pub(super) fn count<T>(&mut self, read: Result<T, Omission>) -> Option<T> {
        self.read += 1;
        read.map_err(|why| *self.reasons.entry(why).or_default() += 1).ok()
    }

    pub(crate) fn total(&self) -> usize {
        self.reasons.values().sum()
    }

    /// What a person should know; `None` where every record was taken.
    pub fn warning(&self) -> Option<String> {
        let total = self.total();
        let (are, read) = (if total == 1 { "is" } else { "are" }, self.read);
        (total > 0).then(|| format!("{total} of {read} records {are} left out: {}", self.reasons()))
    }

    /// The reasons: `2 have no text in `text` (null), 1 has no accepted answer`.
    pub(super) fn reasons(&self) -> String {
        let reason = |(why, count): (&Omission, &usize)| {
            let have = if *count == 1 { "has" } else { "have" };
            match why {
                Omission::Null(field) => format!("{count} {have} nothing in `{field}`"),
                Omission::Unanswered => format!("{count} {have} no accepted answer"),
                Omission::NoSuchChoice => format!("{count} {have} an answer that is none of the choices"),
                Omission::NoText => format!("{count} {have} a message without text"),
            }
        };
        self.reasons.iter().map(reason).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_counts_and_says_why() {
        let mut omissions = Omissions::default();
        assert_eq!(omissions.count(Ok(7)), Some(7));
        assert_eq!(omissions.warning(), None);
        assert_eq!(omissions.count::<u8>(Err(Omission::Unanswered)), None);
        assert_eq!(omissions.warning().unwrap(), "1 of 2 records is left out: 1 has no accepted answer");
        for _ in 0..2 {
            omissions.count::<u8>(Err(Omission::Null("text".into())));
        }
        omissions.count::<u8>(Err(Omission::NoText));
        assert_eq!(
            omissions.warning().unwrap(),
            "4 of 5 records are left out: 2 have nothing in `text`, 1 has no accepted answer, 1 has a message \
             without text"
        );
    }
}
