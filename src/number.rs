//! Floats that JSON cannot hold are written as the strings `inf`, `-inf` and `nan`, so that nothing is lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest count that is accepted from a person: products of two of them are still a usize.
pub(crate) const MOST_COUNTED: u64 = 1_000_000_000;

/// Writes a float, or its name where JSON has no number for it.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
pub(crate) fn serialize<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { s.serialize_f64(*value) } else { s.serialize_str(name(*value)) }
}

/// Reads what [`serialize`] wrote.
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(f64),
        Name(String),
    }
    match Either::deserialize(d)? {
        Either::Number(v) => Ok(v),
        Either::Name(n) => match n.as_str() {
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            "nan" => Ok(f64::NAN),
            other => Err(serde::de::Error::custom(format!("`{other}` is no number"))),
        },
    }
}

/// A number as text in full precision, with the names that JSON has for what is none.
pub(crate) fn text(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { name(value).to_owned() }
}

/// The same as JSON has it.
pub(crate) fn json(value: f64) -> String {
    // The shortest text that is read back as the same number; names are strings.
    if value.is_finite() { format!("{value:?}") } else { format!("\"{}\"", name(value)) }
}

fn name(value: f64) -> &'static str {
    if value.is_nan() {
        "nan"
    } else if value > 0.0 {
        "inf"
    } else {
        "-inf"
    }
}

/// The same for a list of single-precision floats.
pub mod list {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct ListNumber(#[serde(with = "single")] f32);

    mod single {
        use super::super::{Deserializer, Serializer, name};

        // Written as the single-precision number it is: 0.1 and not 0.10000000149011612.
        #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
        pub fn serialize<S: Serializer>(value: &f32, s: S) -> Result<S::Ok, S::Error> {
            if value.is_finite() { s.serialize_f32(*value) } else { s.serialize_str(name((*value).into())) }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f32, D::Error> {
            super::super::deserialize(d).map(|value| value as f32)
        }
    }

    /// Writes floats as a list.
    pub fn serialize<S: Serializer>(values: &[f32], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(values.iter().map(|value| ListNumber(*value)))
    }

    /// Reads what [`serialize`] wrote.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f32>, D::Error> {
        Ok(Vec::<ListNumber>::deserialize(d)?.into_iter().map(|number| number.0).collect())
    }
}

/// The same for a pair.
pub mod pair {
    use super::{Deserialize, Deserializer, Serialize, Serializer};
    use serde::ser::SerializeTuple;

    #[derive(Serialize, Deserialize)]
    struct PairNumber(#[serde(with = "super")] f64);

    /// Writes two floats as a list.
    pub fn serialize<S: Serializer>(value: &[f64; 2], s: S) -> Result<S::Ok, S::Error> {
        let mut tuple = s.serialize_tuple(2)?;
        tuple.serialize_element(&PairNumber(value[0]))?;
        tuple.serialize_element(&PairNumber(value[1]))?;
        tuple.end()
    }

    /// Reads what [`serialize`] wrote.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[f64; 2], D::Error> {
        let [a, b] = <[PairNumber; 2]>::deserialize(d)?;
        Ok([a.0, b.0])
    }
}

/// Numbers by name, in the order of their names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamedNumbers(#[serde(with = "map")] BTreeMap<String, f64>);

impl NamedNumbers {
    /// The number of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Puts a number in the place of what has its name.
    pub fn put(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), value);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

impl<'a> FromIterator<(&'a str, f64)> for NamedNumbers {
    fn from_iter<I: IntoIterator<Item = (&'a str, f64)>>(numbers: I) -> Self {
        Self(numbers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

impl Extend<Self> for NamedNumbers {
    /// Those of a later one take the place of what has their name.
    fn extend<I: IntoIterator<Item = Self>>(&mut self, others: I) {
        self.0.extend(others.into_iter().flat_map(|other| other.0));
    }
}

impl std::ops::Index<&str> for NamedNumbers {
    type Output = f64;

    fn index(&self, name: &str) -> &f64 {
        &self.0[name]
    }
}

mod map {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct MapNumber(#[serde(with = "super")] f64);

    pub fn serialize<S: Serializer>(numbers: &BTreeMap<String, f64>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(numbers.iter().map(|(name, value)| (name, MapNumber(*value))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let numbers = BTreeMap::<String, MapNumber>::deserialize(d)?;
        Ok(numbers.into_iter().map(|(name, value)| (name, value.0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_name_come_back_to_the_last_bit_or_by_name() {
        let numbers: NamedNumbers =
            [("b", 0.1 + 0.2), ("a", f64::NEG_INFINITY), ("c", f64::NAN)].into_iter().collect();
        let written = serde_json::to_string(&numbers).unwrap();
        assert_eq!(written, r#"{"a":"-inf","b":0.30000000000000004,"c":"nan"}"#);
        let read: NamedNumbers = serde_json::from_str(&written).unwrap();
        assert_eq!(format!("{read:?}"), format!("{numbers:?}"));
    }

    #[test]
    fn a_number_in_json_is_what_serde_writes() {
        for value in [0.0, -0.0, 0.1, 1.0, 1e300, 5e-324, -1.0 / 3.0, f64::INFINITY, f64::NAN] {
            let numbers: NamedNumbers = [("x", value)].into_iter().collect();
            let serde = serde_json::to_string(&numbers).unwrap();
            let back: NamedNumbers = serde_json::from_str(&format!("{{\"x\":{}}}", json(value))).unwrap();
            assert_eq!(format!("{back:?}"), format!("{numbers:?}"), "{serde}");
        }
    }
}
