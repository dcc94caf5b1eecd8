//! The parameters of the methods.

use crate::config::entry::SettingEntry;

pub(super) fn entries() -> Vec<SettingEntry> {
    let damping: (_, fn(f64) -> bool) =
        ("a number from 0 to 1000, such as 0.01", |x: f64| (0.0..=1000.0).contains(&x));
    vec![
        SettingEntry::number("damping", "prune.damping", 0.01, damping, |draft, x| draft.prune.damping = x)
            .about("SparseGPT: share of the Hessian's mean diagonal that is added to its diagonal")
            .value_name("X")
            .in_fingerprint()
            .example("0.1"),
        SettingEntry::count("block-size", "prune.block_size", 128, 1, |draft, n| draft.prune.block_size = n)
            .about("SparseGPT: columns solved together")
            .value_name("N")
            .in_fingerprint()
            .example("64"),
    ]
}
