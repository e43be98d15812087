//! Configuration: YAML in, typed settings out, or a report of everything that is wrong with it.
//!
//! The steps: `source` parses the text into a tree with positions; `shape` compares it with the schema of `file`;
//! `resolve` turns it into the modules' settings. Each collects all problems it finds, and one [`ProblemReport`] shows
//! them together. Only `secret` reads the environment. No module but `app` and `cli` may know this one.

mod comments;
mod content;
mod convert;
mod dotnet;
mod file;
mod foreign;
mod path;
mod reference;
mod refused;
mod report;
mod resolve;
mod secret;
mod shape;
mod source;
mod value;
mod written;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use content::{ConfigContent, ContentDigest, SourceDigests};
pub use convert::ConvertedConfig;
pub use reference::reference;
pub use report::ProblemReport;
pub use written::{ConfigChange, WrittenConfig, WrittenKey};

use self::report::ConfigProblem;
use crate::proxy;
use acme;
use events;
use object_engine;
use playback::positions;
use primitives::secret::Secret;
use routing;
use s3;
use server_kit::auth;
use server_kit::database;
use server_kit::limit;
use server_kit::redis;
use server_kit::telemetry::settings::TelemetrySettings;
use upstream;
use vod;

/// Settings of all modules, completely resolved.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Listeners and connections.
    pub server: proxy::settings::ServerSettings,
    /// Admin listener of the operator.
    pub admin: Option<proxy::settings::AdminSettings>,
    /// Certificates by ACME, if configured.
    pub acme: Option<acme::settings::AcmeSettings>,
    /// How the process itself behaves.
    pub process: proxy::settings::ProcessSettings,
    /// The object stores, by name.
    pub stores: Vec<Arc<s3::settings::StoreSettings>>,
    /// Issuers of tokens.
    pub auth: auth::settings::AuthSettings,
    /// Rate limiter policies.
    pub limits: limit::settings::Settings,
    /// The routes that are enabled.
    pub routes: routing::table::RouteTable<Arc<proxy::settings::RouteSettings>>,
    /// The clusters, by id.
    pub clusters: BTreeMap<Arc<str>, Arc<upstream::settings::ClusterSettings>>,
    /// Cache of objects.
    pub cache: object_engine::cache::Settings,
    /// Redis, if state is shared.
    pub state: Option<redis::settings::Settings>,
    /// Database, if configured.
    pub database: Option<database::settings::Settings>,
    /// Positions, if they are kept.
    pub positions: Option<positions::settings::Settings>,
    /// Players, if there are any.
    pub playback: Option<playback::player::settings::Settings>,
    /// Lyrics, if there are any.
    pub lyrics: Option<lyrics::settings::Settings>,
    /// Radio, if configured.
    pub radio: Option<radio::settings::Settings>,
    /// Channels, if there are any.
    pub channels: Option<channels::settings::Settings>,
    /// Playlists, if they are kept.
    pub playlists: Option<playlists::settings::Settings>,
    /// Recognition, if there is any.
    pub recognition: Option<recognition::settings::Settings>,
    /// Schedules, if they are kept.
    pub schedules: Option<schedules::settings::Settings>,
    /// The Telegram bot, if there is one.
    pub telegram: Option<telegram::settings::Settings>,
    /// Backups, if they are made.
    pub backup: Option<backup::settings::Settings>,
    /// The player page, if there is one.
    pub player: Option<player_page::settings::Settings>,
    /// Sink of events and their derivation from playback, if configured.
    pub events: Option<(events::settings::Settings, playback::reports::settings::Settings)>,
    /// Live sharing, if configured.
    pub share: Option<Share>,
    /// Video on demand, if configured.
    pub vod: Option<vod::settings::Settings>,
    /// Serving of its films.
    pub films: Option<Arc<proxy::settings::FilmSettings>>,
    /// True where a change of the file reloads it.
    pub reload_on_change: bool,
    /// Logging.
    pub telemetry: TelemetrySettings,
    /// Traces of requests, if they are sent to a collector.
    pub traces: Option<request_traces::settings::Settings>,
    /// Of what they were read.
    pub source: SettingsSource,
}

/// Of what settings were read.
#[derive(Clone, Debug, Default)]
pub struct SettingsSource {
    /// Sections of the file that are not Tidegate's and were skipped, in words for the operator.
    pub notes: Vec<String>,
    /// What the text says, key by key.
    pub written: WrittenConfig,
    /// Digests of the text and the files of secrets.
    pub digests: SourceDigests,
    /// True where the text ends with YAML's end mark (`...`).
    pub has_end_mark: bool,
}

impl Settings {
    /// Returns how many there are of each part, for people.
    pub fn summary(&self) -> String {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        [
            count(self.server.http.listeners.len(), "listener"),
            count(self.routes.entries().count(), "route"),
            count(self.clusters.len(), "cluster"),
            count(self.stores.len(), "store"),
        ]
        .join(", ")
    }
}

/// Settings of live sharing.
#[cfg(feature = "share")]
pub type Share = ::share::settings::Settings;
/// Settings of live sharing, which this program is built without.
#[cfg(not(feature = "share"))]
pub type Share = std::convert::Infallible;

/// Reads the file at `path` with the environment of the process.
pub fn load(path: &Path) -> Result<Settings, ProblemReport> {
    ConfigContent::read(path)?.load()
}

/// Reads standard input with the environment of the process.
pub fn load_input() -> Result<Settings, ProblemReport> {
    let name = "standard input";
    match std::io::read_to_string(std::io::stdin()) {
        Ok(text) => load_text(name, &text, &secret::process),
        Err(error) => {
            let problem = ConfigProblem::new(format!("it cannot be read: {error}")).help("it is text in UTF-8");
            Err(ProblemReport::new(name, "", &[], vec![problem]))
        }
    }
}

/// Reads `text`, which reports call `name`, with the environment `env`.
pub fn load_text(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Settings, ProblemReport> {
    let (mut parsed, schema) = (source::parse(text), schema());
    let (mut problems, mut masked) = (parsed.problems, parsed.masked);
    let (mut settings, mut notes) = (None, Vec::new());
    if let Some(root) = &mut parsed.root {
        let foreign = foreign::take_foreign_sections(root);
        notes = foreign.notes;
        masked.extend(foreign.masked);
        if parsed.is_json {
            let read = dotnet::read_as_dotnet(&schema, root);
            problems.extend(read.problems);
            masked.extend(read.masked);
        }
        let examined = examine(&schema, root, env);
        settings = examined.settings;
        problems.extend(examined.problems);
        masked.extend(examined.masked);
    }
    match settings.zip(parsed.root) {
        Some((mut settings, root)) if problems.is_empty() => {
            settings.source.written = WrittenConfig::new(&schema, &root);
            settings.source.digests.text = ContentDigest::of(text.as_bytes());
            settings.source.notes = notes;
            settings.source.has_end_mark = content::has_end_mark(text);
            Ok(settings)
        }
        _ => {
            source::mask_aliased(&mut masked, &parsed.aliases);
            Err(ProblemReport::new(name, text, &masked, problems))
        }
    }
}

/// Outcome of comparing a tree with the schema and resolving it.
struct ExaminedTree {
    /// The settings; to be used only if there are no problems.
    settings: Option<Settings>,
    problems: Vec<ConfigProblem>,
    /// Scalars that may be a secret.
    masked: Vec<source::SourceSpan>,
}

/// Compares `root` with `schema` and resolves what fits. All problems of all steps are reported at once: an operator should not have
/// to start again for each.
fn examine(
    schema: &serde_json::Value,
    root: &source::ConfigNode,
    env: &dyn Fn(&str) -> Option<String>,
) -> ExaminedTree {
    let checked = shape::check(schema, root);
    let mut problems = checked.problems;
    let mut settings = None;
    match checked.value.map(serde_yaml::from_value::<file::ConfigFile>) {
        Some(Ok(file)) => {
            // Resolved even if the shape has problems: the parts that fit may have others.
            let (resolved, found) = resolve::resolve(root, &file, env);
            settings = resolved;
            problems.extend(found);
        }
        Some(Err(error)) => problems.push(ConfigProblem::new(format!("the file does not fit its schema: {error}"))),
        None => {}
    }
    ExaminedTree { settings, problems, masked: checked.masked }
}

/// Converts the `appsettings.json` of YARP at `path` into Tidegate's YAML, with the environment of the process.
pub fn convert_yarp(path: &Path) -> Result<ConvertedConfig, ProblemReport> {
    let content = ConfigContent::read(path)?;
    convert::convert_yarp(content.name(), content.text(), &secret::process)
}

/// Converts the environment file of nginx-s3-gateway at `path` into Tidegate's YAML.
pub fn convert_nginx_s3_gateway(path: &Path) -> Result<ConvertedConfig, ProblemReport> {
    let content = ConfigContent::read(path)?;
    convert::convert_nginx_s3_gateway(content.name(), content.text())
}

/// Reads the secret that `reference` (`env:NAME` or `file:PATH`) names, with the environment of the process.
pub fn read_secret(reference: &str) -> Result<Secret, String> {
    // A text that is not a reference may be the secret itself: it is not repeated in the message.
    let reference = value::secret_ref(reference).ok_or("expected env:NAME or file:PATH")?;
    secret::read(&reference, &secret::process).map(|source| source.value)
}

/// Returns a variable of the process's environment; `None` if it is not set or not UTF-8.
pub fn environment(name: &str) -> Option<String> {
    secret::process(name)
}

/// Returns the JSON Schema of the file, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(file::ConfigFile).to_value()
}

#[cfg(test)]
mod tests;
