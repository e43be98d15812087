//! The levels of a manifest (`MPD`, `Period`, `AdaptationSet`, `Representation`) with their bases: each `BaseURL` counts from
//! those of the level above, and several of one level are alternatives.

use crate::manifest::ManifestFault;
use crate::manifest::film_uris::{BaseUris, JudgedUri, UriJudge, UriPurpose};

/// Most bases of one level: alternatives of alternatives multiply.
const MAX_BASES: usize = 32;
/// Most references of a level that are judged again for each base below it.
const MAX_INHERITED: usize = 1024;
/// Most work with the URIs of one manifest, in bytes of references and of the bases that they are judged with: a short
/// manifest may have many pairs of long ones.
const MAX_JUDGED_BYTES: usize = 32 << 20;
/// Work with a URI besides its bytes and those of its base, in the same measure.
const URI_OVERHEAD: usize = 64;
/// Deepest nesting of elements.
const MAX_DEPTH: usize = 64;

/// The open elements.
pub struct Levels {
    levels: Vec<Level>,
    depth: usize,
    has_root: bool,
    /// Work so far, up to `MAX_JUDGED_BYTES`.
    judged_bytes: usize,
}

struct Level {
    /// Depth of the element that opened it.
    depth: usize,
    inherited: Vec<BaseUris>,
    /// Those of its own `BaseURL`s, which replace the inherited ones.
    own: Vec<BaseUris>,
    /// True once a reference was resolved at this level or below it: a `BaseURL` that came now would change it.
    is_used: bool,
    /// True in a representation: nothing below it has a base of its own.
    is_lowest: bool,
    /// References that count from the bases of levels below too; true for those that were replaced.
    references: Vec<(String, bool)>,
}

impl Level {
    fn new(depth: usize, inherited: Vec<BaseUris>, is_lowest: bool) -> Self {
        Self { depth, inherited, own: Vec::new(), is_used: false, is_lowest, references: Vec::new() }
    }

    fn bases(&self) -> &[BaseUris] {
        if self.own.is_empty() { &self.inherited } else { &self.own }
    }
}

impl Levels {
    /// Creates the levels of a manifest with this base.
    pub fn new(base: BaseUris) -> Self {
        Self { levels: vec![Level::new(0, vec![base], false)], depth: 0, has_root: false, judged_bytes: 0 }
    }

    fn last(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the document's own level is never closed")
    }

    /// Checks that the first element is a manifest's, and that there is only one.
    pub fn check_root(&mut self, name: &[u8]) -> Result<(), ManifestFault> {
        if self.depth > 0 {
            return Ok(());
        }
        if self.has_root || name != b"MPD" {
            return Err(ManifestFault::Malformed("its root is no MPD"));
        }
        self.has_root = true;
        Ok(())
    }

    /// Checks that the manifest was whole.
    pub fn check_end(&self) -> Result<(), ManifestFault> {
        match self.has_root && self.depth == 0 {
            true => Ok(()),
            false => Err(ManifestFault::Malformed("it ends before its root does")),
        }
    }

    /// Opens an element; some are levels with bases of their own.
    pub fn open(&mut self, name: &[u8]) -> Result<(), ManifestFault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ManifestFault::Malformed("more than 64 elements within each other"));
        }
        if matches!(name, b"MPD" | b"Period" | b"AdaptationSet" | b"Representation") {
            let depth = self.depth;
            let above = self.last();
            above.is_used = depth > 1;
            if above.is_lowest {
                return Err(ManifestFault::Malformed("a representation with another level in it"));
            }
            let inherited = above.bases().to_vec();
            self.levels.push(Level::new(depth, inherited, name == b"Representation"));
        }
        Ok(())
    }

    /// Passes an element without content.
    pub fn pass_empty(&mut self, name: &[u8]) {
        if matches!(name, b"Period" | b"AdaptationSet" | b"Representation") {
            self.use_base();
        }
    }

    /// Closes the element that was opened last.
    pub fn close(&mut self) {
        if self.last().depth == self.depth && self.levels.len() > 1 {
            self.levels.pop();
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// Returns true where the element that was opened last is a level.
    pub fn is_directly_in_level(&self) -> bool {
        self.levels.last().is_some_and(|level| level.depth == self.depth && self.depth > 0)
    }

    /// Judges a reference against one base, within the bound of work.
    fn judge(
        judged_bytes: &mut usize,
        judge: &UriJudge<'_>,
        uri: &str,
        base: &BaseUris,
        purpose: UriPurpose,
    ) -> Result<JudgedUri, ManifestFault> {
        *judged_bytes += uri.len() + base.public.as_str().len() + URI_OVERHEAD;
        if *judged_bytes > MAX_JUDGED_BYTES {
            return Err(ManifestFault::Malformed("more URIs and bases, or longer ones, than are looked at"));
        }
        judge.judge(uri, base, purpose)
    }

    /// Notes that a reference counts from the bases so far.
    pub fn use_base(&mut self) {
        self.last().is_used = true;
    }

    /// Adds a `BaseURL`; returns the text in its place.
    pub fn add_base(&mut self, judge: &UriJudge<'_>, uri: &str) -> Result<Option<String>, ManifestFault> {
        if self.last().is_used {
            return Err(ManifestFault::Malformed("a BaseURL behind what counts from it"));
        }
        let mut replacement = None;
        let mut targets = Vec::new();
        let Some(level) = self.levels.last() else { return Ok(None) };
        for base in &level.inherited {
            let judged = Self::judge(&mut self.judged_bytes, judge, uri, base, UriPurpose::Media)?;
            agree(&mut replacement, judged.replacement)?;
            targets.push(judged.target);
        }
        let inherited = self.levels.iter().flat_map(|level| &level.references);
        for (reference, is_replaced) in inherited {
            for base in &targets {
                // What was made relative counted from another base than this.
                let judged = Self::judge(&mut self.judged_bytes, judge, reference, base, UriPurpose::Media)?;
                if *is_replaced || judged.replacement.is_some() {
                    return Err(ManifestFault::Malformed("a BaseURL that changes what a URI above it means"));
                }
            }
        }
        let own = &mut self.last().own;
        own.extend(targets);
        if own.len() > MAX_BASES {
            return Err(ManifestFault::Malformed("more than 32 alternatives of a BaseURL"));
        }
        Ok(replacement.flatten())
    }

    /// Judges a reference that counts from the bases of this level alone; returns the text in its place.
    pub fn judge_once(
        &mut self,
        judge: &UriJudge<'_>,
        uri: &str,
        purpose: UriPurpose,
    ) -> Result<Option<String>, ManifestFault> {
        let mut replacement = None;
        for base in self.levels.last().map(Level::bases).unwrap_or_default() {
            let judged = Self::judge(&mut self.judged_bytes, judge, uri, base, purpose)?;
            agree(&mut replacement, judged.replacement)?;
        }
        Ok(replacement.flatten())
    }

    /// Judges a reference that counts from the manifest itself; returns the text in its place. Players that count it from a
    /// `BaseURL` must not leave the folder either.
    pub fn judge_document(
        &mut self,
        judge: &UriJudge<'_>,
        uri: &str,
        purpose: UriPurpose,
    ) -> Result<Option<String>, ManifestFault> {
        let document = self.levels.first().and_then(|level| level.inherited.first());
        let document = document.expect("the document's own level has the manifest's base");
        let replacement = Self::judge(&mut self.judged_bytes, judge, uri, document, purpose)?.replacement;
        let text = replacement.as_deref().unwrap_or(uri);
        for base in self.levels.last().map(Level::bases).unwrap_or_default() {
            if Self::judge(&mut self.judged_bytes, judge, text, base, purpose)?.replacement.is_some() {
                return Err(ManifestFault::Malformed("a URI that differs by what it is resolved against"));
            }
        }
        Ok(replacement)
    }

    /// As [`Levels::judge_once`], for a reference that counts from the bases of levels below too.
    pub fn judge_inherited(&mut self, judge: &UriJudge<'_>, uri: &str) -> Result<Option<String>, ManifestFault> {
        let replacement = self.judge_once(judge, uri, UriPurpose::Media)?;
        let level = self.last();
        level.is_used = true;
        if level.is_lowest {
            return Ok(replacement);
        }
        if level.references.len() == MAX_INHERITED {
            return Err(ManifestFault::Malformed("more than 1,024 URIs of one level that need a look"));
        }
        level.references.push((uri.to_owned(), replacement.is_some()));
        Ok(replacement)
    }
}

/// Takes the replacement by one base; all must be the same, since there is one text for all.
fn agree(all: &mut Option<Option<String>>, one: Option<String>) -> Result<(), ManifestFault> {
    match all {
        None => *all = Some(one),
        Some(known) if *known == one => {}
        Some(_) => return Err(ManifestFault::Malformed("a URI that differs by the alternatives of a BaseURL")),
    }
    Ok(())
}
