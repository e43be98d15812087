//! Everything that requests are answered from, built whole from the settings and swapped whole.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::settings::{Kind, ObjectRoute, Route, Server};
use crate::auth::Authenticator;
use crate::auth::settings::TokenSource;
use crate::clock::Clock;
use crate::object::cache::{Cache, Cached};
use crate::object::{Health, Origin};
use crate::route::table::{Lookup, Request, Table};
use crate::s3::signer::Signer;
use crate::secret::Secret;
use crate::upstream::cluster::{Cluster, Factory};
use crate::upstream::settings;

/// Why a world cannot be built from settings that were read without error.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A route names a store that is not there.
    #[error("route `{0}` names a store that does not exist")]
    UnknownStore(Arc<str>),
    /// A route names a cluster that is not there.
    #[error("route `{0}` names a cluster that does not exist")]
    UnknownCluster(Arc<str>),
    /// A route's content type is no header value.
    #[error("route `{0}` has a ContentType that no header can carry")]
    ContentType(Arc<str>),
}

/// A route with what answers it.
pub struct Served {
    /// The route.
    pub route: Arc<Route>,
    /// What answers it.
    pub target: Target,
}

/// What answers a route.
pub enum Target {
    /// The object engine.
    Objects(Arc<Origin>),
    /// Servers.
    Cluster(Arc<Cluster>),
}

/// The parts of a world that live longer than its routes.
pub struct Parts {
    /// The stores by name.
    pub stores: HashMap<Arc<str>, Store>,
    /// Verifies tokens.
    pub authenticator: Authenticator,
    /// Where tokens are looked for.
    pub token_sources: Vec<TokenSource>,
    /// The cache, where a route uses it.
    pub cache: Option<Arc<Cache>>,
    /// What a request must carry to be told how the cache took part.
    pub debug_token: Option<Secret>,
    /// The time.
    pub clock: Clock,
}

/// A store as its routes share it.
#[derive(Clone)]
pub struct Store {
    /// Signs requests to it.
    pub signer: Arc<Signer>,
}

/// The settings at work.
pub struct World {
    routes: Table<Arc<Served>>,
    clusters: Vec<Arc<Cluster>>,
    /// Verifies tokens.
    pub authenticator: Authenticator,
    /// Where tokens are looked for; what is found there is not passed on.
    pub token_sources: Vec<TokenSource>,
    /// The server's settings.
    pub server: Server,
    /// What a request must carry to be told how the cache took part.
    pub debug_token: Option<Secret>,
    /// The time.
    pub clock: Clock,
}

impl World {
    /// Builds it.
    pub fn build(
        server: Server,
        routes: Table<Arc<Route>>,
        clusters: &BTreeMap<Arc<str>, settings::Cluster>,
        parts: Parts,
    ) -> Result<Self, WorldError> {
        let factory = Factory::default();
        let clusters: HashMap<Arc<str>, Arc<Cluster>> =
            clusters.iter().map(|(id, settings)| (Arc::clone(id), Arc::new(factory.cluster(settings)))).collect();
        let mut own: HashMap<Arc<str>, Arc<Cluster>> = HashMap::new();
        let mut buckets: HashMap<_, Arc<Health>> = HashMap::new();
        let routes = routes.try_map(|route| {
            let target = match &route.kind {
                Kind::Object(object) => {
                    let unknown = || WorldError::UnknownStore(Arc::clone(&route.id));
                    let store = parts.stores.get(&object.store).ok_or_else(unknown)?;
                    let cluster = match &object.cluster {
                        Some(id) => find(&clusters, id, &route)?,
                        None => Arc::clone(
                            own.entry(Arc::clone(&object.store))
                                .or_insert_with(|| Arc::new(factory.single(&object.store, store.signer.endpoint()))),
                        ),
                    };
                    let bucket = (Arc::clone(&object.store), Arc::clone(&object.bucket));
                    let health = Arc::clone(buckets.entry(bucket).or_default());
                    Target::Objects(Arc::new(origin(&route, object, store, health, cluster, &parts)?))
                }
                Kind::Plain(plain) => Target::Cluster(find(&clusters, &plain.cluster, &route)?),
            };
            Ok(Arc::new(Served { route, target }))
        })?;
        let clusters = clusters.into_values().chain(own.into_values()).collect();
        let Parts { authenticator, token_sources, debug_token, clock, .. } = parts;
        Ok(Self { routes, clusters, authenticator, token_sources, server, debug_token, clock })
    }

    /// The route of a request, with what answers it.
    pub fn find(&self, request: &Request<'_>) -> Lookup<'_, Arc<Served>> {
        self.routes.find(request)
    }

    /// All clusters: the configured ones, and one for each store that routes connect to without one.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    /// The clusters worth probing: those of object routes, for readiness, and those that ask for it.
    pub fn probed(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        let objects = |cluster: &Arc<Cluster>| self.origins().any(|origin| Arc::ptr_eq(&origin.cluster, cluster));
        self.clusters.iter().filter(move |cluster| cluster.active().is_some() || objects(cluster))
    }

    /// Whether every store that a route reads from can be used.
    pub fn stores_are_good(&self) -> bool {
        self.origins().all(|origin| origin.health.is_good() && origin.cluster.is_reachable())
    }

    /// What answers the object routes.
    pub fn origins(&self) -> impl Iterator<Item = &Arc<Origin>> {
        self.routes.entries().filter_map(|entry| match &entry.value.target {
            Target::Objects(origin) => Some(origin),
            Target::Cluster(_) => None,
        })
    }

    /// Networks whose `X-Forwarded-For` is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.server.trusted_proxies.iter().any(|network: &IpNet| network.contains(&peer))
    }
}

fn find(clusters: &HashMap<Arc<str>, Arc<Cluster>>, id: &Arc<str>, route: &Route) -> Result<Arc<Cluster>, WorldError> {
    clusters.get(id).cloned().ok_or_else(|| WorldError::UnknownCluster(Arc::clone(&route.id)))
}

fn origin(
    route: &Route,
    object: &ObjectRoute,
    store: &Store,
    health: Arc<Health>,
    cluster: Arc<Cluster>,
    parts: &Parts,
) -> Result<Origin, WorldError> {
    let content_type = object.content_type.as_ref().map(|text| http::HeaderValue::from_str(text)).transpose();
    Ok(Origin {
        route: Arc::clone(&route.id),
        store: Arc::clone(&object.store),
        cache: object.cache.and_then(|policy| Some(Cached { cache: Arc::clone(parts.cache.as_ref()?), policy })),
        signer: Arc::clone(&store.signer),
        health,
        cluster,
        bucket: Arc::clone(&object.bucket),
        content_type: content_type.map_err(|_| WorldError::ContentType(Arc::clone(&route.id)))?,
        timeouts: route.timeouts,
        reveal_denied: route.hide_existence == Some(false),
        clock: parts.clock.clone(),
    })
}
