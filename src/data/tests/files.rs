//! Files to read: packed ones, and parquet with everything that its columns can be.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use parquet::basic::Compression;
use parquet::data_type::{
    ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

/// A parquet file of text columns.
pub(super) fn parquet(columns: &[(&str, &[&str])]) -> Vec<u8> {
    let fields: Vec<String> =
        columns.iter().map(|(name, _)| format!("REQUIRED BYTE_ARRAY {name} (UTF8);")).collect();
    let leaves = columns.iter().map(|(_, values)| Leaf::texts(values));
    write(&fields.concat(), leaves.collect(), Compression::SNAPPY)
}

/// The values of one column as parquet keeps them: those that are there, and at which levels.
pub(super) struct Leaf {
    pub values: Values,
    pub definition: Option<Vec<i16>>,
    pub repetition: Option<Vec<i16>>,
}

pub(super) enum Values {
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Double(Vec<f64>),
}

impl Leaf {
    /// A required column.
    pub(super) fn texts(values: &[&str]) -> Self {
        let values = values.iter().map(|text| ByteArray::from(*text)).collect();
        Self { values: Values::Bytes(values), definition: None, repetition: None }
    }

    /// A required column of values that are all of one length.
    pub(super) fn fixed(values: &[&[u8]]) -> Self {
        let values = values.iter().map(|bytes| ByteArray::from(bytes.to_vec()).into()).collect();
        Self { values: Values::Fixed(values), definition: None, repetition: None }
    }

    /// A column that has not every value.
    pub(super) fn optional(values: &[Option<&str>]) -> Self {
        let there = values.iter().flatten().map(|text| ByteArray::from(*text)).collect();
        Self { values: Values::Bytes(there), definition: Some(levels(values)), repetition: None }
    }

    pub(super) fn integers(values: &[Option<i64>]) -> Self {
        let there = values.iter().flatten().copied().collect();
        Self { values: Values::Int64(there), definition: Some(levels(values)), repetition: None }
    }

    pub(super) fn floats(values: &[Option<f64>]) -> Self {
        let there = values.iter().flatten().copied().collect();
        Self { values: Values::Double(there), definition: Some(levels(values)), repetition: None }
    }

    /// Lists that are `full` levels deep where an element is there; an empty one ends two levels above.
    pub(super) fn lists(values: &[&[&str]], full: i16) -> Self {
        let there = values.iter().flat_map(|list| list.iter()).map(|text| ByteArray::from(*text)).collect();
        let (definition, repetition) = list_levels(values.iter().map(|list| list.len()), full);
        Self { values: Values::Bytes(there), definition, repetition }
    }

    /// The same of numbers, one a text: how long it is.
    pub(super) fn lengths(values: &[&[&str]], full: i16) -> Self {
        let there = values.iter().flat_map(|list| list.iter()).map(|text| text.len() as i32).collect();
        let (definition, repetition) = list_levels(values.iter().map(|list| list.len()), full);
        Self { values: Values::Int32(there), definition, repetition }
    }
}

fn levels<T>(values: &[Option<T>]) -> Vec<i16> {
    values.iter().map(|value| i16::from(value.is_some())).collect()
}

fn list_levels(lengths: impl Iterator<Item = usize>, full: i16) -> (Option<Vec<i16>>, Option<Vec<i16>>) {
    let (mut definition, mut repetition) = (Vec::new(), Vec::new());
    for length in lengths {
        repetition.push(0);
        repetition.extend(vec![1; length.saturating_sub(1)]);
        definition.extend(vec![if length == 0 { full - 2 } else { full }; length.max(1)]);
    }
    (Some(definition), Some(repetition))
}

/// A file of one row group; `fields` is its schema.
pub(super) fn write(fields: &str, leaves: Vec<Leaf>, compression: Compression) -> Vec<u8> {
    let schema = parse_message_type(&format!("message schema {{ {fields} }}")).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for Leaf { values, definition, repetition } in leaves {
        let mut column = group.next_column().unwrap().unwrap();
        let (definition, repetition) = (definition.as_deref(), repetition.as_deref());
        match values {
            Values::Bytes(v) => column.typed::<ByteArrayType>().write_batch(&v, definition, repetition),
            Values::Fixed(v) => {
                column.typed::<FixedLenByteArrayType>().write_batch(&v, definition, repetition)
            }
            Values::Int32(v) => column.typed::<Int32Type>().write_batch(&v, definition, repetition),
            Values::Int64(v) => column.typed::<Int64Type>().write_batch(&v, definition, repetition),
            Values::Double(v) => column.typed::<DoubleType>().write_batch(&v, definition, repetition),
        }
        .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// Questions as the hub has SQuAD: answers in a struct of lists.
pub(super) fn squad(questions: &[Option<&str>], contexts: &[Option<&str>], answers: &[&[&str]]) -> Vec<u8> {
    let list = |name: &str, kind: &str| {
        format!("OPTIONAL group {name} (LIST) {{ REPEATED group list {{ OPTIONAL {kind}; }} }}")
    };
    let fields = format!(
        "OPTIONAL BYTE_ARRAY id (UTF8); OPTIONAL BYTE_ARRAY context (UTF8); OPTIONAL BYTE_ARRAY question (UTF8); \
         OPTIONAL group answers {{ {} {} }}",
        list("text", "BYTE_ARRAY element (UTF8)"),
        list("answer_start", "INT32 element"),
    );
    let ids = vec![Some("1"); questions.len()];
    let leaves = vec![
        Leaf::optional(&ids),
        Leaf::optional(contexts),
        Leaf::optional(questions),
        Leaf::lists(answers, 4),
        Leaf::lengths(answers, 4),
    ];
    write(&fields, leaves, Compression::UNCOMPRESSED)
}

/// Chats as the hub has them: a list of structs.
pub(super) fn chats(roles: &[&[&str]], contents: &[&[&str]]) -> Vec<u8> {
    let fields = "OPTIONAL group messages (LIST) { REPEATED group list { OPTIONAL group element { \
                  OPTIONAL BYTE_ARRAY role (UTF8); OPTIONAL BYTE_ARRAY content (UTF8); } } }";
    write(fields, vec![Leaf::lists(roles, 4), Leaf::lists(contents, 4)], Compression::UNCOMPRESSED)
}
