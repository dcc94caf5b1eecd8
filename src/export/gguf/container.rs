//! The container: version 3 of GGUF, as `ggml/docs/gguf.md` describes it. All numbers are little-endian.
//!
//! A header with keys, the list of tensors, padding, and the data of every tensor, each padded to 32 bytes. Sizes are
//! known before anything is written, so tensors follow one by one and none has to be kept.

use super::super::part::Output;
use crate::error::{Error, Result};
use crate::kernels::ggml::GgmlType;

/// Where data may begin.
const ALIGNMENT: usize = 32;

/// A value of a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum KeyValue {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Ints(Vec<i32>),
    Floats(Vec<f32>),
}

impl From<u32> for KeyValue {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<f32> for KeyValue {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

impl From<bool> for KeyValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for KeyValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for KeyValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// Keys in the order in which they are written.
pub(super) type Keys = Vec<(String, KeyValue)>;

/// A tensor as the list has it.
#[derive(Debug, Clone)]
pub(super) struct TensorEntry {
    pub name: String,
    /// Sizes, as safetensors has them: rows first.
    pub shape: Vec<usize>,
    pub kind: GgmlType,
}

impl TensorEntry {
    /// Bytes of the data.
    pub fn bytes(&self) -> usize {
        let columns = self.shape.last().copied().unwrap_or(0);
        self.shape[..self.shape.len().saturating_sub(1)].iter().product::<usize>()
            * self.kind.row_bytes(columns)
    }
}

/// Everything before the data.
pub(super) fn header(keys: &Keys, tensors: &[TensorEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(b"GGUF");
    out.extend(3_u32.to_le_bytes());
    put_count(&mut out, tensors.len());
    put_count(&mut out, keys.len());
    for (key, value) in keys {
        put_text(&mut out, key);
        put_value(&mut out, value);
    }
    let mut offset = 0;
    for tensor in tensors {
        put_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for size in tensor.shape.iter().rev() {
            put_count(&mut out, *size);
        }
        out.extend(tensor.kind.code().to_le_bytes());
        put_count(&mut out, offset);
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

/// Fills the data of a tensor up to where the next may begin; refuses data of another length than its entry says.
///
/// # Errors
/// Data that does not fit, a file that cannot be written.
pub(super) fn finish_tensor(tensor: &TensorEntry, written: usize, out: &mut Output<'_>) -> Result<()> {
    if written != tensor.bytes() {
        return Err(Error::failure(format!(
            "{}: {written} bytes were written and {} announced",
            tensor.name,
            tensor.bytes()
        )));
    }
    out.put(&[0; ALIGNMENT][..written.next_multiple_of(ALIGNMENT) - written])
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend((count as u64).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &KeyValue) {
    const ARRAY: u32 = 9;
    let mut head = |codes: &[u32]| codes.iter().for_each(|code| out.extend(code.to_le_bytes()));
    match value {
        KeyValue::U32(value) => head(&[4, *value]),
        KeyValue::F32(value) => head(&[6, value.to_bits()]),
        KeyValue::Bool(value) => {
            head(&[7]);
            out.push(u8::from(*value));
        }
        KeyValue::Text(text) => {
            head(&[8]);
            put_text(out, text);
        }
        KeyValue::Texts(texts) => {
            head(&[ARRAY, 8]);
            put_count(out, texts.len());
            for text in texts {
                put_text(out, text);
            }
        }
        KeyValue::Ints(values) => {
            head(&[ARRAY, 5]);
            put_count(out, values.len());
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        KeyValue::Floats(values) => {
            head(&[ARRAY, 6]);
            put_count(out, values.len());
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::gguf_file::Content;

    use super::*;

    #[test]
    fn another_reader_finds_every_key_and_tensor() {
        let keys: Keys = vec![
            ("a.number".into(), 7_u32.into()),
            ("a.float".into(), 0.5_f32.into()),
            ("a.switch".into(), true.into()),
            ("a.text".into(), "täst".into()),
            ("texts".into(), KeyValue::Texts(vec!["x".into(), String::new()])),
            ("ints".into(), KeyValue::Ints(vec![-1, 3])),
            ("floats".into(), KeyValue::Floats(vec![1.5])),
        ];
        let entry =
            |name: &str, shape: &[usize], kind| TensorEntry { name: name.into(), shape: shape.into(), kind };
        let tensors = [
            entry("one", &[3], GgmlType::F32),
            entry("two", &[2, 64], GgmlType::Q8_0),
            entry("three", &[5, 4], GgmlType::F16),
        ];
        assert_eq!(tensors.each_ref().map(TensorEntry::bytes), [12, 2 * 2 * 34, 40]);
        let bytes = header(&keys, &tensors);
        assert!(bytes.len().is_multiple_of(32));
        let content = Content::read(&mut std::io::Cursor::new(&bytes)).unwrap();
        assert_eq!(content.tensor_data_offset as usize, bytes.len());
        assert_eq!(content.metadata.len(), keys.len());
        assert_eq!(content.metadata["a.number"].to_u32().unwrap(), 7);
        assert!(content.metadata["a.switch"].to_bool().unwrap());
        assert_eq!(content.metadata["a.text"].to_string().unwrap(), "täst");
        assert_eq!(content.metadata["texts"].to_vec().unwrap().len(), 2);
        assert_eq!(content.metadata["ints"].to_vec().unwrap()[0].to_i32().unwrap(), -1);
        assert!((content.metadata["floats"].to_vec().unwrap()[0].to_f32().unwrap() - 1.5).abs() < 1e-9);
        let info = |name: &str| &content.tensor_infos[name];
        assert_eq!((info("one").offset, info("two").offset, info("three").offset), (0, 32, 32 + 160));
        assert_eq!(info("two").shape.dims(), [2, 64]);
    }
}
