//! Settings as they were typed.

use super::list::split_list;
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
