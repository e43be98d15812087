//! Turns the checked file into the modules' settings in one step: names are looked up, strings become addresses,
//! patterns and keys, defaults are filled in. Every function reports its problems and returns `None`, so that its
//! neighbours still run.

mod acme;
mod affinity;
mod auth;
mod backup;
mod cache;
mod channels;
mod cluster;
mod error_answers;
mod events;
mod film_routes;
mod health;
mod limit;
mod listener;
mod lyrics;
mod modules;
mod object_route;
mod otlp;
mod playback;
mod player;
mod playlists;
mod policy;
mod positions;
mod radio;
mod recognition;
mod route;
mod route_match;
mod schedules;
mod server;
mod server_limits;
#[cfg_attr(not(feature = "share"), path = "without_share.rs")]
mod share;
mod state;
mod store;
mod store_credentials;
mod telegram;
mod telemetry;
mod transform;
mod vod;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use self::backup::BackedUp;
use self::playback::PlaybackSections;
use self::route::RouteScope;
use self::server::ResolvedServer;
use super::content::ContentDigest;
use super::file::{ConfigFile, NamedEntries};
use super::path::ConfigPath;
use super::report::ConfigProblem;
use super::secret::{self, EnvironmentLookup};
use super::shape::one_of;
use super::source::ConfigNode;
use super::value::{ConfigText, SecretRef, TimeSpan, is_telling};
use super::{Settings, SettingsSource};
use crate::proxy::settings::ServerSettings;
use primitives::secret::Secret;
use s3::settings::SecretSource;

/// Fewest characters of a token: a shorter one could be found by trying.
const LEAST_TOKEN: usize = 16;

/// Resolves `file`, whose positions are those of `root`; returns the settings, `None` where a part has no usable value,
/// and all problems. The settings may be used only if there are no problems.
pub fn resolve(
    root: &ConfigNode,
    file: &ConfigFile,
    environment: EnvironmentLookup<'_>,
) -> (Option<Settings>, Vec<ConfigProblem>) {
    let context =
        ResolveContext { document: root, environment, problems: RefCell::default(), secrets: RefCell::default() };
    let mut settings = settings(&ConfigLocation { context: &context, path: ConfigPath::default() }, file);
    if let Some(settings) = &mut settings {
        settings.source.digests.secrets = context.secrets.into_inner();
    }
    (settings, context.problems.into_inner())
}

/// Returns true for a section that is there, though it may be wrong: one mistake, one report.
fn is_set<T>(section: &Option<Option<T>>) -> bool {
    !matches!(section, Some(None))
}

fn settings(at: &ConfigLocation<'_>, file: &ConfigFile) -> Option<Settings> {
    let server = server::server(&at.key("Server"), &file.server);
    let process = server::process(&at.key("Server"), &file.server);
    let stores = at.key("ObjectStores").named(&file.object_stores, store::store);
    let auth = auth::auth(&at.key("Auth"), &file.auth);
    let policies = policy::policies(&at.key("Policies"), &file.policies);
    let rate_limiters = at.key("Policies").key("RateLimiter").named(&file.policies.rate_limiter, limit::policy);
    let clusters = at.key("ReverseProxy").key("Clusters").named(&file.reverse_proxy.clusters, |at, id, raw| {
        cluster::cluster(at, id, raw, route::is_store(&file.reverse_proxy.routes, id))
    });
    let scope =
        RouteScope { file, policies: &policies, stores: &stores, clusters: &clusters, rate_limiters: &rate_limiters };
    let routes = route::routes(&at.key("ReverseProxy").key("Routes"), &scope);
    let api_cors = route::cors(&at.key("Api"), file.api.cors_policy.as_deref(), &policies);
    let cache = cache::cache(&at.key("Cache"), file.cache.as_ref());
    let state = state::state(&at.key("State"), file.state.as_ref());
    let database = state::database(&at.key("Database"), file.database.as_ref());
    let positions = positions::positions(&at.key("Positions"), &file.positions, is_set(&state) || is_set(&database));
    let events = events::events(&at.key("Events"), file.events.as_ref());
    let sections = PlaybackSections { database: is_set(&database), events: is_set(&events) };
    let modules = modules::modules(at, file, sections);
    let share = share::share(&at.key("Share"), file.share.as_ref(), is_set(&state));
    let vod = vod::vod(&at.key("Vod"), file, is_set(&positions));
    let films = film_routes::films(&at.key("Vod"), vod.as_ref(), &scope);
    let (telemetry, traces) = telemetry::telemetry(&at.key("Telemetry"), &file.telemetry);
    let backed_up = BackedUp { database: &database, state: &state, telemetry: &telemetry };
    let backup = backup::backup(&at.key("Backup"), file.backup.as_ref(), &backed_up);
    // The first `?` comes only here: everything above has run and reported by now.
    let ResolvedServer { server, admin, acme } = server.filter(|_| scope.is_complete())?;
    Some(Settings {
        server: ServerSettings { api_cors: api_cors?, ..server },
        admin,
        acme,
        process: process?,
        stores: stores.into_values().collect(),
        auth: auth?,
        limits: film_routes::all_limits(films.as_ref()?, &rate_limiters),
        routes: routes?,
        clusters,
        cache: cache?,
        state: state?,
        database: database?,
        positions: positions?,
        playback: modules.playback?,
        lyrics: modules.lyrics?,
        radio: modules.radio?,
        channels: modules.channels?,
        playlists: modules.playlists?,
        recognition: modules.recognition?,
        schedules: modules.schedules?,
        telegram: modules.telegram?,
        player: modules.player?,
        backup: backup?,
        events: events?,
        share: share?,
        vod: vod?,
        films: films?,
        reload_on_change: file.server.reload_on_change.unwrap_or(true),
        telemetry: telemetry?,
        traces: traces?,
        source: SettingsSource::default(),
    })
}

/// Reports a feature that this program is built without, with the way to get it.
fn require_feature(at: &ConfigLocation<'_>, built: bool, feature: &str) -> Option<()> {
    if !built {
        let problem = ConfigProblem::new(format!("this Tidegate is built without `{feature}`"));
        at.report(
            problem.help(format!("build it with `cargo build --release --features {feature}`, or remove the key")),
        );
    }
    built.then_some(())
}

struct ResolveContext<'a> {
    document: &'a ConfigNode,
    environment: EnvironmentLookup<'a>,
    // A cell, because many locations share the list and each only appends to it.
    problems: RefCell<Vec<ConfigProblem>>,
    /// Files of secrets that were read, and the digests of the secrets.
    secrets: RefCell<Vec<(PathBuf, Option<ContentDigest>)>>,
}

/// Location in the file; problems are reported to it.
#[derive(Clone)]
struct ConfigLocation<'a> {
    context: &'a ResolveContext<'a>,
    path: ConfigPath,
}

impl<'a> ConfigLocation<'a> {
    /// Returns the location of `key` in this one.
    fn key(&self, key: &str) -> Self {
        Self { context: self.context, path: self.path.key(key) }
    }

    /// Returns the location of a list element.
    fn item(&self, number: usize) -> Self {
        Self { context: self.context, path: self.path.item(number) }
    }

    /// Returns a location at the document's root.
    fn root(&self, key: &str) -> Self {
        Self { context: self.context, path: ConfigPath::default().key(key) }
    }

    /// Adds a problem at this location.
    fn report(&self, problem: ConfigProblem) {
        let place = self.context.document.place(&self.path);
        self.context.problems.borrow_mut().push(problem.at(self.path.clone(), place));
    }

    /// Returns the node of the file at this location, even one that could not be read.
    fn node(&self) -> Option<&'a ConfigNode> {
        self.context.document.at(&self.path)
    }

    /// Returns the keys of the file at this location, even those whose values could not be read.
    fn names(&self) -> Vec<&'a str> {
        self.node().map(ConfigNode::members).unwrap_or_default().iter().map(|member| member.key.as_str()).collect()
    }

    /// Returns the number at `key`, or the default; reports one that is out of range.
    fn number(&self, key: &str, raw: Option<u32>, default: u32, range: RangeInclusive<u32>) -> Option<u32> {
        let value = raw.unwrap_or(default);
        if !range.contains(&value) {
            let problem = ConfigProblem::new(format!("{value} is out of range"));
            self.key(key).report(problem.expected(format!("{} to {}", range.start(), range.end())));
            return None;
        }
        Some(value)
    }

    /// Resolves every entry; `None` if one failed, after all were tried.
    fn all<T, R>(&self, entries: &NamedEntries<T>, resolve: impl Fn(&Self, &str, &T) -> Option<R>) -> Option<Vec<R>> {
        let resolved: Vec<_> = entries.iter().map(|(name, entry)| resolve(&self.key(name), name, entry)).collect();
        resolved.into_iter().collect()
    }

    /// Resolves entries that others refer to, by name; those that failed are missing, and are reported already.
    fn named<T, R>(
        &self,
        entries: &NamedEntries<T>,
        resolve: impl Fn(&Self, &str, &T) -> Option<R>,
    ) -> BTreeMap<Arc<str>, Arc<R>> {
        let entry = |(name, entry): (&String, &T)| {
            Some((name.as_str().into(), Arc::new(resolve(&self.key(name), name, entry)?)))
        };
        entries.iter().filter_map(entry).collect()
    }

    /// Resolves every element of a list; `None` if one failed, after all were tried.
    fn each<T, R>(&self, items: &[T], resolve: impl Fn(&Self, &T) -> Option<R>) -> Option<Vec<R>> {
        let resolved: Vec<_> =
            items.iter().enumerate().map(|(number, item)| resolve(&self.item(number), item)).collect();
        resolved.into_iter().collect()
    }

    /// Returns true if the file has `name` in `here`; if not, reports it with the nearest of its names and of `more`.
    fn known(&self, name: &str, here: &Self, more: &[&'static str]) -> bool {
        let names = here.names();
        if names.contains(&name) {
            return true;
        }
        let choices: Vec<&str> = names.into_iter().chain(more.iter().copied()).collect();
        let mut problem = ConfigProblem::new(format!("there is no `{name}` in {}", here.path));
        problem = match choices.is_empty() {
            true => problem.help(format!("add it to {}", here.path)),
            false => problem.suggest(name, choices.iter().copied()).expected(one_of(choices)),
        };
        self.report(problem);
        false
    }

    /// Returns a string, read from the environment where it says so.
    fn text(&self, text: &ConfigText) -> Option<String> {
        let Some(name) = text.0.strip_prefix("env:") else { return Some(text.0.clone()) };
        secret::variable(name, self.context.environment)
            .map_err(|message| self.report(ConfigProblem::new(message).help("set it before Tidegate starts")))
            .ok()
    }

    /// Parses a string. A value from the environment is not shown.
    fn parse<T>(&self, text: &ConfigText, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.text(text)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            let what = match text.0.strip_prefix("env:") {
                Some(name) => format!("the value of the environment variable `{name}` cannot be read"),
                // The URL may hold a password, so it is not repeated.
                None if is_telling(&value) => "this cannot be read".to_owned(),
                None => format!("`{value}` cannot be read"),
            };
            self.report(ConfigProblem::new(what).expected(expected));
        }
        parsed
    }

    /// Parses the environment variable `name`, which the documents define for a key that the file leaves out;
    /// `Some(None)` if it is not set or empty. The value is not shown.
    fn variable<T>(&self, name: &str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
        let Some(value) = (self.context.environment)(name).filter(|value| !value.is_empty()) else { return Some(None) };
        let parsed = parse(&value);
        if parsed.is_none() {
            let what = format!("the value of the environment variable `{name}` cannot be read");
            self.report(ConfigProblem::new(what).expected(expected));
        }
        parsed.map(Some)
    }

    /// Reads a secret, with its origin.
    fn secret(&self, reference: &SecretRef) -> Option<SecretSource> {
        let help = match reference {
            SecretRef::Env(_) => "set it before Tidegate starts",
            SecretRef::File(_) => "a relative path starts at the folder that Tidegate is started in",
        };
        let secret = secret::read(reference, self.context.environment)
            .map_err(|message| self.report(ConfigProblem::new(message).help(help)))
            .ok()?;
        if let Some(file) = &secret.file {
            let digest = Some(ContentDigest::of(secret.value.expose().as_bytes()));
            let mut secrets = self.context.secrets.borrow_mut();
            if secrets.iter().all(|(known, _)| known != file) {
                secrets.push((file.clone(), digest));
            }
        }
        Some(secret)
    }

    /// Reads a token that clients must send, long enough that it cannot be found by trying.
    fn credential(&self, reference: &SecretRef) -> Option<Secret> {
        let token = self.secret(reference)?.value;
        // The document's clients of sharing may keep the scheme with the token.
        let text = token.expose();
        let long = text.strip_prefix("Bearer ").unwrap_or(text).trim().chars().count() >= LEAST_TOKEN;
        if !long {
            let problem = ConfigProblem::new("a token this short can be guessed");
            let problem = problem.expected(format!("at least {LEAST_TOKEN} characters, `Bearer ` not counted"));
            self.report(problem.help("make one with `openssl rand -base64 24`"));
        }
        long.then_some(token)
    }

    /// Returns a time span between two limits, or the default.
    fn span(&self, span: Option<TimeSpan>, default: Duration, least: Duration, most: Duration) -> Option<Duration> {
        let Some(TimeSpan(span)) = span else { return Some(default) };
        let good = (least..=most).contains(&span);
        if !good {
            let limits = format!("{} to {}", humantime::format_duration(least), humantime::format_duration(most));
            self.report(
                ConfigProblem::new(format!("{} is out of range", humantime::format_duration(span))).expected(limits),
            );
        }
        good.then_some(span)
    }
}

/// Parses an HTTP URL with a host and neither user nor fragment.
fn http_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && plain).then_some(url)
}

/// Returns the seconds of the environment variable `name`, or the default.
fn seconds_variable(
    at: &ConfigLocation<'_>,
    name: &str,
    default: Duration,
    (least, most): (Duration, Duration),
) -> Option<Duration> {
    let expected = format!("a whole number of seconds, {} to {}", least.as_secs(), most.as_secs());
    let parse = |text: &str| {
        let span = Duration::from_secs(text.trim().parse().ok()?);
        (least..=most).contains(&span).then_some(span)
    };
    Some(at.variable(name, &expected, parse)?.unwrap_or(default))
}
