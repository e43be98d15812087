//! The snapshot that requests are answered from: built whole from the settings, and replaced whole. A request takes it
//! once and keeps it to its end, so that it meets one set of rules however long its body streams.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::failure::ProxyFailure;
use super::films::FilmRoutes;
use super::origin_template::{OpenedStore, OriginTemplate};
use super::process::Process;
use super::route::{
    ClusterHandler, ObjectHandler, Route, RouteAuthorization, RouteHandler, RoutePolicies, TrackAccess, TrackHandler,
};
use super::settings::{
    AuthorizationSettings, HandlerSettings, ObjectSettings, RouteSettings, RuntimeSettings, ServerSettings,
    TrackSettings,
};
use super::tracks::TrackOrigins;
use catalog::access::AccessChecker;
use catalog::settings::AccessSettings;
use http_semantics::client_ip;
use object_engine::cache::SliceCache;
use object_engine::{BucketHealth, ObjectOrigin};
use primitives::secret::Secret;
use request_traces::Tracer;
use routing::readings;
use routing::table::{RouteLookup, RouteTable, RoutingInput};
use s3::settings::StoreSettings;
use s3::signer::Signer;
use server_kit::auth::Authenticator;
use server_kit::auth::settings::TokenSource;
use server_kit::limit::RateLimitersByName;
use server_kit::telemetry::settings::AccessLines;
use upstream::cluster::Cluster;
use upstream::settings::ClusterSettings;

/// The settings at work.
pub struct Runtime {
    /// State and services that outlive this snapshot.
    pub process: Arc<Process>,
    /// Verifies tokens, and keeps the issuers' keys.
    pub authenticator: Arc<Authenticator>,
    /// The slice cache, where a route has used one since the start.
    pub cache: Option<Arc<SliceCache>>,
    pub(super) routes: RouteTable<Arc<Route>>,
    /// The routes of films, which stand beside the table: their paths begin with a grant.
    pub films: Option<FilmRoutes>,
    parts: RuntimeParts,
    /// Signers of all stores, also of those that no route reads from: their credentials are renewed as long as somebody
    /// has them.
    pub signers: Vec<Arc<Signer>>,
    /// The server's settings.
    pub server: ServerSettings,
    /// Places of a request where tokens are looked for; tokens found there are not passed on.
    pub token_sources: Vec<TokenSource>,
    /// Token that a request must carry in `X-Tidegate-Debug` to learn its cache status.
    pub debug_token: Option<Secret>,
    /// Fields of an access log line.
    pub access_lines: AccessLines,
    /// True where a logout ends live streams.
    pub end_revoked_streams: bool,
    /// Tracer of requests; `None` where none is traced.
    pub tracer: Option<Arc<Tracer>>,
}

/// Parts that the routes of one runtime share. The next runtime takes over those whose settings are the same.
#[derive(Default)]
struct RuntimeParts {
    clusters: HashMap<ClusterKey, Arc<Cluster>>,
    bucket_health: HashMap<(Arc<str>, Arc<str>), Arc<BucketHealth>>,
    /// Access checkers by the name of their policy, with what they were built from.
    access_checkers: HashMap<Arc<str>, (Arc<AccessSettings>, Arc<AccessChecker>)>,
    rate_limiters: Arc<RateLimitersByName>,
}

/// Key of a cluster among those of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ClusterKey {
    /// One of the configuration, by its id.
    Configured(Arc<str>),
    /// The one server of a store that is connected to at its endpoint, by the store's name.
    Store(Arc<str>),
}

impl Runtime {
    /// Builds the runtime of `settings`, which takes over from `previous` what has not changed. Fails only where
    /// `open_store` does, which must give the same signer each time that it is asked for a store. Nothing that runs is
    /// changed before [`Runtime::install`].
    pub fn build<E>(
        settings: RuntimeSettings,
        process: &Arc<Process>,
        (authenticator, cache, tracer): (Arc<Authenticator>, Option<Arc<SliceCache>>, Option<Arc<Tracer>>),
        previous: Option<&Self>,
        open_store: impl Fn(&StoreSettings) -> Result<Arc<Signer>, E>,
    ) -> Result<Self, E> {
        let RuntimeSettings { routes, clusters, rate_limiters, stores, films, .. } = settings;
        // Also those that no route reads from: a store that cannot be opened is told at the start.
        let signers = stores.iter().map(|store| open_store(store)).collect::<Result<_, E>>()?;
        let rate_limiters = process.limiters.prepare(&rate_limiters);
        let mut builder = RuntimeBuilder::new((process, cache.as_ref()), &stores, rate_limiters, previous, open_store);
        for cluster in &clusters {
            builder.cluster(cluster);
        }
        let routes = routes.try_map(|route| builder.route(&route).map(Arc::new))?;
        let films = films.map(|films| FilmRoutes::build(&films, |route| builder.route(route))).transpose()?;
        let parts = builder.parts;
        Ok(Self {
            process: Arc::clone(process),
            authenticator,
            cache,
            routes,
            films,
            parts,
            signers,
            server: settings.server,
            token_sources: settings.token_sources,
            debug_token: settings.debug_token,
            access_lines: settings.access_lines,
            end_revoked_streams: settings.end_revoked_streams,
            tracer,
        })
    }

    /// Makes the process use what this runtime was built with beside its routes; it comes just before the runtime is put
    /// in force.
    pub fn install(&self) {
        self.process.limiters.replace(Arc::clone(&self.parts.rate_limiters));
    }

    /// Finds the route of a request. Fails where its path can be read as one of a route that asks for more.
    pub fn find(&self, request: &RoutingInput<'_>) -> Result<RouteLookup<'_, Arc<Route>>, ProxyFailure> {
        readings::find(&self.routes, request).map_err(|error| ProxyFailure::BadRequest(error.to_string().into()))
    }

    /// Returns the route of this id.
    pub fn route(&self, id: &str) -> Option<&Arc<Route>> {
        self.routes().find(|route| &*route.id == id)
    }

    /// All clusters: the configured ones, and one for each store that routes connect to without one.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.parts.clusters.values()
    }

    /// The access checkers of the authorization policies that routes use.
    pub fn access_checkers(&self) -> Vec<Arc<AccessChecker>> {
        self.parts.access_checkers.values().map(|(_, checker)| Arc::clone(checker)).collect()
    }

    /// Returns the clusters to probe: those that ask for it, and those through which a bucket is reached, for readiness.
    pub fn probed_clusters(&self) -> Vec<Arc<Cluster>> {
        let origins = self.origins();
        let is_probed = |cluster: &&Arc<Cluster>| {
            cluster.active_check().is_some() || origins.iter().any(|origin| Arc::ptr_eq(&origin.cluster, cluster))
        };
        self.clusters().filter(is_probed).cloned().collect()
    }

    /// Reasons why a store that a route reads from cannot be used, in words for the operator.
    pub fn store_faults(&self) -> Vec<String> {
        let is_unlisted = self.track_handlers().any(|handler| !handler.origins.is_listed());
        let unlisted = is_unlisted.then(|| "the catalogue has not said yet which buckets there are".to_owned());
        let faults = self.buckets().into_iter().filter_map(|origin| {
            let unreachable = || Some("none of its destinations can be reached".to_owned());
            let fault =
                origin.health.fault().or_else(|| if origin.cluster.is_reachable() { None } else { unreachable() })?;
            Some(format!("store `{}`, bucket `{}`: {fault}", origin.store, origin.bucket))
        });
        unlisted.into_iter().chain(faults).collect()
    }

    /// True where every store that a route reads from can be used.
    pub fn stores_are_good(&self) -> bool {
        self.track_handlers().all(|handler| handler.origins.is_listed())
            && self.origins().iter().all(|origin| origin.health.is_good() && origin.cluster.is_reachable())
    }

    /// The buckets that routes reach, once for each bucket and each cluster that it is asked through.
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

    /// The handlers of routes that ask the catalog.
    pub fn track_handlers(&self) -> impl Iterator<Item = &TrackHandler> {
        self.routes().filter_map(|route| match &route.handler {
            RouteHandler::Track(handler) => Some(handler),
            RouteHandler::Object(_) | RouteHandler::Film(_) | RouteHandler::Cluster(_) => None,
        })
    }

    /// The buckets that routes reach, once for each route.
    pub fn origins(&self) -> Vec<Arc<ObjectOrigin>> {
        self.routes().flat_map(|route| route.handler.origins()).collect()
    }

    /// True where the `X-Forwarded-For` of `peer` is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        client_ip::is_in(peer, &self.server.trusted_proxies)
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        let films = self.films.iter().flat_map(|films| [&films.films, &films.keys]);
        self.routes.entries().map(|entry| &entry.value).chain(films)
    }
}

/// Builds the routes of one runtime, and the parts that they share.
struct RuntimeBuilder<'a, F> {
    process: &'a Process,
    cache: Option<&'a Arc<SliceCache>>,
    /// All stores, in any of which a track may be.
    stores: &'a [Arc<StoreSettings>],
    previous: Option<&'a RuntimeParts>,
    /// Buckets of the catalog's tracks that the previous runtime has opened, by route.
    previous_tracks: HashMap<&'a str, &'a TrackOrigins>,
    open_store: F,
    parts: RuntimeParts,
}

impl<'a, E, F: Fn(&StoreSettings) -> Result<Arc<Signer>, E>> RuntimeBuilder<'a, F> {
    fn new(
        (process, cache): (&'a Process, Option<&'a Arc<SliceCache>>),
        stores: &'a [Arc<StoreSettings>],
        rate_limiters: Arc<RateLimitersByName>,
        previous: Option<&'a Runtime>,
        open_store: F,
    ) -> Self {
        let tracks = previous.into_iter().flat_map(Runtime::routes).filter_map(|route| match &route.handler {
            RouteHandler::Track(handler) => Some((&*route.id, &handler.origins)),
            RouteHandler::Object(_) | RouteHandler::Film(_) | RouteHandler::Cluster(_) => None,
        });
        Self {
            process,
            cache,
            stores,
            previous: previous.map(|previous| &previous.parts),
            previous_tracks: tracks.collect(),
            open_store,
            parts: RuntimeParts { rate_limiters, ..RuntimeParts::default() },
        }
    }

    fn route(&mut self, settings: &RouteSettings) -> Result<Route, E> {
        let handler = match &settings.handler {
            HandlerSettings::Object(object) => RouteHandler::Object(self.object_handler(settings, object)?),
            HandlerSettings::Track(track) => RouteHandler::Track(self.track_handler(settings, track)?),
            HandlerSettings::Cluster(plain) => RouteHandler::Cluster(ClusterHandler {
                cluster: self.cluster(&plain.cluster),
                transforms: plain.transforms.clone(),
                timeouts: settings.timeouts,
            }),
        };
        let limiters = Arc::clone(&self.parts.rate_limiters);
        let policies = RoutePolicies {
            hosts: settings.hosts.clone(),
            authorization: self.authorization(&settings.authorization),
            hide_existence: settings.hide_existence,
            rate_limiter: settings.rate_limiter.as_ref().and_then(|policy| limiters.get(&policy.name)).cloned(),
            cors: settings.cors.clone(),
            max_request_body: settings.max_request_body,
        };
        let response = settings.handler.object_response();
        let response_headers = response.map(|response| response.headers.clone()).unwrap_or_default();
        let error_answers = response.map(|response| response.errors.clone()).unwrap_or_default();
        let codings = response.map(|response| response.codings.clone()).unwrap_or_default();
        Ok(Route { id: Arc::clone(&settings.id), policies, response_headers, codings, error_answers, handler })
    }

    fn authorization(&mut self, settings: &AuthorizationSettings) -> RouteAuthorization {
        let AuthorizationSettings::Policy { claims, track_access } = settings else {
            return RouteAuthorization::Anonymous;
        };
        let track_access = track_access.as_ref().map(|access| TrackAccess {
            checker: self.access_checker(&claims.name, &access.authorities),
            track_id: access.track_id.clone(),
        });
        RouteAuthorization::Policy { claims: Arc::clone(claims), track_access }
    }

    /// Returns the checker of the authorization policy `policy`: routes that name one policy share its cached decisions.
    fn access_checker(&mut self, policy: &Arc<str>, settings: &Arc<AccessSettings>) -> Arc<AccessChecker> {
        let (previous, factory) = (self.previous, &self.process.access_checkers);
        let entry = self.parts.access_checkers.entry(Arc::clone(policy)).or_insert_with(|| {
            let known = previous.and_then(|previous| previous.access_checkers.get(policy));
            let unchanged = known.filter(|(known, _)| known == settings);
            unchanged.cloned().unwrap_or_else(|| (Arc::clone(settings), Arc::new(factory.build(settings))))
        });
        Arc::clone(&entry.1)
    }

    fn object_handler(&mut self, route: &RouteSettings, object: &ObjectSettings) -> Result<ObjectHandler, E> {
        let ObjectSettings { store, bucket, key, index, lists_folders, cluster, response } = object;
        let signer = (self.open_store)(store)?;
        let cluster = match cluster {
            Some(cluster) => self.cluster(cluster),
            None => self.endpoint(&store.name, &signer),
        };
        // Routes of one bucket share its health: it is asked about once.
        let place = (Arc::clone(&store.name), Arc::clone(bucket));
        let known = self.previous.and_then(|previous| previous.bucket_health.get(&place)).cloned();
        let health = self.parts.bucket_health.entry(place).or_insert_with(|| known.unwrap_or_default());
        let origin = OriginTemplate::new(route, response, (self.process, self.cache)).origin(
            &OpenedStore { name: Arc::clone(&store.name), signer, cluster },
            Arc::clone(bucket),
            Arc::clone(health),
        );
        Ok(ObjectHandler {
            origin: Arc::new(origin),
            key: key.clone(),
            index: index.clone(),
            lists_folders: *lists_folders,
        })
    }

    /// Any bucket of any store may hold a track, as the catalog says.
    fn track_handler(&mut self, route: &RouteSettings, track: &TrackSettings) -> Result<TrackHandler, E> {
        let mut stores = HashMap::new();
        for store in self.stores {
            let (name, signer) = (Arc::clone(&store.name), (self.open_store)(store)?);
            let cluster = self.endpoint(&name, &signer);
            stores.insert(Arc::clone(&name), OpenedStore { name, signer, cluster });
        }
        let template = OriginTemplate::new(route, &track.response, (self.process, self.cache));
        let open =
            move |store: &str, bucket: &str, health| Some(template.origin(stores.get(store)?, bucket.into(), health));
        let previous = self.previous_tracks.get(&*route.id).copied();
        Ok(TrackHandler {
            track_id: track.track_id.clone(),
            catalog: self.process.catalog.clone(),
            origins: TrackOrigins::new(Box::new(open), previous),
        })
    }

    fn cluster(&mut self, settings: &ClusterSettings) -> Arc<Cluster> {
        self.shared_cluster(ClusterKey::Configured(Arc::clone(&settings.id)), settings)
    }

    fn endpoint(&mut self, name: &Arc<str>, signer: &Signer) -> Arc<Cluster> {
        let settings = ClusterSettings::single(name, signer.endpoint());
        self.shared_cluster(ClusterKey::Store(Arc::clone(name)), &settings)
    }

    fn shared_cluster(&mut self, key: ClusterKey, settings: &ClusterSettings) -> Arc<Cluster> {
        let previous = self.previous.and_then(|previous| previous.clusters.get(&key));
        let factory = &self.process.clusters;
        let cluster = self.parts.clusters.entry(key).or_insert_with(|| match previous {
            Some(previous) if previous.settings() == settings => Arc::clone(previous),
            Some(previous) => Arc::new(factory.rebuild(settings, previous)),
            None => Arc::new(factory.build(settings)),
        });
        Arc::clone(cluster)
    }
}
