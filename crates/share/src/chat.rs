//! What listeners and the host write beside the audio: short lines, checked and limited, the last of them kept for those
//! who join. Knows neither sockets nor other nodes; a line is sent as it is kept.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::bucket::Bucket;
use super::nodes::wire::Word;
use super::refused::Refused;

/// Lines that are kept.
const KEPT: usize = 50;
/// Characters of a name, and of a line, at most.
const NAME: usize = 40;
const TEXT: usize = 500;
/// Lines of one sender a second, and at once.
const PER_SECOND: f64 = 1.0;
const BURST: f64 = 5.0;
/// Lines of a session a second, and at once.
const OF_SESSION: f64 = 20.0;
/// Ids of one millisecond: each node has one of them. Times so many say more are whole numbers in JavaScript until 2109.
const IDS: i64 = 2_048;
/// Addresses that are remembered; one that may write as much as anybody is forgotten.
const ADDRESSES: usize = 10_000;

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// Not the JSON that it should be.
    #[error("expected JSON with text, and name where the sender has one")]
    Json,
    /// The name is too long.
    #[error("name has at most 40 characters")]
    Name,
    /// Nothing, or too much.
    #[error("text has 1 to 500 characters")]
    Text,
    /// What nobody sees.
    #[error("name and text have no control characters")]
    Control,
}

/// What somebody writes.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ShareLine, example = json!({"name": "Ann", "text": "hi"}))]
pub struct Said {
    /// Who, at most 40 characters; not checked.
    #[serde(default)]
    name: String,
    /// What, 1 to 500 characters.
    text: String,
}

/// A line of the chat.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "chat")]
pub struct Line {
    /// The time, if that is later than all lines before, times [`IDS`], and the node's own number: so it is one of its kind,
    /// and higher than that of every line that its writer could have read.
    pub id: i64,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
    name: String,
    text: String,
    /// Whether the host wrote it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    host: bool,
}

/// What a line is to those who have read the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is the last one: as it is sent.
    Last(Utf8Bytes),
    /// It was written before others that were read already.
    Late,
    /// It is there already, or older than all that are kept.
    Known,
}

/// Who writes.
pub enum Sender<'a> {
    /// Somebody who is connected, with a bucket of [`sender`].
    Socket(&'a mut Bucket),
    /// Somebody who is not.
    Address(IpAddr),
}

/// The chat of one session.
pub struct Chat {
    on: bool,
    /// The id with which it was switched last; 0: never.
    switched: i64,
    /// What this node's ids end in.
    own: i64,
    newest: i64,
    /// By id.
    lines: VecDeque<(i64, Utf8Bytes)>,
    all: Bucket,
    addresses: HashMap<IpAddr, Bucket>,
}

/// The chat as it is, for one who joins.
#[derive(Clone, Debug)]
pub struct Snapshot {
    on: bool,
    lines: Vec<Utf8Bytes>,
}

/// How much one sender may write.
pub fn sender(now: i64) -> Bucket {
    Bucket::new(PER_SECOND, BURST, now)
}

impl Said {
    /// Reads what came as JSON.
    pub fn from_json(said: Value) -> Result<Self, BadLine> {
        serde_json::from_value(said).map_err(|_| BadLine::Json)
    }

    fn check(&self) -> Result<(&str, &str), BadLine> {
        let (name, text) = (self.name.trim(), self.text.trim());
        if name.chars().count() > NAME {
            return Err(BadLine::Name);
        }
        if !(1..=TEXT).contains(&text.chars().count()) {
            return Err(BadLine::Text);
        }
        if name.chars().chain(text.chars()).any(char::is_control) {
            return Err(BadLine::Control);
        }
        Ok((name, text))
    }
}

impl Chat {
    /// An empty one, that is on, at the node of this number.
    pub fn new(node: u64, now: i64) -> Self {
        let all = Bucket::new(OF_SESSION, OF_SESSION, now);
        let own = i64::try_from(node % IDS.unsigned_abs()).unwrap_or(0);
        Self { on: true, switched: 0, own, newest: 0, lines: VecDeque::new(), all, addresses: HashMap::new() }
    }

    /// Makes a line of what somebody here writes; [`Chat::add`] takes it in.
    pub fn line(&mut self, said: &Said, sender: Sender<'_>, host: bool, now: i64) -> Result<Line, Refused> {
        if !self.on {
            return Err(Refused::ChatOff);
        }
        let own = match sender {
            Sender::Socket(bucket) => bucket,
            Sender::Address(address) => self.address(address, now)?,
        };
        let too_fast = |wait| Refused::TooFast { what: "one may write a line a second", wait };
        own.take(1.0, now).map_err(too_fast)?;
        let (name, text) = said.check()?;
        let too_many = |wait| Refused::TooFast { what: "a session takes 20 lines a second", wait };
        self.all.take(1.0, now).map_err(too_many)?;
        Ok(Line { id: self.next_id(now), at: now, name: name.to_owned(), text: text.to_owned(), host })
    }

    fn next_id(&mut self, now: i64) -> i64 {
        self.newest = now.max(self.newest / IDS + 1).saturating_mul(IDS).saturating_add(self.own);
        self.newest
    }

    /// Takes in a line, whoever made it.
    pub fn add(&mut self, line: &Line) -> Added {
        self.newest = self.newest.max(line.id);
        let text: Utf8Bytes = json!(line).to_string().into();
        let at = self.lines.partition_point(|(id, _)| *id <= line.id);
        // Two nodes may have the same number after all: both lines are kept then.
        let same = self.lines.iter().take(at).rev().take_while(|(id, _)| *id == line.id);
        let too_old = at == 0 && self.lines.len() >= KEPT;
        if too_old || same.into_iter().any(|(_, known)| *known == text) {
            return Added::Known;
        }
        let last = at == self.lines.len();
        self.lines.insert(at, (line.id, text.clone()));
        if self.lines.len() > KEPT {
            self.lines.pop_front();
        }
        if last { Added::Last(text) } else { Added::Late }
    }

    /// What a node is told that may not have heard it; `None` where there is nothing to tell.
    pub fn word(&self) -> Option<Word> {
        let lines: Vec<_> = self.lines.iter().map(|(_, line)| line.as_str().to_owned()).collect();
        (!lines.is_empty() || self.switched > 0).then_some(Word::Said { on: self.on, switched: self.switched, lines })
    }

    /// Takes in what another node has heard; whether any of it is news.
    pub fn catch_up(&mut self, on: bool, switched: i64, lines: &[String]) -> bool {
        let mut news = self.switched_elsewhere(on, switched).is_some();
        for line in lines.iter().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            news |= self.add(&line) != Added::Known;
        }
        news
    }

    /// Switches it; returns the id of that, and what is sent.
    pub fn switch(&mut self, on: bool, now: i64) -> (i64, Utf8Bytes) {
        let id = self.next_id(now);
        (self.on, self.switched) = (on, id);
        (id, self.switch_text())
    }

    /// It was switched at another node, with this id; returns what is sent, where it was not switched since.
    pub fn switched_elsewhere(&mut self, on: bool, id: i64) -> Option<Utf8Bytes> {
        if id <= self.switched {
            return None;
        }
        self.newest = self.newest.max(id);
        (self.on, self.switched) = (on, id);
        Some(self.switch_text())
    }

    fn switch_text(&self) -> Utf8Bytes {
        json!({ "type": "chat", "on": self.on }).to_string().into()
    }

    /// As it is.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { on: self.on, lines: self.lines.iter().map(|(_, line)| line.clone()).collect() }
    }

    /// Forgets addresses that may write as much as anybody.
    pub fn sweep(&mut self, now: i64) {
        self.addresses.retain(|_, bucket| bucket.is_below(BURST, now));
    }

    fn address(&mut self, address: IpAddr, now: i64) -> Result<&mut Bucket, Refused> {
        if self.addresses.len() >= ADDRESSES && !self.addresses.contains_key(&address) {
            return Err(Refused::NoSeat);
        }
        Ok(self.addresses.entry(address).or_insert_with(|| sender(now)))
    }
}

impl Snapshot {
    /// As a member of a greeting.
    pub fn json(&self) -> Value {
        let lines = self.lines.iter().map(|line| serde_json::from_str(line).unwrap_or_default());
        json!({ "on": self.on, "last": lines.collect::<Vec<Value>>() })
    }

    /// As a message of its own, for those who are not greeted or have missed some of it.
    pub fn text(&self) -> Utf8Bytes {
        let mut message = self.json();
        message["type"] = json!("chat");
        message.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn said(name: &str, text: &str) -> Said {
        Said::from_json(json!({ "name": name, "text": text })).expect("it is one")
    }

    #[test]
    fn a_line_is_short_and_visible() {
        let long = |count: usize| "ü".repeat(count);
        for (name, text, expected) in [
            ("Ann", "hi", Ok(("Ann", "hi"))),
            (" Ann ", "  hi\n", Ok(("Ann", "hi"))),
            ("", "hi", Ok(("", "hi"))),
            (&*long(40), &*long(500), Ok((&*long(40), &*long(500)))),
            (&*long(41), "hi", Err(BadLine::Name)),
            ("Ann", &*long(501), Err(BadLine::Text)),
            ("Ann", "  ", Err(BadLine::Text)),
            ("Ann", "two\nlines", Err(BadLine::Control)),
            ("A\u{0}n", "hi", Err(BadLine::Control)),
        ] {
            assert_eq!(said(name, text).check(), expected, "{name:?} {text:?}");
        }
        for wrong in [json!({}), json!({"name": "Ann"}), json!({"text": 5}), json!([]), json!(null)] {
            assert_eq!(Said::from_json(wrong).err(), Some(BadLine::Json));
        }
    }

    #[test]
    fn who_joins_gets_the_last_fifty_lines() {
        let mut chat = Chat::new(7, 0);
        for number in 0..60 {
            let mut own = sender(0);
            let line =
                chat.line(&said("Ann", &number.to_string()), Sender::Socket(&mut own), number == 59, number * 100);
            let line = line.expect("ten a second");
            chat.add(&line);
        }
        let now = chat.snapshot().json();
        let last = now["last"].as_array().expect("lines");
        assert_eq!((last.len(), &now["on"]), (50, &json!(true)));
        let newest =
            json!({"type": "chat", "id": 5900 * IDS + 7, "at": 5900, "name": "Ann", "text": "59", "host": true});
        assert_eq!(last[49], newest);
        assert_eq!(last[0], json!({"type": "chat", "id": 1000 * IDS + 7, "at": 1000, "name": "Ann", "text": "10"}));
    }

    #[test]
    fn ids_rise_though_the_clock_stands_and_lines_come_from_elsewhere() {
        let mut chat = Chat::new(0, 0);
        let mut ids = Vec::new();
        for _ in 0..3 {
            let line = chat.line(&said("Ann", "hi"), Sender::Socket(&mut sender(5)), false, 5).expect("few");
            ids.push(line.id);
            chat.add(&line);
        }
        let other = Line { id: 90 * IDS + 5, at: 90, name: String::new(), text: "far".to_owned(), host: false };
        chat.add(&other);
        ids.push(chat.line(&said("", "hi"), Sender::Socket(&mut sender(6)), false, 6).expect("few").id);
        assert_eq!(ids, [5, 6, 7, 91].map(|time| time * IDS));
    }

    #[test]
    fn two_nodes_that_were_apart_have_the_same_lines_in_the_same_order_and_none_is_lost() {
        let (mut one, mut other) = (Chat::new(1, 0), Chat::new(2, 0));
        for number in 0..5 {
            for (chat, name) in [(&mut one, "one"), (&mut other, "other")] {
                let line = chat.line(&said(name, "hi"), Sender::Socket(&mut sender(number)), false, number);
                assert!(matches!(chat.add(&line.expect("few")), Added::Last(_)));
            }
        }
        other.switch(false, 2);
        let words = [one.word(), other.word()];
        for (chat, word) in [(&mut other, &words[0]), (&mut one, &words[1])] {
            let Some(Word::Said { on, switched, lines }) = word else { panic!("there is something to tell") };
            assert!(chat.catch_up(*on, *switched, lines));
            assert!(!chat.catch_up(*on, *switched, lines), "it is known now");
        }
        assert_eq!(one.snapshot().json(), other.snapshot().json());
        let shown = one.snapshot().json();
        let ids: Vec<i64> =
            shown["last"].as_array().expect("lines").iter().filter_map(|it| it["id"].as_i64()).collect();
        assert_eq!((ids.len(), &shown["on"]), (10, &json!(false)));
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }

    #[test]
    fn one_sender_and_all_of_them_are_limited() {
        let mut chat = Chat::new(0, 0);
        let (address, hi) = (IpAddr::from([10, 0, 0, 1]), said("Ann", "hi"));
        let write = |chat: &mut Chat, now| chat.line(&hi, Sender::Address(address), false, now).err();
        assert!((0..5).all(|_| write(&mut chat, 0).is_none()));
        let wait = Duration::from_secs(1);
        assert_eq!(write(&mut chat, 0), Some(Refused::TooFast { what: "one may write a line a second", wait }));
        assert_eq!(write(&mut chat, 1000), None);
        let others = (0..40).filter(|_| chat.line(&hi, Sender::Socket(&mut sender(1000)), false, 1000).is_ok());
        assert_eq!(others.count(), 19, "twenty a second");
        chat.sweep(1000);
        assert_eq!(chat.addresses.len(), 1);
        chat.sweep(60_000);
        assert!(chat.addresses.is_empty());
        chat.switch(false, 60_000);
        assert_eq!(write(&mut chat, 70_000), Some(Refused::ChatOff));
        assert_eq!(chat.snapshot().text().as_str(), r#"{"last":[],"on":false,"type":"chat"}"#);
    }
}
