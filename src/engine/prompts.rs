//! Task files as prompts, compared with the longest context that the model was made for.

use std::ops::Range;

use tokenizers::Tokenizer;

use crate::data::TaskRecord;
use crate::error::Result;
use crate::interrupt::GoOn;
use crate::model::PromptFormat;
use crate::scores::characters::are_wordless;
use crate::scores::number::are_numbers;

/// Records that a warning names at most.
const NAMED: usize = 5;

/// A task file with its prompts tokenised.
#[derive(Debug)]
pub(super) struct PreparedTask {
    pub name: String,
    pub records: Vec<TaskRecord>,
    pub prompts: Vec<Vec<u32>>,
    /// Longest answer to each record, in tokens: what was asked for, or what the model has positions for behind the
    /// prompt; 0 is not asked.
    pub limits: Vec<usize>,
}

impl PreparedTask {
    /// Prompts for a model of so many positions, with answers of up to `longest` tokens. `go_on` is asked before each.
    pub fn new(
        (name, records): (String, Vec<TaskRecord>),
        format: &PromptFormat,
        tokenizer: &Tokenizer,
        positions: usize,
        longest: usize,
        go_on: &mut GoOn<'_>,
    ) -> Result<Self> {
        let prompt = |r: &TaskRecord| {
            go_on()?;
            let prompt = if r.conversation.is_empty() {
                format.render(&r.instruction, &r.input)
            } else {
                let messages: Vec<(&str, &str)> =
                    r.conversation.iter().map(|turn| (turn.role.as_str(), turn.content.as_str())).collect();
                format.render_conversation(&messages, &r.instruction)
            };
            format.encode(tokenizer, &prompt?)
        };
        let prompts = records.iter().map(prompt).collect::<Result<Vec<_>>>()?;
        Ok(Self { name, records, limits: limits(&prompts, positions, longest), prompts })
    }

    /// Tokens of the prompts of some records; 0 for one that is not asked.
    pub fn prompt_lengths(&self, records: &Range<usize>) -> Vec<usize> {
        let of = |record: usize| if self.limits[record] == 0 { 0 } else { self.prompts[record].len() };
        records.clone().map(of).collect()
    }

    /// What to say of records that a model has not positions enough for.
    pub fn cut_short(&self, positions: usize, longest: usize) -> Vec<String> {
        let unasked = self.which(|limit| limit == 0).map(|records| {
            format!(
                "{records}: the prompt fills all {positions} positions that the model was made for; it is not asked, \
                 and counts as answered with nothing"
            )
        });
        let short = |limit: usize| (1..longest).contains(&limit);
        let cut = self.which(short).map(|records| {
            let least = self.limits.iter().copied().filter(|&limit| short(limit)).min().unwrap_or(0);
            format!(
                "{records}: the model was made for {positions} positions, so that the answer ends after {least} tokens \
                 at the latest instead of {longest}"
            )
        });
        unasked.into_iter().chain(cut).collect()
    }

    /// What to say where exact match and F1 cannot tell right answers from wrong ones.
    pub fn misjudged(&self) -> Option<String> {
        let all = |is: fn(&[String]) -> bool| {
            !self.records.is_empty() && self.records.iter().all(|record| is(&record.references))
        };
        let why = if all(are_numbers) {
            "every accepted answer is a number; exact match and F1 ignore punctuation (3.14 is 314 to them): read the \
             score `number`"
        } else if all(are_wordless) {
            "no accepted answer has a word in Latin letters; where words are not separated by blanks, F1 and ROUGE-1 \
             cannot tell them apart: read `character_f1`"
        } else {
            return None;
        };
        Some(format!("task {}: {why}", self.name))
    }

    /// The records of such limits, for a warning; `None` where there is none.
    fn which(&self, wanted: impl Fn(usize) -> bool) -> Option<String> {
        let records = self.limits.iter().enumerate().filter(|(_, limit)| wanted(**limit));
        let numbers: Vec<String> = records.map(|(record, _)| (record + 1).to_string()).collect();
        let more = numbers.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named = numbers[..numbers.len().min(NAMED)].join(", ");
        (!numbers.is_empty()).then(|| format!("task {}, record no. {named}{more}", self.name))
    }
}

fn limits(prompts: &[Vec<u32>], positions: usize, longest: usize) -> Vec<usize> {
    prompts.iter().map(|prompt| longest.min(positions.saturating_sub(prompt.len()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_words_cannot_judge_are_told_with_the_score_that_can() {
        let task = |references: &[&str]| PreparedTask {
            name: "t".into(),
            records: references
                .iter()
                .map(|reference| TaskRecord {
                    instruction: "?".into(),
                    input: String::new(),
                    conversation: Vec::new(),
                    references: vec![(*reference).to_owned()],
                })
                .collect(),
            prompts: Vec::new(),
            limits: Vec::new(),
        };
        assert!(task(&["3.14", "so it is\n#### 1,000"]).misjudged().unwrap().contains("`number`"));
        assert!(task(&["北京", "東京"]).misjudged().unwrap().contains("`character_f1`"));
        for words in [&["3.14", "Paris"][..], &["Paris"], &[]] {
            assert_eq!(task(words).misjudged(), None, "{words:?}");
        }
    }

    #[test]
    fn records_without_room_are_named_and_told_apart() {
        let lengths = [10, 100, 95, 97, 99, 120, 90, 100, 100, 100, 100];
        let prompts: Vec<Vec<u32>> = lengths.iter().map(|&n| vec![7; n]).collect();
        let record = TaskRecord {
            instruction: "?".into(),
            input: String::new(),
            conversation: Vec::new(),
            references: Vec::new(),
        };
        let task = PreparedTask {
            name: "squad".into(),
            records: vec![record; lengths.len()],
            limits: limits(&prompts, 100, 10),
            prompts,
        };
        assert_eq!(task.limits, [10, 0, 5, 3, 1, 0, 10, 0, 0, 0, 0]);
        assert_eq!(task.prompt_lengths(&(0..4)), [10, 0, 95, 97]);
        let said = task.cut_short(100, 10);
        assert_eq!(said.len(), 2);
        assert!(
            said[0].starts_with("task squad, record no. 2, 6, 8, 9, 10 and 1 more: the prompt fills all 100")
        );
        assert!(said[1].starts_with("task squad, record no. 3, 4, 5: "), "{}", said[1]);
        assert!(said[1].contains("after 1 tokens at the latest instead of 10"), "{}", said[1]);
    }
}
