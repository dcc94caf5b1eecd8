//! Recipes, understood: each step with everything that running it takes.

use candle_core::Tensor;

use super::allocation::{self, Allocation};
use super::device::{self, DeviceMatrix};
use super::narrowing::WidthRemoval;
use super::order::{check_structure, least_common_multiple};
use super::removal::{BlockRemoval, ExpertRemoval, blocks_removed, experts_removed};
use super::solver::output_energy;
use super::{
    Arguments, Bound, CompressionOutcome, Cost, EndFormat, Family, InputStatistics, Matrix, Method,
    ModuleWarning, Needs, Zeroing, check_divides, find, quantise, swaps, weighted_error,
};
use crate::error::{Error, Result};
use crate::kernels::ggml::EndTypes;
use crate::number::NamedNumbers;
use crate::results::ErrorBasis;
use crate::study::{Level, Parameters, Recipe, Sparsity, Step};

/// A step of a recipe with everything that running it takes.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What is done.
    pub method: &'static dyn Method,
    /// How far it goes.
    pub level: Level,
    /// The values of all its parameters.
    pub arguments: Arguments,
}

/// The stages of a recipe in their order: those that remove parts of the model, blocks before parts of blocks; then, of what
/// is left, one that prunes, one that quantises, or both in this order. There is at least one in all.
#[derive(Debug, Clone)]
pub struct Procedure {
    /// Those that remove parts of the model.
    structure: Vec<Stage>,
    /// Those that change matrices.
    stages: Vec<Stage>,
}

/// The grid that a recipe puts weights on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GridChoice {
    /// Bits of a code.
    pub bits: u8,
    /// Columns of a row that share a scale; `None` is all of them.
    pub group: Option<usize>,
    /// Whether zero lies in the middle.
    pub symmetric: bool,
}

/// The grid that a recipe asks for; `None` where it has no such step, or cannot be understood.
pub(crate) fn grid_of(recipe: &Recipe) -> Option<GridChoice> {
    let procedure = Procedure::of(recipe, &Parameters::new()).ok()?;
    let grid = |stage: &Stage| {
        let Level::Bits(bits) = stage.level else { return None };
        let arguments = &stage.arguments;
        let (group, symmetric) = (quantise::group(arguments), quantise::is_symmetric(arguments));
        Some(GridChoice { bits, group, symmetric })
    };
    procedure.stages().iter().find_map(grid)
}

impl Stage {
    /// Understands a step. `study` are the study's values of parameters that the step does not give.
    ///
    /// # Errors
    /// [`Error::Mistake`] for an unknown method or parameter, a value out of its range, or a level of another family.
    pub fn of(step: &Step, study: &Parameters) -> Result<Self> {
        let method = find(&step.method)?;
        // Behind a `+` a method without a level reads like a parameter.
        if let Some(name) = step.parameters.keys().find(|name| find(name).is_ok()) {
            return Err(Error::mistake(format!("{name} has no level; accepted is METHOD@LEVEL (gptq@4bit)")));
        }
        method.check_level(step.level)?;
        let arguments = method.arguments(&step.parameters, study)?;
        allocation::check(step.level, &arguments)?;
        Ok(Self { method, level: method.family().own(step.level), arguments })
    }

    pub(super) fn looks_at_data(&self) -> bool {
        self.method.looks_at_data(&self.arguments)
            || swaps::is_asked(&self.arguments)
            || allocation::asked(&self.arguments).is_some()
    }

    /// How its fraction is spread over the blocks, if not evenly, and the fraction.
    fn allocation(&self) -> Option<(&'static dyn Allocation, f64)> {
        let Level::Sparsity(Sparsity::Fraction(fraction)) = self.level else { return None };
        // Where nothing goes there is nothing to spread.
        allocation::asked(&self.arguments).filter(|_| fraction > 0.0).map(|found| (found, fraction))
    }

    fn needs(&self) -> Needs {
        let needs = self.method.needs_with(&self.arguments);
        if swaps::is_asked(&self.arguments) { Needs::Hessian } else { needs }
    }

    fn cost(&self, rows: usize, columns: usize) -> Cost {
        let cost = self.method.cost(rows, columns);
        if !swaps::is_asked(&self.arguments) {
            return cost;
        }
        Cost { operations: cost.operations + swaps::operations(rows, columns), bound: Bound::Arithmetic }
    }

    /// Runs the method, and refines the mask that it made where that is asked for.
    fn run(
        &self,
        matrix: Matrix<'_>,
        mut inputs: Option<&mut InputStatistics>,
        stop: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        if !swaps::is_asked(&self.arguments) {
            return self.method.run(matrix, inputs, self.level, &self.arguments, stop);
        }
        let before = matrix.weights.to_vec();
        let (columns, weights) = (matrix.columns, matrix.weights);
        let matrix = Matrix { weights: &mut *weights, ..matrix };
        let mut outcome =
            self.method.run(matrix, inputs.as_deref_mut(), self.level, &self.arguments, stop)?;
        let sparsity = super::sparsity(self.level)?;
        let missing = || Error::failure("a mask was to be refined without statistics of its inputs");
        let statistics = inputs.as_deref_mut().ok_or_else(missing)?;
        let count = swaps::refine(&before, weights, statistics, sparsity, stop)?;
        outcome.details.put(swaps::SWAPS_DETAIL, count as f64);
        (outcome.error, outcome.basis) = error_of_all(&before, weights, columns, inputs.as_deref())?;
        Ok(outcome)
    }

    /// Refuses groups that do not fill a row.
    fn check(&self, columns: usize, module: &str) -> Result<()> {
        match self.level {
            Level::Sparsity(sparsity) => check_divides(sparsity, columns, module),
            // A format that does not fit gives way to one that does.
            Level::Format(_) | Level::Share(_) | Level::Blocks(_) => Ok(()),
            Level::Bits(_) => quantise::check_group(&self.arguments, columns, module),
        }
    }
}

impl Procedure {
    /// Understands a recipe. `study` are the study's values of parameters that the recipe does not give.
    ///
    /// # Errors
    /// [`Error::Mistake`] for an unknown method or parameter, a value out of its range, a level of another family, or
    /// steps that do not go together.
    pub fn of(recipe: &Recipe, study: &Parameters) -> Result<Self> {
        Self::understand(recipe, study).map_err(|e| Error::mistake(format!("recipe `{recipe}`: {e}")))
    }

    /// Why a recipe is none, with the defaults of all parameters; the recipe is not quoted.
    pub(super) fn why_refused(recipe: &Recipe) -> Option<String> {
        Self::understand(recipe, &Parameters::new()).err().map(|error| error.to_string())
    }

    fn understand(recipe: &Recipe, study: &Parameters) -> Result<Self> {
        let steps: Vec<_> = recipe.steps().collect();
        let methods = steps.iter().map(|step| find(&step.method)).collect::<Result<Vec<_>>>()?;
        let families: Vec<Family> = methods.iter().map(|method| method.family()).collect();
        let structural = families.iter().filter(|family| **family == Family::Structure).count();
        check_structure(&methods)?;
        let (structure, matrices) = steps.split_at(structural);
        match families[structural..] {
            [] | [_] | [Family::Prune, Family::Quantise] => {}
            _ => {
                return Err(Error::mistake(
                    "these steps do not go together; accepted are one step, or one that prunes and then one that \
                     quantises (sparsegpt@50%+gptq@4bit)",
                ));
            }
        }
        let is_joint = matches!(methods[structural..], [first, second] if joins(first, second));
        let stage = |step: &&Step| {
            let mut step = (*step).clone();
            if is_joint {
                share_parameters(matrices, find(&step.method)?, &mut step.parameters)?;
            }
            Stage::of(&step, study)
        };
        let structure = structure.iter().map(|step| Stage::of(step, study)).collect::<Result<_>>()?;
        Ok(Self { structure, stages: matrices.iter().map(stage).collect::<Result<_>>()? })
    }

    /// The stages that change matrices.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The stage that removes blocks, if there is one, and how.
    pub fn removal(&self) -> Option<(&Stage, &'static dyn BlockRemoval)> {
        self.structure.iter().find_map(|stage| {
            let method: &'static dyn Method = stage.method;
            Some((stage, method.block_removal()?))
        })
    }

    /// The stage that removes experts, if there is one, and how.
    pub fn expert_removal(&self) -> Option<(&Stage, &'static dyn ExpertRemoval)> {
        self.structure.iter().find_map(|stage| {
            let method: &'static dyn Method = stage.method;
            Some((stage, method.expert_removal()?))
        })
    }

    /// How many experts of every block it removes. `experts` are how many a block has and how many of them a token goes
    /// through; `None` where the blocks have none.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a model without experts, and for a level at which none would go, or too few would stay.
    pub fn experts_removed(&self, experts: Option<(usize, usize)>) -> Result<usize> {
        let Some((stage, _)) = self.expert_removal() else { return Ok(0) };
        let name = stage.method.name();
        let experts = experts.ok_or_else(|| {
            Error::mistake(format!(
                "{name} removes experts, and the model is no mixture of experts: its blocks have one MLP for all tokens; \
                 accepted here are depth, width and methods for matrices"
            ))
        })?;
        experts_removed(stage.level, experts).map_err(|e| Error::mistake(format!("{name}: {e}")))
    }

    /// Whether the survey of the dense model is all that it takes to choose what is removed of a model of `blocks` blocks.
    pub fn reads_survey(&self, blocks: usize) -> bool {
        let by_survey = |(stage, removal): (&Stage, &'static dyn BlockRemoval)| {
            let removed = self.blocks_removed(blocks).unwrap_or(0);
            removal.trials(blocks, removed, &stage.arguments) == 0
        };
        self.expert_removal().is_some() || self.narrowing().is_some() || self.removal().is_some_and(by_survey)
    }

    /// The stage that makes blocks narrower, if there is one, and how.
    pub fn narrowing(&self) -> Option<(&Stage, &'static dyn WidthRemoval)> {
        let narrowing = |stage| {
            let Stage { method, .. }: &Stage = stage;
            let method: &'static dyn Method = *method;
            Some((stage, method.width_removal()?))
        };
        self.structure.iter().find_map(narrowing)
    }

    /// The share of a block's weights that it removes, about, `0 … 1`.
    pub fn narrowed_share(&self) -> f64 {
        match self.narrowing() {
            Some((Stage { level: Level::Share(share), .. }, _)) => *share,
            _ => 0.0,
        }
    }

    /// What the columns of a matrix have to be a multiple of, so that the stages that change matrices can work on it.
    pub fn column_multiple(&self) -> usize {
        let of_stage = |stage: &Stage| match stage.level {
            Level::Sparsity(Sparsity::SemiStructured { group, .. }) => group,
            Level::Bits(_) => quantise::group(&stage.arguments).unwrap_or(1),
            _ => 1,
        };
        self.stages.iter().map(of_stage).fold(1, least_common_multiple)
    }

    /// How many of a model's blocks it removes.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a level at which none would go, or more than can.
    pub fn blocks_removed(&self, blocks: usize) -> Result<usize> {
        let Some((stage, removal)) = self.removal() else { return Ok(0) };
        let most = removal.most(blocks, &stage.arguments);
        blocks_removed(stage.level, blocks, most)
            .map_err(|e| Error::mistake(format!("{}: {e}", stage.method.name())))
    }

    /// How a fraction is spread over the blocks by what the survey says of them, if it is, and the fraction.
    pub fn allocation(&self) -> Option<(&'static dyn Allocation, f64)> {
        self.stages.iter().find_map(Stage::allocation)
    }

    /// The same with other levels of the stages that change matrices.
    ///
    /// # Errors
    /// What `level` says.
    pub fn with_levels(&self, level: impl Fn(Level) -> Result<Level>) -> Result<Self> {
        let stage = |stage: &Stage| Ok(Stage { level: level(stage.level)?, ..stage.clone() });
        let stages = self.stages.iter().map(stage).collect::<Result<_>>()?;
        Ok(Self { structure: self.structure.clone(), stages })
    }

    /// What has to be collected of a module's inputs first.
    pub fn needs(&self) -> Needs {
        self.stages.iter().map(Stage::needs).max().unwrap_or(Needs::Nothing)
    }

    /// The first method that looks at activations, so that a calibration set matters.
    pub fn looks_at_data(&self) -> Option<&'static dyn Method> {
        let mut all = self.structure.iter().chain(&self.stages);
        all.find(|stage| stage.looks_at_data()).map(|stage| stage.method)
    }

    /// Whether weights that stay get new values. Else a mask is all there is to store.
    pub fn updates_weights(&self) -> bool {
        self.stages.iter().any(|stage| stage.method.updates_weights())
    }

    /// The share of a matrix that becomes zero, `0 … 1`.
    pub fn zeros(&self) -> f64 {
        self.stages.iter().map(|stage| stage.level.zeros()).fold(0.0, f64::max)
    }

    /// Bits of a weight, about, where weights get fewer.
    pub fn bits(&self) -> Option<f64> {
        self.stages.iter().find_map(|stage| stage.method.bits(stage.level))
    }

    /// The formats of embedding and head in a model of `blocks` blocks, whose rows have `columns` values; `tied` is
    /// whether both are one matrix.
    ///
    /// # Errors
    /// [`Error::Mistake`] where the recipe gives two formats to that.
    pub fn end_types(&self, columns: usize, blocks: usize, tied: bool) -> Result<EndTypes> {
        let Some(stage) = self.stages.last() else { return Ok(EndTypes::default()) };
        let mut ends = stage.method.ends(stage.level, &stage.arguments);
        if tied {
            ends = ends.tied()?;
        }
        let kind = |end: EndFormat| end.type_of(columns, blocks);
        Ok(EndTypes { embedding: ends.embedding.map(kind), head: ends.head.map(kind) })
    }

    /// What it takes for a matrix `[rows, columns]`.
    pub fn cost(&self, rows: usize, columns: usize) -> Cost {
        let costs = self.run_stages().map(|stage| stage.cost(rows, columns));
        costs.fold(Cost { operations: 0.0, bound: Bound::Memory }, |sum, cost| Cost {
            operations: sum.operations + cost.operations,
            bound: if cost.bound == Bound::Arithmetic { cost.bound } else { sum.bound },
        })
    }

    /// What a person should know of a module, given the details that [`Procedure::run`] told.
    pub fn warnings(&self, details: &NamedNumbers) -> Vec<ModuleWarning> {
        let mut warnings: Vec<ModuleWarning> = Vec::new();
        for stage in &self.stages {
            for warning in stage.method.warnings(details, &stage.arguments) {
                // Stages that share a loop tell the same.
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
        warnings
    }

    /// Whether there is a form that works where the matrix lies ([`Procedure::run_on_device`]): every stage has one.
    pub fn works_on_device(&self) -> bool {
        let has_form = |stage: &Stage| {
            !swaps::is_asked(&stage.arguments) && stage.method.on_device(stage.level).is_some()
        };
        self.stages.iter().all(has_form)
    }

    /// Refuses groups that do not fill a row.
    ///
    /// # Errors
    /// [`Error::Mistake`] naming the module, the group and the row.
    pub fn check(&self, columns: usize, module: &str) -> Result<()> {
        self.stages.iter().try_for_each(|stage| stage.check(columns, module))
    }

    /// Compresses a matrix in place, stage after stage, or in one loop where the stages have the same. The error that is
    /// told is that of all stages together.
    ///
    /// # Errors
    /// As [`Method::run`].
    pub fn run(
        &self,
        matrix: Matrix<'_>,
        mut inputs: Option<&mut InputStatistics>,
        stop: &dyn Fn() -> bool,
    ) -> Result<CompressionOutcome> {
        let Matrix { weights, columns, dtype, zeroing, place } = matrix;
        let mut run = |stage: &Stage, weights: &mut [f32], zeroing| {
            let matrix = Matrix { weights, columns, dtype, zeroing, place };
            stage.run(matrix, inputs.as_deref_mut(), stop)
        };
        match &self.stages[..] {
            [first, second] if joins(first.method, second.method) => {
                run(second, weights, Zeroing::Chosen(super::sparsity(first.level)?))
            }
            [first, second] => {
                let before = weights.to_vec();
                let pruned = run(first, weights, zeroing)?;
                let outcome = run(second, weights, Zeroing::Kept)?;
                Ok(of_both(pruned, outcome, error_of_all(&before, weights, columns, inputs.as_deref())?))
            }
            [only] => run(only, weights, zeroing),
            _ => Err(Error::failure("a recipe with no stage or with three was not refused")),
        }
    }

    /// As [`Procedure::run`], where the matrix and the statistics lie; returns the new matrix.
    ///
    /// # Errors
    /// As [`Procedure::run`]; a tensor operation that fails.
    pub fn run_on_device(
        &self,
        matrix: DeviceMatrix<'_>,
        mut inputs: Option<&mut InputStatistics>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Tensor, CompressionOutcome)> {
        let mut run = |stage: &Stage, matrix| {
            let name = stage.method.name();
            let form = stage.method.on_device(stage.level);
            let form = form.ok_or_else(|| Error::failure(format!("{name} has no form for a device")))?;
            form.run_on_device(matrix, inputs.as_deref_mut(), stage.level, &stage.arguments, stop)
        };
        match &self.stages[..] {
            [first, second] if joins(first.method, second.method) => {
                let zeroing = Zeroing::Chosen(super::sparsity(first.level)?);
                run(second, DeviceMatrix { zeroing, ..matrix })
            }
            [first, second] => {
                let (weights, pruned) = run(first, matrix)?;
                let kept = DeviceMatrix { weights: &weights, zeroing: Zeroing::Kept, ..matrix };
                let (weights, outcome) = run(second, kept)?;
                let error = device::error_of_all(matrix.weights, &weights, inputs.as_deref())?;
                Ok((weights, of_both(pruned, outcome, error)))
            }
            [only] => run(only, matrix),
            _ => Err(Error::failure("a recipe with no stage or with three was not refused")),
        }
    }

    /// The stages that run by themselves: one that joins the next one's loop costs nothing of its own.
    fn run_stages(&self) -> impl Iterator<Item = &Stage> {
        let joint = matches!(&self.stages[..], [first, second] if joins(first.method, second.method));
        self.stages.iter().skip(usize::from(joint))
    }
}

fn joins(first: &dyn Method, second: &dyn Method) -> bool {
    first.chooses_while_solving() && second.joins_a_solver()
}

/// Two steps in one loop have one value of what they share: that of the step that gives it.
fn share_parameters(steps: &[&Step], method: &dyn Method, parameters: &mut Parameters) -> Result<()> {
    for name in method.parameters().iter().map(|parameter| parameter.name) {
        for value in steps.iter().filter_map(|step| step.parameters.get(name)) {
            let own = parameters.entry(name.to_owned()).or_insert_with(|| value.clone());
            if own != value {
                return Err(Error::mistake(format!(
                    "the steps share one loop, and give `{name}` as {own} and as {value}; accepted is one value"
                )));
            }
        }
    }
    Ok(())
}

/// What two stages that ran one after the other did, given the error of both together.
fn of_both(
    pruned: CompressionOutcome,
    mut outcome: CompressionOutcome,
    (error, basis): (f64, ErrorBasis),
) -> CompressionOutcome {
    outcome.dead_columns = outcome.dead_columns.max(pruned.dead_columns);
    let details = std::mem::replace(&mut outcome.details, pruned.details);
    outcome.details.extend([details]);
    CompressionOutcome { error, basis, ..outcome }
}

/// The relative squared error of two stages together, by what is known of the inputs.
fn error_of_all(
    before: &[f32],
    after: &[f32],
    columns: usize,
    inputs: Option<&InputStatistics>,
) -> Result<(f64, ErrorBasis)> {
    if let Some((gram, inputs)) = inputs.and_then(|inputs| Some((inputs.gram()?, inputs))) {
        let lost: Vec<f32> = before.iter().zip(after).map(|(before, after)| before - after).collect();
        let [lost, all] = [&lost[..], before].map(|w| output_energy(w, gram, 0.0, inputs.sequences));
        return Ok((if all > 0.0 { lost / all } else { 0.0 }, ErrorBasis::Hessian));
    }
    Ok(match inputs.map(InputStatistics::input_norms_squared).transpose()? {
        Some(norms) => (weighted_error(before, after, Some(&norms), columns), ErrorBasis::ColumnNorms),
        None => (weighted_error(before, after, None, columns), ErrorBasis::Weights),
    })
}
