//! The documentation against the program: each configuration is loaded, each command is run, each link leads somewhere, each setting and each metric
//! that is named exists.
//!
//! A block of a page is what its language says, and comments right above it say the rest:
//!
//! | comment | meaning |
//! |---|---|
//! | `<!-- fragment -->` | YAML that is a piece of a configuration: it is loaded together with `base.yaml` |
//! | `<!-- fragment, needs FEATURE -->` | the same, in builds with this feature; without it, it must be refused for that reason |
//! | `<!-- file: NAME -->` | this YAML is the file of that name for the commands of the page |
//! | `<!-- checked as: KIND -->` | YAML that is no configuration of Tidegate's: `prometheus`, `helm values`, or `yaml` |
//! | `<!-- not run: REASON -->` | commands that a test cannot run |

mod blocks;
mod commands;
mod configurations;
mod enhancements;
mod links;
mod names;
mod other_programs;
mod site;

use std::path::{Path, PathBuf};

/// The folder of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages by their path in the repository: the README and everything in `docs/`.
fn pages() -> Vec<(String, String)> {
    let mut files = vec![root().join("README.md")];
    collect(&root().join("docs"), &mut files);
    files.sort();
    let page = |file: PathBuf| {
        let name = file.strip_prefix(root()).expect("it is in the repository").display().to_string();
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, text)
    };
    files.into_iter().map(page).collect()
}

/// Adds the pages below `folder`.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            files.push(path);
        }
    }
}
