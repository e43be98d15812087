//! The object that a request on an object route is for: a key of the route's bucket, or the object of a track, in
//! whatever bucket the catalog says.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::HeaderValue;

use super::failure::ProxyFailure;
use super::films::FilmHandler;
use super::route::{ObjectHandler, RouteHandler, TrackHandler};
use super::static_site;
use catalog::{Catalog, Track, TrackLookupError};
use object_engine::{BucketHealth, ObjectError, ObjectOrigin};
use routing::pattern::Captures;
use routing::template::{CaptureTemplate, RenderError};

/// Opens a bucket, by the names of its store and itself, with its health; `None` where there is no such store.
pub type OriginOpener = Box<dyn Fn(&str, &str, Arc<BucketHealth>) -> Option<ObjectOrigin> + Send + Sync>;

/// Open buckets by store and bucket.
type OriginsByStore = HashMap<Arc<str>, HashMap<Arc<str>, Arc<ObjectOrigin>>>;

/// The object that a request is for.
pub struct RequestedObject {
    /// Its bucket.
    pub origin: Arc<ObjectOrigin>,
    /// `Cache-Control` for clients in place of the store's; `None` keeps that.
    pub cache_control: Option<HeaderValue>,
    /// Media type by its place, where that says more than the store.
    content_type: Option<HeaderValue>,
    /// Place of the request's path.
    pub place: RequestedPlace,
    key: ObjectKey,
}

/// Place of a request's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedPlace {
    /// An object by its key.
    Object,
    /// The index document of the folder that the path names.
    Index {
        /// Bytes of the key that are the folder's.
        prefix_length: usize,
    },
    /// A folder, which has no index document.
    Folder,
}

enum ObjectKey {
    FromPath(String),
    OfTrack(Arc<Track>),
}

/// The buckets of the catalog's tracks, opened as tracks ask for them.
pub struct TrackOrigins {
    open: OriginOpener,
    origins: ArcSwap<OriginsByStore>,
    is_listed: AtomicBool,
}

/// A handler that finds the object of a request.
#[derive(Clone, Copy)]
pub enum ObjectSource<'a> {
    /// By its key in the route's bucket.
    Key(&'a ObjectHandler),
    /// By its track in the catalog.
    Track(&'a TrackHandler),
    /// By its path in a film's folder.
    Film(&'a FilmHandler),
}

impl<'a> ObjectSource<'a> {
    /// Returns true for objects of films.
    pub fn is_film(&self) -> bool {
        matches!(self, Self::Film(_))
    }

    /// Returns the handler whose bucket has folders that are answered for.
    pub fn site(&self) -> Option<&'a ObjectHandler> {
        match self {
            Self::Key(handler) => (handler.index.is_some() || handler.lists_folders).then_some(*handler),
            Self::Track(_) | Self::Film(_) => None,
        }
    }

    /// Returns the source of `handler`; `None` where it serves no objects.
    pub fn of(handler: &'a RouteHandler) -> Option<Self> {
        match handler {
            RouteHandler::Object(handler) => Some(Self::Key(handler)),
            RouteHandler::Track(handler) => Some(Self::Track(handler)),
            RouteHandler::Film(handler) => Some(Self::Film(handler)),
            RouteHandler::Cluster(_) => None,
        }
    }

    /// Finds the object that the captured path values name.
    pub async fn find_object(self, captures: &Captures) -> Result<RequestedObject, ProxyFailure> {
        match self {
            Self::Key(handler) => handler.find_object(captures),
            Self::Film(handler) => handler.find_object(captures),
            // Boxed: a paused player keeps the request's future, and need not keep room for this question.
            Self::Track(handler) => {
                let lookup: BoxFuture<'_, _> = Box::pin(handler.find_object(captures));
                lookup.await
            }
        }
    }
}

impl RequestedObject {
    /// The object `key` of a bucket.
    pub fn new(origin: Arc<ObjectOrigin>, key: String) -> Self {
        Self {
            origin,
            cache_control: None,
            content_type: None,
            place: RequestedPlace::Object,
            key: ObjectKey::FromPath(key),
        }
    }

    /// The object `key` of a bucket, with headers in place of the store's.
    pub fn with_headers(
        origin: Arc<ObjectOrigin>,
        key: String,
        cache_control: HeaderValue,
        content_type: Option<HeaderValue>,
    ) -> Self {
        Self { cache_control: Some(cache_control), content_type, ..Self::new(origin, key) }
    }

    /// Its key.
    pub fn key(&self) -> &str {
        match &self.key {
            ObjectKey::FromPath(key) => key,
            ObjectKey::OfTrack(track) => &track.key,
        }
    }

    /// Key of the folder that the path names: empty, or with a slash at its end.
    pub fn folder(&self) -> Option<&str> {
        match self.place {
            RequestedPlace::Object => None,
            RequestedPlace::Index { prefix_length } => self.key().get(..prefix_length),
            RequestedPlace::Folder => Some(self.key()),
        }
    }

    /// Its entry in the catalog, on a route that asks the catalog.
    pub fn track(&self) -> Option<&Track> {
        match &self.key {
            ObjectKey::FromPath(_) => None,
            ObjectKey::OfTrack(track) => Some(track),
        }
    }

    /// Its media type, where it is known beside the store and the route does not name another.
    pub fn content_type(&self) -> Option<&HeaderValue> {
        let of_track = self.track().and_then(|track| track.content_type.as_ref());
        of_track.or(self.content_type.as_ref()).filter(|_| self.origin.content_type.is_none())
    }
}

impl ObjectHandler {
    /// Returns the object that the captured path values name; 400 where they make no key.
    pub(super) fn find_object(&self, captures: &Captures) -> Result<RequestedObject, ProxyFailure> {
        let origin = Arc::clone(&self.origin);
        if self.index.is_none() && !self.lists_folders {
            return Ok(RequestedObject::new(origin, render(&self.key, captures)?));
        }
        let mut key = self.key.render_key_or_root(captures).map_err(invalid_key)?;
        let place = match &self.index {
            _ if !static_site::is_folder(&key) => RequestedPlace::Object,
            Some(index) => {
                let prefix_length = key.len();
                key.push_str(index);
                RequestedPlace::Index { prefix_length }
            }
            None => RequestedPlace::Folder,
        };
        Ok(RequestedObject { place, ..RequestedObject::new(origin, key) })
    }
}

impl TrackHandler {
    /// Returns the track's id that the captured path values make.
    pub(super) fn track_id(&self, captures: &Captures) -> Result<String, ProxyFailure> {
        render(&self.track_id, captures)
    }

    /// Looks the track up that the captured path values name; fails as [`ProxyFailure::CatalogUnavailable`] where the
    /// catalog does not answer.
    async fn find_object(&self, captures: &Captures) -> Result<RequestedObject, ProxyFailure> {
        let id = self.track_id(captures)?;
        let catalog = self.catalog.as_ref().ok_or(ProxyFailure::CatalogUnavailable)?;
        let track = catalog.find(&id).await.map_err(|error| match error {
            TrackLookupError::Unknown => ProxyFailure::Object(ObjectError::NotFound),
            TrackLookupError::Deleted => ProxyFailure::Object(ObjectError::Gone),
            TrackLookupError::Unavailable => ProxyFailure::CatalogUnavailable,
        })?;
        let origin = self.origins.origin(&track.store, &track.bucket);
        let origin = origin.ok_or(ProxyFailure::Object(ObjectError::NoSuchBucket))?;
        Ok(RequestedObject { key: ObjectKey::OfTrack(track), ..RequestedObject::new(origin, String::new()) })
    }

    /// Opens the buckets that the catalog names, so that they can be probed before a player needs one; a catalog that
    /// does not answer is asked again the next time.
    pub async fn open_listed_buckets(&self) {
        if let Some(catalog) = self.catalog.as_ref().filter(|_| !self.origins.is_listed()) {
            self.origins.open_listed(catalog).await;
        }
    }
}

impl TrackOrigins {
    /// Buckets that `open` opens: at first those of `previous`, with their health, as far as their stores are there.
    pub fn new(open: OriginOpener, previous: Option<&Self>) -> Self {
        let mut origins = OriginsByStore::new();
        for known in previous.map(Self::all).unwrap_or_default() {
            if let Some(origin) = open(&known.store, &known.bucket, Arc::clone(&known.health)) {
                let buckets = origins.entry(Arc::clone(&origin.store)).or_default();
                buckets.insert(Arc::clone(&origin.bucket), Arc::new(origin));
            }
        }
        let is_listed = AtomicBool::new(previous.is_some_and(Self::is_listed));
        Self { open, origins: ArcSwap::from_pointee(origins), is_listed }
    }

    /// True once the catalog has named its buckets.
    pub fn is_listed(&self) -> bool {
        self.is_listed.load(Ordering::Relaxed)
    }

    /// The buckets that are open.
    pub fn all(&self) -> Vec<Arc<ObjectOrigin>> {
        self.origins.load().values().flat_map(HashMap::values).cloned().collect()
    }

    async fn open_listed(&self, catalog: &Catalog) {
        if let Ok(buckets) = catalog.buckets().await {
            for (store, bucket) in buckets {
                self.origin(&store, &bucket);
            }
            self.is_listed.store(true, Ordering::Relaxed);
        }
    }

    fn origin(&self, store: &str, bucket: &str) -> Option<Arc<ObjectOrigin>> {
        let open = |origins: &OriginsByStore| origins.get(store).and_then(|buckets| buckets.get(bucket)).cloned();
        if let Some(origin) = open(&self.origins.load()) {
            return Some(origin);
        }
        let new = Arc::new((self.open)(store, bucket, Arc::default())?);
        // Two requests may open one bucket at once: the second takes what the first has put in.
        self.origins.rcu(|origins| {
            let mut origins = OriginsByStore::clone(origins);
            let buckets = origins.entry(Arc::clone(&new.store)).or_default();
            buckets.entry(Arc::clone(&new.bucket)).or_insert_with(|| Arc::clone(&new));
            origins
        });
        open(&self.origins.load())
    }
}

/// Fills a template in; a value that cannot be decoded is the client's mistake.
fn render(template: &CaptureTemplate, captures: &Captures) -> Result<String, ProxyFailure> {
    template.render_key(captures).map_err(invalid_key)
}

fn invalid_key(error: RenderError) -> ProxyFailure {
    ProxyFailure::BadRequest(error.to_string().into())
}
