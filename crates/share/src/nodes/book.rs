//! What Redis knows of the sessions of all nodes, under the document's keys. Each script has one key, so that a cluster can
//! do it.
//!
//! | key | what | life |
//! |---|---|---|
//! | `session:{id}` | hash: the document's fields, and ours beside them (`beat.lua`) | `Timeout` after the host; its end 5 minutes |
//! | `session:{id}:metadata` | hash: the document's fields, and `json`, all but the cover as it is shown | 30 s |
//! | `session:{id}:audio` | stream of the document, only with `Compatibility` | 10 s |
//! | `share:sessions` | sorted set of live sessions, for `MaxSessions` | 30 s |
//! | `share:ticket-keys` | what tickets are signed with | 7 days after the last node |

use std::time::Duration;

use fred::error::Error;
use fred::interfaces::{HashesInterface, KeysInterface, SortedSetsInterface};

use super::wire::NodeId;
use crate::event::Reason;
use crate::id::SessionId;
use crate::incarnation::Incarnation;
use crate::metadata;
use crate::tickets::KEYS;
use primitives::secret::Secret;
use server_kit::redis::Redis;
use server_kit::redis::keys::RedisKey;

/// For an answer that a request waits for.
pub const BUDGET: Duration = Duration::from_millis(300);
/// For what no request waits for.
pub const LEISURE: Duration = Duration::from_millis(500);
/// How long what a node says of itself is true, in milliseconds: so soon a node that was killed is forgotten.
pub const LEASE: i64 = 3_000;
/// How long the end of a session is told, in milliseconds.
const ENDED_LIFE: i64 = 300_000;
/// How long a session counts for `MaxSessions` after a node has named it, in milliseconds.
const COUNTED: i64 = 30_000;
const CLAIM: &str = include_str!("claim.lua");
const BEAT: &str = include_str!("beat.lua");
const FINISH: &str = include_str!("finish.lua");
const CENSUS: &str = include_str!("census.lua");
const TICKET_KEYS: &str = include_str!("ticket_keys.lua");
/// How long the keys of tickets are kept after a node was there, in milliseconds: longer than a ticket.
const KEY_LIFE: i64 = 7 * 86_400_000;

/// The book.
pub struct Book {
    redis: Redis,
    node: NodeId,
    timeout: i64,
}

/// Which start of a session is meant, and when that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which session of its id.
    pub incarnation: Incarnation,
    /// When it began, in milliseconds since the Unix epoch.
    pub at: i64,
}

/// The socket over which a host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSocket {
    /// Higher than that of any socket of the session that was known where it was opened.
    pub number: u64,
    /// When it was opened, in milliseconds since the Unix epoch.
    pub opened: i64,
}

/// What a node says of its session.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The session.
    pub id: SessionId,
    /// Which of its id.
    pub start: Start,
    /// Whether somebody there needs audio.
    pub needs: bool,
    /// Whether the last of what came before is needed too.
    pub backlog: bool,
    /// Whether the host is heard there.
    pub hears: bool,
    /// The host's socket, if it is there.
    pub hosting: Option<HostSocket>,
    /// Whether the host was last heard over a socket.
    pub socket: bool,
    /// How long ago the host was heard there, in milliseconds.
    pub age: Option<i64>,
    /// How long ago it was heard at any node, as far as is known.
    pub silent: i64,
    /// Who listens there.
    pub listeners: usize,
    /// Bytes of audio that the host has sent there.
    pub bytes: u64,
    /// Why it has ended, if it has.
    pub ended: Option<Reason>,
}

/// What Redis says of a session.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing.
    Gone,
    /// It is another of the same id.
    Other,
    /// It has ended.
    Ended {
        /// Which of its id.
        start: Start,
        /// Why.
        reason: Reason,
        /// How long ago, in milliseconds.
        age: i64,
    },
    /// It is live.
    Live(Standing),
}

/// How a live session is.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Which of its id.
    pub start: Start,
    /// How long ago its host was heard of, in milliseconds.
    pub age: i64,
    /// The node that answers for it.
    pub home: Option<NodeId>,
    /// Whether the host was last heard over a socket.
    pub socket: bool,
    /// Bytes of audio that the host has sent to other nodes.
    pub bytes: u64,
    /// The highest number that a socket of its host had.
    pub highest: u64,
    /// The node that has the host's socket.
    pub holder: Option<NodeId>,
    /// The other nodes that have it.
    pub nodes: Vec<Node>,
}

/// What another node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node.
    pub id: NodeId,
    /// Who listens there.
    pub listeners: usize,
    /// Whether somebody there needs audio.
    pub needs: bool,
    /// Whether the host's socket is there.
    pub connected: bool,
}

/// How an end was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has ended by this.
    Done,
    /// It had ended before, or is another.
    Before,
    /// It lives on at other nodes.
    Live,
}

/// The song of a session that was not heard here.
pub struct Song {
    /// All but the cover.
    pub json: String,
    /// The cover.
    pub picture: Option<String>,
    /// How long it is shown, in milliseconds.
    pub life: i64,
}

impl Book {
    /// The book in `redis`, for `node`; sessions live for `timeout` milliseconds without their host.
    pub fn new(redis: Redis, node: NodeId, timeout: i64) -> Self {
        Self { redis, node, timeout }
    }

    /// The key of a session.
    fn key(&self, id: SessionId) -> String {
        self.redis.key(RedisKey::Session { id: &id.to_string() })
    }

    /// The key of what a session plays.
    pub fn metadata_key(&self, id: SessionId) -> String {
        self.redis.key(RedisKey::SessionMetadata { id: &id.to_string() })
    }

    /// The key of a session's audio.
    pub fn audio_key(&self, id: SessionId) -> String {
        self.redis.key(RedisKey::SessionAudio { id: &id.to_string() })
    }

    /// Counts a new session; false where there are `most` already.
    pub async fn admit(&self, id: SessionId, most: usize) -> Result<bool, Error> {
        let counted = self.census(most.to_string(), vec![id.to_string()], BUDGET).await?;
        Ok(counted == 1)
    }

    /// Counts live sessions on.
    pub async fn renew(&self, ids: impl Iterator<Item = SessionId>) -> Result<(), Error> {
        self.census(String::new(), ids.map(|id| id.to_string()).collect(), LEISURE).await.map(|_| ())
    }

    async fn census(&self, most: String, ids: Vec<String>, budget: Duration) -> Result<i64, Error> {
        let arguments = [most, COUNTED.to_string()].into_iter().chain(ids).collect();
        self.redis.script(budget, CENSUS, vec![self.sessions()], arguments).await
    }

    fn sessions(&self) -> String {
        self.redis.key(RedisKey::Sessions)
    }

    /// What all nodes make the keys of tickets from, `offered` among them.
    pub async fn ticket_keys(&self, offered: &[Secret]) -> Result<String, Error> {
        let offered = offered.iter().map(|seed| seed.expose().to_owned());
        let arguments = [KEY_LIFE.to_string(), KEYS.to_string()].into_iter().chain(offered).collect();
        self.redis.script(BUDGET, TICKET_KEYS, vec![self.redis.key(RedisKey::TicketKeys)], arguments).await
    }

    /// Begins a session; false while one of its id is live.
    pub async fn claim(&self, id: SessionId, start: Start) -> Result<bool, Error> {
        let arguments = vec![
            self.node.to_string(),
            start.incarnation.to_string(),
            start.at.to_string(),
            self.timeout.to_string(),
            LEASE.to_string(),
        ];
        let claimed: i64 = self.redis.script(BUDGET, CLAIM, vec![self.key(id)], arguments).await?;
        Ok(claimed == 1)
    }

    /// How a session is.
    pub async fn look(&self, id: SessionId) -> Result<Found, Error> {
        let nothing = std::iter::repeat_n(String::new(), 12);
        self.ask(BUDGET, id, std::iter::once(self.node.to_string()).chain(nothing).collect()).await
    }

    /// Says how a session is here, and asks how it is elsewhere.
    pub async fn beat(&self, report: &Report) -> Result<Found, Error> {
        let flag = |on: bool, mark: &'static str| if on { mark } else { "" };
        let connected = report.hosting.is_some();
        let flags = [flag(report.needs, "a"), flag(report.hears, "h"), flag(connected, "w")].concat();
        let arguments = vec![
            self.node.to_string(),
            report.start.incarnation.to_string(),
            report.start.at.to_string(),
            flags,
            report.listeners.to_string(),
            report.bytes.to_string(),
            report.age.map(|age| age.to_string()).unwrap_or_default(),
            u8::from(report.socket).to_string(),
            report.silent.to_string(),
            report.hosting.map(|socket| socket.number.to_string()).unwrap_or_default(),
            report.hosting.map(|socket| socket.opened.to_string()).unwrap_or_default(),
            self.timeout.to_string(),
            LEASE.to_string(),
        ];
        self.ask(LEISURE, report.id, arguments).await
    }

    async fn ask(&self, budget: Duration, id: SessionId, arguments: Vec<String>) -> Result<Found, Error> {
        let said: Vec<String> = self.redis.script(budget, BEAT, vec![self.key(id)], arguments).await?;
        // What cannot be read was written by another program.
        Ok(found(self.node, &said).unwrap_or(Found::Gone))
    }

    /// Says that a session has ended, with what was kept of it.
    pub async fn finish(&self, report: &Report, reason: Reason) -> Result<End, Error> {
        let arguments = vec![
            self.node.to_string(),
            report.start.incarnation.to_string(),
            report.start.at.to_string(),
            reason.name().to_owned(),
            report.bytes.to_string(),
            self.timeout.to_string(),
            ENDED_LIFE.to_string(),
        ];
        let said: String = self.redis.script(BUDGET, FINISH, vec![self.key(report.id)], arguments).await?;
        let end = match said.as_str() {
            "done" => End::Done,
            "live" => End::Live,
            _ => End::Before,
        };
        if end == End::Done {
            let client = self.redis.client_with_timeout(LEISURE);
            let rest = async {
                client.del::<(), _>(self.metadata_key(report.id)).await?;
                client.del::<(), _>(self.audio_key(report.id)).await?;
                client.zrem::<(), _, _>(self.sessions(), report.id.to_string()).await
            };
            // What is left expires soon.
            let _ = self.redis.run_with_timeout(LEISURE, rest).await;
        }
        Ok(end)
    }

    /// Takes back a claim.
    pub async fn forget(&self, id: SessionId) -> Result<(), Error> {
        let client = self.redis.client_with_timeout(BUDGET);
        self.redis.run_with_timeout(BUDGET, client.del::<(), _>(self.key(id))).await
    }

    /// Says that this node has a session no more.
    pub async fn leave(&self, id: SessionId) -> Result<(), Error> {
        let client = self.redis.client_with_timeout(LEISURE);
        self.redis.run_with_timeout(LEISURE, client.hdel::<(), _, _>(self.key(id), format!("node:{}", self.node))).await
    }

    /// What a session plays.
    pub async fn song(&self, id: SessionId) -> Result<Option<Song>, Error> {
        let (key, client) = (self.metadata_key(id), self.redis.client_with_timeout(BUDGET));
        let read = async {
            let (held, life): ((Option<String>, Option<String>), i64) =
                futures::try_join!(client.hmget(key.clone(), vec!["json", "thumbnailData"]), client.pttl(key.clone()))?;
            Ok((held, life))
        };
        let ((json, picture), life) = self.redis.run_with_timeout(BUDGET, read).await?;
        let picture = picture.filter(|picture| !picture.is_empty());
        Ok(json.map(|json| Song { json, picture, life: life.clamp(0, metadata::LIFE) }))
    }
}

/// Reads the answer of `beat.lua`.
fn found(me: NodeId, said: &[String]) -> Option<Found> {
    let number = |at: usize| said.get(at)?.parse::<i64>().ok();
    let start = || Some(Start { incarnation: Incarnation::parse(said.get(1)?)?, at: number(2)? });
    match said.first()?.as_str() {
        "gone" => Some(Found::Gone),
        "other" => Some(Found::Other),
        "ended" => {
            let reason = Reason::named(said.get(3)?).unwrap_or(Reason::Stopped);
            Some(Found::Ended { start: start()?, reason, age: number(4)?.max(0) })
        }
        "live" => {
            let nodes = said.get(9..)?.as_chunks::<3>().0.iter().filter_map(|[id, listeners, flags]| {
                let (id, listeners) = (NodeId::parse(id)?, listeners.parse().ok()?);
                Some(Node { id, listeners, needs: flags.contains('a'), connected: flags.contains('w') })
            });
            Some(Found::Live(Standing {
                start: start()?,
                age: number(3)?.max(0),
                home: NodeId::parse(said.get(4)?),
                socket: said.get(5)? == "1",
                bytes: u64::try_from(number(6)?).unwrap_or(0),
                highest: u64::try_from(number(7)?).unwrap_or(0),
                holder: NodeId::parse(said.get(8)?),
                nodes: nodes.filter(|node| node.id != me).collect(),
            }))
        }
        _ => None,
    }
}
