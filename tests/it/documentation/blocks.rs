//! Blocks of code in the pages, and the comments above them.

use std::fmt;

use super::pages;

/// Languages of blocks: another one would be looked at by no test.
const LANGUAGES: &[&str] =
    &["caddyfile", "console", "haproxy", "json", "logrotate", "nginx", "promql", "sh", "systemd", "text", "yaml"];

/// A block of code.
#[derive(Debug)]
pub struct Block {
    /// Path of the page in the repository.
    pub page: String,
    /// The line of its fence.
    pub line: usize,
    /// What stands behind the fence.
    pub language: String,
    /// Its lines, without the indentation of the fence.
    pub text: String,
    marks: Vec<String>,
}

impl Block {
    /// Returns what stands behind `name:` in a comment above the block.
    pub fn mark(&self, name: &str) -> Option<&str> {
        self.marks.iter().find_map(|mark| mark.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    /// Tells whether it is a piece of a configuration.
    pub fn is_fragment(&self) -> bool {
        self.marks.iter().any(|mark| mark == "fragment" || mark.starts_with("fragment,"))
    }

    /// Returns the feature of the build that a fragment needs.
    pub fn feature(&self) -> Option<&str> {
        self.marks.iter().find_map(|mark| mark.strip_prefix("fragment, needs "))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.page, self.line)
    }
}

/// The blocks of all pages.
pub fn all() -> Vec<Block> {
    pages().iter().flat_map(|(page, text)| of_page(page, text)).collect()
}

/// The blocks of a page.
pub fn of_page(page: &str, text: &str) -> Vec<Block> {
    let (mut blocks, mut open, mut marks) = (Vec::new(), None::<(Block, usize)>, Vec::new());
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let indentation = line.len() - trimmed.len();
        if let Some((block, start)) = &mut open {
            if trimmed.trim_end() == "```" {
                blocks.extend(open.take().map(|(block, _)| block));
            } else {
                block.text.push_str(&line[(*start).min(indentation)..]);
                block.text.push('\n');
            }
        } else if let Some(language) = trimmed.strip_prefix("```") {
            let block = Block {
                page: page.to_owned(),
                line: number + 1,
                language: language.trim().to_owned(),
                text: String::new(),
                marks: std::mem::take(&mut marks),
            };
            open = Some((block, indentation));
        } else if let Some(comment) = trimmed.strip_prefix("<!-- ").and_then(|it| it.strip_suffix(" -->")) {
            marks.push(comment.to_owned());
        } else {
            marks.clear();
        }
    }
    assert!(open.is_none(), "{page}: a block has no end");
    blocks
}

#[test]
fn every_block_says_what_it_is() {
    let blocks = all();
    assert!(blocks.len() > 100, "only {} blocks are found", blocks.len());
    let unknown: Vec<_> = blocks.iter().filter(|block| !LANGUAGES.contains(&block.language.as_str())).collect();
    assert!(unknown.is_empty(), "blocks of another language than {LANGUAGES:?}: {unknown:#?}");
    for block in blocks {
        let known = ["fragment", "file", "checked as", "not run"];
        let words = block.marks.iter().map(|mark| mark.split([':', ',']).next().unwrap_or_default());
        for word in words {
            assert!(known.contains(&word), "{block}: no test knows the comment {word:?}");
        }
        assert!(block.mark("not run") != Some(""), "{block}: a reason is missing");
    }
}

#[test]
fn a_block_is_found_with_its_comments_and_without_its_indentation() {
    let text = "<!-- lost -->\nText.\n\n1. A list\n\n   <!-- fragment, needs kafka -->\n   <!-- file: a.yaml -->\n   ```yaml\n   \
                A:\n     B: 1\n   ```\n\n```sh\n<!-- none -->\n```\n";
    let blocks = of_page("docs/a.md", text);
    let [first, second] = blocks.as_slice() else { panic!("{blocks:?}") };
    assert_eq!((first.text.as_str(), first.line, first.language.as_str()), ("A:\n  B: 1\n", 8, "yaml"));
    assert_eq!((first.is_fragment(), first.feature(), first.mark("file")), (true, Some("kafka"), Some("a.yaml")));
    assert_eq!((second.text.as_str(), second.marks.len()), ("<!-- none -->\n", 0));
}
