//! The papers of the repository say what is so: documents that are named are there, versions agree, commands exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Files below `folder` with this ending, as paths from the repository's root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("a folder").flatten() {
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() && entry.file_name() != "target" {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every document of the repository.
fn papers() -> Vec<String> {
    let root = std::fs::read_dir(root()).expect("here").flatten();
    let root =
        root.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|name| name.ends_with(".md"));
    let below = ["benches", "fuzz", "pipelines", "src", "tests", "weights"].map(|folder| files(folder, "md"));
    let mut papers: Vec<String> = root.chain(below.concat()).collect();
    papers.sort();
    assert!(papers.len() > 15, "{papers:?}");
    papers
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let text: String = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_')
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    for paper in papers() {
        let text = read(&paper);
        let folder = Path::new(&paper).parent().expect("a folder");
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { PathBuf::from(&paper) } else { folder.join(file) };
            assert!(root().join(&path).exists(), "{paper}: {link} leads nowhere");
            if !heading.is_empty() {
                let target = read(&path.to_string_lossy());
                let there = target.lines().filter(|l| l.starts_with('#')).any(|l| anchor(l) == heading);
                assert!(there, "{paper}: {} has no heading #{heading}", path.display());
            }
        }
    }
}

/// `room::file` and `room::Type` in ARCHITECTURE.md name what is there.
#[test]
fn the_architecture_names_modules_that_exist() {
    let text = read("ARCHITECTURE.md");
    let rooms: BTreeSet<String> = std::fs::read_dir(root().join("src"))
        .expect("the source")
        .flatten()
        .map(|e| e.path().file_stem().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    let mut looked_at = 0;
    for code in text.split('`').skip(1).step_by(2) {
        let Some((room, rest)) = code.split_once("::") else { continue };
        let named = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        if !rooms.contains(room) || !rest.chars().all(named) {
            continue;
        }
        looked_at += 1;
        let mut source = String::new();
        if root().join(format!("src/{room}")).is_dir() {
            source = files(&format!("src/{room}"), "rs").iter().map(|f| read(f)).collect();
        }
        if root().join(format!("src/{room}.rs")).exists() {
            source += &read(&format!("src/{room}.rs"));
        }
        for name in rest.split("::") {
            let there = ["mod", "fn", "struct", "enum", "trait", "type", "const"]
                .iter()
                .any(|kind| source.contains(&format!("{kind} {name}")));
            assert!(there, "ARCHITECTURE.md: {code}: there is no {name} in {room}");
        }
    }
    assert!(looked_at > 10, "{looked_at} names");
}

/// Documents that comments point to; those that the program itself writes are none.
#[test]
fn comments_name_documents_that_are_there() {
    let written = ["card.md"];
    let documents: BTreeSet<String> = [".", "src", "benches", "pipelines", "weights"]
        .iter()
        .flat_map(|f| if *f == "." { Vec::new() } else { files(f, "md") })
        .chain(
            std::fs::read_dir(root())
                .expect("here")
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into()),
        )
        .collect();
    let known = |name: &str| {
        documents
            .iter()
            .any(|d| d == name || d.ends_with(&format!("/{name}")) || name.ends_with(&format!("/{d}")))
    };
    for file in ["src", "tests", "benches", "examples"].iter().flat_map(|f| files(f, "rs")) {
        for (number, line) in read(&file).lines().enumerate() {
            let Some((_, comment)) = line.split_once("//") else { continue };
            for word in comment.split(|c: char| !(c.is_alphanumeric() || "./_-".contains(c))) {
                let word = word.trim_end_matches('.');
                if word.ends_with(".md") && word != ".md" && !written.contains(&word) {
                    assert!(known(word), "{file}:{}: there is no {word}", number + 1);
                }
            }
            // Whole words in capitals that are a paper's name without its ending.
            for name in ["INTERFACES", "ARCHITECTURE", "CONTRIBUTING", "SECURITY", "GLOSSARY"] {
                if comment.split_whitespace().any(|w| w.trim_matches(|c: char| !c.is_alphanumeric()) == name)
                {
                    assert!(known(&format!("{name}.md")), "{file}:{}: there is no {name}.md", number + 1);
                }
            }
        }
    }
}

#[test]
fn versions_agree() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CHANGELOG.md").contains(&format!("\n## {version} ")), "CHANGELOG.md has no {version}");
    assert!(read("debian/changelog").starts_with(&format!("polypscope ({version}-")));
    let least = env!("CARGO_PKG_RUST_VERSION");
    assert!(!least.is_empty() && read("CONTRIBUTING.md").contains("`rust-version`"));
}

/// What CONTRIBUTING.md and README.md tell people to run, make knows.
#[test]
fn make_targets_that_are_named_exist() {
    let makefile = read("Makefile");
    for paper in papers() {
        let text = read(&paper);
        for (at, _) in text.match_indices("make ") {
            // As a command: in backquotes, or at the begin of an indented line.
            let before = text[..at].chars().next_back();
            if !(before == Some('`') || text[..at].ends_with("\n    ")) {
                continue;
            }
            let of_a_name = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(*c);
            let target: String = text[at + 5..].chars().take_while(of_a_name).collect();
            let target = target.trim_end_matches('.');
            assert!(makefile.contains(&format!("\n{target}:")), "{paper}: make {target} is not there");
        }
    }
}

#[test]
fn variables_that_tests_heed_are_explained() {
    let explained = read("CONTRIBUTING.md") + &read("Makefile");
    for file in files("tests", "rs") {
        for (at, _) in read(&file).match_indices("POLYPSCOPE_") {
            let name: String = read(&file)[at..]
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
                .collect();
            if name != "POLYPSCOPE_" {
                assert!(
                    explained.contains(&name) || read("README.md").contains(&name) || in_the_program(&name),
                    "{name}"
                );
            }
        }
    }
}

/// A variable of the program itself, which its own messages explain.
fn in_the_program(name: &str) -> bool {
    files("src", "rs").iter().any(|f| read(f).contains(&format!("\"{name}\"")))
}

/// Comments and documents are read in windows of any width, but their lines are looked at in reviews.
#[test]
fn lines_of_prose_are_short() {
    let long = |line: &str, most: usize| line.chars().count() > most && !line.contains("http");
    for file in ["src", "tests", "benches", "examples", "fuzz"].iter().flat_map(|f| files(f, "rs")) {
        let mut code = false;
        for (number, line) in read(&file).lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            code ^= comment.trim_start_matches(['/', '!']).trim_start().starts_with("```");
            assert!(code || !long(line, 120), "{file}:{}: the comment has more than 120 columns", number + 1);
        }
    }
    for paper in papers() {
        let mut code = false;
        for (number, line) in read(&paper).lines().enumerate() {
            code ^= line.starts_with("```");
            let table_or_code = code || line.starts_with(['|', '!', '#']) || line.starts_with("    ");
            assert!(table_or_code || !long(line, 140), "{paper}:{}: more than 140 columns", number + 1);
        }
    }
}
