//! Which parts of a model are pruned, and how much of each.

use crate::config::entry::SettingEntry;
use crate::config::value::SettingValue;
use crate::error::Result;

pub(super) fn entries() -> Vec<SettingEntry> {
    vec![
        SettingEntry::list("modules", "prune.modules", &["*"], |draft, found| {
            draft.prune.modules = found.words().map(str::to_owned).collect();
            if draft.prune.modules.is_empty() {
                let accepted =
                    "names of the model's modules (q_proj), patterns (mlp.*), or * for all of them";
                return Err(found.mistake(format_args!("found nothing; accepted are {accepted}")));
            }
            Ok(())
        })
        .about("Modules to compress: names such as q_proj, patterns such as mlp.*, or * for all")
        .value_name("NAME")
        .in_fingerprint()
        .example("down_proj"),
        SettingEntry::text("blocks", "prune.blocks", "", |draft, found| {
            draft.prune.blocks = blocks(found)?;
            Ok(())
        })
        .about("Blocks to compress: A to B-1, counted from 0")
        .value_name("A..B")
        .unset("all")
        .in_fingerprint()
        .example("0..1"),
        SettingEntry::text("profile", "prune.profile", "", |draft, found| {
            draft.prune.profile = found.path();
            Ok(())
        })
        .about("File with one factor per block, each multiplied with the cell's fraction")
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
