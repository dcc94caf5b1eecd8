//! What was typed: settings as words, and how lists are split into words and put together again.

use super::setting::Setting;

/// How a setting was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// A flag, or a field of the form that stands for one.
    Flag,
    /// An environment variable.
    Variable,
}

/// Settings that were given by flags, variables or the dashboard's form. What is not in it is as the config file says.
#[derive(Debug, Clone, Default)]
pub struct Given(Vec<(&'static Setting, Means, Vec<String>)>);

impl Given {
    /// Takes the text that was typed for a setting, in place of an earlier one.
    pub fn set(&mut self, setting: &'static Setting, means: Means, text: &str) {
        self.set_all(setting, means, [text]);
    }

    /// Takes several texts for one setting: a list whose flag was repeated. An empty text unsets what the file sets.
    pub fn set_all<'a>(
        &mut self,
        setting: &'static Setting,
        means: Means,
        texts: impl IntoIterator<Item = &'a str>,
    ) {
        let words = if setting.is_list() {
            texts.into_iter().flat_map(split_list).collect()
        } else {
            texts.into_iter().map(str::to_owned).collect()
        };
        self.0.retain(|(known, ..)| known.flag() != setting.flag());
        self.0.push((setting, means, words));
    }

    /// The words of a setting and how they were given.
    pub fn get(&self, setting: &Setting) -> Option<(Means, &[String])> {
        let known = self.0.iter().find(|(known, ..)| known.flag() == setting.flag())?;
        Some((known.1, &known.2))
    }
}

/// The items of a list with commas, without blanks around them and without empty ones. A comma that belongs to an item
/// has a backslash before it, or the item stands in double quotes.
pub fn split_list(text: &str) -> Vec<String> {
    let (mut items, mut item, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // A backslash before anything else is one: Windows has them in paths.
            '\\' => item.push(chars.next_if(|next| [',', '"'].contains(next)).unwrap_or(c)),
            '"' if quoted || item.trim().is_empty() => quoted = !quoted,
            ',' if !quoted => items.push(std::mem::take(&mut item)),
            _ => item.push(c),
        }
    }
    items.push(item);
    items.iter().map(|item| item.trim()).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Items as one line that [`split_list`] takes apart again.
pub fn join_list<S: AsRef<str>>(items: &[S]) -> String {
    let escaped = |item: &S| item.as_ref().replace(',', "\\,").replace('"', "\\\"");
    items.iter().map(escaped).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_split_at_commas_that_belong_to_no_item() {
        for (text, items) in [
            ("a,b", &["a", "b"][..]),
            (" a , b c ,, ", &["a", "b c"]),
            ("", &[]),
            ("\"\"", &[]),
            ("a\\,b.txt,c", &["a,b.txt", "c"]),
            ("\"a, b.txt\", c", &["a, b.txt", "c"]),
            ("C:\\data\\a.txt,5\" disk", &["C:\\data\\a.txt", "5\" disk"]),
        ] {
            assert_eq!(split_list(text), items, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_joined_list_is_split_into_the_same_items(
            items in proptest::collection::vec("[a-z,./\" ]{0,6}[a-z,.\"]", 0..5)
        ) {
            let items: Vec<String> = items.iter().map(|item| item.trim().to_owned()).collect();
            prop_assert_eq!(split_list(&join_list(&items)), items);
        }
    }
}
