//! Names of all keys in Redis; they are built here only.
//!
//! A key is the word of its kind, then the parts that distinguish it from others of the kind, separated by colons, as
//! in the documents (`player:{userId}:{trackId}`, `stream:{userId}:{trackId}`, `session:{sessionId}`). Parts come from
//! users: `%`, `:`, `{` and `}` in them are written as `%25`, `%3A`, `%7B` and `%7D`. So a part can end neither itself
//! nor the braces by which a cluster chooses the node of a key, and since each word has a fixed number of parts, no two
//! keys are equal.

use std::fmt::{Display, Formatter, Result};

/// Key of one kind, without the operator's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisKey<'a> {
    /// A user's position in an item; of other kinds than audio with the kind behind the word.
    Position {
        /// The user's id.
        user: &'a str,
        /// The kind of the item; `None`: audio.
        kind: Option<&'a str>,
        /// The item's id.
        item: &'a str,
    },
    /// Items in which a user has a position.
    PositionIndex {
        /// The user's id.
        user: &'a str,
    },
    /// The streaming URL that a user was given for a track.
    StreamUrl {
        /// The user's id.
        user: &'a str,
        /// The track's id.
        track: &'a str,
    },
    /// The generation of a user's streaming URLs. Not `stream:gen:…`: that is the URL of a user with the name `gen`.
    StreamGeneration {
        /// The user's id.
        user: &'a str,
    },
    /// A copy of the generation that the database has, for the time without it.
    StreamGenerationCopy {
        /// The user's id.
        user: &'a str,
    },
    /// The requests that a subject has made under a policy.
    LimitRequests {
        /// The policy's name.
        policy: &'a str,
        /// The subject.
        subject: &'a str,
        /// Form of the counts, by the policy's rule, in letters, digits and hyphens: each form has a key of its own.
        rule: &'a str,
    },
    /// The streams that a subject has under a policy; in a cluster on the node of its requests.
    LimitStreams {
        /// The policy's name.
        policy: &'a str,
        /// The subject.
        subject: &'a str,
    },
    /// The bytes that a subject was sent in a period.
    Egress {
        /// The policy's name.
        policy: &'a str,
        /// The subject.
        subject: &'a str,
        /// The period's number.
        period: u64,
    },
    /// A sharing session.
    Session {
        /// The session's id.
        id: &'a str,
    },
    /// Metadata of a sharing session.
    SessionMetadata {
        /// The session's id.
        id: &'a str,
    },
    /// The audio of a sharing session.
    SessionAudio {
        /// The session's id.
        id: &'a str,
    },
    /// The live sharing sessions.
    Sessions,
    /// Seeds of the keys that sign tickets to sharing sessions.
    TicketKeys,
    /// The channel on which nodes speak of a sharing session.
    SessionChannel {
        /// The session's id.
        id: &'a str,
    },
    /// A session of a film's viewer.
    FilmSession {
        /// The session's id.
        id: &'a str,
    },
    /// The sessions of a user who watches films.
    FilmSessionsOfUser {
        /// The user's id.
        user: &'a str,
    },
    /// The latest session of a user for a film.
    LatestFilmSession {
        /// The user's id.
        user: &'a str,
        /// The film's id.
        movie: &'a str,
    },
    /// The views of films that have not ended, by the time of the next look at them.
    FilmViews,
    /// The last answer about a user's subscription.
    Subscription {
        /// The user's id.
        user: &'a str,
    },
    /// Positions of a user in films that may not be in the database yet.
    FilmPositions {
        /// The shard, by which a cluster chooses the node.
        shard: u16,
        /// The user's id.
        user: &'a str,
    },
    /// Positions of a shard that are not in the database yet, by the time at which they should be.
    DirtyPositions {
        /// The shard.
        shard: u16,
    },
    /// Bytes of the positions of a shard that are not in the database yet.
    DirtyPositionBytes {
        /// The shard.
        shard: u16,
    },
    /// The node that writes the positions of a shard to the database.
    PositionFlusher {
        /// The shard.
        shard: u16,
    },
    /// The live player of a user's channel.
    Player {
        /// The user's id.
        user: &'a str,
        /// The channel's id.
        channel: &'a str,
    },
    /// The live players, by the time at which they are closed.
    PlayerDeadlines,
    /// The channel on which nodes speak of players.
    PlayerEvents,
    /// A part of the queue of a channel; all of them are in a cluster on the node of the channel.
    Queue {
        /// The channel's id.
        channel: &'a str,
        /// The part.
        part: QueueKeyPart,
    },
}

/// Part of the queue of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKeyPart {
    /// Items that wait, by their turn.
    Order,
    /// Records of items.
    Items,
    /// Who plays items.
    Claims,
    /// Items by their tracks.
    Tracks,
    /// Numbers of items and bytes.
    Use,
    /// How often an item's player has vanished.
    Lapsed,
    /// The playlist.
    Playlist,
    /// The node that plays the channel.
    Player,
    /// What it plays.
    Station,
    /// What was played.
    History,
    /// The channel of Redis on which nodes say that the queue was changed.
    Events,
}

impl QueueKeyPart {
    /// Parts of the queue itself, in the order in which scripts take their keys.
    pub const ALL: [Self; 7] =
        [Self::Order, Self::Items, Self::Claims, Self::Tracks, Self::Use, Self::Lapsed, Self::Playlist];

    fn suffix(self) -> &'static str {
        match self {
            Self::Order => "",
            Self::Items => ":items",
            Self::Claims => ":claims",
            Self::Tracks => ":tracks",
            Self::Use => ":use",
            Self::Lapsed => ":lapsed",
            Self::Playlist => ":playlist",
            Self::Player => ":player",
            Self::Station => ":station",
            Self::History => ":history",
            Self::Events => ":events",
        }
    }
}

impl Display for RedisKey<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match *self {
            Self::Position { user, kind: None, item } => {
                write!(f, "player:{}:{}", EscapedKeyPart(user), EscapedKeyPart(item))
            }
            Self::Position { user, kind: Some(kind), item } => {
                write!(f, "player.{}:{}:{}", EscapedKeyPart(kind), EscapedKeyPart(user), EscapedKeyPart(item))
            }
            Self::PositionIndex { user } => write!(f, "player.items:{}", EscapedKeyPart(user)),
            Self::StreamUrl { user, track } => write!(f, "stream:{}:{}", EscapedKeyPart(user), EscapedKeyPart(track)),
            Self::StreamGeneration { user } => write!(f, "stream.gen:{}", EscapedKeyPart(user)),
            Self::StreamGenerationCopy { user } => write!(f, "stream.gen-copy:{}", EscapedKeyPart(user)),
            Self::LimitRequests { policy, subject, rule } => {
                write!(f, "limit:{{{}:{}}}:requests:{rule}", EscapedKeyPart(policy), EscapedKeyPart(subject))
            }
            Self::LimitStreams { policy, subject } => {
                write!(f, "limit:{{{}:{}}}:streams", EscapedKeyPart(policy), EscapedKeyPart(subject))
            }
            Self::Egress { policy, subject, period } => {
                write!(f, "egress:{}:{}:{period}", EscapedKeyPart(policy), EscapedKeyPart(subject))
            }
            Self::Session { id } => write!(f, "session:{}", EscapedKeyPart(id)),
            Self::SessionMetadata { id } => write!(f, "session:{}:metadata", EscapedKeyPart(id)),
            Self::SessionAudio { id } => write!(f, "session:{}:audio", EscapedKeyPart(id)),
            Self::Sessions => f.write_str("share:sessions"),
            Self::TicketKeys => f.write_str("share:ticket-keys"),
            Self::SessionChannel { id } => write!(f, "share.channel:{}", EscapedKeyPart(id)),
            Self::FilmSession { id } => write!(f, "vod.session:{}", EscapedKeyPart(id)),
            Self::FilmSessionsOfUser { user } => write!(f, "vod.sessions:{}", EscapedKeyPart(user)),
            Self::LatestFilmSession { user, movie } => {
                write!(f, "vod.latest:{}:{}", EscapedKeyPart(user), EscapedKeyPart(movie))
            }
            Self::FilmViews => f.write_str("vod.views"),
            Self::Subscription { user } => write!(f, "vod.subscription:{}", EscapedKeyPart(user)),
            Self::FilmPositions { shard, user } => write!(f, "player.films:{{{shard}}}:{}", EscapedKeyPart(user)),
            Self::DirtyPositions { shard } => write!(f, "player.dirty:{{{shard}}}"),
            Self::DirtyPositionBytes { shard } => write!(f, "player.dirty-bytes:{{{shard}}}"),
            Self::PositionFlusher { shard } => write!(f, "player.flusher:{{{shard}}}"),
            Self::Player { user, channel } => {
                write!(f, "playback.player:{}:{}", EscapedKeyPart(user), EscapedKeyPart(channel))
            }
            Self::PlayerDeadlines => f.write_str("playback.deadlines"),
            Self::PlayerEvents => f.write_str("playback.events"),
            Self::Queue { channel, part } => write!(f, "queue:{{{}}}{}", EscapedKeyPart(channel), part.suffix()),
        }
    }
}

/// Part of a key, escaped.
struct EscapedKeyPart<'a>(&'a str);

impl Display for EscapedKeyPart<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut plain = self.0;
        while let Some(at) = plain.find(['%', ':', '{', '}']) {
            f.write_str(&plain[..at])?;
            let (special, rest) = plain[at..].split_at(1);
            special.bytes().try_for_each(|byte| write!(f, "%{byte:02X}"))?;
            plain = rest;
        }
        f.write_str(plain)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::{prop_assert_eq, prop_assume, proptest};

    use super::*;

    /// Ids as somebody would choose them to reach a key of another kind, of another user, or another node of a cluster.
    const HOSTILE: [&str; 24] = [
        "",
        "a",
        "b",
        "a:b",
        ":",
        "::",
        "a:",
        ":a",
        "%",
        "%3A",
        "a%3Ab",
        "%25",
        "{",
        "}",
        "{}",
        "}{",
        "{a}",
        "a}:requests",
        "gen",
        "items",
        "metadata",
        "audio",
        "sessions",
        "requests",
    ];

    /// Every key of two ids.
    fn keys<'a>(one: &'a str, two: &'a str) -> Vec<RedisKey<'a>> {
        let (user, item, policy, subject) = (one, two, one, two);
        let position = |kind| RedisKey::Position { user, kind, item };
        vec![
            position(None),
            position(Some("audiobook")),
            position(Some("podcast")),
            position(Some("film")),
            RedisKey::PositionIndex { user },
            RedisKey::StreamUrl { user, track: item },
            RedisKey::StreamGeneration { user },
            RedisKey::StreamGenerationCopy { user },
            RedisKey::LimitRequests { policy, subject, rule: "window-60000-6" },
            RedisKey::LimitRequests { policy, subject, rule: "bucket-1-1000" },
            RedisKey::LimitStreams { policy, subject },
            RedisKey::Egress { policy, subject, period: 0 },
            RedisKey::Egress { policy, subject, period: 1 },
            RedisKey::Session { id: one },
            RedisKey::SessionMetadata { id: one },
            RedisKey::SessionAudio { id: one },
            RedisKey::Sessions,
            RedisKey::TicketKeys,
            RedisKey::SessionChannel { id: one },
            RedisKey::FilmSession { id: one },
            RedisKey::FilmSessionsOfUser { user },
            RedisKey::LatestFilmSession { user, movie: item },
            RedisKey::FilmViews,
            RedisKey::Subscription { user },
            RedisKey::FilmPositions { shard: 7, user },
            RedisKey::DirtyPositions { shard: 7 },
            RedisKey::DirtyPositionBytes { shard: 7 },
            RedisKey::PositionFlusher { shard: 7 },
            RedisKey::Player { user, channel: item },
            RedisKey::PlayerDeadlines,
            RedisKey::PlayerEvents,
            RedisKey::Queue { channel: one, part: QueueKeyPart::Order },
            RedisKey::Queue { channel: one, part: QueueKeyPart::Claims },
            RedisKey::Queue { channel: one, part: QueueKeyPart::Items },
            RedisKey::Queue { channel: one, part: QueueKeyPart::Lapsed },
            RedisKey::Queue { channel: one, part: QueueKeyPart::Playlist },
            RedisKey::Queue { channel: one, part: QueueKeyPart::Tracks },
            RedisKey::Queue { channel: one, part: QueueKeyPart::Use },
            RedisKey::Queue { channel: one, part: QueueKeyPart::Player },
            RedisKey::Queue { channel: one, part: QueueKeyPart::Station },
            RedisKey::Queue { channel: one, part: QueueKeyPart::History },
        ]
    }

    /// Returns the part of a key by which a cluster chooses its slot (Redis, cluster specification: hash tags).
    fn hashed(key: &str) -> &str {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
    }

    #[test]
    fn no_key_spells_another() {
        let mut seen = HashMap::new();
        for one in HOSTILE {
            for two in HOSTILE {
                for key in keys(one, two) {
                    let before = seen.insert(key.to_string(), key);
                    assert!(before.is_none_or(|before| before == key), "{key:?} and {before:?} are both `{key}`");
                }
            }
        }
    }

    #[test]
    fn the_two_counts_of_a_subject_are_on_one_node_of_a_cluster_and_other_keys_where_they_fall() {
        for prefix in ["", "tide:", "{tide}", "a}b"] {
            for (policy, subject) in HOSTILE.iter().flat_map(|one| HOSTILE.map(|two| (*one, two))) {
                let named = |key: RedisKey<'_>| format!("{prefix}{key}");
                let requests = named(RedisKey::LimitRequests { policy, subject, rule: "window-60000-6" });
                let streams = named(RedisKey::LimitStreams { policy, subject });
                assert_eq!(hashed(&requests), hashed(&streams));
                let queue = |part| hashed(&named(RedisKey::Queue { channel: policy, part })).to_owned();
                if !policy.is_empty() && !prefix.contains('{') {
                    assert!(QueueKeyPart::ALL.map(queue).iter().all(|tag| *tag == queue(QueueKeyPart::Order)));
                }
                if prefix.contains('{') {
                    continue;
                }
                let is_tagged = |key: &String| ["limit:", "queue:", ":{7}"].iter().any(|tagged| key.contains(tagged));
                for key in keys(policy, subject).into_iter().map(named).filter(|key| !is_tagged(key)) {
                    assert_eq!(hashed(&key), key, "an id chooses the node");
                }
            }
        }
    }

    #[test]
    fn keys_are_those_of_the_documents() {
        for (key, name) in [
            (RedisKey::Position { user: "u1", kind: None, item: "t1" }, "player:u1:t1"),
            (RedisKey::Position { user: "a:b", kind: Some("film"), item: "ü 1" }, "player.film:a%3Ab:ü 1"),
            (RedisKey::PositionIndex { user: "50%" }, "player.items:50%25"),
            (RedisKey::StreamUrl { user: "u1", track: "t1" }, "stream:u1:t1"),
            (RedisKey::StreamGeneration { user: "u1" }, "stream.gen:u1"),
            (RedisKey::StreamGenerationCopy { user: "u1" }, "stream.gen-copy:u1"),
            (
                RedisKey::LimitRequests { policy: "p", subject: "u:{alice}", rule: "window-60000-6" },
                "limit:{p:u%3A%7Balice%7D}:requests:window-60000-6",
            ),
            (RedisKey::Egress { policy: "p", subject: "a:192.0.2.1", period: 7 }, "egress:p:a%3A192.0.2.1:7"),
            (RedisKey::SessionMetadata { id: "123456" }, "session:123456:metadata"),
            (RedisKey::Sessions, "share:sessions"),
            (RedisKey::Queue { channel: "main", part: QueueKeyPart::Order }, "queue:{main}"),
            (RedisKey::Queue { channel: "main", part: QueueKeyPart::Items }, "queue:{main}:items"),
            (RedisKey::FilmPositions { shard: 7, user: "u:1" }, "player.films:{7}:u%3A1"),
        ] {
            assert_eq!(key.to_string(), name);
        }
    }

    proptest! {
        #[test]
        fn keys_of_different_ids_are_different(one in "[a:%{}g]{0,6}", two in "[a:%{}g]{0,6}", other in "[a:%{}g]{0,6}", another in "[a:%{}g]{0,6}") {
            prop_assume!((&one, &two) != (&other, &another));
            for here in keys(&one, &two) {
                for there in keys(&other, &another) {
                    prop_assert_eq!(here.to_string() == there.to_string(), here == there);
                }
            }
        }
    }
}
