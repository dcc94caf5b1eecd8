//! Modules of mixtures of experts by their paths: there may be hundreds in a block, of which people want to see the kinds.

use std::borrow::Cow;

use super::{ModelInfo, ModuleResult};

/// A kind of module: what all experts of a block have is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModuleKind {
    /// The path within the block with `*` for the number of the expert: `mlp.experts.*.gate_proj`. As a pattern it means
    /// all of them.
    pub path: String,
    /// Modules of the kind in a block.
    pub modules: usize,
}

impl ModuleKind {
    /// The kinds of modules with these paths, in their order.
    pub fn all<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let mut kinds: Vec<Self> = Vec::new();
        for path in paths {
            let path = without_expert(path);
            match kinds.iter_mut().find(|kind| kind.path == path) {
                Some(kind) => kind.modules += 1,
                None => kinds.push(Self { path: path.into_owned(), modules: 1 }),
            }
        }
        kinds
    }
}

impl ModelInfo {
    /// The kinds of modules of a block, in the order in which a pass reaches them.
    pub(crate) fn module_kinds(&self) -> Vec<ModuleKind> {
        ModuleKind::all(self.modules.iter().map(String::as_str))
    }
}

impl ModuleResult {
    /// The path of the kind of module that it is one of.
    pub(crate) fn kind(&self) -> Cow<'_, str> {
        without_expert(self.path())
    }

    /// A name that tells it from the other modules of its block in little room: the last part of the path, with what
    /// stands before it where that is an expert: `q_proj`, `12.gate_proj`, `shared_expert.gate_proj`.
    pub(crate) fn brief_name(&self) -> &str {
        let path = self.path();
        let Some((parents, last)) = path.rsplit_once('.') else { return path };
        match parents.rsplit_once('.') {
            Some((_, parent)) => &path[path.len() - last.len() - 1 - parent.len()..],
            None => last,
        }
    }
}

fn without_expert(path: &str) -> Cow<'_, str> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !path.split('.').any(is_number) {
        return Cow::Borrowed(path);
    }
    let parts: Vec<&str> = path.split('.').map(|part| if is_number(part) { "*" } else { part }).collect();
    Cow::Owned(parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{ErrorBasis, Footprint};

    #[test]
    fn experts_are_one_kind_and_keep_their_numbers_where_they_stand_alone() {
        let paths = [
            "self_attn.q_proj",
            "mlp.experts.0.up_proj",
            "mlp.experts.0.down_proj",
            "mlp.experts.11.up_proj",
        ];
        let kinds = ModuleKind::all(paths);
        let found: Vec<(&str, usize)> = kinds.iter().map(|kind| (kind.path.as_str(), kind.modules)).collect();
        let wanted = [("self_attn.q_proj", 1), ("mlp.experts.*.up_proj", 2), ("mlp.experts.*.down_proj", 1)];
        assert_eq!(found, wanted);
        let brief = |path: &str| {
            let module = ModuleResult {
                block: 3,
                name: format!("model.layers.3.{path}"),
                footprint: Footprint::default(),
                reconstruction_error: 0.0,
                error_basis: ErrorBasis::Weights,
                dead_columns: 0,
                details: crate::number::NamedNumbers::default(),
                seconds: 0.0,
            };
            assert_eq!(module.kind(), without_expert(path));
            module.brief_name().to_owned()
        };
        assert_eq!(brief("self_attn.q_proj"), "q_proj");
        assert_eq!(brief("fc1"), "fc1");
        assert_eq!(brief("mlp.experts.11.up_proj"), "11.up_proj");
        assert_eq!(brief("mlp.shared_expert.up_proj"), "shared_expert.up_proj");
    }
}
