//! The grid of a study: methods and their levels, multiplied out into cells.

use super::{Family, KINDS, Method, Stage, USUAL_BITS, USUAL_FORMAT, USUAL_SHARE, find};
use crate::study::{CellSpec, FormatName, Level, Parameters, Recipe, Sparsity, Step};

/// Whether cells of a recipe differ by calibration set. A method that is unknown here is taken to look at data.
pub(crate) fn needs_calibration(recipe: &Recipe) -> bool {
    recipe.steps().any(|step| match find(&step.method) {
        Ok(method) => Stage::of(step, &Parameters::new())
            .map_or(method.needs_calibration(), |stage| stage.looks_at_data()),
        Err(_) => true,
    })
}

/// What a model of a recipe is called: one of [`KINDS`]. `None` of a method that is unknown here.
pub(crate) fn kind_of(recipe: &Recipe) -> Option<&'static str> {
    let mut steps = recipe.steps();
    let first = find(&steps.next()?.method).ok()?.family().kind();
    Some(if steps.next().is_some() { KINDS[3] } else { first })
}

/// The levels of a grid, for each family of methods.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GridLevels {
    /// Of methods that prune.
    pub sparsities: Vec<Sparsity>,
    /// Of methods that quantise.
    pub bits: Vec<u8>,
    /// With these group sizes each; with their default one where there are none.
    pub group_sizes: Vec<String>,
    /// Of methods that write formats.
    pub formats: Vec<FormatName>,
    /// Of methods that remove parts of the model.
    pub structure: Vec<Level>,
}

impl GridLevels {
    /// Gives families that have no level their usual one.
    pub fn fill_up(&mut self) {
        if self.bits.is_empty() {
            self.bits.push(USUAL_BITS);
        }
        if self.formats.is_empty() {
            self.formats.extend(FormatName::from(USUAL_FORMAT));
        }
        if self.structure.is_empty() {
            self.structure.push(USUAL_SHARE);
        }
    }

    fn of(&self, method: &str, family: Family) -> Vec<Step> {
        match family {
            Family::Structure => {
                let takes = |level: &Level| find(method).is_ok_and(|method| method.takes(*level));
                // Where none of them is, they stay to be refused with the reason.
                let some = self.structure.iter().any(takes);
                let levels = self.structure.iter().filter(|level| takes(level) || !some);
                levels.map(|level| Step::new(method, *level)).collect()
            }
            Family::Prune => self.sparsities.iter().map(|level| Step::new(method, *level)).collect(),
            Family::Format => {
                self.formats.iter().map(|name| Step::new(method, Level::Format(*name))).collect()
            }
            Family::Quantise => {
                let sizes: Vec<Parameters> = match &self.group_sizes[..] {
                    [] => vec![Parameters::new()],
                    sizes => sizes.iter().map(|size| [("group".to_owned(), size.clone())].into()).collect(),
                };
                let levels = |parameters: Parameters| {
                    self.bits.iter().map(move |bits| Step {
                        parameters: parameters.clone(),
                        ..Step::new(method, Level::Bits(*bits))
                    })
                };
                sizes.into_iter().flat_map(levels).collect()
            }
        }
    }
}

/// Every method at every level of its family, method by method.
pub fn recipes(methods: &[&str], levels: &GridLevels) -> Vec<Recipe> {
    let family = |name: &str| find(name).map_or(Family::Prune, Method::family);
    methods.iter().flat_map(|name| levels.of(name, family(name))).map(Recipe::from).collect()
}

/// Multiplies a grid out: recipes that differ by level alone stand together, those that look at data once per
/// calibration set.
pub fn grid(recipes: &[Recipe], sets: &[String], seed: u64) -> Vec<CellSpec> {
    let mut series: Vec<(String, Vec<&Recipe>)> = Vec::new();
    for recipe in recipes {
        let name = recipe.series();
        match series.iter_mut().find(|(known, _)| *known == name) {
            Some((_, recipes)) => recipes.push(recipe),
            None => series.push((name, vec![recipe])),
        }
    }
    let mut cells: Vec<CellSpec> = Vec::new();
    for (_, recipes) in series {
        let needs_data = recipes.first().is_some_and(|recipe| needs_calibration(recipe));
        let sets = if needs_data { sets.iter().cloned().map(Some).collect() } else { vec![None] };
        for calibration in sets {
            for &recipe in &recipes {
                let cell = CellSpec { recipe: recipe.clone(), calibration: calibration.clone(), seed };
                if !cells.iter().any(|c| c.id() == cell.id()) {
                    cells.push(cell);
                }
            }
        }
    }
    cells
}
