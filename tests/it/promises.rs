//! Sentences of `docs/`, the README and the comments of `conf/`, and the tests that hold them: `tests/promises.yaml` lists both, and neither may go without the other.
//!
//! A row is a piece of a sentence, exactly as it stands in the document (breaks of lines do not matter), and the names of
//! the tests that fail when it is no longer true. A name that several files have is written `module::name`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

/// Words of a piece: enough to be found by, few enough to stay as they are when the sentence beside them changes.
const WORDS: std::ops::RangeInclusive<usize> = 4..=15;
/// Rows that a document has at least.
const ROWS: usize = 5;
/// Documents without rows, and why.
const EXEMPT: [(&str, &str); 8] = [
    ("conf/minimal.yaml", "has two comments"),
    ("docs/glossary.md", "says what words mean, and promises nothing"),
    ("docs/architecture.md", "says where code is, and tests/it/layers.rs holds its edges"),
    ("docs/development.md", "says how to work on the code"),
    ("docs/performance.md", "figures of `make bench`, which no test measures"),
    ("docs/README.md", "leads to the other pages"),
    ("docs/SUMMARY.md", "lists the pages, and tests/it/documentation/links.rs compares it"),
    ("docs/metrics.md", "is made of the other pages, and tests/it/documentation/names.rs compares it"),
];
/// Folders of documents without rows, and why. Rows are welcome there too.
const EXEMPT_FOLDERS: [(&str, &str); 2] = [
    (
        "docs/recipes/",
        "put together what other pages promise; tests/it/documentation/ loads their files and runs their commands",
    ),
    ("docs/migrations/", "say which key stands for what; tests/it/documentation/ loads their files"),
];

/// A row: the document, the piece of it, the tests.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    document: String,
    piece: String,
    tests: Vec<String>,
}

#[test]
fn every_promise_stands_in_its_document_and_has_its_tests() {
    let (rows, documents, tests) = (rows(&list()), documents(), tests());
    assert!(tests.len() > 500, "only {} tests are found: this test reads the wrong folders", tests.len());
    let wrong: Vec<String> = rows.iter().flat_map(|row| mistakes(row, &documents, &tests)).collect();
    assert!(wrong.is_empty(), "tests/promises.yaml does not fit the documents and the tests:\n{}", wrong.join("\n"));
}

#[test]
fn every_document_has_promises_or_a_reason_to_have_none() {
    let (rows, documents) = (rows(&list()), documents());
    for (exempt, reason) in EXEMPT {
        assert!(documents.contains_key(exempt), "there is no {exempt} any more ({reason})");
    }
    for (folder, reason) in EXEMPT_FOLDERS {
        assert!(documents.keys().any(|name| name.starts_with(folder)), "there is no {folder} any more ({reason})");
    }
    let is_exempt = |name: &str| {
        EXEMPT.iter().any(|(exempt, _)| *exempt == name)
            || EXEMPT_FOLDERS.iter().any(|(folder, _)| name.starts_with(folder))
    };
    for name in documents.keys().filter(|name| !is_exempt(name)) {
        let count = rows.iter().filter(|row| row.document == *name).count();
        assert!(count >= ROWS, "{name} has {count} rows in tests/promises.yaml; which tests hold its sentences?");
    }
}

#[test]
fn what_is_wrong_with_a_row_is_found() {
    let text = "What waits is\nkept for 300 s, and no longer. But what is kept is kept, as what is kept is kept.";
    let documents = BTreeMap::from([("docs/a.md".to_owned(), words(text))]);
    let places = |modules: &[&str]| modules.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let tests = BTreeMap::from([
        ("it_is_kept".to_owned(), places(&["it::one"])),
        ("it_goes".to_owned(), places(&["it::one", "it::two"])),
    ]);
    let table = [
        ("docs/a.md", "What waits is kept for 300 s", "it_is_kept", ""),
        ("docs/a.md", "and no longer. But what is", "two::it_goes", ""),
        ("docs/a.md", "is kept for 200 s, and no longer", "it_is_kept", "does not stand"),
        ("docs/a.md", "hat waits is kept for", "it_is_kept", "does not stand"),
        ("docs/a.md", "what is kept is kept", "it_is_kept", "2 times"),
        ("docs/a.md", "for 300 s", "it_is_kept", "3 words"),
        ("docs/b.md", "What waits is kept for 300 s", "it_is_kept", "no such document"),
        ("docs/a.md", "What waits is kept for 300 s", "it_is_kep", "no test `it_is_kep`"),
        ("docs/a.md", "What waits is kept for 300 s", "two::it_is_kept", "no test `two::it_is_kept`"),
        ("docs/a.md", "What waits is kept for 300 s", "it_goes", "2 tests"),
        ("docs/a.md", "What waits is kept for 300 s", "", "no test holds it"),
    ];
    for (document, piece, test, expected) in table {
        let named = Some(test.to_owned()).filter(|name| !name.is_empty()).into_iter().collect();
        let row = Row { document: document.to_owned(), piece: piece.to_owned(), tests: named };
        let found = mistakes(&row, &documents, &tests);
        assert_eq!(found.len(), usize::from(!expected.is_empty()), "{row:?}: {found:?}");
        assert!(found.iter().all(|mistake| mistake.contains(expected)), "{row:?}: {found:?}");
    }
}

#[test]
fn a_test_is_found_by_what_stands_before_it() {
    let text = "#[test]\nfn one() {}\n#[tokio::test(flavor = \"multi_thread\")]\n// Why.\n#[cfg(unix)]\nasync fn two() {}\n\
                fn none() {}\n#[test]\nconst X: u8 = 1;\nfn nor_this() {}\n    #[test]\n    fn three(text in any::<String>()) {";
    assert_eq!(names(text).collect::<Vec<_>>(), ["one", "two", "three"]);
    for (file, module) in [
        ("tests/it/ranges.rs", "it::ranges"),
        ("tests/it/plain/mod.rs", "it::plain"),
        ("src/relay/routes/tests.rs", "relay::routes"),
        ("crates/relay/src/lib.rs", "relay"),
    ] {
        assert!(module_of(Path::new(file)).ends_with(module), "{file}: {}", module_of(Path::new(file)));
    }
}

/// What is wrong with a row, in words.
fn mistakes(row: &Row, documents: &BTreeMap<String, String>, tests: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let Row { document, piece, tests: named } = row;
    let mut wrong = Vec::new();
    let count = piece.split_whitespace().count();
    match documents.get(document).map(|text| occurrences(text, &words(piece))) {
        None => wrong.push("there is no such document".to_owned()),
        Some(0) => wrong.push("it does not stand there (any more)".to_owned()),
        Some(1) if WORDS.contains(&count) => {}
        Some(1) => wrong.push(format!("it has {count} words, {} to {} are wanted", WORDS.start(), WORDS.end())),
        Some(times) => wrong.push(format!("it stands there {times} times; take more of the sentence")),
    }
    if named.is_empty() {
        wrong.push("no test holds it".to_owned());
    }
    for test in named {
        let (module, name) =
            test.rsplit_once("::").map_or((None, test.as_str()), |(module, name)| (Some(module), name));
        let is_meant =
            |place: &&String| module.is_none_or(|module| format!("::{place}").ends_with(&format!("::{module}")));
        match tests.get(name).into_iter().flatten().filter(is_meant).count() {
            0 => wrong.push(format!("there is no test `{test}` (any more)")),
            1 => {}
            many => wrong.push(format!("{many} tests are `{test}`; write `module::name`")),
        }
    }
    wrong.into_iter().map(|mistake| format!("{document}: {piece:?}: {mistake}")).collect()
}

/// How often `piece` stands in `text`, at the beginning of a word.
fn occurrences(text: &str, piece: &str) -> usize {
    let starts = text.match_indices(piece).map(|(at, _)| text[..at].chars().next_back());
    starts.filter(|before| before.is_none_or(|letter| !letter.is_alphanumeric())).count()
}

/// The text with one blank between words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn list() -> String {
    read(&root().join("tests/promises.yaml"))
}

/// The rows of the list; a piece that stands twice under one document is an error of the list.
fn rows(list: &str) -> Vec<Row> {
    let documents: Mapping =
        serde_yaml::from_str(list).expect("the list is a map of documents, each with its pieces once");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let of_document = |(document, pieces): (&Value, &Value)| -> Vec<Row> {
        let pieces = pieces.as_mapping().expect("a document has a map of pieces");
        let tests =
            |tests: &Value| tests.as_sequence().expect("a piece has a list of tests").iter().map(text).collect();
        let row = |(piece, named): (&Value, &Value)| Row {
            document: text(document),
            piece: text(piece),
            tests: tests(named),
        };
        pieces.iter().map(row).collect()
    };
    documents.iter().flat_map(of_document).collect()
}

/// The documents by their path in the repository. Of a configuration the comments count, each line by itself.
fn documents() -> BTreeMap<String, String> {
    let pages = pages("docs").into_iter();
    let pages = pages.chain(["README.md", "conf/minimal.yaml", "conf/tidegate.yaml"].map(str::to_owned));
    pages.map(|page| (page.clone(), words(&read(&root().join(page))))).collect()
}

/// The pages below a folder of the repository.
fn pages(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(folder)).expect("docs is readable").flatten();
    let page = |entry: std::fs::DirEntry| {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() { pages(&path) } else { vec![path] }
    };
    entries.flat_map(page).filter(|page| page.ends_with(".md")).collect()
}

/// The modules that have a test of each name, over all packages of the workspace.
pub fn tests() -> BTreeMap<String, Vec<String>> {
    let mut tests = BTreeMap::<String, Vec<String>>::new();
    for file in rust_files(root()) {
        let module = module_of(file.strip_prefix(root()).expect("it is in the repository"));
        for name in names(&read(&file)) {
            tests.entry(name.to_owned()).or_default().push(module.clone());
        }
    }
    tests
}

/// The names of the functions that have the attribute of a test.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().map(str::trim).filter_map(move |line| {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
            return None;
        }
        // Other attributes and comments may stand between.
        if line.starts_with("#[") || line.starts_with("//") {
            return None;
        }
        let was_test = std::mem::take(&mut is_test);
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        was_test.then(|| function.split('(').next().unwrap_or_default())
    })
}

/// The module of a file, by its path.
fn module_of(file: &Path) -> String {
    let path = file.with_extension("");
    let names: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let silent = |name: &&String| !["src", "mod", "lib", "tests"].contains(&name.as_str());
    names.iter().filter(silent).map(String::as_str).collect::<Vec<_>>().join("::")
}

/// The Rust sources below `folder`, without what is built and without hidden folders.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of the repository is readable").flatten();
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name != "target" && !name.starts_with('.')
    };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.path()).filter(is_ours) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
