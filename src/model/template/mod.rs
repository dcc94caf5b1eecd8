//! Chat templates, rendered as `transformers` renders them.
//!
//! `transformers` uses Jinja2, sandboxed, with its own `tojson`, `raise_exception`, `strftime_now` and `generation`. Here
//! minijinja parses templates, keeps scopes, loops and calls; what differs between the two is on top of it: the source is
//! rewritten where minijinja has not the grammar ([`dialect`]), and operators, methods, filters, tests and the way values
//! are written are Python's.

mod checks;
mod dialect;
mod expression;
mod filters;
mod format;
mod globals;
mod json;
mod lexer;
mod methods;
mod objects;
mod operators;
mod python;
mod reader;
mod strftime;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind};

use crate::error::{Error, Result};

/// What one prompt may cost: a template takes about ten steps a message and tag, and one for every 64 bytes it makes.
const STEPS: u64 = 1_000_000;
/// The longest prompt.
const LONGEST: usize = 16 << 20;

/// Stack for reading and rendering a template: both recurse as deep as the limits of the engine and of [`expression`]
/// allow, and dropping values that a hostile template has nested takes the most. Untouched, it costs nothing.
const STACK: usize = 128 << 20;

/// What helps where a model's own template is no use.
const OWN: &str = "; --prompt sets another template";

/// The name of the only template of an environment.
const NAME: &str = "chat";

/// A compiled chat template and its file.
#[derive(Debug, Clone)]
pub(super) struct ChatTemplate {
    environment: Box<Environment<'static>>,
    file: PathBuf,
}

impl ChatTemplate {
    /// Compiles a template; `file` is where it was found.
    ///
    /// # Errors
    /// [`Error::Mistake`] when it is no template.
    pub fn new(source: &str, file: &Path) -> Result<Self> {
        let broken = |why: &str| {
            Error::mistake(format!("{}: the chat template cannot be understood: {why}", file.display()))
        };
        let environment = with_known_stack(|| {
            let source = dialect::translate(source).map_err(|e| broken(&e.to_string()))?;
            environment(source).map_err(|e| broken(&reason(&e)))
        })?;
        Ok(Self { environment: Box::new(environment), file: file.to_path_buf() })
    }

    /// Renders a prompt from what the template can ask for.
    ///
    /// # Errors
    /// [`Error::Mistake`] when the template refuses or fails, does not come to an end, or makes too much.
    pub fn render(&self, context: Value) -> Result<String> {
        with_known_stack(|| self.render_here(context))
    }

    /// The same on this thread, whatever stack it has.
    fn render_here(&self, context: Value) -> Result<String> {
        let mut prompt = GrowingPrompt::default();
        let template = self.environment.get_template(NAME);
        let rendered =
            template.and_then(|template| template.render_captured_to(context, &mut prompt).map(drop));
        let what = match &rendered {
            _ if prompt.full => {
                format!("makes a prompt of more than {} MiB: accepted is a shorter one{OWN}", LONGEST >> 20)
            }
            Err(error) if is_out_of_fuel(error) => {
                format!(
                    "was stopped after {STEPS} steps: accepted is one that ends before, and makes less{OWN}"
                )
            }
            Err(error) => format!("fails on a task: {}", reason(error)),
            Ok(()) => match String::from_utf8(prompt.bytes) {
                Ok(text) => return Ok(text),
                Err(_) => "makes something that is not text".to_string(),
            },
        };
        Err(Error::mistake(format!("{}: the chat template {what}", self.file.display())))
    }
}

/// Does work on a thread with [`STACK`]: what is accepted may not depend on the thread that asks, nor on how large the
/// compiler makes a frame.
fn with_known_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let started =
            thread::Builder::new().name("template".into()).stack_size(STACK).spawn_scoped(scope, work);
        let thread = started.map_err(|e| Error::failure(format!("cannot start a thread: {e}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A prompt in the making, which does not become longer than allowed.
#[derive(Default)]
struct GrowingPrompt {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for GrowingPrompt {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.full |= self.bytes.len() + bytes.len() > LONGEST;
        if self.full {
            return Err(io::Error::other("the prompt is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine as `transformers` sets Jinja2 up.
fn environment(source: String) -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(STEPS));
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, state, value| {
        let text = match value.as_str() {
            Some(text) => std::borrow::Cow::Borrowed(text),
            None => std::borrow::Cow::Owned(python::to_text(state, value)?),
        };
        let safe = value.is_safe() || matches!(state.auto_escape(), minijinja::AutoEscape::None);
        out.write_str(&if safe { text } else { filters::escaped(&text).into() })
            .map_err(minijinja::Error::from)
    });
    filters::add_to(&mut environment);
    checks::add_to(&mut environment);
    globals::add_to(&mut environment);
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

fn is_out_of_fuel(error: &minijinja::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<minijinja::Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What an error of the engine says, in one line.
fn reason(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}
