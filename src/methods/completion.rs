//! What may stand next in a recipe that is being typed, and what is wrong with one that is finished.
//!
//! Nothing is listed here: names, parameters and their choices are what the methods say, and only what [`Procedure`]
//! accepts is offered. A new family of methods needs its levels in [`levels`].

use super::{
    BITS, FORMATS, Family, METHODS, Method, Parameter, ParameterKind, Procedure, STRUCTURE_LEVELS, find,
};
use crate::error::{Error, Result};
use crate::study::{Level, Parameters, Recipe};

/// What may stand where a recipe is being typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Completion {
    /// Where the word begins that is being typed, in bytes.
    pub start: usize,
    /// What may stand there and begins as that word does.
    pub words: Vec<String>,
    /// What may stand behind it, where the recipe is whole: `,group=`, `+gptq`.
    pub next: Vec<String>,
    /// What is accepted there: `a method: magnitude, wanda`. Where nothing is, what is wrong before.
    pub expected: String,
}

/// Levels to offer for a method, and what is accepted, in words.
fn levels(method: &dyn Method) -> (Vec<Level>, String) {
    let (mut levels, words) = levels_of(method.family());
    levels.retain(|level| method.takes(*level));
    (levels, method.levels().map_or(words, str::to_owned))
}

/// The same for all methods of a family.
fn levels_of(family: Family) -> (Vec<Level>, String) {
    let list = |levels: &[Level]| levels.iter().map(|level| level.label()).collect::<Vec<_>>().join(", ");
    match family {
        Family::Structure => {
            let usual =
                ["10%", "20%", "30%", "1block", "8blocks"].iter().filter_map(|text| text.parse().ok());
            (usual.map(|level| family.own(level)).collect(), STRUCTURE_LEVELS.into())
        }
        Family::Prune => {
            let usual = ["50%", "60%", "70%", "2:4", "4:8"].iter().filter_map(|text| text.parse().ok());
            (usual.collect(), "a fraction (0.5 or 50%) or N:M (2:4)".into())
        }
        Family::Quantise => {
            let all = BITS.map(Level::Bits);
            (all.to_vec(), list(&all))
        }
        Family::Format => {
            let all: Vec<Level> = FORMATS.iter().filter_map(|name| name.parse().ok()).collect();
            let names = list(&all);
            (all, names)
        }
    }
}

/// What a word of a recipe is.
enum RecipeWord {
    Method,
    Level(&'static dyn Method),
    Parameter(&'static dyn Method),
    Value(&'static Parameter),
}

impl RecipeWord {
    /// What stands behind `before`, which is empty or ends with a sign between words.
    fn behind(before: &str) -> Result<Self> {
        let step = before.rsplit('+').next().unwrap_or_default();
        let method = || find(step.split('@').next().unwrap_or_default());
        match before.trim_end().chars().next_back() {
            None | Some('+') => Ok(Self::Method),
            Some('@') => method().map(Self::Level),
            Some(',') => method().map(Self::Parameter),
            _ => {
                let (method, name) = (method()?, step.rsplit(',').next().unwrap_or_default());
                let name = name.trim_end_matches('=').trim();
                let known = method.parameters().iter().find(|parameter| parameter.name == name);
                known.map(Self::Value).ok_or_else(|| no_parameter(method, name))
            }
        }
    }

    /// All that it may be. A number may be anything in its range: its default is offered.
    fn all(&self) -> Vec<String> {
        match self {
            Self::Method => METHODS.iter().map(|method| method.name().to_owned()).collect(),
            Self::Level(method) => levels(*method).0.into_iter().map(Level::label).collect(),
            Self::Parameter(method) => method.parameters().iter().map(parameter).collect(),
            Self::Value(parameter) => match parameter.kind {
                ParameterKind::Choice(words) => words.iter().map(|&word| word.to_owned()).collect(),
                ParameterKind::Number { .. } | ParameterKind::Count { .. } => vec![parameter.default()],
            },
        }
    }

    /// Whether a recipe that begins with `before` and this word can be finished.
    fn fits(&self, before: &str, word: &str) -> bool {
        let text = format!("{before}{word}");
        let behind = |sign: &str| {
            let text = format!("{text}{sign}");
            let words = Self::behind(&text).map_or_else(|_| Vec::new(), |word| word.all());
            words.iter().any(|word| understand(&format!("{text}{word}")).is_ok())
        };
        match self {
            Self::Method => behind("@"),
            Self::Parameter(_) if word.ends_with('=') => behind(""),
            _ => understand(&text).is_ok(),
        }
    }

    /// Why no word fits behind `before`: what is wrong with that, or with `first`, the first of all words.
    fn why_nothing(&self, before: &str, first: &str) -> String {
        let level = find(first).map(|method| levels(method).0).unwrap_or_default();
        let tried = match (self, level.first()) {
            (Self::Method, Some(level)) => format!("{before}{first}@{level}"),
            (Self::Parameter(_), _) => before.trim_end().trim_end_matches(',').to_owned(),
            _ => format!("{before}{first}"),
        };
        match (self, understand(&tried)) {
            (Self::Method, Err(error)) if !before.is_empty() => {
                let steps = before.trim_end().trim_end_matches('+');
                // The last step that was tried was not typed, so the reason must not quote it.
                match (understand(steps), tried.parse().map(|recipe| Procedure::why_refused(&recipe))) {
                    (Err(own), _) => own.to_string(),
                    (Ok(_), Ok(Some(reason))) => format!("no step goes after `{steps}`: {reason}"),
                    _ => error.to_string(),
                }
            }
            (_, Err(error)) => error.to_string(),
            (Self::Parameter(method), Ok(_)) if first.is_empty() => {
                format!("{} has no parameters", method.name())
            }
            (Self::Parameter(method), Ok(_)) => format!("{} has no other parameter to give", method.name()),
            // What can be understood fits.
            (_, Ok(_)) => String::new(),
        }
    }

    /// What is accepted, given the words that fit.
    fn expected(&self, fitting: &[String]) -> String {
        match self {
            Self::Method => format!("a method: {}", fitting.join(", ")),
            Self::Level(method) => format!("a level of {}: {}", method.name(), levels(*method).1),
            Self::Parameter(_) => format!("a parameter: {}", fitting.join(", ")),
            Self::Value(parameter) => format!("{}: {}", parameter.name, parameter.accepted()),
        }
    }
}

/// A parameter as it begins: its name alone where that says yes.
fn parameter(parameter: &Parameter) -> String {
    let between = if parameter.accepts("yes") { "" } else { "=" };
    format!("{}{between}", parameter.name)
}

fn no_parameter(method: &dyn Method, name: &str) -> Error {
    let known: Vec<&str> = method.parameters().iter().map(|parameter| parameter.name).collect();
    let accepted = if known.is_empty() { "it has none".into() } else { known.join(", ") };
    Error::mistake(format!("{} has no parameter `{name}`; accepted: {accepted}", method.name()))
}

/// What may stand at the end of `text`, the beginning of a recipe.
pub(crate) fn complete(text: &str) -> Completion {
    let sign = text.rfind(['+', '@', ',', '=']).map_or(0, |at| at + 1);
    let start = text.len() - text[sign..].trim_start().len();
    let before = &text[..start];
    let word = match RecipeWord::behind(&text[..sign]) {
        Ok(word) => word,
        Err(error) => return Completion { start, expected: error.to_string(), ..Completion::default() },
    };
    let all = word.all();
    let fitting: Vec<String> = all.iter().filter(|known| word.fits(before, known)).cloned().collect();
    if fitting.is_empty() {
        let expected = word.why_nothing(before, all.first().map_or("", String::as_str));
        return Completion { start, expected, ..Completion::default() };
    }
    let expected = word.expected(&fitting);
    let typed = text[start..].to_ascii_lowercase();
    let words = fitting.into_iter().filter(|known| known.starts_with(&typed)).collect();
    let behind = |sign: &str| {
        let words = complete(&format!("{}{sign}", text.trim_end())).words.into_iter();
        words.map(|word| format!("{sign}{word}")).collect::<Vec<_>>()
    };
    let whole = understand(text).is_ok();
    let next = if whole { [behind(","), behind("+")].concat() } else { Vec::new() };
    Completion { start, words, next, expected }
}

/// Reads a recipe of methods that are known here.
///
/// # Errors
/// [`Error::Mistake`] that says what is accepted where it is wrong first.
pub(crate) fn understand(text: &str) -> Result<Recipe> {
    let belongs_to_the_step_before = |step: &&str| step.contains('=') && !step.contains('@');
    for step in text.split('+').filter(|step| !belongs_to_the_step_before(step)) {
        let head = step.split(',').next().unwrap_or_default();
        let (name, level) = head.split_once('@').unwrap_or((head, ""));
        let method = find(name)?;
        let known: Result<Level> = level.parse();
        if known.and_then(|level| method.check_level(level)).is_err() {
            let (name, accepted) = (method.name(), levels(method).1);
            let level = level.trim();
            return Err(Error::mistake(format!("{name}@{level}: accepted after `{name}@` is {accepted}")));
        }
    }
    let recipe: Recipe = text.parse()?;
    Procedure::of(&recipe, &Parameters::new())?;
    Ok(recipe)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every method with every level that is offered for it.
    fn steps() -> Vec<(&'static dyn Method, String)> {
        let of_method = |method: &&'static dyn Method| {
            let text = format!("{}@", method.name());
            let words = complete(&text).words;
            assert!(words.len() > 1, "{text}: {words:?}");
            words.into_iter().map(|level| (*method, format!("{text}{level}"))).collect::<Vec<_>>()
        };
        METHODS.iter().flat_map(of_method).collect()
    }

    #[test]
    fn every_method_is_offered_from_its_first_letter_on() {
        let names: Vec<&str> = METHODS.iter().map(|method| method.name()).collect();
        assert_eq!(complete("").words, names);
        for name in names {
            for end in 1..=name.len() {
                let found = complete(&format!(" {}", name[..end].to_uppercase()));
                assert!(found.start == 1 && found.words.iter().any(|word| word == name), "{found:?}");
            }
        }
        assert_eq!(complete("x").words, [""; 0]);
    }

    #[test]
    fn every_level_and_parameter_that_is_offered_is_accepted() {
        for (method, step) in steps() {
            let recipe = understand(&step).unwrap();
            assert_eq!(recipe.method(), method.name());
            let offered = complete(&format!("{step},")).words;
            let names: Vec<&str> = offered.iter().map(|word| word.trim_end_matches('=')).collect();
            let known: Vec<&str> = method.parameters().iter().map(|parameter| parameter.name).collect();
            assert_eq!(names, known, "{step}");
            for (parameter, word) in method.parameters().iter().zip(&offered) {
                let values = complete(&format!("{step},{}=", parameter.name)).words;
                assert!(values.contains(&parameter.default()), "{step} {word}: {values:?}");
                if let ParameterKind::Choice(words) = parameter.kind {
                    let accepted = |word: &&&str| {
                        // What spreads a fraction does not go together with N:M.
                        understand(&format!("{step},{}={word}", parameter.name)).is_ok()
                    };
                    assert_eq!(values, words.iter().filter(accepted).copied().collect::<Vec<_>>(), "{step}");
                }
                for value in values {
                    let recipe = understand(&format!("{step},{}={value}", parameter.name)).unwrap();
                    Procedure::of(&recipe, &Parameters::new()).unwrap();
                }
                assert!(word.ends_with('=') || understand(&format!("{step},{word}")).is_ok(), "{word}");
                let again = complete(&format!("{step},{}={},", parameter.name, parameter.default())).words;
                assert!(!again.contains(word), "{word} is given already");
            }
        }
    }

    #[test]
    fn what_is_offered_behind_a_step_is_what_goes_together_with_it() {
        for (first, before) in steps() {
            let offered = complete(&format!("{before}+")).words;
            for (second, behind) in steps() {
                let text = format!("{before}+{behind}");
                let accepted = Procedure::of(&text.parse().unwrap(), &Parameters::new()).is_ok();
                assert_eq!(offered.iter().any(|word| word == second.name()), accepted, "{text}");
            }
            let goes_on = matches!(first.family(), Family::Prune | Family::Structure);
            assert_eq!(offered.is_empty(), !goes_on, "{before}");
        }
    }

    #[test]
    fn a_whole_recipe_says_what_may_stand_behind_it() {
        assert_eq!(complete("gptq@4bit,sym").next, [",group=", ",act_order", ",damping=", ",block_size="]);
        assert_eq!(complete("magnitude@50%").next, [",swaps", ",allocation=", "+rtn", "+gptq"]);
        assert_eq!(complete("sparsegpt@50%,damping=0.02 ").next[0], ",block_size=");
        assert_eq!(complete("gptq@4").next, [""; 0]);
        assert_eq!(complete("wan ").words, [""; 0], "a blank ends a word");
    }

    #[test]
    fn steps_that_share_a_loop_are_offered_one_value_of_what_they_share() {
        let text = "sparsegpt@50%,damping=0.02+gptq@4bit,";
        assert!(!complete(text).words.contains(&"damping=".to_owned()));
        assert!(complete(text).words.contains(&"group=".to_owned()));
    }

    #[test]
    fn the_place_says_what_is_accepted_there() {
        for (text, expected) in [
            ("w", "a method: magnitude, wanda"),
            ("wanda@", "a level of wanda: a fraction (0.5 or 50%) or N:M (2:4)"),
            ("gptq@x", "a level of gptq: 8bit, 4bit, 3bit, 2bit"),
            ("gptq@4bit,", "a parameter: group=, sym, act_order, damping=, block_size="),
            ("gptq@4bit,group=", "group: 64 or row or 128 or 32"),
            ("sparsegpt@2:4,damping=", "damping: a number from 0"),
            ("magnitude@50%+", "a method: rtn, gptq"),
            ("magnitude@50%,", "a parameter: swaps"),
            ("ria@50%,a=0.5,compare=row,swaps,allocation=owl,", "ria has no other parameter to give"),
            ("wanda@2:4,allocation=", "allocation: uniform or owl or error"),
            ("gptq@4bit,depth=", "gptq has no parameter `depth`; accepted: group, sym"),
            ("depth@", "a level of depth: a share above 0 (0.25 or 25%) and a number of blocks (8blocks)"),
            ("depth@8blocks,by=", "by: influence or angular or loss"),
            ("experts@", "a level of experts: a share above 0 (0.25 or 25%)"),
            ("experts@25%,", "experts has no parameters"),
            ("depth@25%+", "a method: magnitude, wanda, sparsegpt, ria, rtn, gptq, kquant, width, experts"),
            ("wanda@50%+depth@", "comes first"),
            ("wandb@", "unknown method `wandb`: accepted are magnitude"),
            ("wanda@4bit,", "wanda@4bit: accepted after `wanda@` is a fraction"),
            ("wandb@50%+", "unknown method `wandb`: accepted are magnitude"),
            ("gptq@4bit+", "no step goes after `gptq@4bit`: these steps do not go together"),
        ] {
            let found = complete(text).expected;
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn a_recipe_that_is_wrong_says_what_is_accepted_where() {
        for (text, part) in [
            ("wan", "unknown method `wan`: accepted are"),
            ("gptq", "gptq@: accepted after `gptq@` is 8bit, 4bit, 3bit, 2bit"),
            ("gptq@", "accepted after `gptq@` is 8bit"),
            ("wanda@150%", "wanda@150%: accepted after `wanda@` is a fraction"),
            ("wanda@50%+rtn@5bit", "rtn@5bit: accepted after `rtn@` is 8bit"),
            ("gptq@4bit,groups=64", "gptq has no parameter `groups`; accepted: group"),
            ("depth@0", "depth@0: accepted after `depth@` is a share above 0"),
            ("depth@2:4", "accepted after `depth@` is a share"),
            (
                "experts@8blocks",
                "experts@8blocks: accepted after `experts@` is a share above 0 (0.25 or 25%)",
            ),
            ("gptq@4bit,group=65", "group `65`: accepted is 64 or row"),
        ] {
            let error = understand(text).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_typed_only_what_can_be_finished_is_offered(
            parts in proptest::collection::vec("wanda|gptq|s|@|50%|4bit|2:4|,|=|\\+|group|sym|é| ", 0..9),
        ) {
            let text = parts.concat();
            let found = complete(&text);
            prop_assert!(text.is_char_boundary(found.start));
            let typed = text[found.start..].to_ascii_lowercase();
            for word in found.words {
                prop_assert!(word.starts_with(&typed), "{text}: {word}");
                // The first of what is offered, again and again, comes to a recipe.
                let mut text = format!("{}{word}", &text[..found.start]);
                for sign in ["", "@", "", ""] {
                    if understand(&text).is_err() {
                        text += sign;
                        let found = complete(&text);
                        prop_assert!(!found.words.is_empty(), "{text}");
                        text = format!("{}{}", &text[..found.start], found.words[0]);
                    }
                }
                prop_assert!(understand(&text).is_ok(), "{text}");
            }
        }
    }
}
