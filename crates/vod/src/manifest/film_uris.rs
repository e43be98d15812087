//! URIs of a manifest, judged against the film's folder: as clients resolve them, below `/v/{token}/movies/{id}/`, and, where
//! that leads out, as they were meant in the store.

use std::borrow::Cow;

use url::Url;

use super::{ManifestFault, kind_of};
use crate::session::ManifestType;
use http_semantics::request_path;

/// Text that stands for the token of a grant. No URI may contain it: it would lead somewhere else with a real token.
const TOKEN: &str = "the-token-of-the-grant";
/// Scheme and host that stand for this server, and the token: nothing depends on what they really are.
const PUBLIC_ROOT: &str = "https://film.invalid/v/the-token-of-the-grant/";
/// Scheme and host that stand for the store's own, in references without a host.
const STORE_ROOT: &str = "https://store.invalid/";
const PUBLIC_HOST: &str = "film.invalid";
const STORE_HOST: &str = "store.invalid";

/// Rules for the URIs of all manifests of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRules {
    /// Hosts of the store, each with its port where that is not the scheme's own: `minio:9000`, `vod.s3.example`.
    pub store_hosts: Vec<String>,
    /// Hosts that manifests may name beside the store.
    pub allowed_hosts: Vec<String>,
    /// The bucket: the first segment of paths in path style.
    pub bucket: String,
}

/// Folder of a film, in the store and toward clients.
#[derive(Clone, Copy, Debug)]
pub struct FilmFolder<'a> {
    /// Rules of its bucket.
    pub rules: &'a ManifestRules,
    /// The film's id, decoded.
    pub movie: &'a str,
    /// Prefix of its keys in the bucket, with a slash at its end.
    pub prefix: &'a str,
    /// Prefix of the encryption keys of this film in the bucket, with a slash at its end; `None`: there are none outside the
    /// film's folder.
    pub key_prefix: Option<&'a str>,
}

/// Purpose of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriPurpose {
    /// A segment, a playlist, or whatever else lies in the film's folder.
    Media,
    /// An encryption key, which may lie in the folder of keys.
    Key,
    /// Another HLS playlist: in the film's folder its name must say so, or it would not be checked when it is asked for.
    Playlist,
    /// Another DASH manifest, as for playlists.
    Presentation,
    /// A document that names URIs and is never checked (lists of assets, steering, remote elements, patches): only an allowed
    /// host may send it.
    Document,
}

impl UriPurpose {
    /// Checks that what a path in the film's folder names is checked too where it is a manifest.
    fn check_path(self, path: &str) -> Result<(), ManifestFault> {
        let kind = kind_of(path);
        match self {
            Self::Playlist if kind != Some(ManifestType::Hls) => {
                Err(ManifestFault::UncheckedDocument("another playlist", "a name that ends in .m3u8 or .m3u"))
            }
            Self::Presentation if kind != Some(ManifestType::Dash) => {
                Err(ManifestFault::UncheckedDocument("another manifest", "a name that ends in .mpd"))
            }
            Self::Document => {
                Err(ManifestFault::UncheckedDocument("a document that names other URIs", "one of `Vod.AllowedHosts`"))
            }
            Self::Media | Self::Key | Self::Playlist | Self::Presentation => Ok(()),
        }
    }
}

/// A place that references are resolved against, in both readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUris {
    /// The URL at which clients see it.
    pub public: Url,
    /// Its URL in the store.
    store: Url,
}

/// A URI that a manifest may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedUri {
    /// Text in its place; `None` where it stays as it is.
    pub replacement: Option<String>,
    /// The place that it leads to.
    pub target: BaseUris,
}

/// Judge of the URIs of one manifest.
pub struct UriJudge<'a> {
    rules: &'a ManifestRules,
    /// Paths of the film's folder: for clients, and in the store.
    folder: FolderPaths,
    /// Paths of the folder of its keys.
    keys: Option<FolderPaths>,
}

/// The path of one folder in both readings, as URLs write it, with a slash at its end.
struct FolderPaths {
    public: String,
    store: String,
}

impl FolderPaths {
    fn new(kind: &str, movie: &str, prefix: &str) -> Option<Self> {
        let mut public = Url::parse(PUBLIC_ROOT).ok()?;
        public.path_segments_mut().ok()?.pop_if_empty().push(kind).push(movie).push("");
        let mut store = Url::parse(STORE_ROOT).ok()?;
        store.path_segments_mut().ok()?.pop_if_empty().extend(prefix.split('/'));
        Some(Self { public: public.path().to_owned(), store: store.path().to_owned() })
    }
}

impl<'a> UriJudge<'a> {
    /// Creates the judge of the manifest at `path` in the folder; returns with it the base of the manifest's references.
    /// `None` where the folder or the path can be no part of a URL.
    pub fn new(folder: &FilmFolder<'a>, path: &str) -> Option<(Self, BaseUris)> {
        let paths = FolderPaths::new("movies", folder.movie, folder.prefix)?;
        let keys = folder.key_prefix.and_then(|prefix| FolderPaths::new("keys", folder.movie, prefix));
        let at = |root: &str, folder: &str| {
            let mut url = Url::parse(root).ok()?;
            url.set_path(folder);
            url.path_segments_mut().ok()?.pop_if_empty().extend(path.split('/'));
            Some(url)
        };
        let base = BaseUris {
            public: at(PUBLIC_ROOT, &paths.public)?,
            store: at(STORE_ROOT, &format!("/{}{}", folder.rules.bucket, paths.store))?,
        };
        Some((Self { rules: folder.rules, folder: paths, keys }, base))
    }

    /// Returns true for a URI that needs no look: a relative reference of harmless characters that goes only down. Holds
    /// for any base in the film's folder.
    pub fn is_plainly_inside(uri: &[u8]) -> bool {
        let mut previous = b'/';
        for &byte in uri {
            let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'/' | b'+' | b',' | b'=');
            if !plain && (byte != b'.' || previous == b'.' || previous == b'/') {
                return false;
            }
            previous = byte;
        }
        uri.first().is_some_and(|first| *first != b'/')
    }

    /// Judges a reference against `base`.
    pub fn judge(&self, uri: &str, base: &BaseUris, purpose: UriPurpose) -> Result<JudgedUri, ManifestFault> {
        check_spelling(uri)?;
        if uri.contains(TOKEN) {
            return Err(ManifestFault::OutsideFolder);
        }
        let public = base.public.join(uri).map_err(|_| ManifestFault::AmbiguousUri("it is no URI"))?;
        let store = base.store.join(uri).map_err(|_| ManifestFault::AmbiguousUri("it is no URI"))?;
        // The names of hosts stand for others: no URI means them literally.
        if !has_authority(uri) && self.is_inside(&public, purpose) {
            purpose.check_path(public.path())?;
            let target = BaseUris { public: public.clone(), store };
            let replacement = match public.query().is_some_and(is_signed) {
                true => Some(relative(&base.public, &without_query(public))?),
                false => None,
            };
            return Ok(JudgedUri { replacement, target });
        }
        if let Some(own) = self.own_url(&store, purpose) {
            purpose.check_path(own.path())?;
            let replacement = Some(relative(&base.public, &own)?);
            return Ok(JudgedUri { replacement, target: BaseUris { public: own, store } });
        }
        // Neither reading leads into the film: only an allowed host remains.
        self.check_foreign(&public)?;
        Ok(JudgedUri { replacement: None, target: BaseUris { store: public.clone(), public } })
    }

    /// Returns true where a URL as clients resolve it leads below the film's folder, or that of its keys.
    fn is_inside(&self, url: &Url, purpose: UriPurpose) -> bool {
        let is_here = url.scheme() == "https" && url.host_str() == Some(PUBLIC_HOST) && url.port().is_none();
        let below = |folder: &FolderPaths| url.path().starts_with(&folder.public);
        let keys = self.keys.as_ref().filter(|_| purpose == UriPurpose::Key);
        // As the server reads the path when the player asks: escaped dots and slashes are refused there.
        is_here
            && url.username().is_empty()
            && url.password().is_none()
            && (below(&self.folder) || keys.is_some_and(below))
            && request_path::check(url.path().as_bytes()).is_ok()
    }

    /// Returns the URL for clients of a URL in the store; `None` where that is none of this film's. The query is left out:
    /// it may be signed, and nothing of it is sent on.
    fn own_url(&self, store: &Url, purpose: UriPurpose) -> Option<Url> {
        if !matches!(store.scheme(), "http" | "https") {
            return None;
        }
        let host = store.host_str()?;
        let authority = match store.port() {
            Some(port) => Cow::Owned(format!("{host}:{port}")),
            None => Cow::Borrowed(host),
        };
        let is_store = host == STORE_HOST || self.rules.store_hosts.iter().any(|known| *known == authority);
        if !is_store {
            return None;
        }
        // With the bucket as the first segment, or without, where the host names it.
        let path = store.path();
        let in_bucket = path.strip_prefix('/').and_then(|path| path.strip_prefix(&*self.rules.bucket));
        let keys = self.keys.as_ref().filter(|_| purpose == UriPurpose::Key);
        let below = |folder: &'_ FolderPaths| {
            let mut readings = [in_bucket, Some(path)].into_iter().flatten();
            readings.find_map(|path| path.strip_prefix(&*folder.store)).map(|rest| format!("{}{rest}", folder.public))
        };
        let public = below(&self.folder).or_else(|| keys.and_then(below))?;
        let mut url = Url::parse(PUBLIC_ROOT).ok()?;
        url.set_path(&public);
        url.set_fragment(store.fragment());
        self.is_inside(&url, purpose).then_some(url)
    }

    fn is_store_host(&self, host: &str) -> bool {
        let is_it =
            |known: &String| known.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
        self.rules.store_hosts.iter().any(is_it)
    }

    /// Checks that a URL that leads elsewhere names an allowed host.
    fn check_foreign(&self, url: &Url) -> Result<(), ManifestFault> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ManifestFault::Scheme { scheme: url.scheme().to_owned() });
        }
        match url.host_str() {
            Some(PUBLIC_HOST | STORE_HOST) | None => Err(ManifestFault::OutsideFolder),
            Some(host) if self.is_store_host(host) => Err(ManifestFault::OutsideFolder),
            Some(host) if self.rules.allowed_hosts.iter().any(|known| known == host) => Ok(()),
            Some(host) => Err(ManifestFault::ForeignHost { host: host.to_owned() }),
        }
    }
}

/// Checks that every player reads the URI as the same one: no character that some drop (WHATWG URL drops tabs, and takes a
/// backslash for a slash), and no colon that only some take for the end of a scheme.
fn check_spelling(uri: &str) -> Result<(), ManifestFault> {
    if uri.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(ManifestFault::AmbiguousUri("it has a control character"));
    }
    // Players differ in which of them are white space, and in which they drop.
    if !uri.is_ascii() {
        return Err(ManifestFault::AmbiguousUri("it has a character that is not ASCII; expected percent-encoding"));
    }
    if uri.contains('\\') {
        return Err(ManifestFault::AmbiguousUri("it has a backslash"));
    }
    if uri.trim() != uri {
        return Err(ManifestFault::AmbiguousUri("it has white space at its beginning or end"));
    }
    let first = uri.split(['/', '?', '#']).next().unwrap_or_default();
    match first.split_once(':') {
        Some((scheme, _)) if !is_scheme(scheme) => {
            Err(ManifestFault::AmbiguousUri("it has a colon in its first segment, and no scheme"))
        }
        // `https:seg.ts` is relative to browsers, and absolute to others (RFC 3986 §5.4.2).
        Some((scheme, _)) if is_http(scheme) && !uri[scheme.len() + 1..].starts_with("//") => {
            Err(ManifestFault::AmbiguousUri("it has a scheme without a host"))
        }
        // Browsers take any number of slashes for two.
        Some((scheme, rest)) if is_http(scheme) && uri[first.len() - rest.len()..].starts_with("///") => {
            Err(ManifestFault::AmbiguousUri("it has more than two slashes before the host"))
        }
        None if uri.starts_with("///") => {
            Err(ManifestFault::AmbiguousUri("it has more than two slashes before the host"))
        }
        _ => Ok(()),
    }
}

/// Returns true for a reference with a host of its own: `http://…`, `//…`.
fn has_authority(uri: &str) -> bool {
    let first = uri.split(['/', '?', '#']).next().unwrap_or_default();
    uri.starts_with("//") || first.contains(':')
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// Returns true for what can be a scheme (RFC 3986 §3.1).
fn is_scheme(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic()) && text.bytes().all(inner)
}

/// Returns true where a query carries a signature of the store (`X-Amz-*`, or the older form).
fn is_signed(query: &str) -> bool {
    let lower = query.to_ascii_lowercase();
    lower.contains("x-amz-") || lower.contains("awsaccesskeyid=")
}

fn without_query(mut url: Url) -> Url {
    url.set_query(None);
    url
}

/// Returns the reference by which a client gets from `base` to `target`.
fn relative(base: &Url, target: &Url) -> Result<String, ManifestFault> {
    let plain = base.make_relative(target).unwrap_or_default();
    // A first segment with a colon would be read as a scheme.
    let texts = [plain.clone(), format!("./{plain}")];
    let good = |text: &String| check_spelling(text).is_ok() && base.join(text).is_ok_and(|url| url == *target);
    texts.into_iter().find(good).ok_or(ManifestFault::OutsideFolder)
}
