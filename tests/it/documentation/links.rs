//! Links between pages, to headings, and to files of the repository; and that every page is in the summary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{pages, root};

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let pages: BTreeMap<String, String> = pages().into_iter().collect();
    let headings: BTreeMap<&str, BTreeSet<String>> =
        pages.iter().map(|(page, text)| (page.as_str(), anchors(text))).collect();
    let (mut count, mut wrong) = (0, Vec::new());
    for (page, text) in &pages {
        for link in links(text) {
            count += 1;
            wrong.extend(mistake(page, &link, &headings).map(|mistake| format!("{page}: {link}: {mistake}")));
        }
    }
    assert!(count > 300, "only {count} links are found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_summary_once() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).expect("it is there");
    let listed = links(&summary);
    let distinct: BTreeSet<String> = listed.iter().map(|link| format!("docs/{link}")).collect();
    assert_eq!(listed.len(), distinct.len(), "a page is listed twice");
    let there: BTreeSet<String> = pages().into_iter().map(|(page, _)| page).collect();
    let there = there.into_iter().filter(|page| page != "README.md" && page != "docs/SUMMARY.md").collect();
    assert_eq!(distinct, there, "docs/SUMMARY.md and the pages");
}

#[test]
fn a_link_to_nothing_is_found() {
    let text = "# One\n\n## A `key` here\n\n`[no](code.md)` [a](b.md) ![b](c.svg \"title\")\n```\n[no](block.md)\n# no\n```\n## One\n";
    assert_eq!(links(text), ["b.md", "c.svg"]);
    assert_eq!(anchors(text), ["a-key-here", "one", "one-1"].map(str::to_owned).into());
    let headings = BTreeMap::from([("docs/cache.md", anchors("# The cache\n"))]);
    for (link, is_good) in [
        ("cache.md", true),
        ("cache.md#the-cache", true),
        ("#the-cache", true),
        ("https://example.com/none", true),
        ("../conf/minimal.yaml", true),
        ("cache.md#the-cash", false),
        ("cash.md", false),
        ("../../etc/passwd", false),
        ("/docs/cache.md", false),
    ] {
        assert_eq!(mistake("docs/cache.md", link, &headings).is_none(), is_good, "{link}");
    }
}

/// What is wrong with a link of a page.
fn mistake(page: &str, link: &str, headings: &BTreeMap<&str, BTreeSet<String>>) -> Option<String> {
    if ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let Some(target) = resolve(page, path) else { return Some("it leaves the repository".to_owned()) };
    if !root().join(&target).exists() {
        return Some(format!("there is no {target}"));
    }
    let anchor = anchor?;
    match headings.get(target.as_str()) {
        Some(there) if there.contains(anchor) => None,
        Some(there) => Some(format!("{target} has no heading {anchor:?}: {there:?}")),
        None => Some(format!("{target} is no page")),
    }
}

/// The path in the repository of what `path` means on `page`.
fn resolve(page: &str, path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(page.to_owned());
    }
    let mut target: PathBuf = Path::new(page).parent()?.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => target.push(name),
            Component::ParentDir => target.pop().then_some(())?,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(target.display().to_string())
}

/// The lines outside of blocks of code.
pub fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Where the links of a page lead, pictures included.
fn links(text: &str) -> Vec<String> {
    // Every second piece between backquotes is code.
    let without_code = |line: &str| line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let lines = prose(text).map(without_code).collect::<Vec<_>>();
    let found = lines.iter().flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split_once(')'));
    let target = |(inside, _): (&str, &str)| inside.split(' ').next().unwrap_or_default().to_owned();
    found.map(target).filter(|link| !link.is_empty()).collect()
}

/// The anchors of a page's headings, as forges and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for heading in prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim()) {
        // Of a link in a heading the text counts.
        let heading = heading.split("](").map(|piece| piece.split_once(')').map_or(piece, |(_, rest)| rest));
        let anchor: String = heading.collect::<String>().to_lowercase().chars().filter_map(anchor_letter).collect();
        let name = |number: usize| if number == 0 { anchor.clone() } else { format!("{anchor}-{number}") };
        let free = (0..).map(name).find(|name| !anchors.contains(name)).expect("numbers do not end");
        anchors.insert(free);
    }
    anchors
}

/// What becomes of a letter of a heading in its anchor.
fn anchor_letter(letter: char) -> Option<char> {
    match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        _ => letter.is_alphanumeric().then_some(letter),
    }
}
