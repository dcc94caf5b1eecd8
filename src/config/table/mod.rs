//! The table of all settings. A new one is one entry in one of the files below, and whatever it writes into.

mod data;
mod machine;
mod methods;
mod pruning;
mod study;

use std::sync::LazyLock;

use super::entry::SettingEntry;
use super::setting::{SECTIONS, Setting};

/// Whoever contributes settings: each of these returns its entries.
const CONTRIBUTORS: [fn() -> Vec<SettingEntry>; 5] =
    [study::entries, data::entries, pruning::entries, methods::entries, machine::entries];

static TABLE: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut settings: Vec<Setting> =
        CONTRIBUTORS.iter().flat_map(|entries| entries()).map(Setting::from).collect();
    // Sections stand together, whoever contributes to them.
    settings.sort_by_key(|setting| SECTIONS.iter().position(|(section, _)| *section == setting.section()));
    settings
});

/// All settings, in the order in which help, `config.toml` and documents show them.
pub fn settings() -> &'static [Setting] {
    &TABLE
}

/// The setting with this flag, without its dashes.
pub fn setting(flag: &str) -> Option<&'static Setting> {
    settings().iter().find(|setting| setting.flag() == flag)
}
