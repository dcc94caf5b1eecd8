//! What a person should know of how a cell's modules were compressed: one line for all modules of which it is the same.

use std::collections::BTreeMap;

use crate::methods::{ModuleWarning, Needs, Procedure, RoutedTokens};
use crate::results::ModuleResult;

/// The warnings about modules, each with how many modules it is about and the first of them.
pub(super) fn of_modules(procedure: &Procedure, modules: &[ModuleResult]) -> Vec<String> {
    let mut found: Vec<(ModuleWarning, &str, usize)> = Vec::new();
    for module in modules {
        for warning in procedure.warnings(&module.details) {
            match found.iter_mut().find_map(|(known, _, count)| known.join(&warning).then_some(count)) {
                Some(count) => *count += 1,
                None => found.push((warning, &module.name, 1)),
            }
        }
    }
    let line = |(warning, name, count): (ModuleWarning, &str, usize)| match count {
        1 => format!("{name}: {warning}"),
        _ => format!("{count} modules, such as {name}: {warning}"),
    };
    found.into_iter().map(line).chain(of_experts(procedure, modules)).collect()
}

/// The modules of a block's experts, and how many tokens each saw.
#[derive(Default)]
struct ExpertTokens<'a> {
    /// By the path of the expert, what is known of the module that knows least.
    experts: BTreeMap<&'a str, RoutedTokens>,
}

/// The warnings about experts that saw fewer tokens than they have columns: one a block.
fn of_experts(procedure: &Procedure, modules: &[ModuleResult]) -> Vec<String> {
    let mut blocks: BTreeMap<usize, ExpertTokens<'_>> = BTreeMap::new();
    for module in modules {
        let (Some(routed), Some((expert, _))) =
            (RoutedTokens::of(&module.details), module.name.rsplit_once('.'))
        else {
            continue;
        };
        let known = blocks.entry(module.block).or_default().experts.entry(expert).or_insert(routed);
        if routed.shortage() > known.shortage() {
            *known = routed;
        }
    }
    blocks.iter().filter_map(|(block, tokens)| tokens.warning(*block, procedure.needs())).collect()
}

impl ExpertTokens<'_> {
    fn warning(&self, block: usize, needs: Needs) -> Option<String> {
        let all = self.experts.len();
        let few: Vec<_> = self.experts.iter().filter(|(_, routed)| routed.are_few()).collect();
        let unseen: Vec<_> = few.iter().filter(|(_, routed)| routed.tokens == 0).collect();
        let seen = few.iter().filter(|(_, routed)| routed.tokens > 0);
        let mut parts = Vec::new();
        if let Some((expert, routed)) = seen.max_by(|a, b| a.1.shortage().total_cmp(&b.1.shortage())) {
            let rule = match needs {
                Needs::Hessian => "their damping grows by columns per token",
                Needs::ColumnNorms | Needs::Nothing => "the norms of their columns come from these alone",
            };
            parts.push(format!(
                "{} of {all} experts saw fewer calibration tokens than they have columns, such as {expert} with {} for \
                 {}: {rule}",
                few.len() - unseen.len(),
                routed.tokens,
                routed.columns
            ));
        }
        if let Some((expert, routed)) = unseen.first() {
            parts.push(format!(
                "{} of {all} experts saw no calibration token for their columns, such as {expert} with 0 for {}: all \
                 columns count alike there, and the size of the weights decides",
                unseen.len(),
                routed.columns
            ));
        }
        (!parts.is_empty()).then(|| format!("block {block}: {}", parts.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{ErrorBasis, Footprint};
    use crate::study::Parameters;

    fn module(name: &str, details: &[(&'static str, f64)]) -> ModuleResult {
        ModuleResult {
            block: 0,
            name: name.into(),
            footprint: Footprint::default(),
            reconstruction_error: 0.1,
            error_basis: ErrorBasis::Weights,
            dead_columns: 0,
            details: details.iter().copied().collect(),
            seconds: 0.1,
        }
    }

    fn told(recipe: &str, modules: &[ModuleResult]) -> Vec<String> {
        let procedure = Procedure::of(&recipe.parse().unwrap(), &Parameters::new()).unwrap();
        of_modules(&procedure, modules)
    }

    #[test]
    fn modules_of_which_the_same_is_told_share_a_line_and_others_keep_theirs() {
        let modules = [
            module("a", &[("damping", 0.1), ("empty_groups", 3.0)]),
            module("b", &[("damping", 0.1)]),
            module("c", &[("damping", 0.01), ("empty_groups", 1.0)]),
            module("d", &[("damping", 1.0), ("empty_groups", 30.0)]),
        ];
        let raised = "the Hessian was not positive definite; damping was raised from 0.01 to";
        let damping = [format!("2 modules, such as a: {raised} 0.1"), format!("d: {raised} 1")];
        let groups = "3 modules, such as a: in 34 groups all weights are zero".to_owned();
        let [two, one] = damping.clone();
        assert_eq!(told("gptq@4bit", &modules), [two.clone(), groups.clone(), one.clone()]);
        // Two steps in one loop have one damping.
        assert_eq!(told("sparsegpt@50%+gptq@4bit", &modules), [two, groups.clone(), one]);
        assert_eq!(told("rtn@4bit", &modules), [groups]);
        assert_eq!(told("sparsegpt@50%", &modules), damping);
    }

    #[test]
    fn experts_that_saw_too_few_tokens_share_a_line_for_each_block() {
        let expert = |block: usize, name: &str, tokens: f64, columns: f64| ModuleResult {
            block,
            ..module(name, &[("tokens", tokens), ("columns", columns)])
        };
        let modules = [
            expert(0, "b.0.experts.0.w1", 40.0, 32.0),
            expert(0, "b.0.experts.0.w2", 40.0, 48.0),
            expert(0, "b.0.experts.1.w1", 7.0, 32.0),
            expert(0, "b.0.experts.1.w2", 7.0, 48.0),
            expert(0, "b.0.experts.2.w1", 0.0, 32.0),
            expert(1, "b.1.experts.0.w1", 99.0, 32.0),
            module("b.1.q_proj", &[]),
        ];
        let line = |rule: &str| {
            format!(
                "block 0: 2 of 3 experts saw fewer calibration tokens than they have columns, such as b.0.experts.1 \
                 with 7 for 48: {rule}; 1 of 3 experts saw no calibration token for their columns, such as \
                 b.0.experts.2 with 0 for 32: all columns count alike there, and the size of the weights decides"
            )
        };
        assert_eq!(told("wanda@50%", &modules), [line("the norms of their columns come from these alone")]);
        assert_eq!(told("gptq@4bit", &modules), [line("their damping grows by columns per token")]);
        assert_eq!(told("wanda@50%", &modules[5..]), [""; 0]);
    }

    #[test]
    fn a_module_alone_is_told_by_its_name() {
        let modules = [module("a", &[]), module("b", &[("empty_groups", 1.0)])];
        assert_eq!(told("rtn@4bit", &modules), ["b: in 1 group all weights are zero"]);
        assert_eq!(told("magnitude@50%", &modules), [""; 0]);
    }
}
