//! Sends what sessions say: in their order, many at once, each once. What Redis does not take in time is lost, and counted:
//! audio that is late is of no use.

use std::sync::Arc;

use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures::future::join_all;
use tokio::sync::mpsc::UnboundedReceiver;

use super::book::LEISURE;
use super::link::{Sent, What};
use super::wire::{Letter, Message, NodeId, Word};
use super::{CONNECT, Nodes};
use crate::chunk::Label;
use crate::metadata::{LIFE, Metadata};

/// What is sent at once.
const BATCH: usize = 64;
/// How long the document's stream is kept after its last chunk, in milliseconds.
const STREAM_LIFE: i64 = 10_000;

type Command = (&'static str, Vec<Value>);

/// Sends until nobody says anything any more.
pub async fn run(nodes: &Arc<Nodes>, mut out: UnboundedReceiver<Sent>) {
    nodes.redis.wait_connected(CONNECT).await;
    let mut batch = Vec::with_capacity(BATCH);
    while out.recv_many(&mut batch, BATCH).await > 0 {
        let commands: Vec<Command> = batch.iter().flat_map(|sent| commands(nodes, sent)).collect();
        let client = nodes.redis.client_with_timeout(LEISURE);
        let sending = commands.into_iter().map(|(name, arguments)| {
            client.custom::<Value, _>(CustomCommand::new_static(name, ClusterHash::FirstKey, false), arguments)
        });
        let all = async { join_all(sending).await.into_iter().collect::<Result<Vec<Value>, Error>>() };
        let metrics = nodes.metrics();
        match nodes.answered("send", nodes.redis.run_with_timeout(LEISURE, all).await) {
            Some(_) => metrics.crossed.with_label_values(&["out"]).inc_by(batch.len() as u64),
            None => metrics.overflows.inc_by(batch.len() as u64),
        }
        batch.clear();
    }
}

fn commands(nodes: &Nodes, sent: &Sent) -> Vec<Command> {
    let publish = |to: NodeId, message: Message| -> Command {
        let letter = Letter { from: nodes.node, to, incarnation: sent.incarnation, message };
        ("PUBLISH", vec![nodes.channel(sent.id).into(), Value::Bytes(letter.write())])
    };
    match &sent.what {
        What::Message(to, message) => vec![publish(*to, message.clone())],
        What::Song(song, whole) => {
            let [write, expire] = remember(nodes.book.metadata_key(sent.id), song, *whole);
            let picture = song.picture.as_ref();
            let word = Word::Song {
                song: String::from_utf8_lossy(&song.slim).into_owned(),
                thumb: picture.map(|picture| picture.tag.clone()),
                cover: picture.filter(|_| *whole).map(|picture| picture.text().to_owned()),
            };
            vec![write, expire, publish(NodeId::ALL, Message::Word(word))]
        }
        What::Kept(label, samples, most) => keep(nodes.book.audio_key(sent.id), label, samples, *most).into(),
    }
}

/// The document's hash; a cover that has not changed stays as it is.
fn remember(key: String, metadata: &Metadata, whole: bool) -> [Command; 2] {
    let song = metadata.song();
    let text = |text: Option<String>| text.unwrap_or_default();
    let fields = [
        ("title", text(song.title)),
        ("artist", text(song.artist)),
        ("lyrics", text(song.lyrics)),
        ("hasSyncedLyrics", song.has_synced_lyrics.to_string()),
        ("elapsedSeconds", song.elapsed_seconds.to_string()),
        ("totalSeconds", song.total_seconds.to_string()),
        ("timestamp", song.timestamp.to_string()),
        ("json", String::from_utf8_lossy(&metadata.slim).into_owned()),
    ];
    let cover = whole.then(|| metadata.picture.as_ref().map_or("", |picture| picture.text()).to_owned());
    let fields = fields.into_iter().chain(cover.map(|cover| ("thumbnailData", cover)));
    let write = std::iter::once(Value::from(key.clone()));
    let write = write.chain(fields.flat_map(|(name, value)| [Value::from(name), Value::from(value)])).collect();
    [("HSET", write), ("PEXPIRE", vec![key.into(), LIFE.into()])]
}

/// A chunk in the document's stream.
fn keep(key: String, label: &Label, samples: &bytes::Bytes, most: usize) -> [Command; 2] {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut add: Vec<Value> = vec![key.clone().into(), "MAXLEN".into(), most.into(), "*".into()];
    let numbers = [
        ("sequenceNumber", label.sequence),
        ("sampleRate", label.rate.into()),
        ("channels", label.channels.into()),
        ("timestamp", label.timestamp),
    ];
    add.extend(numbers.into_iter().flat_map(|(name, number)| [Value::from(name), Value::from(number)]));
    add.extend(["data".into(), Value::Bytes(samples.clone())]);
    [("XADD", add), ("PEXPIRE", vec![key.into(), STREAM_LIFE.into()])]
}
