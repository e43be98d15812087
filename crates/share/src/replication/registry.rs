//! Registry of the sessions of all nodes in Redis, under the document's keys. Each script has one key, so that a cluster can
//! do it.
//!
//! | key | what | life |
//! |---|---|---|
//! | `session:{id}` | hash: the document's fields, and ours beside them (`heartbeat.lua`) | `Timeout` after the host; its end 5 minutes |
//! | `session:{id}:metadata` | hash: the document's fields, and `json`, all but the cover as it is shown | 30 s |
//! | `session:{id}:audio` | stream of the document, only with `Compatibility` | 10 s |
//! | `share:sessions` | sorted set of live sessions, for `MaxSessions` | 30 s |
//! | `share:ticket-keys` | keys that tickets are signed with | 7 days after the last node |

use std::time::Duration;

use fred::error::Error;
use fred::interfaces::{HashesInterface, KeysInterface, SortedSetsInterface};

use super::message::NodeId;
use super::report::{FinishOutcome, LEASE, RegistryEntry, RegistryLookup, ReplicaReport, ReplicaStatus};
use crate::session::event::EndReason;
use crate::session::id::SessionId;
use crate::session::incarnation::{Incarnation, SessionStart};
use crate::session::metadata;
use crate::tickets::MAX_KEYS;
use primitives::secret::Secret;
use primitives::unix_time::UnixMillis;
use server_kit::redis::Redis;
use server_kit::redis::keys::RedisKey;

/// Highest number that is read from Redis, of times and bytes; its scripts count in doubles, which are whole up to it.
const MAX_NUMBER: i64 = 1 << 53;
/// Listeners that another node may have, and nodes that a session may have.
const MAX_REPLICA_LISTENERS: usize = 10_000_000;
const MAX_REPLICAS: usize = 1_024;
/// Time for an answer that a request waits for.
pub const REQUEST_BUDGET: Duration = Duration::from_millis(300);
/// Time for an answer that no request waits for.
pub const BACKGROUND_BUDGET: Duration = Duration::from_millis(500);
/// Time for which the end of a session is kept.
const ENDED_LIFE: Duration = Duration::from_secs(300);
/// Time for which a session counts for `MaxSessions` after a node has named it.
const COUNTED_TIME: Duration = Duration::from_secs(30);
const CLAIM_SCRIPT: &str = include_str!("claim.lua");
const HEARTBEAT_SCRIPT: &str = include_str!("heartbeat.lua");
const FINISH_SCRIPT: &str = include_str!("finish.lua");
const COUNT_SCRIPT: &str = include_str!("count_sessions.lua");
const TICKET_KEYS_SCRIPT: &str = include_str!("ticket_keys.lua");
/// Time for which ticket keys are kept after a node was there: longer than a ticket.
const KEY_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Registry of the sessions of all nodes.
pub struct SessionRegistry {
    redis: Redis,
    node: NodeId,
    timeout: Duration,
}

/// Metadata of a session that was not heard here.
pub struct StoredMetadata {
    /// Metadata without the cover, as JSON.
    pub json: String,
    /// Cover, in Base64.
    pub cover: Option<String>,
    /// Time for which it is still fresh.
    pub fresh_for: Duration,
}

impl SessionRegistry {
    /// Creates the registry in `redis`, for `node`; sessions live for `timeout` without their host.
    pub fn new(redis: Redis, node: NodeId, timeout: Duration) -> Self {
        Self { redis, node, timeout }
    }

    /// Returns the key of a session.
    fn session_key(&self, id: SessionId) -> String {
        self.redis.key(RedisKey::Session { id: &id.to_string() })
    }

    /// Returns the key of a session's metadata.
    pub fn metadata_key(&self, id: SessionId) -> String {
        self.redis.key(RedisKey::SessionMetadata { id: &id.to_string() })
    }

    /// Returns the key of a session's audio.
    pub fn audio_key(&self, id: SessionId) -> String {
        self.redis.key(RedisKey::SessionAudio { id: &id.to_string() })
    }

    /// Counts a new session; returns false where there are `most` already.
    pub async fn admit_session(&self, id: SessionId, most: usize) -> Result<bool, Error> {
        let counted = self.count_sessions(most.to_string(), vec![id.to_string()], REQUEST_BUDGET).await?;
        Ok(counted == 1)
    }

    /// Counts live sessions again, so that they stay counted.
    pub async fn renew_counted(&self, ids: impl Iterator<Item = SessionId>) -> Result<(), Error> {
        self.count_sessions(String::new(), ids.map(|id| id.to_string()).collect(), BACKGROUND_BUDGET).await.map(|_| ())
    }

    async fn count_sessions(&self, most: String, ids: Vec<String>, budget: Duration) -> Result<i64, Error> {
        let arguments = [most, millis_text(COUNTED_TIME)].into_iter().chain(ids).collect();
        self.redis.script(budget, COUNT_SCRIPT, vec![self.sessions_key()], arguments).await
    }

    fn sessions_key(&self) -> String {
        self.redis.key(RedisKey::Sessions)
    }

    /// Adds `offered` to the bytes from which all nodes make ticket keys; returns all of them.
    pub async fn merge_ticket_keys(&self, offered: &[Secret]) -> Result<String, Error> {
        let offered = offered.iter().map(|seed| seed.expose().to_owned());
        let arguments = [millis_text(KEY_LIFE), MAX_KEYS.to_string()].into_iter().chain(offered).collect();
        self.redis
            .script(REQUEST_BUDGET, TICKET_KEYS_SCRIPT, vec![self.redis.key(RedisKey::TicketKeys)], arguments)
            .await
    }

    /// Claims an id for a session; returns false while another of the id is live.
    pub async fn claim(&self, id: SessionId, start: SessionStart) -> Result<bool, Error> {
        let arguments = vec![
            self.node.to_string(),
            start.incarnation.to_string(),
            start.at.to_string(),
            millis_text(self.timeout),
            millis_text(LEASE),
        ];
        let claimed: i64 =
            self.redis.script(REQUEST_BUDGET, CLAIM_SCRIPT, vec![self.session_key(id)], arguments).await?;
        Ok(claimed == 1)
    }

    /// Returns how a session is, without a report of this node.
    pub async fn look_up(&self, id: SessionId) -> Result<RegistryLookup, Error> {
        // Empty arguments: the script only looks, and writes nothing.
        let nothing = std::iter::repeat_n(String::new(), 12);
        self.run_heartbeat(REQUEST_BUDGET, id, std::iter::once(self.node.to_string()).chain(nothing).collect()).await
    }

    /// Reports how a session is here; returns how it is elsewhere.
    pub async fn send_heartbeat(&self, report: &ReplicaReport) -> Result<RegistryLookup, Error> {
        let flag = |on: bool, mark: &'static str| if on { mark } else { "" };
        let connected = report.host_socket.is_some();
        let flags = [flag(report.needs_audio, "a"), flag(report.hears_host, "h"), flag(connected, "w")].concat();
        let arguments = vec![
            self.node.to_string(),
            report.start.incarnation.to_string(),
            report.start.at.to_string(),
            flags,
            report.listeners.to_string(),
            report.bytes.to_string(),
            report.heard_here_ago.map(millis_text).unwrap_or_default(),
            u8::from(report.heard_over_socket).to_string(),
            millis_text(report.heard_ago),
            report.host_socket.map(|socket| socket.number.to_string()).unwrap_or_default(),
            report.host_socket.map(|socket| socket.opened_at.to_string()).unwrap_or_default(),
            millis_text(self.timeout),
            millis_text(LEASE),
        ];
        self.run_heartbeat(BACKGROUND_BUDGET, report.id, arguments).await
    }

    async fn run_heartbeat(
        &self,
        budget: Duration,
        id: SessionId,
        arguments: Vec<String>,
    ) -> Result<RegistryLookup, Error> {
        let said: Vec<String> =
            self.redis.script(budget, HEARTBEAT_SCRIPT, vec![self.session_key(id)], arguments).await?;
        // What cannot be read was written by another program.
        Ok(parse_lookup(self.node, &said).unwrap_or(RegistryLookup::Absent))
    }

    /// Reports that a session has ended.
    pub async fn finish(&self, report: &ReplicaReport, reason: EndReason) -> Result<FinishOutcome, Error> {
        let arguments = vec![
            self.node.to_string(),
            report.start.incarnation.to_string(),
            report.start.at.to_string(),
            reason.name().to_owned(),
            report.bytes.to_string(),
            millis_text(self.timeout),
            millis_text(ENDED_LIFE),
        ];
        let said: String =
            self.redis.script(REQUEST_BUDGET, FINISH_SCRIPT, vec![self.session_key(report.id)], arguments).await?;
        let end = match said.as_str() {
            "done" => FinishOutcome::Ended,
            "live" => FinishOutcome::StillLive,
            _ => FinishOutcome::AlreadyEnded,
        };
        if end == FinishOutcome::Ended {
            let client = self.redis.client_with_timeout(BACKGROUND_BUDGET);
            let rest = async {
                client.del::<(), _>(self.metadata_key(report.id)).await?;
                client.del::<(), _>(self.audio_key(report.id)).await?;
                client.zrem::<(), _, _>(self.sessions_key(), report.id.to_string()).await
            };
            // What is left expires soon.
            let _ = self.redis.run_with_timeout(BACKGROUND_BUDGET, rest).await;
        }
        Ok(end)
    }

    /// Releases a claim.
    pub async fn release_claim(&self, id: SessionId) -> Result<(), Error> {
        let client = self.redis.client_with_timeout(REQUEST_BUDGET);
        self.redis.run_with_timeout(REQUEST_BUDGET, client.del::<(), _>(self.session_key(id))).await
    }

    /// Reports that this node has a session no more.
    pub async fn remove_replica(&self, id: SessionId) -> Result<(), Error> {
        let client = self.redis.client_with_timeout(BACKGROUND_BUDGET);
        self.redis
            .run_with_timeout(
                BACKGROUND_BUDGET,
                client.hdel::<(), _, _>(self.session_key(id), format!("node:{}", self.node)),
            )
            .await
    }

    /// Returns the metadata of a session.
    pub async fn metadata(&self, id: SessionId) -> Result<Option<StoredMetadata>, Error> {
        let (key, client) = (self.metadata_key(id), self.redis.client_with_timeout(REQUEST_BUDGET));
        let read = async {
            let (held, life): ((Option<String>, Option<String>), i64) =
                futures::try_join!(client.hmget(key.clone(), vec!["json", "thumbnailData"]), client.pttl(key.clone()))?;
            Ok((held, life))
        };
        let ((json, picture), life) = self.redis.run_with_timeout(REQUEST_BUDGET, read).await?;
        let picture = picture.filter(|picture| !picture.is_empty());
        Ok(json.map(|json| StoredMetadata {
            json,
            cover: picture,
            fresh_for: Duration::from_millis(u64::try_from(life).unwrap_or(0)).min(metadata::METADATA_LIFE),
        }))
    }
}

/// Returns a time span as the scripts take it: whole milliseconds.
fn millis_text(span: Duration) -> String {
    span.as_millis().to_string()
}

/// Reads the answer of `heartbeat.lua`.
fn parse_lookup(me: NodeId, said: &[String]) -> Option<RegistryLookup> {
    // What is in Redis may be anybody's: nothing that is computed with it leaves its range.
    let number = |at: usize| Some(said.get(at)?.parse::<i64>().ok()?.clamp(0, MAX_NUMBER));
    let span = |at: usize| Some(Duration::from_millis(number(at)?.unsigned_abs()));
    let start =
        || Some(SessionStart { incarnation: Incarnation::parse(said.get(1)?)?, at: UnixMillis::new(number(2)?) });
    match said.first()?.as_str() {
        "gone" => Some(RegistryLookup::Absent),
        "other" => Some(RegistryLookup::OtherIncarnation),
        "ended" => {
            let reason = EndReason::parse(said.get(3)?).unwrap_or(EndReason::Stopped);
            Some(RegistryLookup::Ended { start: start()?, reason, age: span(4)? })
        }
        "live" => {
            let nodes =
                said.get(9..)?.as_chunks::<3>().0.iter().take(MAX_REPLICAS).filter_map(|[id, listeners, flags]| {
                    let (id, listeners) =
                        (NodeId::parse(id)?, listeners.parse::<usize>().ok()?.min(MAX_REPLICA_LISTENERS));
                    Some(ReplicaStatus {
                        id,
                        listeners,
                        needs_audio: flags.contains('a'),
                        has_host_socket: flags.contains('w'),
                    })
                });
            Some(RegistryLookup::Live(RegistryEntry {
                start: start()?,
                heard_ago: span(3)?,
                home: NodeId::parse(said.get(4)?),
                heard_over_socket: said.get(5)? == "1",
                bytes: u64::try_from(number(6)?).unwrap_or(0),
                highest_socket: u64::try_from(number(7)?).unwrap_or(0),
                socket_holder: NodeId::parse(said.get(8)?),
                // Its own entry would count its listeners twice.
                replicas: nodes.filter(|node| node.id != me).collect(),
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_other_programs_stay_in_their_range() {
        let (most, least) = (i64::MAX.to_string(), i64::MIN.to_string());
        let said =
            |answer: &[&str]| parse_lookup(NodeId::ALL, &answer.iter().map(ToString::to_string).collect::<Vec<_>>());
        let live = ["live", "7", &least, &least, "1", "1", &most, &most, "2", "2", "18446744073709551615", "aw"];
        let Some(RegistryLookup::Live(entry)) = said(&live) else { panic!("it is live") };
        assert_eq!((entry.start.at, entry.heard_ago), (UnixMillis::EPOCH, Duration::ZERO));
        assert_eq!((entry.bytes, entry.highest_socket), (1 << 53, 1 << 53));
        assert_eq!(entry.replicas.iter().map(|replica| replica.listeners).sum::<usize>(), MAX_REPLICA_LISTENERS);
        let Some(RegistryLookup::Ended { start, age, .. }) = said(&["ended", "7", &most, "stopped", &least]) else {
            panic!("it has ended")
        };
        assert_eq!((start.at, age), (UnixMillis::new(MAX_NUMBER), Duration::ZERO));
    }
}
