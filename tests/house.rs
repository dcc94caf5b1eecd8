//! The house itself: no circle of files, no type name twice.
//!
//! Files are read as text: comments, strings and what is only there for tests are left out, and what remains is looked
//! through for paths. A path leads to the file that defines its last name, through re-exports; a re-export by itself ties
//! no files together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Who may not use whom, by the beginnings or ends of their files' names.
const FORBIDDEN: &[(&str, &[&str])] = &[
    // The dashboard and the program without a screen stand on everything; nothing stands on them.
    ("engine/", &["tui/", "headless/", "find/", "report/", "cli/", "commands.rs", "doctor.rs"]),
    ("find/", &["tui/", "headless/", "store/", "export/", "report/", "cli/", "commands.rs", "config/"]),
    ("export/", &["engine/", "tui/", "headless/", "report/", "cli/", "commands.rs", "config/"]),
    ("store/", &["engine/", "export/", "tui/", "headless/", "report/", "cli/"]),
    ("methods/", &["engine/", "store/", "tui/", "headless/"]),
    ("scores/", &["engine/", "store/", "tui/", "headless/"]),
    ("model/", &["engine/", "export/", "store/", "tui/", "headless/"]),
    ("data/", &["engine/", "store/", "tui/", "headless/"]),
    ("kernels/", &["engine/", "store/", "model/", "methods/", "scores/", "tui/"]),
    ("report/", &["engine/", "store/", "tui/", "headless/"]),
    ("headless/", &["tui/"]),
    // state <- message <- screens' update <- update, and state <- view's parts <- screens' draw <- view.
    ("tui/widgets/", &["tui/state/", "tui/message.rs", "tui/screens/", "tui/update/", "tui/view/"]),
    ("tui/state/", &["tui/message.rs", "tui/screens/", "tui/update/", "tui/view/"]),
    ("tui/message.rs", &["tui/screens/", "tui/update/", "tui/view/"]),
    ("tui/screens/", &["tui/update/", "tui/view/mod.rs", "tui/view/dialogs.rs"]),
    ("tui/update/", &["tui/view/", "/draw.rs"]),
    ("tui/view/", &["tui/update/", "/update.rs", "tui/message.rs"]),
    ("/update.rs", &["tui/view/", "/draw.rs"]),
    ("/draw.rs", &["tui/message.rs", "/update.rs"]),
];

#[test]
fn no_files_depend_on_each_other_in_a_circle() {
    let house = House::read();
    let mut complaints = Vec::new();
    for circle in house.circles() {
        complaints.push(format!("a circle of {} files:", circle.len()));
        for (from, to, name) in house.ties() {
            if circle.contains(&from) && circle.contains(&to) {
                complaints.push(format!("  {from} uses {name} of {to}"));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn no_room_uses_one_above_it() {
    let mut complaints = Vec::new();
    for (from, to, name) in House::read().ties() {
        let is = |file: &str, part: &str| {
            if part.starts_with('/') { file.ends_with(part) } else { file.starts_with(part) }
        };
        for (part, forbidden) in FORBIDDEN {
            if is(&from, part) && forbidden.iter().any(|part| is(&to, part)) {
                complaints.push(format!("{from} may not use {name} of {to}"));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn no_type_name_is_defined_twice() {
    let house = House::read();
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for module in &house.modules {
        for name in &module.types {
            places.entry(name).or_default().push(&module.file);
        }
    }
    let mut complaints = Vec::new();
    for (name, files) in places.iter().filter(|(_, files)| files.len() > 1) {
        complaints.push(format!("{name} is defined in {}", files.join(", ")));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn a_circle_is_found_through_re_exports_and_not_in_what_is_only_for_tests() {
    let house = House::of(&[
        ("lib.rs", "mod a; mod b; pub use b::Thing;"),
        (
            "a.rs",
            "// use crate::b::Other;\nuse crate::{Thing as It, b::{self}}; pub struct Own; fn f() { b::help(); }",
        ),
        (
            "b/mod.rs",
            "mod c; pub use c::Thing; pub fn help() {} #[cfg(test)] mod tests { use crate::a::Own; }",
        ),
        (
            "b/c.rs",
            "pub struct Thing; const TEXT: &str = \"crate::a::Own\"; fn g<'a>(c: char) { super::super::a::Own; }",
        ),
    ]);
    let ties = house.ties();
    let tie = |from: &str, to: &str, name: &str| (from.to_owned(), to.to_owned(), name.to_owned());
    assert_eq!(
        ties,
        [tie("a.rs", "b/c.rs", "Thing"), tie("a.rs", "b/mod.rs", "help"), tie("b/c.rs", "a.rs", "Own")]
    );
    assert_eq!(house.circles(), [["a.rs", "b/c.rs"]]);
}

/// Files that may say that a test is skipped.
const SKIPPING: &[&str] = &["tests/common/skip.rs", "tests/zz_skipped.rs", "tests/house.rs"];

#[test]
fn tests_skip_themselves_in_one_way_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = ["src", "tests", "examples", "benches"].map(|folder| root.join(folder)).to_vec();
    let mut complaints = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            if path.extension().is_none_or(|extension| extension != "rs") || SKIPPING.contains(&&*file) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in text.lines().enumerate() {
                // Whoever looks for a file of these folders is told by the helper that the test is skipped.
                let looks = line.contains("join(\"../shared") || line.contains("secateur-test-models");
                let says = line.contains("print") && line.to_lowercase().contains("skip");
                if looks || says {
                    complaints.push(format!("{file}:{}: tests/common/skip.rs is for that", number + 1));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// A path as it is written: `crate::tui::state`.
type Names = Vec<String>;

/// A module: a file, or a part of one.
#[derive(Debug, Default)]
struct Module {
    /// Below `src`, with forward slashes.
    file: String,
    /// From the crate's root, which is empty.
    path: Names,
    /// What it defines, modules aside.
    items: BTreeSet<String>,
    /// Types and traits among them, also those within functions.
    types: Vec<String>,
    /// What it imports, by the name it has here.
    imports: BTreeMap<String, Names>,
    /// Modules of which it imports everything.
    globs: Vec<Names>,
    /// Paths that it uses.
    uses: Vec<Names>,
}

struct House {
    modules: Vec<Module>,
}

impl House {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let house = Self::with(&|file: &str| fs::read_to_string(root.join(file)).ok());
        assert!(house.modules.len() > 100, "the files are found");
        house
    }

    fn of(files: &[(&str, &str)]) -> Self {
        Self::with(&|wanted: &str| {
            files.iter().find(|(file, _)| *file == wanted).map(|(_, text)| (*text).to_owned())
        })
    }

    fn with(text_of: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut house = Self { modules: Vec::new() };
        house.file(text_of, "lib.rs", &text_of("lib.rs").unwrap(), &Names::new());
        house
    }

    /// Reads a file that is the module `path`, and those of the modules that it declares.
    fn file(&mut self, text_of: &dyn Fn(&str) -> Option<String>, file: &str, text: &str, path: &Names) {
        let mut children = Vec::new();
        self.module(file, path, &without_tests(&tokens(text)), &mut children);
        let stem = file.trim_end_matches(".rs");
        let folder = match stem.rsplit_once('/') {
            Some((folder, "mod")) => format!("{folder}/"),
            None if stem == "lib" => String::new(),
            _ => format!("{stem}/"),
        };
        for child in children {
            let inside = format!("{folder}{}", child[path.len()..].join("/"));
            let places = [format!("{inside}.rs"), format!("{inside}/mod.rs")];
            let found = places.iter().find_map(|place| Some((place, text_of(place)?)));
            let (place, text) = found.unwrap_or_else(|| panic!("{file} declares {child:?}"));
            self.file(text_of, place, &text, &child);
        }
    }

    /// Reads the tokens of a module; `children` gets the modules that have files of their own.
    fn module(&mut self, file: &str, path: &Names, tokens: &[String], children: &mut Vec<Names>) {
        let mut module = Module { file: file.to_owned(), path: path.clone(), ..Module::default() };
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let next = tokens.get(at + 1).map_or("", String::as_str);
            match token.as_str() {
                "mod" if is_name(next) => {
                    let child: Names = path.iter().cloned().chain([next.to_owned()]).collect();
                    if tokens.get(at + 2).is_some_and(|token| token == "{") {
                        let end = closing(tokens, at + 2);
                        self.module(file, &child, &tokens[at + 3..end], children);
                        at = end;
                    } else {
                        children.push(child);
                        at += 2;
                    }
                }
                "use" => {
                    let shared = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
                    let end = at + tokens[at..].iter().position(|token| token == ";").unwrap();
                    let mut leaves = Vec::new();
                    use_tree(&tokens[at + 1..end], &Names::new(), &mut leaves);
                    for (name, target) in leaves {
                        if !shared {
                            module.uses.push(target.clone());
                        }
                        if name == "*" {
                            module.globs.push(target);
                        } else {
                            module.imports.insert(name, target);
                        }
                    }
                    at = end;
                }
                "struct" | "enum" | "trait" | "union" if is_name(next) => {
                    module.types.push(next.to_owned());
                    module.items.insert(next.to_owned());
                }
                "fn" | "const" | "static" | "type" if is_name(next) => {
                    module.items.insert(next.to_owned());
                }
                "macro_rules" => {
                    module.items.insert(tokens[at + 2].clone());
                }
                name if is_name(name) && next == "::" && !(at > 0 && tokens[at - 1] == "::") => {
                    let mut names = vec![name.to_owned()];
                    while tokens.get(at + 1).is_some_and(|token| token == "::")
                        && tokens.get(at + 2).is_some_and(|token| is_name(token))
                    {
                        names.push(tokens[at + 2].clone());
                        at += 2;
                    }
                    module.uses.push(names);
                }
                _ => {}
            }
            at += 1;
        }
        self.modules.push(module);
    }

    fn find(&self, path: &[String]) -> Option<&Module> {
        self.modules.iter().find(|module| module.path == path)
    }

    /// A path seen from a module as one from the root; `None` where it leads out of the crate.
    fn absolute(&self, module: &Module, names: &[String]) -> Option<Names> {
        let first = names.first()?;
        let mut path = match first.as_str() {
            "crate" => return Some(names[1..].to_vec()),
            "self" => module.path.clone(),
            "super" => {
                let ups = names.iter().take_while(|name| *name == "super").count();
                let kept = module.path.len().checked_sub(ups)?;
                return Some(module.path[..kept].iter().chain(&names[ups..]).cloned().collect());
            }
            name if module.imports.contains_key(name) => {
                let target = module.imports[name].clone();
                // A name may be imported from a crate of the same name.
                if target.first() == Some(first) {
                    return None;
                }
                self.absolute(module, &target)?
            }
            name => {
                let child: Names = module.path.iter().cloned().chain([name.to_owned()]).collect();
                self.find(&child)?;
                child
            }
        };
        path.extend_from_slice(&names[1..]);
        Some(path)
    }

    /// The file that defines what a path from the root leads to, and its name there; `None` for a module itself.
    fn definition(&self, path: &[String], depth: usize) -> Option<(&str, String)> {
        let at = (0..=path.len()).rev().find(|&end| self.find(&path[..end]).is_some())?;
        let (module, rest) = (self.find(&path[..at])?, &path[at..]);
        let name = rest.first()?;
        if module.items.contains(name) || depth > 8 {
            return Some((&module.file, name.clone()));
        }
        let targets = module.imports.get(name).cloned().into_iter();
        let globs = module.globs.iter().map(|glob| glob.iter().cloned().chain([name.clone()]).collect());
        for target in targets.chain(globs) {
            let target: Names = target;
            let Some(mut target) = self.absolute(module, &target) else { continue };
            target.extend_from_slice(&rest[1..]);
            if target != path
                && let Some(found) = self.definition(&target, depth + 1)
            {
                return Some(found);
            }
        }
        None
    }

    /// Which file uses which other, and a name for which it does.
    fn ties(&self) -> Vec<(String, String, String)> {
        let mut ties = BTreeMap::new();
        for module in &self.modules {
            for names in &module.uses {
                let Some(path) = self.absolute(module, names) else { continue };
                let Some((file, name)) = self.definition(&path, 0) else { continue };
                if file != module.file {
                    ties.entry((module.file.clone(), file.to_owned())).or_insert(name);
                }
            }
        }
        ties.into_iter().map(|((from, to), name)| (from, to, name)).collect()
    }

    /// Files each of which uses, by way of others, every other; sorted.
    fn circles(&self) -> Vec<Vec<String>> {
        let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (from, to, _) in self.ties() {
            uses.entry(from).or_default().push(to);
        }
        let reached = |start: &String| {
            let (mut found, mut waiting) = (BTreeSet::new(), vec![start.clone()]);
            while let Some(file) = waiting.pop() {
                for next in uses.get(&file).into_iter().flatten() {
                    if found.insert(next.clone()) {
                        waiting.push(next.clone());
                    }
                }
            }
            found
        };
        let reach: BTreeMap<&String, BTreeSet<String>> =
            uses.keys().map(|file| (file, reached(file))).collect();
        let mut circles = BTreeSet::new();
        for (file, found) in reach.iter().filter(|(file, found)| found.contains(**file)) {
            let back = |other: &&String| reach.get(*other).is_some_and(|found| found.contains(*file));
            circles.insert(found.iter().filter(back).cloned().collect::<Vec<_>>());
        }
        circles.into_iter().collect()
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and single signs; no comments, no texts.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(end) = raw_text(rest) {
            end
        } else if c == '"' {
            text_end(rest)
        } else if c == '\'' {
            character_end(rest)
        } else if c.is_alphanumeric() || c == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            end
        } else if rest.starts_with("::") {
            tokens.push("::".into());
            2
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            c.len_utf8()
        };
        rest = &rest[taken..];
    }
    tokens
}

/// Bytes of a raw text that `rest` begins with: `r"…"`, `r#"…"#`, with `b` before it or not.
fn raw_text(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    let body = inner[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - body.len();
    Some(start + body.find(&end).map_or(body.len(), |at| at + end.len()))
}

fn text_end(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Bytes of a character; of the sign alone where it begins a lifetime.
fn character_end(rest: &str) -> usize {
    let mut inner = rest.char_indices().skip(1);
    match inner.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |at| at + 4),
        Some(_) => match inner.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

/// The tokens without the items behind `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().zip(mark).all(|(token, mark)| token == mark) || tokens.len() - at < mark.len()
        {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += mark.len();
        // An item ends with its body, or with a semicolon before one.
        while at < tokens.len() {
            match tokens[at].as_str() {
                ";" => break,
                "{" => {
                    at = closing(tokens, at);
                    break;
                }
                "(" | "[" => at = closing(tokens, at),
                _ => {}
            }
            at += 1;
        }
        at += 1;
    }
    kept
}

/// Place of the bracket that closes the one at `open`.
fn closing(tokens: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// The names that a tree of imports brings, each with its path: `a::{b, c as d, e::*}`.
fn use_tree(tokens: &[String], before: &Names, leaves: &mut Vec<(String, Names)>) {
    let mut path = before.clone();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                let inner = &tokens[at + 1..closing(tokens, at)];
                let mut start = 0;
                let mut depth = 0;
                for (i, token) in inner.iter().enumerate() {
                    match token.as_str() {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        "," if depth == 0 => {
                            use_tree(&inner[start..i], &path, leaves);
                            start = i + 1;
                        }
                        _ => {}
                    }
                }
                if start < inner.len() {
                    use_tree(&inner[start..], &path, leaves);
                }
                return;
            }
            "*" => {
                leaves.push(("*".into(), path));
                return;
            }
            "as" => {
                leaves.push((tokens[at + 1].clone(), path));
                return;
            }
            "::" => {}
            "self" if !path.is_empty() => {}
            name => path.push(name.to_owned()),
        }
        at += 1;
    }
    if let Some(name) = path.last().cloned() {
        leaves.push((name, path));
    }
}
