//! Checks of pages, for the tests of the modules that have some: each returns what is wrong, empty where nothing is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Languages of all pages, with the categories of plurals that Unicode (CLDR) gives them.
pub const LANGUAGES: [(&str, &[&str]); 4] = [
    ("en", &["one", "other"]),
    ("es", &["many", "one", "other"]),
    ("ru", &["few", "many", "one", "other"]),
    ("uk", &["few", "many", "one", "other"]),
];

/// Texts of a page, by language and key.
pub type Texts = BTreeMap<String, BTreeMap<String, Value>>;

/// Parses the texts of a page; `None` where they are not languages with texts.
pub fn parse_texts(text: &str) -> Option<Texts> {
    serde_json::from_str(text).ok()
}

/// Finds texts that a language lacks, that have other plurals than its own, or take other values than the English one.
pub fn language_faults(texts: &Texts) -> Vec<String> {
    if !texts.keys().map(String::as_str).eq(LANGUAGES.map(|(language, _)| language)) {
        return vec![format!("the languages are {:?}", texts.keys().collect::<Vec<_>>())];
    }
    let english = &texts["en"];
    let mut faults = Vec::new();
    for (language, categories) in LANGUAGES {
        let own = &texts[language];
        let keys: BTreeSet<_> = own.keys().chain(english.keys()).collect();
        for key in keys {
            let (Some(text), Some(wanted)) = (own.get(key), english.get(key)) else {
                faults.push(format!("{language}: {key} is not in both"));
                continue;
            };
            faults.extend(text_fault(text, wanted, categories).map(|fault| format!("{language}: {key} {fault}")));
        }
    }
    faults
}

fn text_fault(text: &Value, english: &Value, categories: &[&str]) -> Option<&'static str> {
    let forms: Vec<&str> = match text {
        Value::Object(forms) if !forms.keys().eq(categories.iter()) => return Some("has not the language's plurals"),
        Value::Object(forms) => forms.values().filter_map(Value::as_str).collect(),
        text => text.as_str().into_iter().collect(),
    };
    if forms.is_empty() || forms.iter().any(|form| form.trim().is_empty()) {
        return Some("is empty");
    }
    let wanted = values(english.as_str().or(english["other"].as_str()).unwrap_or_default());
    forms.iter().any(|form| values(form) != wanted).then_some("takes other values than the English text")
}

/// Returns the values that a text takes.
fn values(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name)).collect()
}

/// Finds texts that `pages` or `scripts` name and that are not there, and those that nothing names. Keys that begin with
/// one of `composed` are put together by scripts, so that nothing names them whole.
pub fn naming_faults(texts: &Texts, pages: &str, scripts: &str, composed: &[&str]) -> Vec<String> {
    let english = &texts["en"];
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for (start, whole) in
        [("data-text=\"", pages), ("data-label=\"", pages), (" text(\"", scripts), ("(text(\"", scripts)]
    {
        named.extend(whole.split(start).skip(1).filter_map(|rest| rest.split_once('"').map(|(key, _)| key)));
    }
    let lacking = named.iter().filter(|key| !english.contains_key(**key));
    let mut faults: Vec<String> = lacking.map(|key| format!("{key} is named and is not there")).collect();
    let is_used = |key: &&String| {
        named.contains(key.as_str())
            || scripts.contains(&format!("\"{key}\""))
            || composed.iter().any(|start| key.starts_with(start))
    };
    faults.extend(english.keys().filter(|key| !is_used(key)).map(|key| format!("{key} is not used")));
    faults
}

/// Finds what a strict policy would bar in a page, or what is from elsewhere.
pub fn page_faults(page: &str) -> Vec<&'static str> {
    let barred = ["style=\"", "<style", "onclick=", "onload=", "javascript:", "http:", "https:", "<script>"];
    barred.into_iter().filter(|barred| page.contains(barred)).collect()
}

/// Finds what a script or a style sheet of ours must not have.
pub fn part_faults(part: &str) -> Vec<&'static str> {
    let barred = ["http://", "https://", "innerHTML", "eval(", "console."];
    barred.into_iter().filter(|barred| part.contains(barred)).collect()
}

/// Returns the files that a page or a part names, without the folder `prefix`.
pub fn named_files<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let is_file =
        |word: &&str| word.rsplit_once('.').is_some_and(|(_, end)| ["js", "css", "json", "svg"].contains(&end));
    text.split('"').filter(is_file).map(move |name| name.trim_start_matches("./").trim_start_matches(prefix))
}
