//! Object routes that ask the catalogue: from a track's id to its object, wherever it lies.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::HeaderValue;

use super::failure::Failure;
use super::settings::{Kind, Source};
use super::world::{Served, Target};
use catalog::{Catalog, Track, TrackLookupError};
use object_engine::{self, ObjectOrigin};
use routing::pattern::Captures;

/// A bucket's origin, for a store's name and a bucket's; `None` where there is no such store.
pub type Opener = Box<dyn Fn(&str, &str) -> Option<ObjectOrigin> + Send + Sync>;

/// By store and bucket.
type Origins = HashMap<Arc<str>, HashMap<Arc<str>, Arc<ObjectOrigin>>>;

/// The object that a request is for.
pub struct Wanted {
    /// Where it comes from.
    pub origin: Arc<ObjectOrigin>,
    key: Key,
}

enum Key {
    Rendered(String),
    Of(Arc<Track>),
}

/// The buckets that the catalogue's tracks lie in, opened as tracks ask for them.
pub struct Places {
    catalog: Arc<Catalog>,
    open: Opener,
    origins: ArcSwap<Origins>,
    is_listed: AtomicBool,
}

impl Wanted {
    /// Its key.
    pub fn key(&self) -> &str {
        match &self.key {
            Key::Rendered(key) => key,
            Key::Of(track) => &track.key,
        }
    }

    /// What the catalogue says of it, where it does.
    pub fn track(&self) -> Option<&Track> {
        match &self.key {
            Key::Rendered(_) => None,
            Key::Of(track) => Some(track),
        }
    }

    /// Its media type, where the catalogue knows it and the route does not say another.
    pub fn content_type(&self) -> Option<&HeaderValue> {
        self.track().and_then(|track| track.content_type.as_ref()).filter(|_| self.origin.content_type.is_none())
    }
}

impl Places {
    /// Those of `catalog`, opened by `open`.
    pub fn new(catalog: Arc<Catalog>, open: Opener) -> Self {
        Self { catalog, open, origins: ArcSwap::default(), is_listed: AtomicBool::new(false) }
    }

    /// Opens the buckets that the catalogue's tracks lie in, so that they can be asked before a player needs one; a
    /// catalogue that cannot be asked is asked again the next time.
    pub async fn open_all(&self) {
        if self.is_listed() {
            return;
        }
        if let Ok(buckets) = self.catalog.buckets().await {
            for (store, bucket) in buckets {
                self.origin(&store, &bucket);
            }
            self.is_listed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the catalogue has said which buckets there are.
    pub fn is_listed(&self) -> bool {
        self.is_listed.load(Ordering::Relaxed)
    }

    /// The origins that are open.
    pub fn origins(&self) -> Vec<Arc<ObjectOrigin>> {
        self.origins.load().values().flat_map(HashMap::values).cloned().collect()
    }

    async fn find(&self, id: &str) -> Result<Wanted, Failure> {
        let track = self.catalog.find(id).await.map_err(|unfound| match unfound {
            TrackLookupError::Unknown => Failure::Object(object_engine::ObjectError::NotFound),
            TrackLookupError::Deleted => Failure::Object(object_engine::ObjectError::Gone),
            TrackLookupError::Unavailable => Failure::CatalogUnavailable,
        })?;
        let origin = self
            .origin(&track.store, &track.bucket)
            .ok_or(Failure::Object(object_engine::ObjectError::NoSuchBucket))?;
        Ok(Wanted { origin, key: Key::Of(track) })
    }

    fn origin(&self, store: &str, bucket: &str) -> Option<Arc<ObjectOrigin>> {
        let open = |origins: &Origins| origins.get(store).and_then(|buckets| buckets.get(bucket)).cloned();
        if let Some(origin) = open(&self.origins.load()) {
            return Some(origin);
        }
        let new = Arc::new((self.open)(store, bucket)?);
        self.origins.rcu(|origins| {
            let mut origins = Origins::clone(origins);
            let buckets = origins.entry(Arc::clone(&new.store)).or_default();
            buckets.entry(Arc::clone(&new.bucket)).or_insert_with(|| Arc::clone(&new));
            origins
        });
        open(&self.origins.load())
    }
}

/// The object that a request on `served` is for, by what its path captured.
pub async fn wanted(served: &Served, captures: &Captures) -> Result<Wanted, Failure> {
    let Kind::Object(route) = &served.route.kind else { return Err(Failure::Internal) };
    let (Source::Key { key: template, .. } | Source::Track(template)) = &route.source;
    let rendered = template.render_key(captures).map_err(|error| Failure::BadRequest(error.to_string().into()))?;
    match &served.target {
        Target::Objects(origin) => Ok(Wanted { origin: Arc::clone(origin), key: Key::Rendered(rendered) }),
        Target::Tracks(places) => {
            let found: BoxFuture<'_, _> = Box::pin(places.find(&rendered));
            found.await
        }
        Target::Cluster(_) => Err(Failure::Internal),
    }
}
