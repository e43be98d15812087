//! Effects: the work that a change of a session's state leaves to the shell around it.

use std::sync::Arc;

use crate::audio::chunk::AudioChunk;
use crate::audio::frame::Codec;
use crate::audio::packet_queue::AudioFrame;
use crate::audio::transcode::TranscodeInput;
use crate::replication::message::{ControlMessage, NodeId, ReplicaMessage};
use crate::session::event::SessionEvent;
use crate::session::metadata::SongMetadata;

/// One piece of work, to be done while the state is still locked, so that everybody sees changes in their order.
#[derive(Debug)]
pub enum Effect {
    /// Tell everybody who is connected at this node.
    Notify(SessionEvent),
    /// Send a message to another node, or to all.
    Replicate(NodeId, ReplicaMessage),
    /// Publish metadata to the other nodes.
    PublishMetadata {
        /// Metadata of the song.
        metadata: Arc<SongMetadata>,
        /// True to send the cover along; the other nodes have it otherwise.
        with_cover: bool,
    },
    /// Append a chunk to the stream for programs that read no more than that.
    StoreChunk {
        /// Chunk of floats.
        chunk: Arc<AudioChunk>,
        /// Chunks that the stream keeps, about.
        kept: usize,
    },
    /// Have this session's next heartbeat at once.
    RequestHeartbeat,
    /// Start a transcoder. The shell answers by `transcoder_started`, and says at last whether one runs.
    StartTranscoder {
        /// Number of the transcoder, which goes along with its audio.
        transcoder: u64,
        /// Codec that it makes.
        codec: Codec,
        /// Audio from before its start.
        backlog: Vec<TranscodeInput>,
    },
    /// Stop the transcoder.
    StopTranscoder,
    /// Hand audio to the transcoder.
    Transcode(TranscodeInput),
    /// End the recording that this node makes.
    StopRecorder,
    /// Count the session among those for which this node answers, or no longer.
    HomeChanged(bool),
}

/// Effects in the order in which they are to be performed.
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// Adds an effect.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Tells everybody who is connected at this node.
    pub fn notify(&mut self, event: SessionEvent) {
        self.push(Effect::Notify(event));
    }

    /// Sends a finished frame, where there is one, to everybody who is connected at this node.
    pub fn notify_frame(&mut self, frame: Option<Arc<AudioFrame>>) {
        if let Some(frame) = frame {
            self.notify(SessionEvent::Frame(frame));
        }
    }

    /// Sends a message without audio to all other nodes.
    pub fn announce(&mut self, message: ControlMessage) {
        self.push(Effect::Replicate(NodeId::ALL, ReplicaMessage::Control(message)));
    }

    /// Sends a message without audio to one other node.
    pub fn reply(&mut self, to: NodeId, message: ControlMessage) {
        self.push(Effect::Replicate(to, ReplicaMessage::Control(message)));
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = std::vec::IntoIter<Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
