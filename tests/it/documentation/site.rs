//! The documentation as a site: it is made without a warning, and no link in it leads nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::root;
use crate::support::tools::{self, TempFolder};

/// Pages that repeat others, or that stand nowhere.
const APART: &[&str] = &["print.html", "404.html", "toc.html"];

#[test]
fn the_site_is_made_and_every_link_in_it_leads_somewhere() {
    if tools::find("mdbook").is_none() {
        return;
    }
    let folder = TempFolder::new("site");
    let site = folder.path().join("site");
    let made = Command::new(root().join("scripts/docs.sh")).arg(&site).output().expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let pages = pages(&site);
    assert!(pages.len() > 40, "only {} pages are made", pages.len());
    let ids: BTreeMap<&Path, BTreeSet<&str>> =
        pages.iter().map(|(page, text)| (page.as_path(), attributes(text, "id").collect())).collect();
    let mut wrong = BTreeSet::new();
    for (page, text) in &pages {
        let links = attributes(text, "href").chain(attributes(text, "src"));
        for link in links.filter(|link| !link.contains("://") && !link.starts_with("data:")) {
            let (target, anchor) = link.split_once('#').map_or((link, ""), |(target, anchor)| (target, anchor));
            let target = match target {
                "" => page.clone(),
                other => page.parent().expect("a folder").join(other),
            };
            let target = target.canonicalize().unwrap_or(target);
            let has_anchor = anchor.is_empty() || ids.get(target.as_path()).is_none_or(|ids| ids.contains(anchor));
            if !target.exists() || !has_anchor {
                wrong.insert(format!("{}: {link}", page.strip_prefix(&site).unwrap_or(page).display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The pages of the site with their text.
fn pages(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path().canonicalize().expect("it is there");
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            pages.extend(self::pages(&path));
        } else if name.ends_with(".html") && !APART.contains(&name.as_str()) {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            pages.push((path, text));
        }
    }
    pages
}

/// The values of an attribute in a page.
fn attributes<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let is_whole = move |before: &str| before.ends_with(char::is_whitespace);
    let places = text.match_indices(name).filter(move |(at, _)| is_whole(&text[..*at]));
    places.filter_map(move |(at, _)| text[at + name.len()..].strip_prefix("=\"")?.split('"').next())
}
