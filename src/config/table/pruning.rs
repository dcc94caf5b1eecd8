//! Which parts of a model are pruned, and how much of each.

use crate::config::entry::SettingEntry;
use crate::config::value::SettingValue;
use crate::error::Result;
use crate::study::ModuleKind;

pub(super) fn entries() -> Vec<SettingEntry> {
    let modules = ModuleKind::ALL.map(ModuleKind::name);
    vec![
        SettingEntry::list("modules", "prune.modules", &modules, move |draft, found| {
            draft.prune.modules = found.parse_some(&format!("of {}", modules.join(", ")))?;
            draft.prune.modules.sort_unstable();
            Ok(())
        })
        .about(format!("Modules that are pruned: {}", modules.join(", ")))
        .value_name("NAME")
        .choices(&modules)
        .in_fingerprint()
        .example("down_proj"),
        SettingEntry::text("blocks", "prune.blocks", "", |draft, found| {
            draft.prune.blocks = blocks(found)?;
            Ok(())
        })
        .about("Blocks that are pruned: A to B-1, counted from 0")
        .value_name("A..B")
        .unset("all")
        .in_fingerprint()
        .example("0..1"),
        SettingEntry::text("profile", "prune.profile", "", |draft, found| {
            draft.prune.profile = found.path();
            Ok(())
        })
        .about("File of one factor per block that multiplies a cell's fraction")
        .value_name("FILE")
        .unset("none")
        .in_fingerprint()
        .example("p.txt"),
    ]
}

/// `a..b` as first and one past the last block; nothing is all of them.
fn blocks(range: &SettingValue<String>) -> Result<Option<(usize, usize)>> {
    let Some(text) = range.text() else { return Ok(None) };
    let ends = text.split_once("..").and_then(|(first, end)| {
        let ends: (usize, usize) = (first.trim().parse().ok()?, end.trim().parse().ok()?);
        (ends.0 < ends.1).then_some(ends)
    });
    match ends {
        Some(ends) => Ok(Some(ends)),
        None => Err(range.refuse(text, "a range a..b with a < b: 0..16 is the first sixteen blocks")),
    }
}
