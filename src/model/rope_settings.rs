//! The settings of the rotary embedding in a `config.json`, in all their spellings.

use std::sync::Arc;

use serde_json::Value;

use super::json::JsonFile;
use super::rope::{Rope, RopeScaling};
use crate::error::Result;

/// The keys that settings of the rotary embedding are found under, the one that counts first. Since version 5
/// `transformers` writes the second, and still takes the first where it is there and not empty.
const SPELLINGS: [&str; 2] = ["rope_scaling", "rope_parameters"];

const ABOVE_ZERO: &str = "a number above 0";

/// The length of the context that a model had before it was stretched.
const ORIGINAL: &str = "original_max_position_embeddings";

/// Where a family keeps the base of its frequencies, and what it takes where nothing is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct RopeReader<'a> {
    pub theta_key: &'a str,
    pub theta: f64,
    /// Longest context, in tokens; also the original one where none is said.
    pub context: usize,
    /// Pairs of features that turn.
    pub pairs: usize,
    /// Whether the family knows the kind `proportional`.
    pub proportional: bool,
}

impl RopeReader<'_> {
    /// Reads the settings. What contradicts itself is settled as `transformers` does, and told in `warnings`.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] naming the key that makes no sense.
    pub fn read(self, json: &JsonFile<'_>, warnings: &mut Vec<String>) -> Result<Rope> {
        let [old, new] = SPELLINGS.map(|key| json.object(key));
        let (old, new) = (old?, new?);
        let (found, other) = if old.is_some() { (old, new) } else { (new, None) };
        let Some(found) = found else { return self.plain(json) };
        let rope = self.of(json, &found, warnings)?;
        if let Some(other) = other {
            // What is not used may be anything, also something unknown.
            if self.of(json, &other, &mut Vec::new()).ok().as_ref() != Some(&rope) {
                let [used, unused] = SPELLINGS;
                warnings.push(json.note(&format!(
                    "`{used}` and `{unused}` contradict each other: `{used}` is used, as transformers does"
                )));
            }
        }
        Ok(rope)
    }

    /// Reads settings without a stretch: the base alone.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn plain(self, json: &JsonFile<'_>) -> Result<Rope> {
        let theta = json.number_or(self.theta_key, self.theta, ABOVE_ZERO, |v| v > 0.0)?;
        Ok(Rope { theta, scaling: RopeScaling::None })
    }

    /// Reads the settings of one kind of block, `full_attention` or `sliding_attention`, where `rope_parameters` has
    /// them one by one; `None` where it has not.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_kind(
        self,
        json: &JsonFile<'_>,
        kind: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Rope>> {
        let Some(settings) = json.object(SPELLINGS[1])? else { return Ok(None) };
        if !settings.map.values().any(Value::is_object) {
            return Ok(None);
        }
        let missing =
            || settings.wrong(&format!("`{}{kind}` is missing: accepted is an object", settings.prefix));
        let settings = settings.object(kind)?.ok_or_else(missing)?;
        self.of(json, &settings, warnings).map(Some)
    }

    /// The settings of one object.
    fn of(self, json: &JsonFile<'_>, settings: &JsonFile<'_>, warnings: &mut Vec<String>) -> Result<Rope> {
        const ACCEPTED: &str = "default, linear, llama3, dynamic, yarn or longrope";
        const WITH_PROPORTIONAL: &str = "default, proportional, linear, llama3, dynamic, yarn or longrope";
        let key = self.theta_key;
        let outer = json.number_or(key, self.theta, ABOVE_ZERO, |v| v > 0.0)?;
        let theta = settings.number_or("rope_theta", outer, ABOVE_ZERO, |v| v > 0.0)?;
        #[allow(clippy::float_cmp, reason = "what is said twice is the same number")]
        if json.get(key).is_some() && outer != theta {
            warnings.push(json.note(&format!(
                "`{key}` is {outer} and `{}rope_theta` is {theta}: the second is used, as transformers does",
                settings.prefix
            )));
        }
        if settings.map.values().any(Value::is_object) {
            return Err(settings.wrong(&format!(
                "`{}` has settings for each kind of block: accepted is one for all",
                settings.prefix.trim_end_matches('.')
            )));
        }
        let default = Value::from("default");
        let kinds = ["rope_type", "type"].map(|key| settings.get(key).map(|kind| (key, kind)));
        if let [Some((_, kind)), Some((_, other))] = kinds
            && kind != other
        {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            warnings.push(json.note(&format!(
                "`{0}rope_type` is {1} and `{0}type` is {2}: the first is used, as transformers does",
                settings.prefix,
                text(kind),
                text(other)
            )));
        }
        let (key, kind) = kinds.into_iter().flatten().next().unwrap_or(("rope_type", &default));
        let scaling = match kind.as_str() {
            Some("default") => {
                if settings.get("factor").is_some_and(|factor| factor.as_f64() != Some(1.0)) {
                    warnings.push(json.note(&format!(
                        "`{0}factor` is given and `{0}{key}` is not, or is default: nothing is stretched, as with \
                         transformers",
                        settings.prefix
                    )));
                }
                RopeScaling::None
            }
            Some("proportional") if self.proportional => {
                let accepted = "a number above 0, at most 1";
                RopeScaling::Proportional {
                    part: settings
                        .number_or("partial_rotary_factor", 1.0, accepted, |v| v > 0.0 && v <= 1.0)?,
                    factor: settings.number_or("factor", 1.0, "a number of at least 1", |v| v >= 1.0)?,
                }
            }
            Some("linear") => RopeScaling::Linear { factor: factor(settings)? },
            Some("llama3") => self.llama3(json, settings, warnings)?,
            Some("dynamic") => self.dynamic(settings)?,
            Some("yarn") => self.yarn(json, settings, warnings)?,
            Some("longrope" | "su") => self.longrope(json, settings, warnings)?,
            _ if self.proportional => return Err(settings.unexpected(key, kind, WITH_PROPORTIONAL)),
            _ => return Err(settings.unexpected(key, kind, ACCEPTED)),
        };
        Ok(Rope { theta, scaling })
    }

    fn llama3(
        self,
        json: &JsonFile<'_>,
        settings: &JsonFile<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<RopeScaling> {
        let low_freq_factor = settings.number("low_freq_factor", ABOVE_ZERO, |v| v > 0.0)?;
        let above = format!("a number above `low_freq_factor`, {low_freq_factor}");
        Ok(RopeScaling::Llama3 {
            original_max_position_embeddings: self.original(json, settings, warnings)?,
            factor: factor(settings)?,
            low_freq_factor,
            high_freq_factor: settings.number("high_freq_factor", &above, |v| v > low_freq_factor)?,
        })
    }

    fn dynamic(self, settings: &JsonFile<'_>) -> Result<RopeScaling> {
        if self.pairs < 2 {
            return Err(settings.wrong("dynamic rope scaling needs heads of more than 2 features that turn"));
        }
        Ok(RopeScaling::Dynamic { factor: factor(settings)?, max_position_embeddings: self.context })
    }

    fn yarn(
        self,
        json: &JsonFile<'_>,
        settings: &JsonFile<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<RopeScaling> {
        let factor = factor(settings)?;
        let positive = |key, default| settings.number_or(key, default, ABOVE_ZERO, |v| v > 0.0);
        let scale = |mscale: f64| 0.1 * mscale * factor.ln() + 1.0;
        // A zero counts as absent.
        let mscale = |key| settings.number_or(key, 0.0, "a number of at least 0", |v| v >= 0.0);
        let (one, all) = (mscale("mscale")?, mscale("mscale_all_dim")?);
        let attention = if one > 0.0 && all > 0.0 { scale(one) / scale(all) } else { scale(1.0) };
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: positive("beta_fast", 32.0)?,
            beta_slow: positive("beta_slow", 1.0)?,
            truncate: settings.bool_or("truncate", true)?,
            original_max_position_embeddings: self.original(json, settings, warnings)?,
            attention_factor: positive("attention_factor", attention)?,
        })
    }

    fn longrope(
        self,
        json: &JsonFile<'_>,
        settings: &JsonFile<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<RopeScaling> {
        let original = self.original(json, settings, warnings)?;
        let stretch =
            settings.number_or("factor", self.context as f64 / original as f64, ABOVE_ZERO, |v| v > 0.0)?;
        let attention = if stretch > 1.0 && original > 1 {
            (1.0 + stretch.ln() / (original as f64).ln()).sqrt()
        } else {
            1.0
        };
        Ok(RopeScaling::LongRope {
            short_factor: self.factors(settings, "short_factor")?,
            long_factor: self.factors(settings, "long_factor")?,
            original_max_position_embeddings: original,
            attention_factor: settings.number_or("attention_factor", attention, ABOVE_ZERO, |v| v > 0.0)?,
        })
    }

    /// A list with one number a pair.
    fn factors(self, settings: &JsonFile<'_>, key: &str) -> Result<Arc<[f64]>> {
        let accepted = format!("a list of {} numbers above 0, one for each pair that turns", self.pairs);
        let value = settings.required(key, &accepted)?;
        let numbers = value.as_array().and_then(|list| {
            let numbers = list.iter().map(|v| v.as_f64().filter(|v| *v > 0.0));
            numbers.collect::<Option<Vec<f64>>>()
        });
        match numbers {
            Some(numbers) if numbers.len() == self.pairs => Ok(numbers.into()),
            Some(numbers) => Err(settings.wrong(&format!(
                "`{}{key}` has {} entries: accepted is {accepted}",
                settings.prefix,
                numbers.len()
            ))),
            None => Err(settings.unexpected(key, value, &accepted)),
        }
    }

    /// The original context: one beside the settings counts more than one in them.
    fn original(
        self,
        json: &JsonFile<'_>,
        settings: &JsonFile<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<usize> {
        let inner = settings.positive_or(ORIGINAL, self.context)?;
        let original = json.positive_or(ORIGINAL, inner)?;
        if settings.get(ORIGINAL).is_some() && original != inner {
            warnings.push(json.note(&format!(
                "`{ORIGINAL}` is {original} and `{}{ORIGINAL}` is {inner}: the first is used, as transformers does",
                settings.prefix
            )));
        }
        Ok(original)
    }
}

/// The part of a head that turns: `key` beside the settings or `partial_rotary_factor` in them, else `default`. Without a
/// default the family turns whole heads, and only 1 is accepted.
///
/// # Errors
/// [`crate::Error::Mistake`] naming the key that makes no sense.
pub(super) fn rotary_part(json: &JsonFile<'_>, key: &str, default: Option<f64>) -> Result<f64> {
    const INNER: &str = "partial_rotary_factor";
    let accepted = if default.is_some() { "a number above 0, at most 1" } else { "only 1" };
    let fits = |v: f64| if default.is_some() { v > 0.0 && v <= 1.0 } else { (v - 1.0).abs() < 1e-9 };
    let outer = json.number_or(key, default.unwrap_or(1.0), accepted, fits)?;
    for spelling in SPELLINGS {
        if let Some(settings) = json.object(spelling)?
            && settings.get(INNER).is_some()
        {
            return settings.number(INNER, accepted, fits);
        }
    }
    Ok(outer)
}

fn factor(settings: &JsonFile<'_>) -> Result<f64> {
    settings.number("factor", "a number of at least 1", |v: f64| v >= 1.0 && v.is_finite())
}
