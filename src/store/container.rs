//! The file format of checkpoints: safetensors with a checksum over the whole file.
//!
//! Any safetensors reader opens these files. The checksum (CRC-32) stands in the header's `__metadata__` as
//! `crc32`, in eight hexadecimal digits, and is taken over the file with these digits as zeroes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor, WithDType};
use flate2::Crc;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use super::atomic::write_atomically;
use crate::error::{Error, Result};

const CRC_KEY: &str = "crc32";
const NO_CRC: &str = "00000000";
/// Values that are turned into bytes, or back, at once.
const CHUNK: usize = 1 << 18;
/// What the format allows a header to be.
const MAX_HEADER: u64 = 100_000_000;

/// A named tensor to be written.
pub(super) struct NamedTensor<'a> {
    pub name: String,
    pub data: Data<'a>,
}

/// What a tensor is made of.
pub(super) enum Data<'a> {
    Bytes(Cow<'a, [u8]>),
    /// f32, f16 or bf16 values, bit for bit.
    Values(Tensor),
}

impl Data<'_> {
    /// The format's name of the element type, the shape, and the length in bytes.
    fn layout(&self) -> Result<(&'static str, Vec<usize>, usize)> {
        match self {
            Self::Bytes(bytes) => Ok(("U8", vec![bytes.len()], bytes.len())),
            Self::Values(tensor) => {
                let dtype = match tensor.dtype() {
                    DType::F32 => "F32",
                    DType::F16 => "F16",
                    DType::BF16 => "BF16",
                    other => {
                        return Err(Error::failure(format!("a checkpoint cannot hold {other:?} values")));
                    }
                };
                let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
                Ok((dtype, tensor.dims().to_vec(), bytes))
            }
        }
    }
}

/// Writes the entries in their order, atomically; returns the file's length in bytes.
pub(super) fn write(path: &Path, entries: &[NamedTensor<'_>], metadata: &[(String, String)]) -> Result<u64> {
    write_while(path, entries, metadata, &|| true)
}

/// The same while nobody says otherwise, who is asked before every entry and behind the last; else the old file stays.
pub(super) fn write_while(
    path: &Path,
    entries: &[NamedTensor<'_>],
    metadata: &[(String, String)],
    goes_on: &dyn Fn() -> bool,
) -> Result<u64> {
    let mut header = Map::new();
    let mut notes = Map::from_iter([(CRC_KEY.to_owned(), json!(NO_CRC))]);
    notes.extend(metadata.iter().map(|(key, value)| (key.clone(), json!(value))));
    header.insert("__metadata__".into(), Value::Object(notes));
    let mut end = 0;
    for entry in entries {
        let (dtype, shape, bytes) = entry.data.layout()?;
        let start = end;
        end += bytes;
        let info = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] });
        if header.insert(entry.name.clone(), info).is_some() {
            return Err(Error::failure(format!("{}: `{}` is there twice", path.display(), entry.name)));
        }
    }
    let mut header = Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let digits = find_digits(&header, NO_CRC)
        .ok_or_else(|| Error::failure(format!("{}: the header has no checksum", path.display())))?;

    write_atomically(path, |file| {
        let mut out = Summed { file, crc: Crc::new() };
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        let goes_on = || if goes_on() { Ok(()) } else { Err(io::Error::from(ErrorKind::Interrupted)) };
        for entry in entries {
            goes_on()?;
            match &entry.data {
                Data::Bytes(bytes) => out.write_all(bytes)?,
                Data::Values(tensor) => write_values(&mut out, tensor)?,
            }
        }
        // Behind this the disk is waited for.
        goes_on()?;
        let Summed { file, crc } = out;
        file.seek(SeekFrom::Start(8 + digits as u64))?;
        write!(file, "{:08x}", crc.sum())
    })?;
    Ok(8 + header.len() as u64 + end as u64)
}

/// Where in the header the checksum's digits stand.
fn find_digits(header: &str, digits: &str) -> Option<usize> {
    let needle = format!("\"{CRC_KEY}\":\"{digits}\"");
    Some(header.find(&needle)? + needle.len() - 1 - digits.len())
}

/// A writer that keeps a checksum.
struct Summed<'a> {
    file: &'a mut BufWriter<File>,
    crc: Crc,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.crc.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a tensor's values in chunks, so that large hidden states are not held twice.
fn write_values(out: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    fn write<const N: usize, T>(
        out: &mut impl Write,
        values: &[T],
        bytes: impl Fn(&T) -> [u8; N],
    ) -> io::Result<()> {
        let mut buffer = vec![0u8; N * CHUNK.min(values.len())];
        for values in values.chunks(CHUNK) {
            let buffer = &mut buffer[..N * values.len()];
            for (bytes_of, value) in buffer.as_chunks_mut().0.iter_mut().zip(values) {
                *bytes_of = bytes(value);
            }
            out.write_all(buffer)?;
        }
        Ok(())
    }
    let flat = tensor.to_device(&Device::Cpu).and_then(|t| t.contiguous()).map_err(io::Error::other)?;
    let (storage, layout) = flat.storage_and_layout();
    let of = layout.start_offset()..layout.start_offset() + flat.elem_count();
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => write(out, &values[of], |value| value.to_le_bytes()),
        Storage::Cpu(CpuStorage::F16(values)) => write(out, &values[of], |value| value.to_le_bytes()),
        Storage::Cpu(CpuStorage::BF16(values)) => write(out, &values[of], |value| value.to_le_bytes()),
        _ => Err(io::Error::other("a checkpoint holds floats")),
    }
}

/// Why a file could not be read.
pub(super) enum Unreadable {
    Missing,
    /// It is torn, or not what it should be.
    Broken(String),
    /// The operating system refused.
    Io(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::UnexpectedEof => Self::Broken("it ends too early".into()),
            _ => Self::Io(e),
        }
    }
}

/// What was read of one tensor.
pub(super) enum TensorContent {
    Bytes(Vec<u8>),
    Values(Tensor),
}

/// A file read whole, its checksum right.
pub(super) struct Contents {
    /// The tensors in the order in which they were written, on the CPU.
    pub entries: Vec<(String, TensorContent)>,
    pub metadata: HashMap<String, String>,
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<Contents, Unreadable> {
    let mut reader = Reader::open(path)?;
    let mut entries = Vec::new();
    for name in reader.header.offset_keys() {
        let Some(info) = reader.header.info(&name).cloned() else { continue };
        let content = reader.content(&name, &info)?;
        entries.push((name, content));
    }
    let metadata = reader.header.metadata().clone().unwrap_or_default();
    reader.check()?;
    Ok(Contents { entries, metadata })
}

/// The names of a file's tensors. Only the header is read, and no checksum tested.
pub(super) fn names(path: &Path) -> Result<Vec<String>, Unreadable> {
    Ok(Reader::open(path)?.header.offset_keys())
}

/// A file that is sound, of which single tensors are read.
pub(super) struct OpenContainer {
    reader: Reader,
}

impl OpenContainer {
    /// Opens a file and tests its checksum.
    pub fn open(path: &Path) -> Result<Self, Unreadable> {
        verify(path)?;
        Ok(Self { reader: Reader::open(path)? })
    }

    /// The names of its tensors, in the order in which they were written.
    pub fn names(&self) -> Vec<String> {
        self.reader.header.offset_keys()
    }

    pub fn metadata(&self) -> HashMap<String, String> {
        self.reader.header.metadata().clone().unwrap_or_default()
    }

    /// Reads a tensor.
    pub fn read(&mut self, name: &str) -> Result<TensorContent, Unreadable> {
        let info = self.reader.header.info(name).cloned();
        let info = info.ok_or_else(|| Unreadable::Broken(format!("it has no `{name}`")))?;
        self.reader.file.seek(SeekFrom::Start(self.reader.data + info.data_offsets.0 as u64))?;
        self.reader.content(name, &info)
    }
}

/// Reads a whole file only to see that it is sound.
pub(super) fn verify(path: &Path) -> Result<(), Unreadable> {
    let mut reader = Reader::open(path)?;
    let mut left = reader.header.data_len();
    let mut buffer = vec![0; 4 * CHUNK];
    while left > 0 {
        let n = left.min(buffer.len());
        reader.fill(&mut buffer[..n])?;
        left -= n;
    }
    reader.check()
}

struct Reader {
    file: BufReader<File>,
    /// Where the tensors begin.
    data: u64,
    header: Metadata,
    crc: Crc,
    expected: u32,
}

impl Reader {
    fn open(path: &Path) -> Result<Self, Unreadable> {
        let broken = |why: &str| Unreadable::Broken(why.into());
        let mut file = BufReader::new(File::open(path)?);
        let length = file.get_ref().metadata()?.len();
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > length.saturating_sub(8).min(MAX_HEADER) {
            return Err(broken("its header is longer than the file"));
        }
        let mut text = vec![0; header_length as usize];
        file.read_exact(&mut text)?;
        let mut text = String::from_utf8(text).map_err(|_| broken("its header is no text"))?;
        let header: Metadata =
            serde_json::from_str(&text).map_err(|e| Unreadable::Broken(format!("its header: {e}")))?;
        if length != 8 + header_length + header.data_len() as u64 {
            return Err(broken("its length is not what its header says"));
        }
        let digits = header.metadata().as_ref().and_then(|notes| notes.get(CRC_KEY)).cloned();
        let digits =
            digits.filter(|d| d.len() == NO_CRC.len()).ok_or_else(|| broken("it has no checksum"))?;
        let expected = u32::from_str_radix(&digits, 16).map_err(|_| broken("its checksum is no number"))?;
        let at = find_digits(&text, &digits).ok_or_else(|| broken("its header was rewritten"))?;
        text.replace_range(at..at + digits.len(), NO_CRC);
        let mut crc = Crc::new();
        crc.update(&prefix);
        crc.update(text.as_bytes());
        Ok(Self { file, data: 8 + header_length, header, crc, expected })
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Unreadable> {
        self.file.read_exact(buffer)?;
        self.crc.update(buffer);
        Ok(())
    }

    fn check(self) -> Result<(), Unreadable> {
        if self.crc.sum() == self.expected {
            Ok(())
        } else {
            Err(Unreadable::Broken("its checksum is wrong".into()))
        }
    }

    fn content(&mut self, name: &str, info: &TensorInfo) -> Result<TensorContent, Unreadable> {
        match info.dtype {
            Dtype::U8 => {
                let mut bytes = vec![0; info.shape.iter().product()];
                self.fill(&mut bytes)?;
                Ok(TensorContent::Bytes(bytes))
            }
            Dtype::F32 => self.values(&info.shape, f32::from_le_bytes),
            Dtype::F16 => self.values(&info.shape, f16::from_le_bytes),
            Dtype::BF16 => self.values(&info.shape, bf16::from_le_bytes),
            other => Err(Unreadable::Broken(format!("`{name}` is made of {other}"))),
        }
    }

    fn values<const N: usize, T: WithDType>(
        &mut self,
        shape: &[usize],
        decode: impl Fn([u8; N]) -> T,
    ) -> Result<TensorContent, Unreadable> {
        let count: usize = shape.iter().product();
        let mut values: Vec<T> = Vec::with_capacity(count);
        let mut buffer = vec![0; N * CHUNK.min(count)];
        while values.len() < count {
            let n = N * CHUNK.min(count - values.len());
            self.fill(&mut buffer[..n])?;
            values.extend(buffer[..n].as_chunks::<N>().0.iter().map(|&bytes| decode(bytes)));
        }
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu);
        tensor.map(TensorContent::Values).map_err(|e| Unreadable::Io(io::Error::other(e)))
    }
}
