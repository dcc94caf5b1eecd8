//! The parameters of the methods.

use crate::config::entry::SettingEntry;

pub(super) fn entries() -> Vec<SettingEntry> {
    let above_0: (_, fn(f64) -> bool) = ("a number above 0, such as 0.01", |x: f64| x.is_finite() && x > 0.0);
    vec![
        SettingEntry::number("damping", "prune.damping", 0.01, above_0, |draft, x| draft.prune.damping = x)
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
