//! Service of radio: the list, the relays of this node, and who listens.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use super::Error;
use super::bodies::{PlayResponse, StationCaller};
use super::directory::StationDirectory;
use super::listening_events::ListeningReporter;
use super::metrics::{RadioMetrics, StreamEnd};
use super::relay::listener::{CountedListener, RelayListener};
use super::relay::station_board::StationBoard;
use super::relay::station_relay::{RelayHandle, StationRelay};
use super::relay::upstream_task;
use super::settings::Settings;
use super::source::address_policy::AddressPolicy;
use super::source::audio_format::AudioCodec;
use super::source::client::StationClient;
use super::station::{Station, StationFilter};
use super::station_store::StationStore;
use super::tickets::{Ticket, TicketIssuer, TicketKeySource};
use events::EventPublisher;
use primitives::clock::Clock;
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::api::error::Error as ApiError;
use server_kit::auth::revocation::TokenRevocations;
use server_kit::auth::token_right::{MAX_RIGHT_TIME, TokenEnd, TokenRight};
use server_kit::database::Database;
use server_kit::limit::stream_limits::{StreamLimits, StreamPermit, StreamRefusal};

/// Most boards of stations that nobody listens to, with their titles.
const MAX_IDLE_BOARDS: usize = 256;

/// Has a user's players of a channel play what an answer of `play` says; fails where the user has no such channel.
pub type PlayerCommand = Arc<dyn Fn(UserId, PlayResponse) -> BoxFuture<'static, Result<(), ApiError>> + Send + Sync>;

/// What the service is made of.
pub struct RadioServiceParts {
    /// Its settings.
    pub settings: Settings,
    /// Database of the list.
    pub database: Database,
    /// Keys of tickets.
    pub ticket_keys: TicketKeySource,
    /// Logouts, which end streams.
    pub revocations: Option<Arc<TokenRevocations>>,
    /// Players, where there are any.
    pub players: Option<PlayerCommand>,
    /// Takes events, where there are any.
    pub events: Option<EventPublisher>,
    /// Tasks whose closing ends streams.
    pub streams: BackgroundTasks,
    /// Tasks among which relays run.
    pub tasks: BackgroundTasks,
    /// Clock.
    pub clock: Clock,
}

/// Service of radio. Clones share it.
#[derive(Clone)]
pub struct RadioService(pub(super) Arc<ServiceState>);

/// State of the service.
pub(super) struct ServiceState {
    pub settings: Settings,
    pub store: StationStore,
    pub client: StationClient,
    pub directory: Option<Arc<StationDirectory>>,
    pub tickets: TicketIssuer,
    pub revocations: Option<Arc<TokenRevocations>>,
    pub players: Option<PlayerCommand>,
    pub streams: BackgroundTasks,
    pub tasks: BackgroundTasks,
    pub metrics: RadioMetrics,
    limits: StreamLimits,
    reporter: Option<ListeningReporter>,
    clock: Clock,
    pub relays: Mutex<HashMap<Uuid, Arc<StationRelay>>>,
    boards: Mutex<HashMap<Uuid, Arc<StationBoard>>>,
}

impl RadioService {
    /// Creates the service.
    pub fn start(parts: RadioServiceParts, registry: &Registry) -> Result<Self, prometheus::Error> {
        let RadioServiceParts { settings, database, ticket_keys, revocations, players, events, streams, tasks, clock } =
            parts;
        let topic = settings.events_topic.clone();
        let reporter =
            events.zip(topic).map(|(events, topic)| ListeningReporter::start(events, topic, clock.clone(), &tasks));
        let client = StationClient::new(AddressPolicy::new(settings.allowed_networks.clone()));
        Ok(Self(Arc::new(ServiceState {
            store: StationStore::new(database),
            directory: settings.directory.clone().map(|it| Arc::new(StationDirectory::new(it, client.clone()))),
            client,
            tickets: TicketIssuer::new(ticket_keys, settings.ticket_ttl, clock.clone()),
            revocations,
            players,
            streams,
            tasks,
            metrics: RadioMetrics::register(registry)?,
            limits: StreamLimits::new(settings.max_listeners, settings.max_listeners_per_user),
            reporter,
            settings,
            clock,
            relays: Mutex::default(),
            boards: Mutex::default(),
        })))
    }

    /// Returns a station of the list.
    pub async fn station(&self, id: Uuid) -> Result<Station, Error> {
        self.0.store.get(id).await?.ok_or(Error::NoSuchStation)
    }

    /// Returns the station of an address.
    pub async fn station_by_url(&self, url: &Url) -> Result<Station, Error> {
        self.0.store.get_by_url(url).await?.ok_or(Error::NoSuchStation)
    }

    /// Lists at most `limit` stations whose ids come after `after`.
    pub async fn list(&self, filter: &StationFilter, after: Option<Uuid>, limit: u32) -> Result<Vec<Station>, Error> {
        self.0.store.list(filter, after, limit).await
    }

    /// Ends the streams of titles of a station that was deleted.
    pub(super) fn close_board(&self, id: Uuid) {
        if let Some(board) = self.0.boards.lock().remove(&id) {
            board.close();
        }
    }

    /// Ends the streams of titles of a station that another node has deleted. However many listen, the database is asked
    /// once in a while for each station.
    pub(super) async fn close_deleted_board(&self, board: &StationBoard) {
        if board.is_check_due() && matches!(self.0.store.get(board.id()).await, Ok(None)) {
            self.close_board(board.id());
        }
    }

    /// Connects to a station, if it is not connected to, and waits until there is sound.
    pub async fn play(&self, station: &Station) -> Result<(), Error> {
        let handle = self.attach(station)?;
        let ready = timeout(upstream_task::OPEN_TIMEOUT, handle.relay().ready()).await;
        ready.ok().flatten().map(drop).ok_or(Error::StationAway)
    }

    /// Begins a station for a user as `POST /api/v1/radio/play` does: for what begins it on the user's behalf.
    pub async fn play_for(&self, user: &UserId, id: Uuid, channel: &str) -> Result<PlayResponse, Error> {
        let _permit = self.admit(user)?;
        let station = self.station(id).await?;
        // No token asks for it: it goes on for as long as a stream may.
        let caller = StationCaller { user, token_until: self.now() + MAX_RIGHT_TIME, is_admin: false };
        PlayResponse::begin(self, &caller, station, channel.to_owned()).await
    }

    /// Adds a listener of a station, who has sound at once.
    pub async fn listen(&self, station: &Station, user: &UserId) -> Result<CountedListener, Error> {
        let handle = self.attach(station)?;
        let ready = timeout(upstream_task::OPEN_TIMEOUT, handle.relay().ready()).await;
        let codec = ready.ok().flatten().ok_or(Error::StationAway)?;
        let listener = RelayListener::new(handle, codec, self.0.settings.burst_bytes);
        let listening = self.0.reporter.as_ref().map(|reporter| reporter.begin(station.id, user.clone()));
        Ok(CountedListener::new(listener, self.0.metrics.clone(), listening))
    }

    /// Returns the codec of a station's sound: the one that is heard at this node, else that of when it was added.
    pub fn codec(&self, station: &Station) -> AudioCodec {
        let heard = self.0.relays.lock().get(&station.id).and_then(|relay| relay.codec());
        heard.unwrap_or(station.codec)
    }

    /// Takes a place for a listener of a user.
    pub fn admit(&self, user: &UserId) -> Result<StreamPermit, Error> {
        self.0.limits.admit(user).map_err(|refused| match refused {
            StreamRefusal::Full => Error::Busy,
            StreamRefusal::TooManyOfUser(most) => Error::TooManyListeners(most),
        })
    }

    /// Takes hold of the relay of a station, which begins where there is none.
    pub(super) fn attach(&self, station: &Station) -> Result<RelayHandle, Error> {
        let mut relays = self.0.relays.lock();
        if let Some(relay) = relays.get(&station.id).filter(|relay| !relay.has_ended()) {
            return Ok(relay.attach());
        }
        if relays.len() >= self.0.settings.max_upstreams {
            // One that only lingers gives way.
            let idle = relays.values().filter_map(|relay| Some((relay.idle_since()?, Arc::clone(relay))));
            let (_, longest) = idle.min_by_key(|(since, _)| *since).ok_or(Error::Busy)?;
            longest.end(StreamEnd::Left);
            relays.remove(&longest.station.id);
        }
        let relay = StationRelay::new(station.clone(), self.board(station.id), &self.0.settings);
        let handle = relay.attach();
        relays.insert(station.id, Arc::clone(&relay));
        self.0.tasks.spawn(upstream_task::run(self.clone(), relay));
        Ok(handle)
    }

    /// Takes a relay out of the table; with `if_idle` only where nobody holds it. Returns true if it is out.
    pub(super) fn remove_relay(&self, relay: &Arc<StationRelay>, if_idle: bool) -> bool {
        let mut relays = self.0.relays.lock();
        if if_idle && !relay.is_idle() {
            return false;
        }
        if relays.get(&relay.station.id).is_some_and(|there| Arc::ptr_eq(there, relay)) {
            relays.remove(&relay.station.id);
        }
        true
    }

    /// Returns the board of a station.
    pub(super) fn board(&self, id: Uuid) -> Arc<StationBoard> {
        let mut boards = self.0.boards.lock();
        if let Some(board) = boards.get(&id) {
            return Arc::clone(board);
        }
        if boards.len() >= MAX_IDLE_BOARDS {
            boards.retain(|_, board| Arc::strong_count(board) > 1);
        }
        Arc::clone(boards.entry(id).or_insert_with(|| Arc::new(StationBoard::new(id))))
    }

    /// Returns the board of a station that was listened to.
    pub(super) fn known_board(&self, id: Uuid) -> Option<Arc<StationBoard>> {
        self.0.boards.lock().get(&id).cloned()
    }

    pub(super) fn set_title(&self, relay: &StationRelay, title: String) {
        if relay.board.set_title(title, self.now()) {
            self.0.metrics.titles.inc();
        }
    }

    /// Returns the generation of a user's tokens for what is to begin; `None` where there are no logouts. Fails where it is
    /// not known at the moment: what began without it would outlive a logout.
    pub(super) async fn generation(&self, user: &UserId) -> Result<Option<u32>, Error> {
        match &self.0.revocations {
            Some(revocations) => revocations.last_known(user.as_str()).await.map(Some).ok_or(Error::LogoutsUnavailable),
            None => Ok(None),
        }
    }

    /// Returns a ticket for a station's streams, and the Unix second until which it opens them; it is issued for a token that
    /// ends at `token_until`.
    pub async fn issue_ticket(
        &self,
        station: Uuid,
        user: &UserId,
        token_until: UnixMillis,
    ) -> Result<(String, u64), Error> {
        let ticket = self.visit(user, token_until).await?;
        self.0.tickets.issue(station, &ticket).ok_or(Error::Unavailable)
    }

    /// Returns what a token that ends at `token_until` opens now: a ticket that is not signed.
    pub(super) async fn visit(&self, user: &UserId, token_until: UnixMillis) -> Result<Ticket, Error> {
        // Tokens end at a whole second (RFC 7519 §2), as the JWTs that are accepted do.
        let token_until = u32::try_from(token_until.as_millis() / 1000).unwrap_or(u32::MAX);
        Ok(Ticket { user: user.clone(), generation: self.generation(user).await?, token_until })
    }

    /// Resolves when a stream must end that was opened by `ticket`.
    pub(super) async fn wait_for_end(&self, ticket: Ticket) -> StreamEnd {
        let until = UnixMillis::EPOCH + Duration::from_secs(ticket.token_until.into());
        let right = TokenRight { user: ticket.user, generation: ticket.generation, until };
        tokio::select! {
            () = self.0.streams.closing() => StreamEnd::Shutdown,
            end = right.ended(self.0.revocations.as_deref(), &self.0.clock) => match end {
                TokenEnd::Expired => StreamEnd::Expired,
                TokenEnd::LoggedOut => StreamEnd::LoggedOut,
            },
        }
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.0.clock.unix_millis()
    }
}
