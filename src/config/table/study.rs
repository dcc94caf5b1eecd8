//! What is studied.

use crate::config::entry::SettingEntry;
use crate::methods::quantise::GroupSize;
use crate::methods::{self, Bits, FORMATS, KnownFormat, METHODS, StructureLevel};

/// What a study compares by default. Other methods have to be named.
const USUAL_METHODS: [&str; 3] = ["magnitude", "wanda", "sparsegpt"];

pub(super) fn entries() -> Vec<SettingEntry> {
    let methods: Vec<&str> = METHODS.iter().map(|method| method.name()).collect();
    vec![
        SettingEntry::text("model", "study.model", "", |draft, found| {
            draft.model = found.model();
            Ok(())
        })
        .about("Base model: a Hugging Face folder or a hub id")
        .detail("A hub id is a name such as HuggingFaceTB/SmolLM2-135M-Instruct.")
        .value_name("DIR|HUB-ID")
        .in_fingerprint()
        .in_form("model", "Hugging Face folder or hub id", |study| study.model.clone())
        .example("other/model"),
        SettingEntry::list("methods", "study.methods", &USUAL_METHODS, |draft, found| {
            draft.methods = found.parse_some(&format!("of {}", methods::names()))?;
            draft.grid_strength = draft.grid_strength.max(found.layer.strength());
            Ok(())
        })
        .about(format!("Methods: {}", methods::names()))
        .value_name("NAME")
        .choices(&methods)
        .example("wanda"),
        SettingEntry::list("sparsity", "study.sparsity", &["0.5"], |draft, found| {
            draft.sparsities = found.parse_some("fractions (0.5) or N:M (2:4)")?;
            draft.grid_strength = draft.grid_strength.max(found.layer.strength());
            Ok(())
        })
        .about("Sparsities: a fraction (0.5 or 50%) or N:M, N zeros in every M weights (2:4)")
        .detail(
            "A fraction is at least 0 and below 1; the M weights are consecutive weights of a row. Every method \
             that prunes runs at every sparsity.",
        )
        .value_name("S")
        .example("2:4"),
        SettingEntry::list("bits", "study.bits", &[], |draft, found| {
            draft.bits = found.parse_all::<Bits>()?.into_iter().map(|Bits(bits)| bits).collect();
            draft.grid_strength = draft.grid_strength.max(found.layer.strength());
            Ok(())
        })
        .about("Bits of a weight, for methods that quantise: 8, 4, 3, 2")
        .detail(
            "Every method that quantises runs at all of them. If `methods` names none, all that there are run besides.",
        )
        .value_name("B")
        .unset("4, if a method quantises")
        .example("3"),
        SettingEntry::list("group-size", "study.group_size", &[], |draft, found| {
            let sizes = found.parse_all::<GroupSize>()?;
            draft.group_sizes = sizes.into_iter().map(|GroupSize(size)| size).collect();
            draft.grid_strength = draft.grid_strength.max(found.layer.strength());
            Ok(())
        })
        .about("Columns of a row that share a scale, for methods that quantise: row, 128, 64, 32")
        .detail("Every method that quantises runs with all of them. `row` is one scale a row. A group must divide every row.")
        .value_name("G")
        .unset("64, if a method quantises")
        .example("128"),
        SettingEntry::list("formats", "study.formats", &[], |draft, found| {
            draft.formats = found.parse_all::<KnownFormat>()?.into_iter().map(|KnownFormat(name)| name).collect();
            draft.grid_strength = draft.grid_strength.max(found.layer.strength());
            Ok(())
        })
        .about(format!("Formats of llama.cpp, for methods that write them: {}", FORMATS.join(", ")))
        .detail(
            "Every method that writes formats runs at all of them. If `methods` names none, all that there are run \
             besides. Those that end in _m or _s are llama.cpp's mixtures, which include embedding and head.",
        )
        .value_name("F")
        .choices(&FORMATS)
        .unset("q4_k_m, if a method writes formats")
        .example("q8_0"),
        SettingEntry::list("structure", "study.structure", &[], |draft, found| {
            let levels = found.parse_all::<StructureLevel>()?;
            draft.structure = levels.into_iter().map(|StructureLevel(level)| level).collect();
            draft.grid_strength = draft.grid_strength.max(found.layer.strength());
            Ok(())
        })
        .about("What goes, for methods that remove parts of the model: a share (25%) or a number of blocks (8blocks)")
        .detail(
            "Every method that removes parts of the model runs at all of them. If `methods` names none, those that work on \
             every model run besides. Shares are rounded to whole blocks, and down to whole experts.",
        )
        .value_name("P")
        .unset("25%, if a method removes parts")
        .example("8blocks"),
        SettingEntry::list("recipe", "study.recipes", &[], |draft, found| {
            draft.recipes = found.recipes()?;
            draft.recipes_strength = found.layer.strength();
            Ok(())
        })
        .about("Recipes: METHOD@LEVEL, with parameters after commas (wanda@50%, sparsegpt@2:4,damping=0.02)")
        .detail(
            "They replace the grid of methods and levels, unless you give that too, by flags or in the same file. Flags of \
             the grid replace the recipes of a file. Repeat the flag to give several.",
        )
        .value_name("R")
        .unset("none")
        .example("wanda@60%"),
        SettingEntry::count("seq-len", "study.seq_len", 2048, 2, |draft, n| draft.seq_len = n)
            .about("Length of calibration and evaluation windows, in tokens")
            .value_name("N")
            .in_fingerprint()
            .in_form("window", "tokens of a window", |study| study.seq_len.to_string())
            .example("64"),
        SettingEntry::whole("seed", "study.seed", 0, 0, |draft, n| draft.seed = n)
            .about("Seed of every random choice")
            .value_name("N")
            .in_fingerprint()
            .in_form("seed", "of every random choice", |study| study.seed.to_string())
            .example("7"),
    ]
}
