//! Chat of a session: short lines of listeners and the host, checked and limited, the last of them kept for those who
//! join. Knows neither sockets nor other nodes; a line is sent as it is kept.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::refusal::Refusal;
use crate::token_bucket::TokenBucket;
use primitives::unix_time::UnixMillis;

/// Lines that are kept.
const KEPT_LINES: usize = 50;
/// Characters of a name, and of a line, at most.
const MAX_NAME_CHARS: usize = 40;
const MAX_TEXT_CHARS: usize = 500;
/// Lines of one sender a second, and at once.
const SENDER_RATE: f64 = 1.0;
const SENDER_BURST: f64 = 5.0;
/// Lines of a session a second, and at once.
const SESSION_RATE: f64 = 20.0;
/// Ids of one millisecond: each node has one of them. A time multiplied by that is a whole number in JavaScript until
/// 2109.
const IDS_PER_MILLI: i64 = 2_048;
/// Time by which the clock of another node may be ahead: an id that is further ahead was made up.
const MAX_AHEAD: Duration = Duration::from_secs(3_600);
/// Addresses that are remembered; one that may write as much as anybody is forgotten.
const MAX_ADDRESSES: usize = 10_000;

/// Error in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatLineError {
    /// The JSON is not that of a line.
    #[error("expected JSON with text, and name where the sender has one")]
    Json,
    /// The name is too long.
    #[error("name has at most 40 characters")]
    Name,
    /// The text is empty, or too long.
    #[error("text has 1 to 500 characters")]
    Text,
    /// The name or the text has characters that nobody sees.
    #[error("name and text have no control characters")]
    Control,
}

/// Line that somebody wants to write.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ShareLine, example = json!({"name": "Ann", "text": "hi"}))]
pub struct ChatPost {
    /// Name of the writer, at most 40 characters; not checked.
    #[serde(default)]
    name: String,
    /// Text, 1 to 500 characters.
    text: String,
}

/// Line of the chat.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "chat")]
pub struct ChatLine {
    /// Id: the time, if that is later than all lines before, times [`IDS_PER_MILLI`], and the node's own number. So it
    /// is one of its kind, and higher than that of every line that its writer could have read.
    pub id: i64,
    /// Time of the line.
    pub at: UnixMillis,
    name: String,
    text: String,
    /// True where the host wrote it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    host: bool,
}

/// Place of a line among those that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinePlacement {
    /// It is the last one; the text is the line as it is sent.
    Last(Arc<str>),
    /// It was written before others that were read already.
    Late,
    /// It is there already, or older than all lines that are kept.
    Known,
}

/// Writer of a line, for its rate limit.
pub enum ChatSender<'a> {
    /// Somebody who is connected, with a limit of [`sender_limit`].
    Socket(&'a mut TokenBucket),
    /// Somebody who is not: all of one address have one limit.
    Address(IpAddr),
}

/// Chat of one session.
pub struct ChatRoom {
    enabled: bool,
    /// Id with which it was switched last; 0: never.
    switch_id: i64,
    /// Number that this node's ids end in.
    node_suffix: i64,
    newest_id: i64,
    /// Lines by id.
    lines: VecDeque<(i64, Arc<str>)>,
    session_limit: TokenBucket,
    address_limits: HashMap<IpAddr, TokenBucket>,
}

/// Chat as it is, for one who joins.
#[derive(Clone, Debug)]
pub struct ChatSnapshot {
    enabled: bool,
    lines: Vec<Arc<str>>,
}

/// Chat as a node has heard it, for another that may not have.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ChatHistory {
    /// True where the chat is on.
    #[serde(rename = "on")]
    enabled: bool,
    /// Id with which it was switched last; 0: never.
    #[serde(rename = "switched")]
    switch_id: i64,
    /// Last lines, each as JSON.
    lines: Vec<String>,
}

/// Returns whether a node can have given out an id by `now`. The next id is above all that were taken in, so one at the end of
/// the range would leave none.
pub fn is_plausible_id(id: i64, now: UnixMillis) -> bool {
    (0..=(now + MAX_AHEAD).as_millis().saturating_mul(IDS_PER_MILLI)).contains(&id)
}

impl ChatLine {
    /// Returns whether a node can have made this line by `now`.
    pub fn is_plausible(&self, now: UnixMillis) -> bool {
        let at = UnixMillis::EPOCH..=now + MAX_AHEAD;
        is_plausible_id(self.id, now) && at.contains(&self.at) && check(&self.name, &self.text).is_ok()
    }
}

impl ChatHistory {
    /// Returns the bytes of all lines.
    pub fn bytes(&self) -> usize {
        self.lines.iter().map(String::len).sum()
    }
}

/// Returns the rate limit of one writer.
pub fn sender_limit(now: UnixMillis) -> TokenBucket {
    TokenBucket::new(SENDER_RATE, SENDER_BURST, now)
}

impl ChatPost {
    /// Reads a line from JSON.
    pub fn from_json(said: Value) -> Result<Self, ChatLineError> {
        // The cause would show the writer nothing that the expected form does not.
        serde_json::from_value(said).map_err(|_| ChatLineError::Json)
    }

    fn check(&self) -> Result<(&str, &str), ChatLineError> {
        // Apps send what was typed, with the newline that sent it.
        let (name, text) = (self.name.trim(), self.text.trim());
        check(name, text)?;
        Ok((name, text))
    }
}

/// Fails where a name or a text is not what it may be.
fn check(name: &str, text: &str) -> Result<(), ChatLineError> {
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(ChatLineError::Name);
    }
    if !(1..=MAX_TEXT_CHARS).contains(&text.chars().count()) {
        return Err(ChatLineError::Text);
    }
    if name.chars().chain(text.chars()).any(char::is_control) {
        return Err(ChatLineError::Control);
    }
    Ok(())
}

impl ChatRoom {
    /// Creates an empty chat that is on, at the node of this number.
    pub fn new(node: u64, now: UnixMillis) -> Self {
        let all = TokenBucket::new(SESSION_RATE, SESSION_RATE, now);
        let own = i64::try_from(node % IDS_PER_MILLI.unsigned_abs()).unwrap_or(0);
        Self {
            enabled: true,
            switch_id: 0,
            node_suffix: own,
            newest_id: 0,
            lines: VecDeque::new(),
            session_limit: all,
            address_limits: HashMap::new(),
        }
    }

    /// Makes a line of what somebody here writes; [`ChatRoom::insert`] takes it in. Fails where it is none, over a rate
    /// limit, and while the chat is off.
    pub fn compose(
        &mut self,
        said: &ChatPost,
        sender: ChatSender<'_>,
        host: bool,
        now: UnixMillis,
    ) -> Result<ChatLine, Refusal> {
        if !self.enabled {
            return Err(Refusal::ChatOff);
        }
        let own = match sender {
            ChatSender::Socket(bucket) => bucket,
            ChatSender::Address(address) => self.address_limit(address, now)?,
        };
        let too_fast = |wait| Refusal::RateLimited { what: "one may write a line a second", wait };
        // The writer's own limit comes first: one that floods must not use up the session's.
        own.take(1.0, now).map_err(too_fast)?;
        let (name, text) = said.check()?;
        let too_many = |wait| Refusal::RateLimited { what: "a session takes 20 lines a second", wait };
        self.session_limit.take(1.0, now).map_err(too_many)?;
        Ok(ChatLine { id: self.next_id(now), at: now, name: name.to_owned(), text: text.to_owned(), host })
    }

    fn next_id(&mut self, now: UnixMillis) -> i64 {
        let millis = now.as_millis().max(self.newest_id / IDS_PER_MILLI + 1);
        self.newest_id = millis.saturating_mul(IDS_PER_MILLI).saturating_add(self.node_suffix);
        self.newest_id
    }

    /// Takes in a line, of this node or another.
    pub fn insert(&mut self, line: &ChatLine) -> LinePlacement {
        // A line that is written here next has to come after those that its writer can have read.
        self.newest_id = self.newest_id.max(line.id);
        let text: Arc<str> = json!(line).to_string().into();
        let at = self.lines.partition_point(|(id, _)| *id <= line.id);
        // Two nodes may have the same number after all: both lines are kept then.
        let same = self.lines.iter().take(at).rev().take_while(|(id, _)| *id == line.id);
        // A line before all that are kept would push one out that everybody has read, and be gone itself with the next.
        let too_old = at == 0 && self.lines.len() >= KEPT_LINES;
        if too_old || same.into_iter().any(|(_, known)| *known == text) {
            return LinePlacement::Known;
        }
        let last = at == self.lines.len();
        self.lines.insert(at, (line.id, text.clone()));
        if self.lines.len() > KEPT_LINES {
            self.lines.pop_front();
        }
        if last { LinePlacement::Last(text) } else { LinePlacement::Late }
    }

    /// Returns the history for a node that may not have heard it; `None` where there is none.
    pub fn history(&self) -> Option<ChatHistory> {
        let lines: Vec<_> = self.lines.iter().map(|(_, line)| line.to_string()).collect();
        let there_is = !lines.is_empty() || self.switch_id > 0;
        there_is.then_some(ChatHistory { enabled: self.enabled, switch_id: self.switch_id, lines })
    }

    /// Takes in the history of another node at `now`; returns true where any of it is news.
    pub fn merge(&mut self, history: &ChatHistory, now: UnixMillis) -> bool {
        let mut news =
            is_plausible_id(history.switch_id, now) && self.apply_switch(history.enabled, history.switch_id).is_some();
        // More than are kept were not kept there either.
        let lines = history.lines.iter().take(KEPT_LINES);
        let lines = lines.filter_map(|line| serde_json::from_str::<ChatLine>(line).ok());
        for line in lines.filter(|line| line.is_plausible(now)) {
            news |= self.insert(&line) != LinePlacement::Known;
        }
        news
    }

    /// Switches the chat; returns the id of the switch, and the message about it.
    pub fn switch(&mut self, on: bool, now: UnixMillis) -> (i64, Arc<str>) {
        let id = self.next_id(now);
        (self.enabled, self.switch_id) = (on, id);
        (id, self.switch_message())
    }

    /// Takes in a switch of another node; returns the message about it, where the chat was not switched since.
    pub fn apply_switch(&mut self, on: bool, id: i64) -> Option<Arc<str>> {
        // Two nodes may have switched it at once; by the ids all nodes settle on the same one.
        if id <= self.switch_id {
            return None;
        }
        self.newest_id = self.newest_id.max(id);
        (self.enabled, self.switch_id) = (on, id);
        Some(self.switch_message())
    }

    fn switch_message(&self) -> Arc<str> {
        json!({ "type": "chat", "on": self.enabled }).to_string().into()
    }

    /// Returns the chat as it is.
    pub fn snapshot(&self) -> ChatSnapshot {
        ChatSnapshot { enabled: self.enabled, lines: self.lines.iter().map(|(_, line)| line.clone()).collect() }
    }

    /// Forgets addresses that may write as much as anybody.
    pub fn sweep(&mut self, now: UnixMillis) {
        self.address_limits.retain(|_, bucket| bucket.is_below(SENDER_BURST, now));
    }

    fn address_limit(&mut self, address: IpAddr, now: UnixMillis) -> Result<&mut TokenBucket, Refusal> {
        if self.address_limits.len() >= MAX_ADDRESSES && !self.address_limits.contains_key(&address) {
            return Err(Refusal::TooManyListeners);
        }
        Ok(self.address_limits.entry(address).or_insert_with(|| sender_limit(now)))
    }
}

impl ChatSnapshot {
    /// Returns the chat as a member of a greeting.
    pub fn to_json(&self) -> Value {
        let lines = self.lines.iter().map(|line| serde_json::from_str(line).unwrap_or_default());
        json!({ "on": self.enabled, "last": lines.collect::<Vec<Value>>() })
    }

    /// Returns the chat as a message of its own, for those who are not greeted or have missed some of it.
    pub fn to_message(&self) -> Arc<str> {
        let mut message = self.to_json();
        message["type"] = json!("chat");
        message.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    fn said(name: &str, text: &str) -> ChatPost {
        ChatPost::from_json(json!({ "name": name, "text": text })).expect("it is one")
    }

    #[test]
    fn a_line_is_short_and_visible() {
        let long = |count: usize| "ü".repeat(count);
        for (name, text, expected) in [
            ("Ann", "hi", Ok(("Ann", "hi"))),
            (" Ann ", "  hi\n", Ok(("Ann", "hi"))),
            ("", "hi", Ok(("", "hi"))),
            (&*long(40), &*long(500), Ok((&*long(40), &*long(500)))),
            (&*long(41), "hi", Err(ChatLineError::Name)),
            ("Ann", &*long(501), Err(ChatLineError::Text)),
            ("Ann", "  ", Err(ChatLineError::Text)),
            ("Ann", "two\nlines", Err(ChatLineError::Control)),
            ("A\u{0}n", "hi", Err(ChatLineError::Control)),
        ] {
            assert_eq!(said(name, text).check(), expected, "{name:?} {text:?}");
        }
        for wrong in [json!({}), json!({"name": "Ann"}), json!({"text": 5}), json!([]), json!(null)] {
            assert_eq!(ChatPost::from_json(wrong).err(), Some(ChatLineError::Json));
        }
    }

    #[test]
    fn who_joins_gets_the_last_fifty_lines() {
        let mut chat = ChatRoom::new(7, at(0));
        for number in 0..60 {
            let mut own = sender_limit(at(0));
            let line = chat.compose(
                &said("Ann", &number.to_string()),
                ChatSender::Socket(&mut own),
                number == 59,
                at(number * 100),
            );
            let line = line.expect("ten a second");
            chat.insert(&line);
        }
        let now = chat.snapshot().to_json();
        let last = now["last"].as_array().expect("lines");
        assert_eq!((last.len(), &now["on"]), (50, &json!(true)));
        let newest = json!({"type": "chat", "id": 5900 * IDS_PER_MILLI + 7, "at": 5900, "name": "Ann", "text": "59", "host": true});
        assert_eq!(last[49], newest);
        assert_eq!(
            last[0],
            json!({"type": "chat", "id": 1000 * IDS_PER_MILLI + 7, "at": 1000, "name": "Ann", "text": "10"})
        );
    }

    #[test]
    fn ids_rise_though_the_clock_stands_and_lines_come_from_elsewhere() {
        let mut chat = ChatRoom::new(0, at(0));
        let mut ids = Vec::new();
        for _ in 0..3 {
            let line = chat
                .compose(&said("Ann", "hi"), ChatSender::Socket(&mut sender_limit(at(5))), false, at(5))
                .expect("few");
            ids.push(line.id);
            chat.insert(&line);
        }
        let other = ChatLine {
            id: 90 * IDS_PER_MILLI + 5,
            at: at(90),
            name: String::new(),
            text: "far".to_owned(),
            host: false,
        };
        chat.insert(&other);
        ids.push(
            chat.compose(&said("", "hi"), ChatSender::Socket(&mut sender_limit(at(6))), false, at(6)).expect("few").id,
        );
        assert_eq!(ids, [5, 6, 7, 91].map(|time| time * IDS_PER_MILLI));
    }

    #[test]
    fn two_nodes_that_were_apart_have_the_same_lines_in_the_same_order_and_none_is_lost() {
        let (mut one, mut other) = (ChatRoom::new(1, at(0)), ChatRoom::new(2, at(0)));
        for number in 0..5 {
            for (chat, name) in [(&mut one, "one"), (&mut other, "other")] {
                let line = chat.compose(
                    &said(name, "hi"),
                    ChatSender::Socket(&mut sender_limit(at(number))),
                    false,
                    at(number),
                );
                assert!(matches!(chat.insert(&line.expect("few")), LinePlacement::Last(_)));
            }
        }
        other.switch(false, at(2));
        let histories = [one.history(), other.history()];
        for (chat, history) in [(&mut other, &histories[0]), (&mut one, &histories[1])] {
            let history = history.as_ref().expect("there is something to tell");
            assert!(chat.merge(history, at(5)));
            assert!(!chat.merge(history, at(5)), "it is known now");
        }
        assert_eq!(one.snapshot().to_json(), other.snapshot().to_json());
        let shown = one.snapshot().to_json();
        let ids: Vec<i64> =
            shown["last"].as_array().expect("lines").iter().filter_map(|it| it["id"].as_i64()).collect();
        assert_eq!((ids.len(), &shown["on"]), (10, &json!(false)));
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }

    #[test]
    fn what_no_node_can_have_written_is_not_taken_in() {
        let now = at(1_800_000_000_000);
        let line = |id: i64| ChatLine { id, at: now, name: String::new(), text: "hi".to_owned(), host: false };
        let own = now.as_millis() * IDS_PER_MILLI;
        for (id, expected) in [
            (own, true),
            (own + 60_000 * IDS_PER_MILLI, true),
            (own + 2 * 3_600_000 * IDS_PER_MILLI, false),
            (i64::MAX, false),
            (-1, false),
        ] {
            assert_eq!(line(id).is_plausible(now), expected, "{id}");
        }
        for wrong in [
            ChatLine { at: UnixMillis::MAX, ..line(own) },
            ChatLine { name: "n".repeat(41), ..line(own) },
            ChatLine { text: "t".repeat(501), ..line(own) },
            ChatLine { text: String::new(), ..line(own) },
        ] {
            assert!(!wrong.is_plausible(now), "{wrong:?}");
        }
        let mut chat = ChatRoom::new(7, now);
        let lines = [i64::MAX, own].map(|id| json!(line(id)).to_string()).to_vec();
        assert!(chat.merge(&ChatHistory { enabled: false, switch_id: i64::MAX, lines }, now));
        let shown = chat.snapshot().to_json();
        assert_eq!((&shown["on"], &shown["last"]), (&json!(true), &json!([line(own)])));
        let next = chat.compose(&said("Ann", "hi"), ChatSender::Socket(&mut sender_limit(now)), false, now);
        assert_eq!(next.expect("few").id, (now.as_millis() + 1) * IDS_PER_MILLI + 7);
    }

    #[test]
    fn one_sender_and_all_of_them_are_limited() {
        let mut chat = ChatRoom::new(0, at(0));
        let (address, hi) = (IpAddr::from([10, 0, 0, 1]), said("Ann", "hi"));
        let write = |chat: &mut ChatRoom, now| chat.compose(&hi, ChatSender::Address(address), false, now).err();
        assert!((0..5).all(|_| write(&mut chat, at(0)).is_none()));
        let wait = Duration::from_secs(1);
        assert_eq!(write(&mut chat, at(0)), Some(Refusal::RateLimited { what: "one may write a line a second", wait }));
        assert_eq!(write(&mut chat, at(1000)), None);
        let others = (0..40)
            .filter(|_| chat.compose(&hi, ChatSender::Socket(&mut sender_limit(at(1000))), false, at(1000)).is_ok());
        assert_eq!(others.count(), 19, "twenty a second");
        chat.sweep(at(1000));
        assert_eq!(chat.address_limits.len(), 1);
        chat.sweep(at(60_000));
        assert!(chat.address_limits.is_empty());
        chat.switch(false, at(60_000));
        assert_eq!(write(&mut chat, at(70_000)), Some(Refusal::ChatOff));
        assert_eq!(&*chat.snapshot().to_message(), r#"{"last":[],"on":false,"type":"chat"}"#);
    }
}
