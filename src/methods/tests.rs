//! Every method of the registry, through all that is asked of one.

use candle_core::DType;
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::kernels::matmul::gram_lower;
use crate::store::stored::Stored;
use crate::study::{CellSpec, Recipe, Step};

const ROWS: usize = 24;
const COLUMNS: usize = 32;
const TOKENS: usize = 80;

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Weights of a model in bf16.
    (0..count).map(|_| bf16::from_f32(random.random_range(-1.0..1.0)).to_f32()).collect()
}

fn inputs(needs: Needs) -> Option<InputStatistics> {
    let x = random(TOKENS * COLUMNS, 5);
    let statistics = match needs {
        Needs::Nothing => return None,
        Needs::ColumnNorms => {
            let square = |j: usize| x.iter().skip(j).step_by(COLUMNS).map(|v| f64::from(*v).powi(2)).sum();
            Statistics::ColumnNorms((0..COLUMNS).map(square).collect())
        }
        Needs::Hessian => {
            let mut gram = vec![0f32; COLUMNS * COLUMNS];
            gram_lower(&mut gram, &x, COLUMNS);
            Statistics::Gram(gram)
        }
    };
    Some(InputStatistics::new(statistics, COLUMNS, 4))
}

fn run(method: &dyn Method, level: Level, weights: &mut [f32]) -> CompressionOutcome {
    let matrix = Matrix::new(weights, COLUMNS);
    let mut inputs = inputs(method.needs());
    method.run(matrix, inputs.as_mut(), level, &method.default_arguments(), &|| false).unwrap()
}

#[test]
fn names_are_words_and_stand_for_one_method() {
    for (i, method) in METHODS.iter().enumerate() {
        let name = method.name();
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{name}");
        assert!(METHODS[..i].iter().all(|other| other.name() != name), "{name} is there twice");
        assert_eq!(find(&format!(" {} ", name.to_uppercase())).unwrap().name(), name);
        assert!(!method.about().is_empty() && !method.about().contains('\n'), "{name}");
        let grows = method.cost(64, 32).operations > method.cost(32, 32).operations;
        assert_eq!(grows, method.family() != Family::Structure, "{name}");
        for parameter in method.parameters() {
            let parameters = [(parameter.name.into(), parameter.default())].into();
            let step = Step { parameters, ..Step::new(name, usual(*method)) };
            Procedure::of(&step.into(), &Parameters::new()).unwrap();
        }
    }
    let message = find("random").unwrap_err().to_string();
    assert!(METHODS.iter().all(|method| message.contains(method.name())), "{message}");
}

/// A level of the method's family.
fn usual(method: &dyn Method) -> Level {
    match method.family() {
        Family::Structure => Level::Share(0.25),
        Family::Prune => Sparsity::Fraction(0.5).into(),
        Family::Quantise => Level::Bits(4),
        Family::Format => "q4_0".parse().unwrap(),
    }
}

/// Those of the registry that belong to a family.
fn of(family: Family) -> impl Iterator<Item = &'static dyn Method> {
    METHODS.iter().copied().filter(move |method| method.family() == family)
}

#[test]
fn every_method_that_prunes_keeps_what_it_says_at_every_kind_of_level() {
    for method in of(Family::Prune) {
        for (text, zeros) in [("50%", 0.5), ("12.5%", 0.125), ("2:4", 0.5), ("6:8", 0.75), ("0", 0.0)] {
            let level: Level = text.parse().unwrap();
            let source = random(ROWS * COLUMNS, 3);
            let mut weights = source.clone();
            let outcome = run(method, level, &mut weights);
            let shape = [ROWS, COLUMNS];
            let stored = Stored::keep(&mut weights, shape, DType::BF16, method.updates_weights()).unwrap();
            let found = stored.footprint(&weights, 16);
            let off = (found.sparsity() - zeros).abs();
            assert!(off < 0.01, "{} {text}: {}", method.name(), found.sparsity());
            assert!((0.0..1.0).contains(&outcome.error), "{} {text}: {}", method.name(), outcome.error);
            // What is kept is what was measured, whatever the checkpoint holds of it.
            let again = stored.weights(|| Ok(source.clone())).unwrap().to_dtype(DType::F32).unwrap();
            assert_eq!(again.flatten_all().unwrap().to_vec1::<f32>().unwrap(), weights, "{}", method.name());
            assert_eq!(run(method, level, &mut source.clone()), outcome, "the same again");
        }
    }
}

#[test]
fn groups_that_do_not_fill_a_row_are_refused_by_every_method() {
    for method in METHODS {
        let (recipe, part) = match method.family() {
            // What does not fit a format gets another, and what is removed whole has no groups.
            Family::Format | Family::Structure => continue,
            Family::Prune => (format!("{}@1:5", method.name()), "1:5"),
            Family::Quantise => (format!("{}@4bit,group=128", method.name()), "accepted is 32, row"),
        };
        let procedure = Procedure::of(&recipe.parse().unwrap(), &Parameters::new()).unwrap();
        let [stage] = procedure.stages() else { panic!("one stage") };
        let level = stage.level;
        let message = procedure.check(COLUMNS, "q_proj").unwrap_err().to_string();
        assert!(message.contains("q_proj") && message.contains(part), "{message}");
        let mut weights = random(ROWS * COLUMNS, 3);
        let matrix = Matrix::new(&mut weights, COLUMNS);
        let mut inputs = inputs(method.needs());
        let result = method.run(matrix, inputs.as_mut(), level, &stage.arguments, &|| false);
        assert_eq!(result.unwrap_err().exit_code(), 2, "{}", method.name());
    }
}

/// Blocks whose figures all rise with their number.
struct RisingModel(usize);

impl DenseModel for RisingModel {
    fn survey(&mut self) -> Result<Survey> {
        let figures = |count: usize| (0..count).map(|block| 0.1 + block as f64).collect::<Vec<_>>();
        let angles = (0..self.0).map(|spanned| figures(self.0 - spanned)).collect();
        Ok(Survey { windows: 1, influence: figures(self.0), angles, ..Survey::default() })
    }

    fn losses_without(&mut self, _removed: &[usize], candidates: &[usize]) -> Result<Vec<f64>> {
        Ok(candidates.iter().map(|block| *block as f64).collect())
    }
}

#[test]
fn every_method_that_removes_blocks_removes_as_many_as_it_says_and_refuses_what_leaves_none() {
    for method in of(Family::Structure) {
        let name = method.name();
        assert!(method.needs_calibration() && !method.updates_weights(), "{name}");
        let Some(removal) = method.block_removal() else {
            assert!(method.width_removal().is_some() || method.expert_removal().is_some(), "{name}");
            continue;
        };
        for parameter in method.parameters() {
            let ParameterKind::Choice(words) = parameter.kind else { continue };
            for word in words {
                for (level, blocks, expected) in
                    [("25%", 30, 8), ("10%", 30, 3), ("1block", 4, 1), ("1%", 30, 1), ("8blocks", 12, 8)]
                {
                    let recipe: Recipe = format!("{name}@{level},{}={word}", parameter.name).parse().unwrap();
                    let procedure = Procedure::of(&recipe, &Parameters::new()).unwrap();
                    assert_eq!(procedure.blocks_removed(blocks).unwrap(), expected, "{recipe}");
                    let (stage, _) = procedure.removal().unwrap();
                    let chosen =
                        removal.choose(&mut RisingModel(blocks), blocks, expected, &stage.arguments).unwrap();
                    assert_eq!(chosen.len(), expected, "{recipe}");
                    assert!(
                        chosen.is_sorted_by(|a, b| a < b) && chosen.iter().all(|b| *b < blocks),
                        "{chosen:?}"
                    );
                    // Nothing is left to do with matrices, and nothing is zero.
                    assert!(procedure.stages().is_empty() && procedure.zeros() == 0.0, "{recipe}");
                    assert_eq!(procedure.needs(), Needs::Nothing);
                    assert_eq!(procedure.looks_at_data(), Some(method));
                }
                for (level, part) in [("99%", "removes 4 of the 4 blocks"), ("4blocks", "accepted are 1 to")]
                {
                    let recipe: Recipe = format!("{name}@{level},{}={word}", parameter.name).parse().unwrap();
                    let procedure = Procedure::of(&recipe, &Parameters::new()).unwrap();
                    let error = procedure.blocks_removed(4).unwrap_err();
                    assert!(error.exit_code() == 2 && error.to_string().contains(part), "{recipe}: {error}");
                }
            }
        }
    }
}

#[test]
fn as_many_experts_go_as_a_share_says_and_as_many_stay_as_a_token_goes_through() {
    let procedure = |level: &str| {
        Procedure::of(&format!("experts@{level}").parse().unwrap(), &Parameters::new()).unwrap()
    };
    for (level, experts, count) in [
        ("25%", (8, 2), 2),
        ("75%", (8, 2), 6),
        ("20%", (8, 2), 1),
        ("58%", (50, 4), 29),
        ("0.5", (128, 8), 64),
    ] {
        assert_eq!(procedure(level).experts_removed(Some(experts)).unwrap(), count, "{level} of {experts:?}");
        assert_eq!(procedure(level).blocks_removed(4).unwrap(), 0);
        assert!(procedure(level).stages().is_empty() && procedure(level).reads_survey(4));
    }
    for (level, experts, part) in [
        ("10%", Some((8, 2)), "removes 0 of the 8 experts of a block"),
        ("90%", Some((8, 2)), "a token goes through 2 of them, so accepted are 1 to 6, that is 13% to 75%"),
        ("50%", Some((2, 2)), "a token goes through all of them, so none can go"),
        ("25%", None, "the model is no mixture of experts"),
    ] {
        let error = procedure(level).experts_removed(experts).unwrap_err();
        assert!(error.to_string().contains(part) && error.exit_code() == 2, "{error}");
    }
}

#[test]
fn what_is_removed_comes_first_and_once() {
    for text in [
        "depth@25%+wanda@50%",
        "depth@8blocks+gptq@4bit,group=64",
        "depth@25%+sparsegpt@50%+gptq@4bit",
        "depth@25%+kquant@q4_k",
        "experts@25%+wanda@50%+gptq@4bit",
        "width@25%+sparsegpt@50%+gptq@4bit",
    ] {
        let procedure = Procedure::of(&text.parse().unwrap(), &Parameters::new()).unwrap();
        assert_eq!(procedure.stages().len(), text.matches('+').count(), "{text}");
        assert_eq!(procedure.blocks_removed(4).is_ok(), text.contains("25%"), "{text}");
    }
    let both =
        Procedure::of(&"depth@25%+experts@50%+gptq@4bit".parse().unwrap(), &Parameters::new()).unwrap();
    assert_eq!((both.blocks_removed(4).unwrap(), both.experts_removed(Some((8, 2))).unwrap()), (1, 4));
    assert_eq!(both.stages().len(), 1);
    let both = "depth@25%+width@20%+wanda@2:4".parse().unwrap();
    let both = Procedure::of(&both, &Parameters::new()).unwrap();
    assert!(both.removal().is_some() && both.narrowing().is_some() && both.stages().len() == 1);
    assert_eq!((both.narrowed_share(), both.column_multiple()), (0.2, 4));
    for (text, part) in [
        ("wanda@50%+depth@25%", "comes first"),
        ("depth@25%+depth@1block", "only one step can remove"),
        ("width@25%+width@10%", "only one step can remove"),
        ("width@20%+depth@25%", "blocks go before parts of blocks"),
        ("wanda@50%+width@25%", "comes first"),
        ("width@8blocks", "accepted is a share above 0"),
        ("width@20%,of=heads", "auto or both or mlp"),
        ("depth@25%+gptq@4bit+wanda@50%", "do not go together"),
        ("depth@0", "accepted are a share above 0"),
        ("depth@4bit", "none of its levels"),
        ("depth@0blocks", "none of its levels"),
        ("wanda@8blocks", "is no sparsity"),
        ("wanda@50%+experts@25%", "comes first"),
        ("experts@25%+experts@50%", "only one step can remove"),
        ("experts@25%+depth@25%", "blocks go before parts of blocks"),
        ("experts@2blocks", "accepted is a share above 0"),
        ("experts@25%,by=loss", "no parameter"),
    ] {
        let error = Procedure::of(&text.parse().unwrap(), &Parameters::new()).unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn a_method_without_its_inputs_fails_and_says_so() {
    for method in METHODS.iter().filter(|method| method.needs() != Needs::Nothing) {
        let mut weights = random(ROWS * COLUMNS, 3);
        let matrix = Matrix::new(&mut weights, COLUMNS);
        let level = usual(*method);
        let of_rows = Parameters::from([("group".into(), "row".into())]);
        let arguments = method.arguments(&Parameters::new(), &of_rows).unwrap();
        let error = method.run(matrix, None, level, &arguments, &|| false).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{}: {error}", method.name());
    }
}

#[test]
fn parameters_of_a_recipe_go_before_the_studys_and_are_checked() {
    let study = Parameters::from([("damping".into(), "0.05".into()), ("block_size".into(), "64".into())]);
    let number = |recipe: &str| {
        let procedure = Procedure::of(&recipe.parse().unwrap(), &study).unwrap();
        let [stage] = procedure.stages() else { panic!("one stage") };
        let damping = stage.method.parameters().iter().find(|p| p.name == "damping").unwrap();
        stage.arguments.number(damping)
    };
    assert!((number("sparsegpt@50%") - 0.05).abs() < 1e-12);
    assert!((number("sparsegpt@50%,damping=0.2") - 0.2).abs() < 1e-12);
    for (recipe, part) in [
        ("random@50%", "unknown method `random`"),
        ("magnitude@50%,damping=1", "magnitude has no parameter `damping`; accepted: swaps"),
        ("magnitude@50%,gptq", "gptq has no level; accepted is METHOD@LEVEL"),
        ("sparsegpt@50%,a=1", "accepted: damping, block_size"),
        ("sparsegpt@50%,damping=-1", "damping `-1`: accepted is a number from 0"),
        ("sparsegpt@50%,block_size=0", "block_size `0`: accepted is a whole number from 1"),
        ("wanda@50%+magnitude@2:4", "do not go together"),
        ("gptq@4bit+wanda@50%", "do not go together"),
        ("wanda@50%+kquant@q4_k", "do not go together"),
        (
            "kquant@50%",
            "kquant writes formats of llama.cpp, and knows no level `50%`; accepted are q8_0, q6_k",
        ),
        ("kquant@q9", "knows no level `q9`"),
        ("kquant@q4_k,head=q9", "head `q9`: accepted is auto or source or q8_0"),
        ("wanda@q4_k", "wanda prunes, and `q4_k` is no sparsity"),
        ("wanda@4bit", "wanda prunes, and `4bit` is no sparsity"),
        ("gptq@50%", "gptq quantises, and knows no level `50%`; accepted are 8bit, 4bit, 3bit, 2bit"),
        ("rtn@5bit", "8bit, 4bit, 3bit, 2bit"),
        ("rtn@4bit,group=48", "accepted is 64 or row or 128 or 32"),
        ("sparsegpt@50%,damping=0.1+gptq@4bit,damping=0.2", "share one loop"),
    ] {
        let message = Procedure::of(&recipe.parse().unwrap(), &study).unwrap_err().to_string();
        assert!(message.contains(part) && message.contains(&format!("recipe `{recipe}`")), "{message}");
    }
}

#[test]
fn every_method_that_quantises_keeps_what_its_codes_stand_for() {
    for method in of(Family::Quantise) {
        for bits in BITS {
            let source = random(ROWS * COLUMNS, 3);
            let mut weights = source.clone();
            let recipe: Recipe = format!("{}@{bits}bit,group=32", method.name()).parse().unwrap();
            let procedure = Procedure::of(&recipe, &Parameters::new()).unwrap();
            let matrix = Matrix { dtype: DType::BF16, ..Matrix::new(&mut weights, COLUMNS) };
            let outcome = procedure.run(matrix, inputs(procedure.needs()).as_mut(), &|| false).unwrap();
            let bound = 0.5 / f64::from(1u32 << (2 * bits - 4));
            assert!((0.0..bound).contains(&outcome.error), "{recipe}: {}", outcome.error);
            let Some(Encoded::Codes(codes)) = outcome.encoded else { panic!("{recipe}: no codes") };
            let stored = Stored::Codes(codes);
            let again = stored.weights(|| panic!("codes need no source")).unwrap();
            assert_eq!(again.flatten_all().unwrap().to_vec1::<f32>().unwrap(), weights, "{recipe}");
            // Codes, a scale of 16 bits and a zero of as many as a code, for every 32 weights.
            let expected = f64::from(bits) + (16.0 + f64::from(bits)) / 32.0;
            let found = stored.footprint(&weights, 16).bits_per_weight();
            assert!((found - expected).abs() < 1e-12, "{recipe}: {found}");
        }
    }
}

#[test]
fn every_format_keeps_what_its_blocks_stand_for_with_importance_and_without() {
    for method in of(Family::Format) {
        for format in FORMATS {
            let mut errors = Vec::new();
            for more in ["", ",imatrix"] {
                let source = random(ROWS * COLUMNS, 3);
                let mut weights = source.clone();
                let recipe: Recipe = format!("{}@{format}{more}", method.name()).parse().unwrap();
                let procedure = Procedure::of(&recipe, &Parameters::new()).unwrap();
                assert_eq!(procedure.needs() == Needs::Nothing, more.is_empty(), "{recipe}");
                assert_eq!(needs_calibration(&recipe), !more.is_empty(), "{recipe}");
                let mut inputs = inputs(Needs::ColumnNorms);
                let outcome =
                    procedure.run(Matrix::new(&mut weights, COLUMNS), inputs.as_mut(), &|| false).unwrap();
                let norms = inputs.as_ref().unwrap().input_norms_squared().unwrap();
                errors.push(weighted_error(&source, &weights, Some(&norms), COLUMNS));
                assert!((0.0..0.02).contains(&outcome.error), "{recipe}: {}", outcome.error);
                let Some(Encoded::Blocks(blocks)) = outcome.encoded else { panic!("{recipe}: no blocks") };
                let stored = Stored::Blocks(blocks);
                let again = stored.weights(|| panic!("blocks need no source")).unwrap();
                assert_eq!(again.flatten_all().unwrap().to_vec1::<f32>().unwrap(), weights, "{recipe}");
                let bits = outcome.details.get("bits").unwrap();
                assert!((stored.footprint(&weights, 16).bits_per_weight() - bits).abs() < 1e-9, "{recipe}");
            }
            // Rows of 32 are small blocks; of these only Q8_0 has nothing to choose.
            assert!(errors[1] <= errors[0], "{format}: {errors:?}");
        }
    }
}

#[test]
fn zeros_stay_zeros_whatever_quantises_behind_what_prunes() {
    for pruning in of(Family::Prune) {
        for quantising in of(Family::Quantise) {
            for level in ["50%", "2:4"] {
                for more in ["", ",sym"] {
                    let text =
                        format!("{}@{level}+{}@4bit,group=32{more}", pruning.name(), quantising.name());
                    let recipe: Recipe = text.parse().unwrap();
                    let procedure = Procedure::of(&recipe, &Parameters::new()).unwrap();
                    let mut weights = random(ROWS * COLUMNS, 3);
                    let mut pruned = weights.clone();
                    if !pruning.updates_weights() {
                        run(pruning, level.parse().unwrap(), &mut pruned);
                    }
                    let matrix = Matrix::new(&mut weights, COLUMNS);
                    let outcome =
                        procedure.run(matrix, inputs(procedure.needs()).as_mut(), &|| false).unwrap();
                    let zeros = weights.iter().filter(|w| **w == 0.0).count();
                    assert!(zeros >= ROWS * COLUMNS / 2 - ROWS, "{text}: {zeros}");
                    assert!(zeros < ROWS * COLUMNS * 3 / 4, "{text}: {zeros}");
                    let kept = |(before, after): (&f32, &f32)| *before != 0.0 || *after == 0.0;
                    let checked = if pruning.updates_weights() { &weights } else { &pruned };
                    assert!(checked.iter().zip(&weights).all(kept), "{text}");
                    assert!((0.0..1.0).contains(&outcome.error), "{text}: {}", outcome.error);
                    let Some(Encoded::Codes(codes)) = outcome.encoded else { panic!("{text}: no codes") };
                    assert_eq!(codes.values(), weights, "{text}");
                }
            }
        }
    }
}

#[test]
fn a_grid_repeats_only_methods_that_look_at_data() {
    let sets = ["x/c4.txt".to_string(), "alpaca".to_string()];
    let sparsities = [Sparsity::Fraction(0.5), Sparsity::SemiStructured { zeros: 2, group: 4 }];
    let levels = GridLevels { sparsities: sparsities.into(), ..GridLevels::default() };
    let mut recipes = recipes(&["magnitude", "wanda"], &levels);
    recipes.push("wanda@60%".parse().unwrap());
    let ids: Vec<String> = grid(&recipes, &sets, 7).iter().map(CellSpec::id).collect();
    let expected = [
        "magnitude-0.5",
        "magnitude-2of4",
        "wanda-0.5-c4-s7",
        "wanda-2of4-c4-s7",
        "wanda-0.6-c4-s7",
        "wanda-0.5-alpaca-s7",
        "wanda-2of4-alpaca-s7",
        "wanda-0.6-alpaca-s7",
    ];
    assert_eq!(ids, expected);
}
