mod choices;
mod damaged;
mod few_shot;
mod files;
mod formats;
mod mixtures;
mod shapes;
mod texts;
mod thin;
mod windows;

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::error::{Error, Result};

/// A hub that has one file, and notes what it is asked for.
struct Hub {
    file: PathBuf,
    asked: Vec<(String, String)>,
}

impl Fetch for Hub {
    fn fetch(&mut self, repo: &str, file: &str) -> Result<PathBuf> {
        self.asked.push((repo.into(), file.into()));
        Ok(self.file.clone())
    }
}

fn write(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_string()
}

fn load(source: &str) -> Result<Text> {
    load_text(source, &FieldNames::default(), &mut NoFetch)
}

fn load_records(source: &str) -> Result<Task> {
    load_task(source, None, &FieldNames::default(), &mut NoFetch)
}

fn text(source: &str) -> TextContent {
    load(source).unwrap().content
}

/// The message of a mistake, which must name its file.
fn mistake<T: std::fmt::Debug>(source: &str, result: Result<T>) -> String {
    let message = match result {
        Err(Error::Mistake(message)) => message,
        other => panic!("{source}: not a mistake: {other:?}"),
    };
    let name = source.rsplit('/').next().unwrap();
    assert!(message.contains(name), "`{message}` does not name {name}");
    message
}

fn text_mistake(source: &str) -> String {
    mistake(source, load(source))
}

fn task_mistake(source: &str) -> String {
    mistake(source, load_records(source))
}

fn documents(texts: &[&str]) -> TextContent {
    TextContent::Documents(texts.iter().map(ToString::to_string).collect())
}

fn record(instruction: &str, input: &str, references: &[&str]) -> TaskRecord {
    TaskRecord {
        instruction: instruction.into(),
        input: input.into(),
        conversation: Vec::new(),
        references: references.iter().map(ToString::to_string).collect(),
    }
}

/// Says that nobody waits any more when asked for the `left`th time.
struct Impatient {
    left: usize,
}

impl Fetch for Impatient {
    fn fetch(&mut self, repo: &str, file: &str) -> Result<PathBuf> {
        NoFetch.fetch(repo, file)
    }

    fn go_on(&mut self) -> Result<()> {
        assert!(self.left > 0, "asked again after a no");
        self.left -= 1;
        if self.left == 0 { Err(Error::Cancelled) } else { Ok(()) }
    }
}
