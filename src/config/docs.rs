//! The table as people read it: `config.toml` with every default, and the rows of the documents.

use std::fmt::Write;

use super::setting::{SECTIONS, Setting};
use super::table::settings;

const HEAD: &str = "\
# secateur: the settings of `secateur run`, with their defaults.
#
# Read from the file that --config names, else ./config.toml, else secateur/config.toml in the configuration folder
# ($XDG_CONFIG_HOME or ~/.config). A file need not have every key: what it leaves out is as below. Each key is also a
# flag of `secateur run` and a variable (SECATEUR_ and the flag's name in capitals: --seq-len is SECATEUR_SEQ_LEN);
# flags win over variables, variables over this file. Relative paths start at this file's folder; \"~/\" is the home
# folder. \"\" and [] mean: not set.
";

/// Columns of a line in `config.toml`.
const WIDTH: usize = 118;

/// `config.toml` as it is committed: every key with its default and what it is for.
pub fn documented_file() -> String {
    let mut text = HEAD.to_owned();
    for (section, _) in SECTIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n[{section}]");
        for setting in of_section(section) {
            let unset = match setting.default_shown() {
                Some(meaning) if setting.default_text().is_empty() => format!(" Not set: {meaning}."),
                _ => String::new(),
            };
            let comment = format!("{}{unset} (--{})", setting.explanation(), setting.flag());
            for line in wrapped(&comment, WIDTH - 2) {
                let _ = writeln!(text, "# {line}");
            }
            let _ = writeln!(text, "{} = {}", setting.key(), setting.default_toml());
        }
    }
    text
}

/// The settings as a Markdown table.
pub fn markdown() -> String {
    let mut text = "| flag | key | default | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for setting in settings() {
        text.push_str(&row(setting));
    }
    text
}

fn row(setting: &Setting) -> String {
    let value = match setting.value_name().replace('|', "\\|") {
        name if setting.is_list() => format!(" {name}…"),
        _ if setting.is_switch() => String::new(),
        name => format!(" {name}"),
    };
    let default = match setting.default_text() {
        text if text.is_empty() => "none".to_owned(),
        text => format!("`{text}`"),
    };
    let unset = match setting.default_shown() {
        Some(meaning) if default == "none" && meaning != "none" => format!(" Not set: {meaning}."),
        _ => String::new(),
    };
    format!(
        "| `--{}{value}` | `{}.{}` | {default} | {}{unset} |\n",
        setting.flag(),
        setting.section(),
        setting.key(),
        setting.explanation().replace('|', "\\|")
    )
}

fn of_section(section: &str) -> impl Iterator<Item = &'static Setting> {
    settings().iter().filter(move |setting| setting.section() == section)
}

/// Words in lines of at most `width` columns.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, String::len);
        if line > 0 && line + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else if let Some(last) = lines.last_mut() {
            last.push_str(if line > 0 { " " } else { "" });
            last.push_str(word);
        }
    }
    lines
}
