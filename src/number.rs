//! Floats that JSON cannot hold are written as the strings `inf`, `-inf` and `nan`, so that nothing is lost.

use serde::{Deserialize, Deserializer, Serializer};

/// Writes a float, or its name where JSON has no number for it.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
pub fn serialize<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
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
    use super::{Deserialize, Deserializer, Serializer};
    use serde::Serialize;

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "single")] f32);

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
        s.collect_seq(values.iter().map(|value| Wrapped(*value)))
    }

    /// Reads what [`serialize`] wrote.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f32>, D::Error> {
        Ok(Vec::<Wrapped>::deserialize(d)?.into_iter().map(|wrapped| wrapped.0).collect())
    }
}

/// The same for a pair.
pub mod pair {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::Serialize;
    use serde::ser::SerializeTuple;

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super")] f64);

    /// Writes two floats as a list.
    pub fn serialize<S: Serializer>(value: &[f64; 2], s: S) -> Result<S::Ok, S::Error> {
        let mut tuple = s.serialize_tuple(2)?;
        tuple.serialize_element(&Wrapped(value[0]))?;
        tuple.serialize_element(&Wrapped(value[1]))?;
        tuple.end()
    }

    /// Reads what [`serialize`] wrote.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[f64; 2], D::Error> {
        let [a, b] = <[Wrapped; 2]>::deserialize(d)?;
        Ok([a.0, b.0])
    }
}
