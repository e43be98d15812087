//! Service of the bot: links of accounts, updates that come in, and on whose behalf the bot acts.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::bot_api::client::BotApi;
use crate::bot_api::sender::BotSender;
use crate::database_queries::BotDatabase;
use crate::incoming::IncomingUpdate;
use crate::link_code::LinkCode;
use crate::link_store::{AccountLink, LinkStore};
use crate::metrics::{LinkChange, TelegramMetrics, UpdateOutcome};
use crate::settings::Settings;
use crate::update_store::UpdateStore;
use crate::user_api::{LinkedUser, UserApi};
use crate::{Error, engine};
use primitives::clock::Clock;
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::auth::revocation::TokenRevocations;
use server_kit::database::Database;

/// Codes that one account may send within [`ATTEMPTS_TIME`].
const MAX_ATTEMPTS: i64 = 5;
/// Time after which wrong codes are forgotten.
pub(crate) const ATTEMPTS_TIME: Duration = Duration::from_secs(3600);
/// Updates that may wait: more are left with the Bot API, which keeps them for a day.
pub(crate) const MAX_WAITING: i64 = 2000;

/// What the service is made of.
pub struct TelegramServiceParts {
    /// Its settings.
    pub settings: Settings,
    /// Database of links and updates.
    pub database: Database,
    /// Client for the Bot API; it follows no redirects.
    pub client: reqwest::Client,
    /// The API of this server.
    pub users: Arc<dyn UserApi>,
    /// Logouts, which end links.
    pub revocations: Option<Arc<TokenRevocations>>,
    /// Tasks among which the bot runs.
    pub tasks: BackgroundTasks,
    /// Clock.
    pub clock: Clock,
}

/// Service of the bot. Clones share it.
#[derive(Clone)]
pub struct TelegramService(pub(crate) Arc<ServiceState>);

/// State of the service.
pub(crate) struct ServiceState {
    pub settings: Settings,
    pub updates: UpdateStore,
    pub links: LinkStore,
    pub sender: BotSender,
    pub users: Arc<dyn UserApi>,
    pub tasks: BackgroundTasks,
    pub metrics: TelegramMetrics,
    /// Id of this process among the nodes.
    pub node: Uuid,
    /// Told when there may be an update to do.
    pub changed: Notify,
    revocations: Option<Arc<TokenRevocations>>,
    clock: Clock,
}

/// Code that was made for a user.
pub struct NewCode {
    /// The code.
    pub code: LinkCode,
    /// Time until which it links.
    pub until: UnixMillis,
    /// Name of the bot, where it is known.
    pub bot: Option<String>,
}

/// Whose account a Telegram account is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccountState {
    /// A user's.
    Linked(LinkedUser),
    /// Nobody's.
    NotLinked,
    /// That of a user who has logged out since.
    SignedOut,
}

/// Outcome of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkOutcome {
    /// The account is linked.
    Linked,
    /// The code is none.
    BadCode,
    /// Too many codes were sent.
    TooMany,
}

impl TelegramService {
    /// Creates the service, and begins to do what users ask for.
    pub fn start(parts: TelegramServiceParts, registry: &Registry) -> Result<Self, prometheus::Error> {
        let this = Self::idle(parts, registry)?;
        this.0.tasks.spawn(engine::run(this.clone()));
        Ok(this)
    }

    /// Creates the service; nobody asks for updates.
    pub(crate) fn idle(parts: TelegramServiceParts, registry: &Registry) -> Result<Self, prometheus::Error> {
        let TelegramServiceParts { settings, database, client, users, revocations, tasks, clock } = parts;
        let database = Arc::new(BotDatabase::new(database));
        let metrics = TelegramMetrics::register(registry)?;
        let api = BotApi::new(client, &settings);
        Ok(Self(Arc::new(ServiceState {
            settings,
            updates: UpdateStore(Arc::clone(&database)),
            links: LinkStore(database),
            sender: BotSender::new(api, metrics.clone(), tasks.clone()),
            users,
            tasks,
            metrics,
            node: Uuid::new_v4(),
            changed: Notify::new(),
            revocations,
            clock,
        })))
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.0.clock.unix_millis()
    }

    /// Makes a code by which `user` links a Telegram account.
    pub(crate) async fn new_code(&self, user: LinkedUser) -> Result<NewCode, Error> {
        let generation = match &self.0.revocations {
            // A link that was made without it would outlive a logout.
            Some(revocations) => Some(revocations.last_known(user.id.as_str()).await.ok_or(Error::Unavailable)?),
            None => None,
        };
        let code = LinkCode::new(rand::random());
        let until = self.now() + self.0.settings.code_ttl;
        self.0.links.save_code(&AccountLink { user, generation }, &code.hash(), until).await?;
        Ok(NewCode { code, until, bot: self.0.updates.username().await? })
    }

    /// Ends the link of a user; fails where there is none.
    pub(crate) async fn unlink_user(&self, user: &UserId) -> Result<(), Error> {
        if !self.0.links.unlink_user(user).await? {
            return Err(Error::NotLinked);
        }
        self.0.metrics.count_link(LinkChange::Unlinked);
        Ok(())
    }

    /// Links a Telegram account by a code.
    pub(crate) async fn link(&self, telegram: i64, code: &str) -> Result<LinkOutcome, Error> {
        let now = self.now();
        let cutoff =
            UnixMillis::new(now.as_millis().saturating_sub(primitives::unix_time::whole_millis(ATTEMPTS_TIME)));
        if self.0.links.count_attempt(telegram, cutoff, now).await? > MAX_ATTEMPTS {
            return Ok(LinkOutcome::TooMany);
        }
        let linked = match LinkCode::parse(code) {
            Some(code) => self.0.links.link(telegram, &code.hash(), now).await?.is_some(),
            None => false,
        };
        self.0.metrics.count_link(if linked { LinkChange::Linked } else { LinkChange::BadCode });
        Ok(if linked { LinkOutcome::Linked } else { LinkOutcome::BadCode })
    }

    /// Ends the link of a Telegram account; returns false where there was none.
    pub(crate) async fn unlink(&self, telegram: i64) -> Result<bool, Error> {
        let ended = self.0.links.unlink(telegram).await?;
        if ended {
            self.0.metrics.count_link(LinkChange::Unlinked);
        }
        Ok(ended)
    }

    /// Returns whose account a Telegram account is, now.
    pub(crate) async fn account(&self, telegram: i64) -> Result<AccountState, Error> {
        let Some(link) = self.0.links.find(telegram).await? else { return Ok(AccountState::NotLinked) };
        let Some(revocations) = &self.0.revocations else { return Ok(AccountState::Linked(link.user)) };
        let now = revocations.current(link.user.id.as_str()).await.ok_or(Error::Unavailable)?;
        // One without a generation is from before there were logouts, and none could end it.
        if link.generation.is_some_and(|began| began >= now) {
            return Ok(AccountState::Linked(link.user));
        }
        self.0.links.unlink(telegram).await?;
        self.0.metrics.count_link(LinkChange::SignedOut);
        Ok(AccountState::SignedOut)
    }

    /// Keeps updates, so that they are done once; `next` is where this node asks on.
    pub(crate) async fn receive(&self, updates: Vec<Value>, next: Option<i64>) -> Result<(), Error> {
        let updates: Vec<IncomingUpdate> = updates.into_iter().filter_map(IncomingUpdate::read).collect();
        let offset = next.map(|next| (next, self.0.node));
        let counts = self.0.updates.receive(&updates, offset, self.now()).await?;
        (0..counts.ignored).for_each(|_| self.0.metrics.count_update(UpdateOutcome::Ignored));
        (0..counts.repeated).for_each(|_| self.0.metrics.count_update(UpdateOutcome::Repeated));
        if counts.new > 0 {
            self.0.changed.notify_one();
        }
        Ok(())
    }

    /// Keeps an update that the Bot API has sent; fails where too many wait, so that it is sent again.
    pub(crate) async fn receive_pushed(&self, update: Value) -> Result<(), Error> {
        if self.0.updates.waiting().await? >= MAX_WAITING {
            return Err(Error::Unavailable);
        }
        self.receive(vec![update], None).await
    }
}
