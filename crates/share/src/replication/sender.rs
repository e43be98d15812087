//! Sender of the outbox: messages go in their order, many at once, each once. Those that Redis does not take in time
//! are lost, and counted: audio that is late is of no use.

use std::sync::Arc;
use std::time::Duration;

use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures::future::join_all;
use tokio::sync::mpsc::UnboundedReceiver;

use super::message::{ControlMessage, NodeId, ReplicaEnvelope, ReplicaMessage};
use super::{CONNECT_TIME, SessionReplicator};
use crate::audio::chunk::ChunkHeader;
use crate::replication::outbox::{OutboxItem, OutboxPayload};
use crate::replication::registry::BACKGROUND_BUDGET;
use crate::session::metadata::{METADATA_LIFE, SongMetadata};
use primitives::unix_time::whole_millis;

/// Messages that are sent at once.
const SEND_BATCH: usize = 64;
/// Time for which the document's stream is kept after its last chunk.
const STREAM_LIFE: Duration = Duration::from_secs(10);

type RedisCommand = (&'static str, Vec<Value>);

/// Sends messages until the outbox is gone.
pub async fn run(replicator: &Arc<SessionReplicator>, mut out: UnboundedReceiver<OutboxItem>) {
    replicator.redis.wait_connected(CONNECT_TIME).await;
    let mut batch = Vec::with_capacity(SEND_BATCH);
    while out.recv_many(&mut batch, SEND_BATCH).await > 0 {
        // Together, so that one slow answer does not add to the next; apart, so that what Redis refuses of one session is
        // no error of the others.
        let sent = join_all(batch.iter().map(|item| send_item(replicator, item))).await;
        let metrics = replicator.metrics();
        for answer in sent {
            match replicator.track_answer("send", answer) {
                Some(()) => metrics.replica_messages.with_label_values(&["out"]).inc(),
                None => metrics.overflows.inc(),
            }
        }
        batch.clear();
    }
}

/// Sends the commands of one message, in their order. Fails with the first error, after all were tried.
async fn send_item(replicator: &SessionReplicator, item: &OutboxItem) -> Result<(), Error> {
    let client = replicator.redis.client_with_timeout(BACKGROUND_BUDGET);
    let sending = commands(replicator, item).into_iter().map(|(name, arguments)| {
        let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
        replicator.redis.run_with_timeout(BACKGROUND_BUDGET, client.custom::<Value, _>(command, arguments))
    });
    join_all(sending).await.into_iter().try_for_each(|answer| answer.map(drop))
}

fn commands(replicator: &SessionReplicator, item: &OutboxItem) -> Vec<RedisCommand> {
    let publish = |to: NodeId, message: ReplicaMessage| -> RedisCommand {
        let letter = ReplicaEnvelope { from: replicator.node, to, incarnation: item.incarnation, message };
        ("PUBLISH", vec![replicator.channel(item.id).into(), Value::Bytes(letter.encode())])
    };
    match &item.payload {
        OutboxPayload::Message(to, message) => vec![publish(*to, message.clone())],
        OutboxPayload::Metadata(song, with_cover) => {
            let [write, expire] = metadata_commands(replicator.registry.metadata_key(item.id), song, *with_cover);
            let picture = song.cover.as_ref();
            let word = ControlMessage::Metadata {
                song: String::from_utf8_lossy(&song.slim_json).into_owned(),
                thumb: picture.map(|picture| picture.tag.clone()),
                cover: picture.filter(|_| *with_cover).map(|picture| picture.base64().to_owned()),
            };
            vec![write, expire, publish(NodeId::ALL, ReplicaMessage::Control(word))]
        }
        OutboxPayload::StoredChunk(label, samples, most) => {
            audio_commands(replicator.registry.audio_key(item.id), label, samples, *most).into()
        }
    }
}

/// Commands that write the document's hash; a cover that has not changed stays as it is.
fn metadata_commands(key: String, metadata: &SongMetadata, with_cover: bool) -> [RedisCommand; 2] {
    let song = metadata.to_body();
    let text = |text: Option<String>| text.unwrap_or_default();
    let fields = [
        ("title", text(song.title)),
        ("artist", text(song.artist)),
        ("lyrics", text(song.lyrics)),
        ("hasSyncedLyrics", song.has_synced_lyrics.to_string()),
        ("elapsedSeconds", song.elapsed_seconds.to_string()),
        ("totalSeconds", song.total_seconds.to_string()),
        ("timestamp", song.timestamp.to_string()),
        ("json", String::from_utf8_lossy(&metadata.slim_json).into_owned()),
    ];
    let cover = with_cover.then(|| metadata.cover.as_ref().map_or("", |picture| picture.base64()).to_owned());
    let fields = fields.into_iter().chain(cover.map(|cover| ("thumbnailData", cover)));
    let write = std::iter::once(Value::from(key.clone()));
    let write = write.chain(fields.flat_map(|(name, value)| [Value::from(name), Value::from(value)])).collect();
    [("HSET", write), ("PEXPIRE", vec![key.into(), whole_millis(METADATA_LIFE).into()])]
}

/// Commands that add a chunk to the document's stream.
fn audio_commands(key: String, label: &ChunkHeader, samples: &bytes::Bytes, most: usize) -> [RedisCommand; 2] {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut add: Vec<Value> = vec![key.clone().into(), "MAXLEN".into(), most.into(), "*".into()];
    let numbers = [
        ("sequenceNumber", label.sequence),
        ("sampleRate", label.sample_rate.into()),
        ("channels", label.channels.into()),
        ("timestamp", label.timestamp.as_millis()),
    ];
    add.extend(numbers.into_iter().flat_map(|(name, number)| [Value::from(name), Value::from(number)]));
    add.extend(["data".into(), Value::Bytes(samples.clone())]);
    [("XADD", add), ("PEXPIRE", vec![key.into(), whole_millis(STREAM_LIFE).into()])]
}
