//! Expressions, read by Jinja2's grammar and written for the engine.
//!
//! What an operator does with Python's values is a call here: `a % b` becomes `_remainder(a, b)`. What both understand
//! alike is written as it was read.

use super::lexer::{SyntaxResult, TemplateToken};
use super::reader::{TagReader, quoted};

/// How deep expressions may be nested, and how many parts a chain may have: both are worked off by recursion.
const DEEPEST: usize = 100;
const LONGEST: usize = 500;

/// Functions that stand for operators.
pub(super) const REMAINDER: &str = "_remainder";
pub(super) const CONCATENATE: &str = "_concatenate";
pub(super) const COMPARE: &str = "_compare";
pub(super) const ADD: &str = "_add";
pub(super) const POSITIVE: &str = "_positive";
pub(super) const NEGATIVE: &str = "_negative";

impl TagReader<'_> {
    /// One more level.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> SyntaxResult<T>) -> SyntaxResult<T> {
        if self.depth >= DEEPEST {
            return self.error(format!("an expression goes deeper than {DEEPEST} levels"));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Links of a chain, of which there may be so many.
    fn link(&self, links: &mut usize) -> SyntaxResult<()> {
        *links += 1;
        if *links > LONGEST {
            self.error(format!("an expression has more than {LONGEST} parts"))
        } else {
            Ok(())
        }
    }

    /// One expression, or several with commas, which are a tuple.
    pub fn tuple(&mut self, conditional: bool) -> SyntaxResult<String> {
        let first = self.either(conditional)?;
        if !self.is_sign(",") {
            return Ok(first);
        }
        self.tuple_behind(first, conditional)
    }

    fn tuple_behind(&mut self, first: String, conditional: bool) -> SyntaxResult<String> {
        let mut items = vec![first];
        while self.take_sign(",") {
            if self.peek().is_none() || self.is_sign(")") || self.is_name("recursive") {
                break;
            }
            items.push(self.either(conditional)?);
        }
        let comma = if items.len() == 1 { "," } else { "" };
        Ok(format!("({}{comma})", items.join(", ")))
    }

    fn either(&mut self, conditional: bool) -> SyntaxResult<String> {
        if conditional { self.expression() } else { self.deeper(Self::or) }
    }

    /// An expression, with `… if … else …`.
    pub fn expression(&mut self) -> SyntaxResult<String> {
        self.deeper(|reader| {
            let mut value = reader.or()?;
            let mut links = 0;
            while reader.take_name("if") {
                reader.link(&mut links)?;
                let condition = reader.or()?;
                value = if reader.take_name("else") {
                    format!("({value} if {condition} else {})", reader.expression()?)
                } else {
                    format!("({value} if {condition})")
                };
            }
            Ok(value)
        })
    }

    fn or(&mut self) -> SyntaxResult<String> {
        self.chain(|reader| reader.take_name("or").then_some(" or "), Self::and)
    }

    fn and(&mut self) -> SyntaxResult<String> {
        self.chain(|reader| reader.take_name("and").then_some(" and "), Self::not)
    }

    /// Operands between operators that stay as they are.
    fn chain(
        &mut self,
        operator: impl Fn(&mut Self) -> Option<&'static str>,
        operand: impl Fn(&mut Self) -> SyntaxResult<String>,
    ) -> SyntaxResult<String> {
        let mut text = operand(self)?;
        let mut links = 0;
        while let Some(sign) = operator(self) {
            self.link(&mut links)?;
            text = text + sign + &operand(self)?;
        }
        Ok(text)
    }

    fn not(&mut self) -> SyntaxResult<String> {
        if self.take_name("not") {
            return self.deeper(|reader| Ok(format!("not {}", reader.not()?)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> SyntaxResult<String> {
        let first = self.sum()?;
        let mut arguments = String::new();
        let mut links = 0;
        loop {
            let operator = match self.peek() {
                Some(TemplateToken::Sign(sign @ ("==" | "!=" | "<" | "<=" | ">" | ">="))) => *sign,
                Some(TemplateToken::Name(name)) if name == "in" => "in",
                Some(TemplateToken::Name(name)) if name == "not" => match self.tokens.get(self.at + 1) {
                    Some(TemplateToken::Name(name)) if name == "in" => "not in",
                    _ => break,
                },
                _ => break,
            };
            self.link(&mut links)?;
            self.at += if operator == "not in" { 2 } else { 1 };
            arguments = format!("{arguments}, '{operator}', {}", self.sum()?);
        }
        Ok(if arguments.is_empty() { first } else { format!("{COMPARE}({first}{arguments})") })
    }

    fn sum(&mut self) -> SyntaxResult<String> {
        // A long sum is one call, since calls cannot be nested as deep.
        let mut added = vec![self.concatenation()?];
        let mut links = 0;
        while let Some(TemplateToken::Sign(sign @ ("+" | "-"))) = self.peek() {
            self.link(&mut links)?;
            self.at += 1;
            let operand = self.concatenation()?;
            if *sign == "+" {
                added.push(operand);
            } else {
                added = vec![format!("{} - {operand}", call(ADD, added))];
            }
        }
        Ok(call(ADD, added))
    }

    fn concatenation(&mut self) -> SyntaxResult<String> {
        let mut parts = vec![self.product()?];
        let mut links = 0;
        while self.take_sign("~") {
            self.link(&mut links)?;
            parts.push(self.product()?);
        }
        Ok(call(CONCATENATE, parts))
    }

    fn product(&mut self) -> SyntaxResult<String> {
        let mut value = self.power()?;
        let mut links = 0;
        loop {
            let Some(TemplateToken::Sign(sign @ ("*" | "/" | "//" | "%"))) = self.peek() else {
                return Ok(value);
            };
            self.link(&mut links)?;
            self.at += 1;
            let operand = self.power()?;
            value = if *sign == "%" {
                format!("{REMAINDER}({value}, {operand})")
            } else {
                format!("{value} {sign} {operand}")
            };
        }
    }

    fn power(&mut self) -> SyntaxResult<String> {
        let mut value = self.unary(true)?;
        let mut links = 0;
        while self.take_sign("**") {
            self.link(&mut links)?;
            value = format!("({value} ** {})", self.unary(true)?);
        }
        Ok(value)
    }

    fn unary(&mut self, filters: bool) -> SyntaxResult<String> {
        let value = if self.take_sign("-") {
            format!("{NEGATIVE}({})", self.deeper(|reader| reader.unary(false))?)
        } else if self.take_sign("+") {
            format!("{POSITIVE}({})", self.deeper(|reader| reader.unary(false))?)
        } else {
            self.primary()?
        };
        let value = self.postfix(value)?;
        if filters { self.filters_and_tests(value) } else { Ok(value) }
    }

    fn primary(&mut self) -> SyntaxResult<String> {
        match self.next() {
            Some(TemplateToken::Name(name)) => Ok(name.clone()),
            Some(TemplateToken::Number(number)) => Ok(number.clone()),
            Some(TemplateToken::Text(text)) => {
                let mut whole = text.clone();
                while let Some(TemplateToken::Text(more)) = self.peek() {
                    whole.push_str(more);
                    self.at += 1;
                }
                Ok(quoted(&whole))
            }
            Some(TemplateToken::Sign("(")) => self.deeper(Self::parentheses),
            Some(TemplateToken::Sign("[")) => {
                let items = self.deeper(|reader| reader.list("]", Self::expression))?;
                Ok(format!("[{items}]"))
            }
            Some(TemplateToken::Sign("{")) => {
                let pair = |reader: &mut Self| {
                    let key = reader.expression()?;
                    reader.expect(":")?;
                    Ok(format!("{key}: {}", reader.expression()?))
                };
                let items = self.deeper(|reader| reader.list("}", pair))?;
                Ok(format!("{{{items}}}"))
            }
            _ => {
                self.at -= 1;
                self.unexpected("an expression")
            }
        }
    }

    fn parentheses(&mut self) -> SyntaxResult<String> {
        if self.take_sign(")") {
            return Ok("()".into());
        }
        let first = self.expression()?;
        let inside = if self.is_sign(",") { self.tuple_behind(first, true)? } else { format!("({first})") };
        self.expect(")")?;
        Ok(inside)
    }

    /// Items with commas up to a closing sign.
    fn list(
        &mut self,
        close: &str,
        item: impl Fn(&mut Self) -> SyntaxResult<String>,
    ) -> SyntaxResult<String> {
        let mut items: Vec<String> = Vec::new();
        while !self.take_sign(close) {
            if !items.is_empty() {
                self.expect(",")?;
                if self.take_sign(close) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items.join(", "))
    }

    /// Attributes, subscripts and calls behind a value.
    fn postfix(&mut self, mut value: String) -> SyntaxResult<String> {
        let mut links = 0;
        loop {
            self.link(&mut links)?;
            if self.take_sign(".") {
                value = match self.next() {
                    Some(TemplateToken::Name(name)) => format!("{value}.{name}"),
                    Some(TemplateToken::Number(index)) => format!("{value}[{index}]"),
                    _ => {
                        self.at -= 1;
                        return self.unexpected("the name of an attribute");
                    }
                };
            } else if self.take_sign("[") {
                let items = self.deeper(|reader| reader.list("]", Self::subscript))?;
                value = format!("{value}[{items}]");
            } else if self.take_sign("(") {
                let arguments = self.deeper(|reader| reader.list(")", Self::argument))?;
                value = format!("{value}({arguments})");
            } else {
                return Ok(value);
            }
        }
    }

    fn subscript(&mut self) -> SyntaxResult<String> {
        let mut text = String::new();
        let mut parts = 1;
        loop {
            if self.take_sign(":") {
                parts += 1;
                text.push(':');
            } else if self.is_sign("]") || self.is_sign(",") {
                break;
            } else {
                text += &self.expression()?;
                if !self.is_sign(":") {
                    break;
                }
            }
        }
        if text.is_empty() || parts > 3 { self.unexpected("an index") } else { Ok(text) }
    }

    pub fn argument(&mut self) -> SyntaxResult<String> {
        if self.take_sign("**") {
            return Ok(format!("**{}", self.expression()?));
        }
        if self.take_sign("*") {
            return Ok(format!("*{}", self.expression()?));
        }
        if let (Some(TemplateToken::Name(name)), Some(TemplateToken::Sign("="))) =
            (self.peek(), self.tokens.get(self.at + 1))
        {
            self.at += 2;
            return Ok(format!("{name}={}", self.expression()?));
        }
        self.expression()
    }

    fn filters_and_tests(&mut self, mut value: String) -> SyntaxResult<String> {
        let mut links = 0;
        loop {
            self.link(&mut links)?;
            if self.take_sign("|") {
                value = format!("{value}|{}", self.filter()?);
            } else if self.take_name("is") {
                value = self.test(&value)?;
            } else if self.is_sign("(") {
                value = self.postfix(value)?;
            } else {
                return Ok(value);
            }
        }
    }

    /// A filter's name, with its arguments.
    pub fn filter(&mut self) -> SyntaxResult<String> {
        let mut name = self.name()?.to_string();
        while self.take_sign(".") {
            name = format!("{name}.{}", self.name()?);
        }
        if !self.take_sign("(") {
            return Ok(name);
        }
        let arguments = self.deeper(|reader| reader.list(")", Self::argument))?;
        Ok(format!("{name}({arguments})"))
    }

    fn test(&mut self, value: &str) -> SyntaxResult<String> {
        let not = if self.take_name("not") { "not " } else { "" };
        let mut test = self.name()?.to_string();
        while self.take_sign(".") {
            test = format!("{test}.{}", self.name()?);
        }
        let arguments = match self.peek() {
            Some(TemplateToken::Sign("(")) => {
                self.at += 1;
                self.deeper(|reader| reader.list(")", Self::argument))?
            }
            Some(TemplateToken::Name(name))
                if matches!(name.as_str(), "else" | "or" | "and" | "if" | "recursive") =>
            {
                String::new()
            }
            Some(TemplateToken::Name(name)) if name == "is" => {
                return self.error("tests cannot be chained: `is` behind `is`");
            }
            // `not in` and `in` go on with a comparison.
            Some(TemplateToken::Name(name)) if matches!(name.as_str(), "not" | "in") => String::new(),
            Some(
                TemplateToken::Name(_)
                | TemplateToken::Number(_)
                | TemplateToken::Text(_)
                | TemplateToken::Sign("[" | "{"),
            ) => {
                let argument = self.primary()?;
                self.postfix(argument)?
            }
            _ => String::new(),
        };
        let arguments = if arguments.is_empty() { arguments } else { format!("({arguments})") };
        Ok(format!("({value} is {not}{test}{arguments})"))
    }
}

/// An operator of any number of operands; of one it is nothing.
fn call(function: &str, mut operands: Vec<String>) -> String {
    if operands.len() == 1 { operands.remove(0) } else { format!("{function}({})", operands.join(", ")) }
}
