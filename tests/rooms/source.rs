//! The crate's own text: its modules, and the paths they name.
//!
//! In: the files of `src/`. Out: which file names which module. Not a Rust parser: comments and texts are blanked,
//! items under `#[cfg(test)]` are cut out, and what remains is read for paths that begin with `crate`, `super`, `self`
//! or a child module. A name that a module merely passes on (`pub use`) counts for the file it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// One room names another.
pub struct Arrow {
    pub from: String,
    pub to: String,
    pub file: String,
    pub line: usize,
}

struct Module {
    /// Relative to `src/`.
    file: String,
    paths: Vec<Named>,
    /// Names it passes on, and the whole path of each.
    passed_on: BTreeMap<String, Vec<String>>,
    crates: BTreeSet<String>,
}

/// A path as it stands in the text, made absolute.
struct Named {
    path: Vec<String>,
    line: usize,
    passed_on: bool,
}

/// All modules by their paths; the crate's own is the empty one.
pub struct Sources(BTreeMap<Vec<String>, Module>);

impl Sources {
    pub fn read() -> Self {
        let mut sources = Self(BTreeMap::new());
        sources.add(&root().join("src"), "lib.rs", &[]);
        sources
    }

    /// Reads one module and its children.
    fn add(&mut self, src: &Path, file: &str, path: &[String]) {
        let text = std::fs::read_to_string(src.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let tokens = without_tests(tokens(&text));
        let folder = match file.strip_suffix("mod.rs").or_else(|| file.strip_suffix("lib.rs")) {
            Some(folder) => folder.to_owned(),
            None => format!("{}/", file.strip_suffix(".rs").expect("a Rust file")),
        };
        let mut children = Vec::new();
        for three in tokens.windows(3) {
            if three[0].is("mod") && three[2].is(";") {
                children.push(three[1].text.clone());
            }
        }
        let mut module = Module {
            file: file.to_owned(),
            paths: Vec::new(),
            passed_on: BTreeMap::new(),
            crates: BTreeSet::new(),
        };
        collect(&tokens, path, &children, &mut module);
        self.0.insert(path.to_vec(), module);
        for child in children {
            let inner = [path, std::slice::from_ref(&child)].concat();
            let (flat, deep) = (format!("{folder}{child}.rs"), format!("{folder}{child}/mod.rs"));
            self.add(src, if src.join(&flat).exists() { &flat } else { &deep }, &inner);
        }
    }

    pub fn rooms(&self) -> BTreeSet<String> {
        self.0.keys().filter(|p| p.len() == 1).map(|p| p[0].clone()).collect()
    }

    /// The module whose text a path leads to.
    fn resolve(&self, path: &[String]) -> Vec<String> {
        let mut at: Vec<String> = Vec::new();
        let mut rest = path;
        // A name that is passed on in a circle does not compile, so this ends.
        loop {
            let Some((next, after)) = rest.split_first() else { return at };
            let child = [&at[..], std::slice::from_ref(next)].concat();
            if self.0.contains_key(&child) {
                at = child;
                rest = after;
            } else if let Some(from) = self.0[&at].passed_on.get(next).filter(|f| f[..] != *path) {
                return self.resolve(from);
            } else {
                return at;
            }
        }
    }

    /// Every use of a room by another, tests left out.
    pub fn room_arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (path, module) in self.0.iter().filter(|(p, _)| !p.is_empty()) {
            for named in &module.paths {
                let to = match named.path.first() {
                    Some(first) if self.0.contains_key(&[first.clone()][..]) => first.clone(),
                    // A name of the crate's root comes from the room that `lib.rs` takes it from.
                    Some(_) => match self.resolve(&named.path).first() {
                        Some(room) => room.clone(),
                        None => {
                            panic!("{}, line {}: {:?} leads nowhere", module.file, named.line, named.path)
                        }
                    },
                    None => continue,
                };
                if to != path[0] {
                    arrows.push(Arrow {
                        from: path[0].clone(),
                        to,
                        file: module.file.clone(),
                        line: named.line,
                    });
                }
            }
        }
        arrows
    }

    /// Rooms that name a library or one whose name begins with it and `_`, each with a file that does.
    pub fn users_of(&self, library: &str) -> Vec<(String, String)> {
        let longer = format!("{library}_");
        let names = |m: &Module| m.crates.iter().any(|c| c == library || c.starts_with(&longer));
        let users = self.0.iter().filter(|(p, m)| !p.is_empty() && names(m));
        let users: BTreeMap<_, _> = users.map(|(p, m)| (p[0].clone(), m.file.clone())).collect();
        users.into_iter().collect()
    }

    /// Files of a room that use each other, each circle once. A module's head (`mod.rs`) is the vocabulary of what lies
    /// in it: what a file names of its own head, or of a head above that, is no arrow.
    pub fn file_circles(&self) -> BTreeSet<Vec<String>> {
        let mut uses: BTreeMap<&[String], BTreeSet<Vec<String>>> = BTreeMap::new();
        for (path, module) in &self.0 {
            let to = uses.entry(path).or_default();
            for named in module.paths.iter().filter(|n| !n.passed_on) {
                let used = self.resolve(&named.path);
                if !path.starts_with(&used) {
                    to.insert(used);
                }
            }
        }
        let reached = |from: &[String]| {
            let mut found = BTreeSet::new();
            let mut open = vec![from.to_vec()];
            while let Some(next) = open.pop() {
                for used in &uses[&next[..]] {
                    if found.insert(used.clone()) {
                        open.push(used.clone());
                    }
                }
            }
            found
        };
        let all: BTreeMap<_, _> = self.0.keys().map(|p| (p.clone(), reached(p))).collect();
        let mut circles = BTreeSet::new();
        for (path, found) in all.iter().filter(|(p, found)| found.contains(*p)) {
            let circle = found.iter().filter(|q| all[*q].contains(path));
            circles.insert(circle.map(|q| self.0[q].file.clone()).collect());
        }
        circles
    }
}

#[derive(Clone)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        self.text == text
    }

    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Names, `::` and single signs; comments, texts and characters leave nothing, but for texts that are a path.
fn tokens(text: &str) -> Vec<Token> {
    let c: Vec<char> = text.chars().collect();
    let (mut out, mut i, mut line) = (Vec::new(), 0, 1);
    let at = |i: usize| c.get(i).copied().unwrap_or('\0');
    while i < c.len() {
        let start = i;
        match c[i] {
            '/' if at(i + 1) == '/' => {
                while i < c.len() && c[i] != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 1;
                i += 2;
                while i < c.len() && depth > 0 {
                    match (c[i], at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                }
            }
            'r' if matches!(at(i + 1), '"' | '#') && raw_end(&c, i + 1).is_some() => {
                i = raw_end(&c, i + 1).expect("asked above");
            }
            'b' if at(i + 1) == 'r' && raw_end(&c, i + 2).is_some() => {
                i = raw_end(&c, i + 2).expect("asked above");
            }
            '"' => {
                i = quoted_end(&c, i);
                let inner: String = c[start + 1..(i - 1).min(c.len())].iter().collect();
                // serde's attributes name functions in texts.
                if inner.starts_with("crate::") {
                    out.extend(tokens(&inner).into_iter().map(|t| Token { line, ..t }));
                }
            }
            // A character, not a lifetime.
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ':' if at(i + 1) == ':' => {
                out.push(Token { text: "::".into(), line });
                i += 2;
            }
            x if x.is_alphanumeric() || x == '_' => {
                while i < c.len() && (c[i].is_alphanumeric() || c[i] == '_') {
                    i += 1;
                }
                let text: String = c[start..i].iter().collect();
                // The mark of a byte text.
                if !(text == "b" && matches!(at(i), '"' | '\'')) {
                    out.push(Token { text, line });
                }
            }
            x => {
                if !x.is_whitespace() {
                    out.push(Token { text: x.to_string(), line });
                }
                i += 1;
            }
        }
        line += c[start..i.min(c.len())].iter().filter(|x| **x == '\n').count();
    }
    out
}

/// Behind a text that begins with its quote at `i`.
fn quoted_end(c: &[char], i: usize) -> usize {
    let mut i = i + 1;
    while i < c.len() && c[i] != '"' {
        i += if c[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// Behind a raw text whose marks begin at `i`; `None` if there is none.
fn raw_end(c: &[char], i: usize) -> Option<usize> {
    let marks = c[i..].iter().take_while(|x| **x == '#').count();
    if c.get(i + marks) != Some(&'"') {
        return None;
    }
    let mut at = i + marks + 1;
    while at < c.len() {
        if c[at] == '"' && c[at + 1..].iter().take(marks).filter(|x| **x == '#').count() == marks {
            return Some(at + 1 + marks);
        }
        at += 1;
    }
    Some(at)
}

/// Behind the bracket that closes the one at `i`.
fn closed(tokens: &[Token], i: usize) -> usize {
    let mut depth = 0;
    for (k, t) in tokens.iter().enumerate().skip(i) {
        match t.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return k + 1;
        }
    }
    tokens.len()
}

/// Leaves out what is compiled for tests alone.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut out = Vec::new();
    let mut i = 0;
    let texts =
        |from: usize, n: usize| tokens[from..].iter().take(n).map(|t| t.text.as_str()).collect::<String>();
    while i < tokens.len() {
        if texts(i, 7) != "#[cfg(test)]" {
            out.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += 7;
        while i < tokens.len() && tokens[i].is("#") {
            i = closed(&tokens, i + 1);
        }
        // The item ends with a semicolon or with the first block.
        while i < tokens.len() && !tokens[i].is(";") && !tokens[i].is("{") {
            i = if tokens[i].is("(") || tokens[i].is("[") { closed(&tokens, i) } else { i + 1 };
        }
        i = if i < tokens.len() && tokens[i].is("{") { closed(&tokens, i) } else { i + 1 };
    }
    out
}

/// Finds every path of a module's text.
fn collect(tokens: &[Token], module: &[String], children: &[String], into: &mut Module) {
    let mut i = 0;
    while i < tokens.len() {
        let before = |n: usize| i.checked_sub(n).map_or("", |k| tokens[k].text.as_str());
        let starts =
            tokens[i].is_name() && before(1) != "::" && tokens.get(i + 1).is_some_and(|t| t.is("::"));
        // `pub(in …)` says who sees an item, not what it uses.
        if !starts || before(1) == "in" && before(2) == "(" {
            i += 1;
            continue;
        }
        let is_use = before(1) == "use";
        let passed_on = is_use && matches!(before(2), "pub" | ")");
        let line = tokens[i].line;
        let mut found = Vec::new();
        i = tree(tokens, i, &[], &mut found);
        for (path, name) in found {
            let first = path[0].as_str();
            let absolute = match first {
                "crate" => path[1..].to_vec(),
                "self" => [module, &path[1..]].concat(),
                "super" => {
                    let up = path.iter().take_while(|p| *p == "super").count();
                    assert!(up <= module.len(), "{}, line {line}: super above the crate", into.file);
                    [&module[..module.len() - up], &path[up..]].concat()
                }
                _ if children.iter().any(|c| c == first) => [module, &path[..]].concat(),
                _ => {
                    into.crates.insert(first.to_owned());
                    continue;
                }
            };
            if passed_on {
                into.passed_on.insert(name, absolute.clone());
            }
            into.paths.push(Named { path: absolute, line, passed_on });
        }
    }
}

/// Reads a path or a tree of paths; each with the name it gets.
fn tree(tokens: &[Token], mut i: usize, before: &[String], found: &mut Vec<(Vec<String>, String)>) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(i) {
            Some(t) if t.is("{") && !path.is_empty() => {
                let end = closed(tokens, i);
                i += 1;
                while i + 1 < end {
                    i = tree(tokens, i, &path, found);
                    if tokens[i].is(",") {
                        i += 1;
                    }
                }
                return end;
            }
            Some(t) if t.is_name() || t.is("*") => {
                // `self` in a tree is the path before it.
                if !t.is("self") || path.is_empty() {
                    path.push(t.text.clone());
                }
                i += 1;
            }
            // Generic arguments, as in `Vec::<T>::new`: the path has said what it names.
            _ => break,
        }
        if tokens.get(i).is_some_and(|t| t.is("::")) {
            i += 1;
        } else {
            break;
        }
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if tokens.get(i).is_some_and(|t| t.is("as")) {
        name = tokens[i + 1].text.clone();
        i += 2;
    }
    if path.len() > before.len() || !before.is_empty() {
        found.push((path, name));
    }
    i
}

#[test]
fn paths_are_read_from_any_text() {
    let text = r##"
        //! crate::comment
        use crate::{a::{B, c::{self, D as E}}, F};
        pub(crate) use super::g::H;
        pub(in crate::nobody) fn f<'a>(x: &'a str) { let c = '"'; " crate::text"; r#"crate::raw " "#; child::call(); }
        /* crate::block /* nested */ crate::still */
        #[serde(with = "crate::words::Form")] struct S;
        fn g() { for x in crate::z::list() { gstreamer::init(); Vec::<u8>::new(); b" crate::bytes"; } }
        #[cfg(test)]
        #[allow(unused)]
        mod tests { use crate::only_in_tests::X; fn f() {} }
        #[cfg(test)]
        mod more;
        mod child;
    "##;
    let tokens = without_tests(tokens(text));
    let mut module =
        Module { file: "x.rs".into(), paths: vec![], passed_on: BTreeMap::new(), crates: BTreeSet::new() };
    collect(&tokens, &["r".into(), "x".into()], &["child".into()], &mut module);
    let paths: Vec<_> = module.paths.iter().map(|n| n.path.join("::")).collect();
    assert_eq!(
        paths,
        ["a::B", "a::c", "a::c::D", "F", "r::g::H", "r::x::child::call", "words::Form", "z::list"]
    );
    assert_eq!(module.passed_on["H"].join("::"), "r::g::H");
    assert!(module.crates.contains("gstreamer") && !module.crates.contains("crate"));
    assert_eq!(module.paths[0].line, 3);
    assert!(!tokens.iter().any(|t| t.is("more") || t.is("X")));
}
