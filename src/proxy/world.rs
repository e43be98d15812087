//! Everything that requests are answered from, built whole from the settings and swapped whole.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::audience::Audience;
use super::failure::Failure;
use super::permit::{Guarded, Guards};
use super::readings;
use super::settings::{Authorization, Kind, ObjectRoute, Route, Server, Source};
use super::tracks::Places;
use catalog::Catalog;
use object_engine::cache::{RouteCache, SliceCache};
use object_engine::{BucketHealth, ObjectOrigin};
use primitives::clock::Clock;
use primitives::lifecycle::BackgroundTasks;
use primitives::secret::Secret;
use routing::table::{RouteLookup, RouteTable, RoutingInput};
use s3::signer::Signer;
use server_kit::auth::Authenticator;
use server_kit::auth::settings::TokenSource;
use server_kit::limit::RateLimiters;
use server_kit::limit::rate_limiter::RateLimiter;
use server_kit::telemetry::settings::AccessFields;
use upstream::cluster::{Cluster, ClusterFactory};
use upstream::settings;

/// Why a world cannot be built from settings that were read without error.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A route names a store that is not there.
    #[error("route `{0}` names a store that does not exist")]
    UnknownStore(Arc<str>),
    /// A route names a cluster that is not there.
    #[error("route `{0}` names a cluster that does not exist")]
    UnknownCluster(Arc<str>),
    /// A route names a rate limiter policy that is not there.
    #[error("route `{0}` names a rate limiter policy that does not exist")]
    UnknownLimit(Arc<str>),
    /// A route asks the catalogue, or those who decide, and there are none.
    #[error("route `{0}` needs the Database")]
    NoDatabase(Arc<str>),
    /// A route's content type is no header value.
    #[error("route `{0}` has a ContentType that no header can carry")]
    ContentType(Arc<str>),
}

/// A route with what answers it.
pub struct Served {
    /// The route.
    pub route: Arc<Route>,
    /// How much each may ask of it.
    pub limit: Option<Arc<RateLimiter>>,
    /// What answers it.
    pub target: Target,
    /// Who decides beyond the policy's rules over claims.
    pub guarded: Option<Guarded>,
}

/// What answers a route.
pub enum Target {
    /// The object engine.
    Objects(Arc<ObjectOrigin>),
    /// The object engine, where the catalogue says.
    Tracks(Places),
    /// Servers.
    Cluster(Arc<Cluster>),
}

/// The parts of a world that live longer than its routes.
pub struct Parts {
    /// The stores by name.
    pub stores: HashMap<Arc<str>, Store>,
    /// Verifies tokens.
    pub authenticator: Arc<Authenticator>,
    /// Where tokens are looked for.
    pub token_sources: Vec<TokenSource>,
    /// The cache, where a route uses it.
    pub cache: Option<Arc<SliceCache>>,
    /// The rate limiter policies, and what they have counted.
    pub limits: Arc<RateLimiters>,
    /// The catalogue, where there is a database.
    pub catalog: Option<Arc<Catalog>>,
    /// Who is asked for leave.
    pub guards: Guards,
    /// What a request must carry to be told how the cache took part.
    pub debug_token: Option<Secret>,
    /// Who is told of streams.
    pub audience: Option<Arc<dyn Audience>>,
    /// The fields that an access line has.
    pub access_fields: AccessFields,
    /// The time.
    pub clock: Clock,
    /// Runs what goes on beside the requests.
    pub tasks: BackgroundTasks,
}

/// A store as its routes share it.
#[derive(Clone)]
pub struct Store {
    /// Signs requests to it.
    pub signer: Arc<Signer>,
}

/// The settings at work.
pub struct World {
    routes: RouteTable<Arc<Served>>,
    clusters: Vec<Arc<Cluster>>,
    /// Verifies tokens.
    pub authenticator: Arc<Authenticator>,
    /// Where tokens are looked for; what is found there is not passed on.
    pub token_sources: Vec<TokenSource>,
    /// The rate limiter policies, and what they have counted.
    pub limits: Arc<RateLimiters>,
    /// Who is asked for leave.
    pub guards: Guards,
    /// The server's settings.
    pub server: Server,
    /// What a request must carry to be told how the cache took part.
    pub debug_token: Option<Secret>,
    /// Who is told of streams.
    pub audience: Option<Arc<dyn Audience>>,
    /// The fields that an access line has.
    pub access_fields: AccessFields,
    /// The time.
    pub clock: Clock,
}

impl World {
    /// Builds it.
    pub fn build(
        server: Server,
        routes: RouteTable<Arc<Route>>,
        clusters: &BTreeMap<Arc<str>, settings::ClusterSettings>,
        parts: Parts,
    ) -> Result<Self, WorldError> {
        let mut builder = Builder::new(clusters, &parts);
        let routes = routes.try_map(|route| {
            let policy = |name: &Arc<str>| parts.limits.limiter(name).cloned();
            let unknown = || WorldError::UnknownLimit(Arc::clone(&route.id));
            let limit = route.rate_limiter.as_ref().map(|name| policy(name).ok_or_else(unknown)).transpose()?;
            let target = builder.target(&route)?;
            let guarded = guarded(&route, &parts.guards)?;
            Ok(Arc::new(Served { route, limit, target, guarded }))
        })?;
        let Builder { clusters, own, .. } = builder;
        let clusters = clusters.into_values().chain(own.into_values()).collect();
        let Parts { authenticator, token_sources, limits, guards, debug_token, audience, access_fields, clock, .. } =
            parts;
        Ok(Self {
            routes,
            clusters,
            authenticator,
            token_sources,
            limits,
            guards,
            server,
            debug_token,
            audience,
            access_fields,
            clock,
        })
    }

    /// The route of a request, with what answers it.
    pub fn find(&self, request: &RoutingInput<'_>) -> Result<RouteLookup<'_, Arc<Served>>, Failure> {
        readings::find(&self.routes, request)
    }

    /// The object route of this id.
    pub fn object_route(&self, id: &str) -> Option<&ObjectRoute> {
        let route = &self.routes.entries().find(|entry| &*entry.value.route.id == id)?.value.route;
        match &route.kind {
            Kind::Object(object) => Some(object),
            Kind::Plain(_) => None,
        }
    }

    /// All clusters: the configured ones, and one for each store that routes connect to without one.
    pub fn clusters(&self) -> &[Arc<Cluster>] {
        &self.clusters
    }

    /// The clusters worth probing: those of object routes, for readiness, and those that ask for it.
    pub fn probed(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        let objects =
            |cluster: &Arc<Cluster>| self.origins().iter().any(|origin| Arc::ptr_eq(&origin.cluster, cluster));
        self.clusters.iter().filter(move |cluster| cluster.active_check().is_some() || objects(cluster))
    }

    /// Reasons why a store that a route reads from cannot be used, in words for the operator.
    pub fn store_faults(&self) -> Vec<String> {
        let unlisted = self.places().any(|places| !places.is_listed());
        let unlisted = unlisted.then(|| "the catalogue has not said yet which buckets there are".to_owned());
        let faults = self.buckets().into_iter().filter_map(|origin| {
            let unreachable = || Some("none of its destinations can be reached".to_owned());
            let fault =
                origin.health.fault().or_else(|| if origin.cluster.is_reachable() { None } else { unreachable() })?;
            Some(format!("store `{}`, bucket `{}`: {fault}", origin.store, origin.bucket))
        });
        unlisted.into_iter().chain(faults).collect()
    }

    /// Whether every store that a route reads from can be used.
    pub fn stores_are_good(&self) -> bool {
        self.places().all(Places::is_listed)
            && self.origins().iter().all(|origin| origin.health.is_good() && origin.cluster.is_reachable())
    }

    /// The origins of object routes, one for each bucket and each cluster that it is asked through.
    pub fn buckets(&self) -> Vec<Arc<ObjectOrigin>> {
        let mut buckets: Vec<Arc<ObjectOrigin>> = Vec::new();
        for origin in self.origins() {
            let is_known = buckets.iter().any(|known| {
                Arc::ptr_eq(&known.health, &origin.health) && Arc::ptr_eq(&known.cluster, &origin.cluster)
            });
            if !is_known {
                buckets.push(origin);
            }
        }
        buckets
    }

    /// Where the catalogue's tracks lie, for each route that asks it.
    pub fn places(&self) -> impl Iterator<Item = &Places> {
        self.routes.entries().filter_map(|entry| match &entry.value.target {
            Target::Tracks(places) => Some(places),
            Target::Objects(_) | Target::Cluster(_) => None,
        })
    }

    /// What answers the object routes.
    pub fn origins(&self) -> Vec<Arc<ObjectOrigin>> {
        let of = |served: &Arc<Served>| match &served.target {
            Target::Objects(origin) => vec![Arc::clone(origin)],
            Target::Tracks(places) => places.origins(),
            Target::Cluster(_) => Vec::new(),
        };
        self.routes.entries().flat_map(|entry| of(&entry.value)).collect()
    }

    /// Networks whose `X-Forwarded-For` is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.server.trusted_proxies.iter().any(|network: &IpNet| network.contains(&peer))
    }
}

/// What the routes of a world share while it is built.
struct Builder<'a> {
    parts: &'a Parts,
    factory: ClusterFactory,
    clusters: HashMap<Arc<str>, Arc<Cluster>>,
    /// Of stores that are connected to at their endpoints.
    own: HashMap<Arc<str>, Arc<Cluster>>,
    buckets: HashMap<(Arc<str>, Arc<str>), Arc<BucketHealth>>,
}

impl<'a> Builder<'a> {
    fn new(clusters: &BTreeMap<Arc<str>, settings::ClusterSettings>, parts: &'a Parts) -> Self {
        let factory = ClusterFactory::new(parts.tasks.clone());
        let clusters =
            clusters.iter().map(|(id, settings)| (Arc::clone(id), Arc::new(factory.build(settings)))).collect();
        Self { parts, factory, clusters, own: HashMap::new(), buckets: HashMap::new() }
    }

    fn target(&mut self, route: &Route) -> Result<Target, WorldError> {
        let object = match &route.kind {
            Kind::Plain(plain) => return self.cluster(&plain.cluster, route).map(Target::Cluster),
            Kind::Object(object) => object,
        };
        let (store, bucket) = match &object.source {
            Source::Key { store, bucket, .. } => (store, bucket),
            Source::Track(_) => return self.places(route, object).map(Target::Tracks),
        };
        let known = self.parts.stores.get(store).ok_or_else(|| WorldError::UnknownStore(Arc::clone(&route.id)))?;
        let cluster = match &object.cluster {
            Some(id) => self.cluster(id, route)?,
            None => self.own(store, known),
        };
        let health = Arc::clone(self.buckets.entry((Arc::clone(store), Arc::clone(bucket))).or_default());
        let opened = Opened { name: Arc::clone(store), store: known.clone(), cluster };
        Ok(Target::Objects(Arc::new(Frame::new(route, object, self.parts)?.origin(
            &opened,
            Arc::clone(bucket),
            health,
        ))))
    }

    /// Any bucket of any store, as the catalogue says.
    fn places(&mut self, route: &Route, object: &ObjectRoute) -> Result<Places, WorldError> {
        let catalog = self.parts.catalog.clone().ok_or_else(|| WorldError::NoDatabase(Arc::clone(&route.id)))?;
        let mut stores: HashMap<Arc<str>, Opened> = HashMap::new();
        for (name, store) in &self.parts.stores {
            let opened = Opened { name: Arc::clone(name), store: store.clone(), cluster: self.own(name, store) };
            stores.insert(Arc::clone(name), opened);
        }
        let frame = Frame::new(route, object, self.parts)?;
        Ok(Places::new(
            catalog,
            Box::new(move |store, bucket| Some(frame.origin(stores.get(store)?, bucket.into(), Arc::default()))),
        ))
    }

    fn cluster(&self, id: &Arc<str>, route: &Route) -> Result<Arc<Cluster>, WorldError> {
        self.clusters.get(id).cloned().ok_or_else(|| WorldError::UnknownCluster(Arc::clone(&route.id)))
    }

    fn own(&mut self, name: &Arc<str>, store: &Store) -> Arc<Cluster> {
        let factory = &self.factory;
        let single = || Arc::new(factory.build_single(name, store.signer.endpoint()));
        Arc::clone(self.own.entry(Arc::clone(name)).or_insert_with(single))
    }
}

/// A store with the servers that are connected to.
struct Opened {
    name: Arc<str>,
    store: Store,
    cluster: Arc<Cluster>,
}

/// What all origins of one route have in common.
struct Frame {
    cache: Option<RouteCache>,
    content_type: Option<http::HeaderValue>,
    timeouts: settings::UpstreamTimeouts,
    reveal_denied: bool,
    clock: Clock,
}

impl Frame {
    fn new(route: &Route, object: &ObjectRoute, parts: &Parts) -> Result<Self, WorldError> {
        let content_type = object.content_type.as_ref().map(|text| http::HeaderValue::from_str(text)).transpose();
        Ok(Self {
            cache: object
                .cache
                .and_then(|policy| Some(RouteCache { cache: Arc::clone(parts.cache.as_ref()?), policy })),
            content_type: content_type.map_err(|_| WorldError::ContentType(Arc::clone(&route.id)))?,
            timeouts: route.timeouts,
            reveal_denied: route.hide_existence == Some(false),
            clock: parts.clock.clone(),
        })
    }

    fn origin(&self, opened: &Opened, bucket: Arc<str>, health: Arc<BucketHealth>) -> ObjectOrigin {
        ObjectOrigin {
            store: Arc::clone(&opened.name),
            cache: self.cache.clone(),
            signer: Arc::clone(&opened.store.signer),
            health,
            cluster: Arc::clone(&opened.cluster),
            bucket,
            content_type: self.content_type.clone(),
            timeouts: self.timeouts,
            reveal_denied: self.reveal_denied,
            clock: self.clock.clone(),
        }
    }
}

/// Who decides on a route beyond the rules over claims.
fn guarded(route: &Route, guards: &Guards) -> Result<Option<Guarded>, WorldError> {
    let (Some(asked), Authorization::Policy(policy)) = (&route.access, &route.authorization) else { return Ok(None) };
    let access = guards.access.get(&policy.name).cloned();
    let access = access.ok_or_else(|| WorldError::NoDatabase(Arc::clone(&route.id)))?;
    Ok(Some(Guarded { access, track: asked.track.clone() }))
}
