//! What makes two studies the same, so that one can resume where the other stopped.

use serde_json::{Value, json};

use crate::study::{ALL_MODULES, CellSpec, StudyContent, StudySpec};

/// The keys of a fingerprint that name files: where contents are known, these decide instead of the names.
const PLACES: [&str; 4] = ["/model", "/evaluation/corpora", "/evaluation/tasks", "/prune/profile"];
/// Where a fingerprint has the content.
const CONTENT: &str = "content";

/// All of a study that changes the numbers of a cell: its settings, and what its files hold where that is known.
///
/// Left out are the list of cells with their calibration sets (cells may be added to a study) and what only changes
/// how fast things go, or what is measured beside: disagreements on answers, batch sizes and, where the dtype is named,
/// the device. With the dtype `auto` the device decides on it, so that `cpu` and `cuda` differ then; which of several
/// GPUs never matters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fingerprint {
    settings: Value,
    pub content: Option<StudyContent>,
}

impl Fingerprint {
    pub fn new(spec: &StudySpec, content: Option<&StudyContent>) -> Self {
        Self { settings: settings(spec), content: content.cloned() }
    }

    /// Reads what [`Self::to_json`] wrote, or an earlier version without contents.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        let mut settings: Value = serde_json::from_str(text)?;
        let content = settings.as_object_mut().and_then(|settings| settings.shift_remove(CONTENT));
        Ok(Self { settings, content: content.map(serde_json::from_value).transpose()? })
    }

    pub fn to_json(&self) -> String {
        let mut all = self.settings.clone();
        if let Some(content) = &self.content {
            all[CONTENT] = json!(content);
        }
        all.to_string()
    }

    /// Whether everything that decides on numbers is the same. Where one of the two does not know its content, equal
    /// paths stand for it.
    pub fn same_study(&self, other: &Self) -> bool {
        let (Some(content), Some(others)) = (&self.content, &other.content) else {
            return self.settings == other.settings;
        };
        content.difference(others).is_none() && self.without_places() == other.without_places()
    }

    fn without_places(&self) -> Value {
        let mut settings = self.settings.clone();
        for place in PLACES {
            if let Some(value) = settings.pointer_mut(place) {
                *value = Value::Null;
            }
        }
        // Names of fields say how to read files, whose content is known.
        if let Some(settings) = settings.as_object_mut() {
            settings.shift_remove("fields");
        }
        // Examples are part of what a task's content is.
        if let Some(shots) = settings.pointer_mut("/evaluation/shots").and_then(Value::as_object_mut) {
            shots.shift_remove("sources");
        }
        settings
    }

    /// Whether these cells of two studies that are the same can stand side by side: not where they have the same id but
    /// other calibration data.
    pub fn same_cells(&self, cells: &[CellSpec], other: &Self, others: &[CellSpec]) -> bool {
        let known = |cell: &CellSpec| [self, other].iter().all(|side| side.knows_calibration(cell));
        let same = |a: &CellSpec, b: &CellSpec| known(a) || a.calibration == b.calibration;
        cells.iter().all(|a| others.iter().filter(|b| a.id() == b.id()).all(|b| same(a, b)))
    }

    fn knows_calibration(&self, cell: &CellSpec) -> bool {
        self.content.as_ref().is_some_and(|content| content.knows_calibration(cell))
    }
}

fn settings(spec: &StudySpec) -> Value {
    let StudySpec { model, cells: _, seq_len, calibration, evaluation, prune, compute, seed, fields } = spec;
    // Whether disagreements are measured changes no other number.
    let mut evaluation = json!(evaluation);
    if let Some(evaluation) = evaluation.as_object_mut() {
        evaluation.shift_remove("disagreement");
    }
    let device = compute.device.split(':').next().filter(|_| compute.dtype == "auto");
    let mut definition = json!({
        "model": model,
        "seed": seed,
        "seq_len": seq_len,
        "calibration": { "samples": calibration.samples, "sampling": calibration.sampling },
        "evaluation": evaluation,
        "prune": {
            "modules": modules(&prune.modules),
            "blocks": prune.blocks,
            "damping": prune.damping,
            "block_size": prune.block_size,
            "profile": prune.profile.as_deref().map(|p| p.to_string_lossy()),
        },
        "dtype": compute.dtype,
        "device": device,
    });
    // Only where there are some: studies of before there were any are the same as those without.
    if !fields.is_empty() {
        definition["fields"] = json!(fields);
    }
    definition
}

/// The modules of a Llama with their paths, in the order in which studies of version 0.1 name them. Those had no patterns:
/// what means all modules has to read as their list of all.
const FIRST_MODULES: [(&str, &str); 7] = [
    ("q_proj", "self_attn.q_proj"),
    ("k_proj", "self_attn.k_proj"),
    ("v_proj", "self_attn.v_proj"),
    ("o_proj", "self_attn.o_proj"),
    ("gate_proj", "mlp.gate_proj"),
    ("up_proj", "mlp.up_proj"),
    ("down_proj", "mlp.down_proj"),
];

/// Patterns of modules in one order, each once.
fn modules(patterns: &[String]) -> Vec<&str> {
    if patterns.iter().any(|pattern| pattern == ALL_MODULES) {
        return FIRST_MODULES.map(|(name, _)| name).to_vec();
    }
    let first =
        |pattern: &str| FIRST_MODULES.iter().position(|(name, path)| [*name, *path].contains(&pattern));
    let name = |pattern| first(pattern).map_or(pattern, |place| FIRST_MODULES[place].0);
    let mut names: Vec<&str> = patterns.iter().map(|pattern| name(pattern.as_str())).collect();
    names.sort_unstable_by_key(|name| (first(name).unwrap_or(FIRST_MODULES.len()), *name));
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Given, Means, Settings, setting, settings};
    use crate::engine::RunOptions;
    use crate::study::{Contamination, MeasuredAs};

    fn study(flags: &[(&str, &str)]) -> StudySpec {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut given = Given::default();
        for (flag, text) in flags {
            given.set(setting(flag).unwrap(), Means::Flag, text);
        }
        Settings::load(Some(file.path()), &given, RunOptions::default()).unwrap().study
    }

    #[test]
    fn exactly_the_settings_that_the_table_marks_make_another_study() {
        let fingerprint = |flags: &[_]| Fingerprint::new(&study(flags), None);
        let same = fingerprint(&[("model", "m")]);
        for setting in settings() {
            let changed = fingerprint(&[("model", "m"), (setting.flag(), setting.example())]);
            assert_eq!(!changed.same_study(&same), setting.is_in_fingerprint(), "--{}", setting.flag());
        }
    }

    #[test]
    fn studies_of_before_positions_could_be_chosen_are_those_of_all_positions() {
        let all = Fingerprint::new(&study(&[("model", "m"), ("score", "all")]), None);
        assert!(!all.to_json().contains("score"));
        let half = Fingerprint::new(&study(&[("model", "m"), ("score", "second-half")]), None);
        assert!(half.to_json().contains(r#""score":"second-half""#) && !half.same_study(&all));
    }

    #[test]
    fn studies_of_before_there_were_examples_are_those_without() {
        let none = Fingerprint::new(&study(&[("model", "m"), ("shots", "0")]), None);
        assert!(!none.to_json().contains("shots"));
        let with = |content: Option<&StudyContent>, flags: &[(&str, &str)]| {
            Fingerprint::new(&study(&[&[("model", "m"), ("tasks", "t.jsonl")], flags].concat()), content)
        };
        let file = |name: &'static str| [("shots", "2"), ("shots-from", name)];
        assert!(!with(None, &[("shots", "1")]).same_study(&with(None, &[("shots", "2")])));
        assert!(!with(None, &file("t=a.jsonl")).same_study(&with(None, &file("t=b.jsonl"))));
        // Where contents are known, the examples are in the task's, wherever their file lies.
        let content = StudyContent::default();
        let known = with(Some(&content), &file("t=a.jsonl"));
        assert!(known.same_study(&with(Some(&content), &file("t=elsewhere/a.jsonl"))));
        assert!(!known.same_study(&with(Some(&content), &[("shots", "1"), ("shots-from", "t=a.jsonl")])));
    }

    #[test]
    fn contamination_is_kept_and_tells_no_study_from_another() {
        let spec = study(&[("model", "m"), ("corpus", "c.txt"), ("calibration", "c4.txt")]);
        let bare = StudyContent { model: "a".into(), ..StudyContent::default() };
        let found = Contamination {
            calibration: "c4".into(),
            seed: 0,
            data_set: "c".into(),
            measured_as: MeasuredAs::Corpus,
            contaminated: 1,
            n: 8,
        };
        let mut known = bare.clone();
        assert!(known.add_contamination(std::slice::from_ref(&found)));
        assert!(
            !known.add_contamination(&[Contamination { contaminated: 2, ..found.clone() }]),
            "known already"
        );
        assert!(known.add_contamination(&[Contamination { seed: 1, ..found }]));
        let [bare, known] = [bare, known].map(|content| Fingerprint::new(&spec, Some(&content)));
        assert_eq!(Fingerprint::parse(&known.to_json()).unwrap(), known);
        assert!(bare.same_study(&known) && known.same_study(&bare));
        assert!(!bare.to_json().contains("contamination"), "written as before where nothing was looked for");
    }

    #[test]
    fn content_decides_where_it_is_known_and_paths_elsewhere() {
        let content = |model: &str, windows: &str| StudyContent {
            model: model.into(),
            corpora: vec![("c".into(), "1".into())],
            calibration: [("c4-s0".to_owned(), windows.to_owned())].into(),
            ..StudyContent::default()
        };
        let here = study(&[("model", "here/m"), ("corpus", "here/c.txt"), ("calibration", "here/c4.txt")]);
        let there = study(&[("model", "there/m"), ("corpus", "c.txt.gz"), ("calibration", "there/c4.txt")]);
        let old = Fingerprint::new(&here, None);
        let known = Fingerprint::new(&here, Some(&content("a", "w")));
        for moved in [content("a", "w"), content("a", "v")] {
            let moved = Fingerprint::new(&there, Some(&moved));
            let same = moved.same_study(&known) && moved.same_cells(&there.cells, &known, &here.cells);
            assert_eq!(same, moved.content == known.content, "other windows under one name");
            assert!(!moved.same_study(&old));
            assert!(
                !moved.same_cells(&there.cells, &old, &here.cells),
                "paths are all that an old study has"
            );
        }
        assert!(known.same_study(&old), "a study of before contents were known");
        assert!(
            !known.same_study(&Fingerprint::new(&here, Some(&content("b", "w")))),
            "replaced in its place"
        );
        for fingerprint in [old, known] {
            assert_eq!(Fingerprint::parse(&fingerprint.to_json()).unwrap(), fingerprint);
        }
    }
}
