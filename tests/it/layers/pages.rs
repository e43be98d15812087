//! One look for every page: the sheets that all of them link, and colours that stand nowhere else.

use super::{root, text};

/// Files below `crates/` that end so, but for those that others have made and those that are made.
fn files(ending: &str) -> Vec<std::path::PathBuf> {
    let (mut folders, mut found) = (vec![root().join("crates")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            match path.is_dir() {
                true if name != "vendor" && name != "target" => folders.push(path),
                false if name.ends_with(ending) => found.push(path),
                _ => {}
            }
        }
    }
    found
}

/// Colours in a sheet that are no token (`var(--name)`) and no word of the system's.
fn colours(sheet: &str) -> Vec<&str> {
    let values = sheet.split([':', ' ', ',', ';', '{', '}', '\n']).map(str::trim);
    let is_hex = |word: &str| {
        word.strip_prefix('#').is_some_and(|digits| {
            [3, 4, 6, 8].contains(&digits.len()) && digits.chars().all(|digit| digit.is_ascii_hexdigit())
        })
    };
    let functions = ["rgb(", "rgba(", "hsl(", "hsla(", "hwb(", "lab(", "lch(", "oklab(", "oklch("];
    let is_function = |word: &str| functions.iter().any(|function| word.starts_with(function));
    values.filter(|word| is_hex(word) || is_function(word)).collect()
}

#[test]
fn every_page_links_the_sheets_of_all_and_has_no_colours_of_its_own() {
    let pages = files(".html");
    assert!(pages.len() >= 6, "{pages:?}");
    for page in &pages {
        for sheet in ["base.css", "components.css"] {
            let links =
                text(page).lines().filter(|line| line.contains("rel=\"stylesheet\"")).any(|line| line.contains(sheet));
            assert!(links, "{} does not link {sheet}", page.display());
        }
    }
    let sheets: Vec<_> =
        files(".css").into_iter().filter(|sheet| !sheet.to_string_lossy().contains("web-pages")).collect();
    assert!(sheets.len() >= 5, "{sheets:?}");
    for sheet in sheets {
        let found = text(&sheet);
        assert_eq!(colours(&found), [""; 0], "{}: put it into components.css", sheet.display());
    }
}

#[test]
fn colours_are_found_and_names_are_none() {
    let found = colours(
        "a { color:#fff; background: rgb(0 0 0 / .5) } #face p { border: 1px solid var(--line) } b{fill:#0b7285}",
    );
    assert_eq!(found, ["#fff", "rgb(0", "#face", "#0b7285"]);
    assert_eq!(colours("#queue, .rail { color: CanvasText; border-color: var(--soft-line); }"), [""; 0]);
}
