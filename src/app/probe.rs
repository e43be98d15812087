//! Questions to everything that a configuration needs, before it is put in force: each bucket by a signed request, servers by a
//! connection, Redis, the database, Kafka, the keys of issuers, certificates. Nothing is written, and nothing served.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use tokio::time::timeout;

use super::StartError;
use super::explain::{EMBEDDED_HOST, idle_runtime};
use crate::config::Settings;
use crate::proxy::runtime::Runtime;
use ::events::settings::SinkSettings;
use http_server::settings::CertificatePaths;
use object_engine::ObjectOrigin;
use primitives::clock::{Clock, monotonic_now};
use primitives::failure_log::chain;
use primitives::lifecycle::BackgroundTasks;
use s3::settings::StoreEndpoint;
use server_kit::database::{self, Database};
use server_kit::redis::Redis;
use store_credentials::{CredentialProviders, CredentialStatus, utc};
use upstream::cluster::{Cluster, ClusterMember};

/// Longest time of a question.
const LIMIT: Duration = Duration::from_secs(10);
/// Seconds of a day.
const DAY: i64 = 86_400;

/// A dependency, and how it answered.
#[derive(Debug)]
pub struct ProbedDependency {
    /// The dependency, as the configuration names it.
    pub name: String,
    /// Words about an answer, or the reason why there is none.
    pub outcome: Result<String, String>,
}

type Question<'a> = (String, BoxFuture<'a, Result<String, String>>);

/// Asks everything that `settings` name, at the same time.
pub async fn probe(settings: &Settings) -> Result<Vec<ProbedDependency>, StartError> {
    let tasks = BackgroundTasks::default();
    let providers = CredentialProviders::new(Clock::system(), tasks.clone());
    let runtime = idle_runtime(settings, Some(&providers)).await?;
    providers.ready(LIMIT).await;
    let mut questions = credentials(&providers);
    questions.extend(buckets(&runtime, settings));
    questions.extend(clusters(&runtime));
    questions.extend(servers(settings));
    questions.extend(certificates(settings));
    let asked = questions.into_iter().map(|(name, question)| async move {
        let begun = monotonic_now();
        let outcome = timeout(LIMIT, question).await.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")));
        let took = begun.elapsed().as_millis();
        ProbedDependency { name, outcome: outcome.map(|words| format!("{words} ({took} ms)")) }
    });
    let mut answers = join_all(asked).await;
    for (issuer, outcome) in runtime.authenticator.check_published_keys().await {
        let outcome = outcome.map(|keys| format!("{keys} keys"));
        answers.push(ProbedDependency { name: format!("keys of the issuer `{issuer}`"), outcome });
    }
    tasks.begin_stop();
    Ok(answers)
}

/// Temporary keys of stores.
fn credentials<'a>(providers: &CredentialProviders) -> Vec<Question<'a>> {
    let question = |status: CredentialStatus| -> Question<'a> {
        let end =
            status.expires_at.map_or_else(|| "they do not end".to_owned(), |end| format!("valid until {}", utc(end)));
        let outcome = match (status.is_usable, status.failure) {
            (true, _) => Ok(end),
            (false, reason) => Err(reason.unwrap_or_else(|| format!("none within {LIMIT:?}"))),
        };
        let name = format!("credentials of the store `{}` ({})", status.store, status.provider);
        (name, Box::pin(ready(outcome)))
    };
    providers.status().into_iter().map(question).collect()
}

/// Buckets that routes name. Those that only the catalogue names are not known here, and embedded stores are folders.
fn buckets<'a>(runtime: &Runtime, settings: &'a Settings) -> Vec<Question<'a>> {
    let is_remote = |name: &str| {
        let store = settings.stores.iter().find(|store| *store.name == *name);
        store.is_some_and(|store| matches!(store.endpoint, StoreEndpoint::Remote(_)))
    };
    let question = |origin: Arc<ObjectOrigin>| -> Question<'a> {
        let name = format!("store `{}`, bucket `{}`", origin.store, origin.bucket);
        let asked = async move {
            object_engine::probe_bucket(&origin).await;
            origin.health.fault().map_or_else(|| Ok("a signed request is answered".to_owned()), Err)
        };
        (name, Box::pin(asked))
    };
    runtime.buckets().into_iter().filter(|origin| is_remote(&origin.store)).map(question).collect()
}

/// Servers of clusters. A bucket's request reaches one of its servers: where there are more, each is asked besides. Embedded
/// stores are folders.
fn clusters<'a>(runtime: &Runtime) -> Vec<Question<'a>> {
    let reached: Vec<_> = runtime.origins().into_iter().map(|origin| Arc::clone(&origin.cluster)).collect();
    let is_asked = |cluster: &&Arc<Cluster>| {
        let is_reached = reached.iter().any(|known| Arc::ptr_eq(known, cluster));
        let is_embedded = cluster.members().iter().any(|member| member.address.host_str() == Some(EMBEDDED_HOST));
        !is_embedded && (!is_reached || cluster.members().len() > 1)
    };
    let question = |cluster: &Arc<Cluster>| -> Question<'a> {
        (format!("cluster `{}`", cluster.id()), Box::pin(ask_cluster(Arc::clone(cluster))))
    };
    runtime.clusters().filter(is_asked).map(question).collect()
}

async fn ask_cluster(cluster: Arc<Cluster>) -> Result<String, String> {
    upstream::probe::probe_cluster(&cluster).await;
    let fault = |member: &ClusterMember| {
        let error = member.destination.probe_error()?;
        Some(format!("{}: {error}", member.destination.id()))
    };
    let faults: Vec<String> = cluster.members().iter().filter_map(fault).collect();
    match (faults.is_empty(), cluster.members().len()) {
        (_, 0) => Err("it has no destination".to_owned()),
        (true, 1) => Ok("its destination answers".to_owned()),
        (true, count) => Ok(format!("all {count} destinations answer")),
        (false, _) => Err(faults.join("; ")),
    }
}

/// Redis, the database, Kafka.
fn servers(settings: &Settings) -> Vec<Question<'_>> {
    let mut questions: Vec<Question<'_>> = Vec::new();
    if let Some(state) = &settings.state {
        let asked = async move {
            let redis = Redis::connect(state).await.map_err(|error| error.to_string())?;
            let answer = redis.check(LIMIT).await.map(|()| "it answers".to_owned());
            // A client that was never connected would go on trying.
            let _ = redis.close(Duration::from_millis(200)).await;
            answer
        };
        questions.push(("Redis (State)".to_owned(), Box::pin(asked)));
    }
    if let Some(database) = &settings.database {
        questions.push(("the database (Database)".to_owned(), Box::pin(ask_database(database))));
    }
    if let Some((events, _)) = &settings.events
        && let SinkSettings::Kafka(kafka) = &events.sink
    {
        let asked = async move { ::events::check_kafka(kafka, LIMIT).await.map(|()| "it answers".to_owned()) };
        questions.push(("Kafka (Events)".to_owned(), Box::pin(asked)));
    }
    questions
}

async fn ask_database(settings: &database::settings::Settings) -> Result<String, String> {
    // Opening would create it.
    if let database::settings::Settings::Sqlite(path) = settings
        && !path.exists()
    {
        return Ok("the file is made at the first start".to_owned());
    }
    let database = Database::open(settings).await.map_err(|error| error.to_string())?;
    let answer = database.check(LIMIT).await.map(|()| "it answers".to_owned());
    database.close().await;
    answer
}

/// Certificates of listeners.
fn certificates(settings: &Settings) -> Vec<Question<'_>> {
    let now = i64::try_from(Clock::system().unix()).unwrap_or(i64::MAX);
    let tls = settings.server.http.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let question = |paths: &CertificatePaths| -> Question<'_> {
        let outcome = match http_server::check_certificate(paths) {
            Err(error) => Err(chain(&error)),
            Ok(None) => Ok("it fits its key".to_owned()),
            Ok(Some(validity)) if validity.not_after < now => Err("it has expired".to_owned()),
            Ok(Some(validity)) if validity.not_before > now => Err("it is not valid yet".to_owned()),
            Ok(Some(validity)) => Ok(format!("it fits its key, {} days left", (validity.not_after - now) / DAY)),
        };
        (format!("the certificate {}", paths.certificate.display()), Box::pin(ready(outcome)))
    };
    tls.flat_map(|tls| &tls.certificates).map(question).collect()
}
