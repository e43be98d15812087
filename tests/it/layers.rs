//! The layering of `src/`: who may use whom. Every `crate::` path is read, and an edge that is not listed fails.
//!
//! To allow an edge, add the word to its line in [`ALLOWED`]; a new module needs a line of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// One line per module: its name, then what it may use.
const ALLOWED: &str = "
    secret:
    clock:
    memo:
    failure_log:
    attempts:  http
    lifecycle:
    http:
    route:     http
    s3:        http clock secret
    upstream:  http route clock secret lifecycle failure_log
    auth:      http clock secret memo database redis on failure_log
    catalog:   http clock secret memo database on failure_log
    limit:     http clock attempts database redis on
    object:    http s3 upstream clock
    embedded:  http clock secret
    database:  secret failure_log
    redis:     secret failure_log
    events:    secret lifecycle
    demo:      http
    relay:     api clock http lifecycle attempts redis s3 secret
    telemetry: http clock
    api:       http clock secret auth limit telemetry
    tracks:    http s3 clock auth catalog api redis
    positions: api auth clock http lifecycle telemetry database redis on
    playback:  api auth clock http lifecycle telemetry events
    proxy:     http route s3 auth catalog limit object upstream telemetry secret clock lifecycle
    config:    http route s3 auth catalog limit object upstream proxy telemetry secret database redis events playback positions relay
    cli:       *
    app:       *
    lib:       *
    main:      *
";

/// `from` uses `to`, seen in `file` on `line`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    file: PathBuf,
    line: usize,
    from: String,
    to: String,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: `{}` must not use `{}`", self.file.display(), self.line, self.from, self.to)
    }
}

#[test]
fn every_module_uses_only_what_its_layer_may_use() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut edges = Vec::new();
    for file in rust_files(&root) {
        let text = std::fs::read_to_string(&file).expect("a source file is readable");
        edges.extend(edges_of(file.strip_prefix(&root).expect("the file is under src"), &text));
    }
    assert!(!edges.is_empty(), "no `crate::` path found at all: this test reads the wrong folder");
    let wrong = forbidden(&edges);
    assert!(wrong.is_empty(), "edges that tests/it/layers.rs does not list:\n{}", wrong.join("\n"));
}

#[test]
fn a_forbidden_edge_is_found_in_every_spelling() {
    let spellings = [
        ("http/range.rs", "use crate::proxy::Failure;"),
        ("http/range.rs", "use crate::{clock::Clock, proxy};"),
        ("http/range.rs", "use crate::{\n    proxy::{a, b},\n};"),
        ("http/range.rs", "fn f() { let x = crate::proxy::x(); }"),
        ("http/mod.rs", "use super::proxy;"),
        ("http/range.rs", "use super::super::proxy::x;"),
        ("http/deep/range.rs", "pub(crate) use super::super::super::proxy;"),
        ("clock.rs", "use super::proxy::Clock;"),
    ];
    for (file, text) in spellings {
        let edges = edges_of(Path::new(file), text);
        let wrong = forbidden(&edges);
        assert!(wrong.iter().any(|line| line.contains("`proxy`")), "{text:?} in {file} was let through: {edges:?}");
    }
}

#[test]
fn an_allowed_edge_a_comment_and_a_module_of_its_own_are_let_through() {
    let fine = [
        ("proxy/admit.rs", "use crate::route::table;"),
        ("http/range.rs", "// see crate::proxy\nuse crate::http::etag;"),
        ("http/range.rs", "/// As [`crate::proxy::Failure`] says.\nfn f() {}"),
        ("http/range.rs", "mod tests {\n    use super::super::etag;\n}"),
        ("http/range.rs", "use super::etag;"),
        ("app.rs", "use crate::proxy;"),
    ];
    for (file, text) in fine {
        let wrong = forbidden(&edges_of(Path::new(file), text));
        assert!(wrong.is_empty(), "{text:?} in {file}: {wrong:?}");
    }
}

#[test]
fn a_module_without_a_line_is_refused() {
    let edges = edges_of(Path::new("novelty/mod.rs"), "use crate::http;");
    assert_eq!(forbidden(&edges).len(), 1);
}

/// The edges that [`ALLOWED`] does not have, as messages.
fn forbidden(edges: &[Edge]) -> Vec<String> {
    let allowed: BTreeMap<&str, Vec<&str>> = ALLOWED
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(from, to)| (from, to.split_whitespace().collect()))
        .collect();
    let may = |edge: &&Edge| {
        allowed.get(edge.from.as_str()).is_some_and(|to| to.contains(&"*") || to.contains(&edge.to.as_str()))
    };
    edges.iter().filter(|edge| edge.from != edge.to && !may(edge)).map(Edge::to_string).collect()
}

/// The edges that the text of one file (its path relative to `src/`) makes.
fn edges_of(file: &Path, text: &str) -> Vec<Edge> {
    let module = |path: &Path| path.components().next().map(|first| first.as_os_str().to_string_lossy().into_owned());
    let from = module(&file.with_extension("")).expect("a path has a first component");
    // `mod.rs` stands for its folder; any other file is one level below it.
    let depth = file.components().count() - usize::from(file.ends_with("mod.rs"));
    let code: Vec<String> = text.lines().map(without_comment).collect();
    let mut edges = Vec::new();
    for (index, line) in code.iter().enumerate() {
        let rest = || code[index..].join("\n");
        let mut found: Vec<String> = line
            .match_indices("crate::")
            .filter(|(at, _)| !line[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
            .flat_map(|(at, _)| names(&rest()[at + "crate::".len()..]))
            .collect();
        if let Some(path) = escaping_super(line, depth) {
            found.extend(names(&path));
        }
        found.sort();
        found.dedup();
        edges.extend(found.into_iter().map(|to| Edge { file: file.into(), line: index + 1, from: from.clone(), to }));
    }
    edges
}

/// What follows the `super::`s of a top-level `use`, where they reach the crate's root. (Indented ones stand in an
/// inline module, which is one level deeper.)
fn escaping_super(line: &str, depth: usize) -> Option<String> {
    let path = ["use ", "pub use ", "pub(crate) use "].iter().find_map(|start| line.strip_prefix(start))?;
    let mut rest = path;
    let mut ups = 0;
    while let Some(next) = rest.strip_prefix("super::") {
        rest = next;
        ups += 1;
    }
    (ups >= depth && ups > 0).then(|| rest.to_owned())
}

/// The first names of a path, or of each path in a `{…}` group.
fn names(path: &str) -> Vec<String> {
    let word =
        |text: &str| -> String { text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = path.strip_prefix('{') else {
        return Some(word(path)).filter(|name| !name.is_empty()).into_iter().collect();
    };
    let mut nesting = 0usize;
    let mut parts = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => nesting += 1,
            '}' if nesting == 0 => break,
            '}' => nesting -= 1,
            ',' if nesting == 0 => parts.push(String::new()),
            _ => {}
        }
        parts.last_mut().expect("there is always one part").push(c);
    }
    parts.iter().map(|part| word(part.trim_start_matches([',', ' ', '\n']))).filter(|name| !name.is_empty()).collect()
}

fn without_comment(line: &str) -> String {
    if line.trim_start().starts_with("//") { String::new() } else { line.to_owned() }
}

/// The source files under `folder`.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("an entry is readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}
