//! A template of Jinja2, as `transformers` sets it up, written for the engine.
//!
//! minijinja reads nearly the same language. What it has not is spelt out here in what it has: operators that ask
//! Python's values what to do, macros that take any arguments, the block `generation`, line ends. What `transformers` does
//! not have, such as other templates to include, is refused.

use super::lexer::{SyntaxResult, TemplatePiece, TemplateSyntaxError, TemplateTag, TemplateToken, pieces};
use super::reader::{TagReader, quoted};

/// Functions that the rewritten template calls beside those for operators.
pub(super) const ITERATE: &str = "_iterate";
pub(super) const COLLECTING: &str = "_collecting";

/// Branches of one `if`: the engine works them off by recursion.
const MOST_BRANCHES: usize = 500;

/// A name that nothing has.
const UNDEFINED: &str = "_undefined";

/// What a macro's body can ask for beside its parameters.
const COLLECTED: [&str; 2] = ["varargs", "kwargs"];

/// Rewrites a whole template. Every line stays on its line.
pub(super) fn translate(source: &str) -> SyntaxResult<String> {
    let pieces = pieces(source)?;
    let mut writer = DialectWriter {
        text: String::with_capacity(source.len() * 2),
        macros: Vec::new(),
        branches: Vec::new(),
    };
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            TemplatePiece::Text(text) => writer.text.push_str(text),
            TemplatePiece::Tag(tag) if tag.statement => writer.statement(tag, &pieces[at + 1..])?,
            TemplatePiece::Tag(tag) => {
                let mut reader = TagReader::new(&tag.tokens, tag.line);
                let value = reader.tuple(true)?;
                reader.end()?;
                writer.write(&format!("{{{{{} {value} ", tag.trim.0), tag, "}}");
            }
        }
    }
    Ok(writer.text)
}

/// A macro whose end is still to come.
struct OpenMacro {
    name: String,
    parameters: Vec<String>,
    /// Which of [`COLLECTED`] its body asks for.
    collects: [bool; 2],
}

struct DialectWriter {
    text: String,
    macros: Vec<OpenMacro>,
    /// The `elif`s of every `if` whose end is still to come.
    branches: Vec<usize>,
}

impl DialectWriter {
    /// Writes a tag and its line ends.
    fn write(&mut self, inside: &str, tag: &TemplateTag, end: &str) {
        self.text.push_str(inside);
        self.text.extend(std::iter::repeat_n('\n', tag.lines));
        self.text.push_str(tag.trim.1);
        self.text.push_str(end);
    }

    fn write_statement(&mut self, inside: &str, tag: &TemplateTag) {
        self.write(&format!("{{%{} {inside} ", tag.trim.0), tag, "%}");
    }

    fn statement(&mut self, tag: &TemplateTag, behind: &[TemplatePiece]) -> SyntaxResult<()> {
        let mut reader = TagReader::new(&tag.tokens, tag.line);
        let keyword = reader.name()?;
        self.count_branches(keyword, &reader)?;
        let inside = match keyword {
            "if" | "elif" => format!("{keyword} {}", reader.tuple(false)?),
            "autoescape" => format!("autoescape {}", reader.expression()?),
            "else" | "endif" | "endfor" | "endset" | "endcall" | "endfilter" | "endwith"
            | "endautoescape" | "break" | "continue" => keyword.to_string(),
            "block" | "endblock" => format!("{keyword} {}", reader.rest()),
            // A scope of its own is all that is left of it where nobody asks which tokens a model generated.
            "generation" => "with".to_string(),
            "endgeneration" => "endwith".to_string(),
            "for" => for_loop(&mut reader)?,
            "set" => set(&mut reader)?,
            "with" => with(&mut reader)?,
            "filter" => filters(&mut reader)?,
            "call" => call(&mut reader)?,
            "macro" => return self.macro_tag(tag, &mut reader, behind),
            "endmacro" => {
                self.end_macro(tag);
                return Ok(());
            }
            "print" | "raw" => {
                let mut values = vec![reader.expression()?];
                while reader.take_sign(",") {
                    values.push(reader.expression()?);
                }
                reader.end()?;
                let values = values.join(" }}{{ ");
                self.write(&format!("{{%{} if true %}}{{{{ {values} }}}}{{% endif ", tag.trim.0), tag, "%}");
                return Ok(());
            }
            "include" | "import" | "from" | "extends" => {
                return reader.error(format!(
                    "`{keyword}` asks for another template, and a chat template has no other"
                ));
            }
            other => return reader.error(format!("there is no statement `{other}`")),
        };
        reader.end()?;
        self.write_statement(&inside, tag);
        Ok(())
    }

    fn count_branches(&mut self, keyword: &str, reader: &TagReader<'_>) -> SyntaxResult<()> {
        match (keyword, self.branches.last_mut()) {
            ("if", _) => self.branches.push(0),
            ("endif", Some(_)) => self.branches.truncate(self.branches.len() - 1),
            ("elif", Some(branches)) => {
                *branches += 1;
                if *branches > MOST_BRANCHES {
                    return reader.error(format!("an `if` has more than {MOST_BRANCHES} branches"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A macro's head. Parameters whose defaults name other parameters get them at the beginning of the body; what else is
    /// passed arrives in parameters of its own.
    fn macro_tag(
        &mut self,
        tag: &TemplateTag,
        reader: &mut TagReader<'_>,
        behind: &[TemplatePiece],
    ) -> SyntaxResult<()> {
        let name = reader.name()?.to_string();
        let signature = signature(reader)?;
        reader.end()?;
        let collects = COLLECTED.map(|collected| {
            mentions(behind, collected) && !signature.iter().any(|(parameter, _)| parameter == collected)
        });
        let mut parameters = Vec::new();
        let mut defaults = String::new();
        for (at, (parameter, default)) in signature.iter().enumerate() {
            let Some(default) = default else {
                parameters.push(parameter.clone());
                continue;
            };
            if signature[..at].iter().any(|(earlier, _)| default.names.contains(earlier)) {
                parameters.push(format!("{parameter}={UNDEFINED}"));
                defaults += &format!(
                    "{{% if {parameter} is undefined %}}{{% set {parameter} = {} %}}{{% endif %}}",
                    default.value
                );
            } else {
                parameters.push(format!("{parameter}={}", default.value));
            }
        }
        let extra = COLLECTED.iter().zip(collects).filter(|(_, wanted)| *wanted);
        parameters.extend(extra.map(|(collected, _)| format!("{collected}={UNDEFINED}")));
        let head = format!("{{%{} macro {name}({}) ", tag.trim.0, parameters.join(", "));
        if defaults.is_empty() {
            self.write(&head, tag, "%}");
        } else {
            // The last of the tags ends as the macro's did.
            let last = defaults.rfind("%}").unwrap_or(0);
            self.write(&format!("{head}%}}{}", &defaults[..last]), tag, "%}");
        }
        let parameters = signature.into_iter().map(|(parameter, _)| parameter).collect();
        self.macros.push(OpenMacro { name, parameters, collects });
        Ok(())
    }

    fn end_macro(&mut self, tag: &TemplateTag) {
        let Some(open) = self.macros.pop().filter(|open| open.collects.contains(&true)) else {
            return self.write_statement("endmacro", tag);
        };
        let (name, [varargs, kwargs]) = (&open.name, open.collects);
        let parameters: Vec<String> = open.parameters.iter().map(|name| quoted(name)).collect();
        let collecting = format!("{COLLECTING}({name}, [{}], {varargs}, {kwargs})", parameters.join(", "));
        self.write(&format!("{{%{} endmacro %}}{{% set {name} = {collecting} ", tag.trim.0), tag, "%}");
    }
}

fn for_loop(reader: &mut TagReader<'_>) -> SyntaxResult<String> {
    let Some(end) = reader.find(&TemplateToken::Name("in".into())) else {
        return reader.error("`for` without `in`");
    };
    let target = reader.copy(end);
    reader.take_name("in");
    let items = reader.tuple(false)?;
    let mut text = format!("for {target} in {ITERATE}({items})");
    if reader.take_name("if") {
        text = format!("{text} if {}", reader.expression()?);
    }
    if reader.take_name("recursive") {
        text += " recursive";
    }
    Ok(text)
}

fn set(reader: &mut TagReader<'_>) -> SyntaxResult<String> {
    if let Some(end) = reader.find(&TemplateToken::Sign("=")) {
        let target = reader.copy(end);
        if target.contains(". _") {
            return reader.error("names in a namespace do not begin with an underscore");
        }
        reader.expect("=")?;
        return Ok(format!("set {target} = {}", reader.tuple(true)?));
    }
    // A block's text becomes the value, through filters where there are some.
    let mut text = format!("set {}", reader.name()?);
    if reader.take_sign(".") {
        text = format!("{text}.{}", reader.name()?);
    }
    while reader.take_sign("|") {
        text = format!("{text} | {}", reader.filter()?);
    }
    Ok(text)
}

fn with(reader: &mut TagReader<'_>) -> SyntaxResult<String> {
    let mut assignments = Vec::new();
    while reader.peek().is_some() {
        if !assignments.is_empty() {
            reader.expect(",")?;
        }
        let Some(end) = reader.find(&TemplateToken::Sign("=")) else {
            return reader.error("`with` without `=`");
        };
        let target = reader.copy(end);
        reader.expect("=")?;
        assignments.push(format!("({target}) = {}", reader.expression()?));
    }
    Ok(format!("with {}", assignments.join(", ")))
}

fn filters(reader: &mut TagReader<'_>) -> SyntaxResult<String> {
    let mut text = format!("filter {}", reader.filter()?);
    while reader.take_sign("|") {
        text = format!("{text}|{}", reader.filter()?);
    }
    Ok(text)
}

fn call(reader: &mut TagReader<'_>) -> SyntaxResult<String> {
    let mut parameters = String::new();
    if reader.is_sign("(") {
        let words = signature(reader)?.into_iter().map(|(name, default)| match default {
            Some(default) => format!("{name}={}", default.value),
            None => name,
        });
        parameters = format!("({})", words.collect::<Vec<_>>().join(", "));
    }
    Ok(format!("call{parameters} {}", reader.expression()?))
}

/// A parameter's default, and the names in it.
struct ParameterDefault {
    value: String,
    names: Vec<String>,
}

/// Parameters with their defaults.
fn signature(reader: &mut TagReader<'_>) -> SyntaxResult<Vec<(String, Option<ParameterDefault>)>> {
    let mut parameters = Vec::new();
    reader.expect("(")?;
    while !reader.take_sign(")") {
        if !parameters.is_empty() {
            reader.expect(",")?;
        }
        let name = reader.name()?.to_string();
        let default = if reader.take_sign("=") {
            let (value, names) = reader.with_names(TagReader::expression)?;
            Some(ParameterDefault { value, names })
        } else {
            None
        };
        parameters.push((name, default));
    }
    Ok(parameters)
}

/// Whether a macro's body, which begins here, names something.
fn mentions(body: &[TemplatePiece], wanted: &str) -> bool {
    let mut open = 1;
    for piece in body {
        let TemplatePiece::Tag(tag) = piece else { continue };
        match tag.tokens.first() {
            Some(TemplateToken::Name(name)) if tag.statement && name == "macro" => open += 1,
            Some(TemplateToken::Name(name)) if tag.statement && name == "endmacro" => open -= 1,
            _ => {}
        }
        if open == 0 {
            return false;
        }
        if tag.tokens.iter().any(|token| matches!(token, TemplateToken::Name(name) if name == wanted)) {
            return true;
        }
    }
    false
}

impl std::fmt::Display for TemplateSyntaxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}
