//! Buckets as the routes read from them: what all buckets of one route have in common, and what each has of its store.

use std::sync::Arc;

use super::process::Process;
use super::settings::{ObjectResponseSettings, RouteSettings};
use object_engine::cache::{RouteCache, SliceCache};
use object_engine::{BucketHealth, ObjectOrigin};
use primitives::clock::Clock;
use s3::signer::Signer;
use upstream::cluster::Cluster;
use upstream::settings::UpstreamTimeouts;

/// A store with the cluster that it is connected through.
pub struct OpenedStore {
    /// Its name in the YAML.
    pub name: Arc<str>,
    /// Signer of requests to it.
    pub signer: Arc<Signer>,
    /// Its servers.
    pub cluster: Arc<Cluster>,
}

/// Properties that all origins of one route have in common.
pub struct OriginTemplate {
    cache: Option<RouteCache>,
    content_type: Option<http::HeaderValue>,
    timeouts: UpstreamTimeouts,
    reveal_denied: bool,
    clock: Clock,
}

impl OriginTemplate {
    /// Template of the origins of `route`.
    pub fn new(
        route: &RouteSettings,
        response: &ObjectResponseSettings,
        (process, cache): (&Process, Option<&Arc<SliceCache>>),
    ) -> Self {
        let cache = response.cache.zip(cache);
        Self {
            cache: cache.map(|(policy, cache)| RouteCache { cache: Arc::clone(cache), policy }),
            content_type: response.content_type.clone(),
            timeouts: route.timeouts,
            reveal_denied: route.hide_existence == Some(false),
            clock: process.clock.clone(),
        }
    }

    /// Returns the origin of `bucket` in `store`.
    pub fn origin(&self, store: &OpenedStore, bucket: Arc<str>, health: Arc<BucketHealth>) -> ObjectOrigin {
        ObjectOrigin {
            store: Arc::clone(&store.name),
            cache: self.cache.clone(),
            signer: Arc::clone(&store.signer),
            health,
            cluster: Arc::clone(&store.cluster),
            bucket,
            content_type: self.content_type.clone(),
            timeouts: self.timeouts,
            reveal_denied: self.reveal_denied,
            clock: self.clock.clone(),
        }
    }
}
