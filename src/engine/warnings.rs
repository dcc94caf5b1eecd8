//! What a person should know of how a cell's modules were compressed: one line for all modules of which it is the same.

use crate::methods::{ModuleWarning, Procedure};
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
    found.into_iter().map(line).collect()
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
    fn a_module_alone_is_told_by_its_name() {
        let modules = [module("a", &[]), module("b", &[("empty_groups", 1.0)])];
        assert_eq!(told("rtn@4bit", &modules), ["b: in 1 group all weights are zero"]);
        assert_eq!(told("magnitude@50%", &modules), [""; 0]);
    }
}
