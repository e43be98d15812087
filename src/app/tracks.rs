//! The catalogue, access and streaming URLs, composed: made from the settings for the proxy, and put before the API.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use utoipa_axum::router::OpenApiRouter;

use super::backing::Backing;
use super::modules::Means;
use crate::config::Settings;
use crate::proxy::inspect::{Asked, Found, inspect};
use crate::proxy::permit::Guards;
use crate::proxy::settings::Authorization;
use crate::proxy::world::World;
use catalog::access::Access;
use catalog::api::answers::{Answers, Shelf};
use catalog::api::{self, Ask, Catalogue, Stream, Streams, Urls};
use catalog::{Catalog, Grants, Numbers};
use primitives::clock::Clock;
use server_kit::api::cache::Operations;
use server_kit::api::error::Error;
use server_kit::api::limits::{Class, limited};
use server_kit::auth::path_token::PathTokens;
use server_kit::auth::revocation::{Generations, Revocations};
use server_kit::telemetry::metrics::Metrics;

/// What the proxy and the API share.
pub struct Shared {
    /// The catalogue, where there is a database.
    pub catalog: Option<Arc<Catalog>>,
    /// Who is asked for leave.
    pub guards: Guards,
}

/// Makes it; `client` asks authorisation services.
pub fn share(
    settings: &Settings,
    backing: &Backing,
    clock: &Clock,
    client: &reqwest::Client,
    metrics: &Metrics,
) -> Result<Shared, prometheus::Error> {
    let numbers = Numbers::new(metrics.registry())?;
    let grants = backing.database.clone().map(Grants::new);
    let mut access = HashMap::new();
    for entry in settings.routes.entries() {
        if let (Some(asked), Authorization::Policy(policy)) = (&entry.value.access, &entry.value.authorization) {
            let new = || Arc::new(Access::new(&asked.settings, grants.clone(), client, Some(&numbers)));
            access.entry(Arc::clone(&policy.name)).or_insert_with(new);
        }
    }
    let path_tokens =
        settings.auth.path_token.as_ref().map(|settings| Arc::new(PathTokens::new(settings, clock.clone())));
    let end_streams = settings.auth.end_revoked_streams;
    let revocations = (path_tokens.is_some() || end_streams).then(|| {
        let generations = Generations::new(backing.redis.clone(), backing.database.clone());
        Arc::new(Revocations::new(generations))
    });
    let guards = Guards { access, path_tokens, revocations, end_streams };
    let catalog = backing.database.clone().map(|database| Arc::new(Catalog::new(database, Some(numbers))));
    Ok(Shared { catalog, guards })
}

/// The paths that the settings switch on.
pub fn routes(
    settings: &Settings,
    means: &Means<'_>,
    shared: &Shared,
    world: &Arc<ArcSwap<World>>,
    cache: Option<Arc<dyn Operations>>,
) -> Vec<OpenApiRouter> {
    let Means { backing, clock, limits, .. } = means;
    let mut routers = Vec::new();
    if let (Some(catalog), Some(database)) = (&shared.catalog, &backing.database) {
        let catalogue = api::admin(Arc::new(Catalogue {
            catalog: Arc::clone(catalog),
            grants: Grants::new(database.clone()),
            access: shared.guards.access.values().cloned().collect(),
            stores: settings.stores.iter().map(|store| Arc::clone(&store.name)).collect(),
            cache,
            clock: (*clock).clone(),
        }));
        routers.push(limited(catalogue, limits, Class::STRICT));
    }
    if let (Some(tokens), Some(revocations)) = (&shared.guards.path_tokens, &shared.guards.revocations) {
        let keys = tokens.derived("the cache of streaming URLs");
        let urls = Arc::new(Urls {
            streams: Arc::new(Proxied(Arc::clone(world))),
            tokens: Arc::clone(tokens),
            revocations: Arc::clone(revocations),
            answers: Answers::new(Shelf::new(backing.redis.clone()), &keys, (*clock).clone()),
        });
        routers.push(limited(api::streaming_admin(Arc::clone(&urls)), limits, Class::STRICT));
        routers.push(limited(api::streaming(urls), limits, Class::STANDARD));
    }
    routers
}

/// Streams are the proxy's.
struct Proxied(Arc<ArcSwap<World>>);

impl Streams for Proxied {
    fn look<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Stream, Error>> {
        Box::pin(async move {
            let world = self.0.load_full();
            let asked = Asked { path: ask.path, asking: ask.asking, claims: &ask.user.claims, measure: ask.measure };
            match inspect(&world, &asked).await {
                Ok(Found { leave, version, content_type, size }) => Ok(Stream { leave, version, content_type, size }),
                Err(refused) => Err(Error::of(refused.status, refused.code, refused.detail, refused.retry_after)),
            }
        })
    }
}
