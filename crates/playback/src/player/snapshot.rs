//! Reading what holds, for listeners that begin or that have missed events: a few at once, however many listen, since each
//! has the stores asked for every channel.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::Error;
use super::channel::{ChannelId, PlayerKey};
use super::channel_store::ChannelSettings;
use super::event_hub::{EventKind, EventListener};
use super::service::PlayerService;
use super::view::{PlayerView, SettingsView};
use primitives::ids::UserId;
use server_kit::api::event_stream::{event_frame, event_json};

/// Most listeners for which it is read at once: as many as the stores answer without others waiting for it.
pub const MAX_SNAPSHOTS: usize = 16;
/// Longest wait of a request that begins a stream: after a restart all listeners come back at once.
const MAX_WAIT: Duration = Duration::from_secs(10);

impl PlayerService {
    /// Adds a listener of a user's channel, or of all; returns it, and what holds now.
    pub async fn listen(
        &self,
        user: &UserId,
        channel: Option<ChannelId>,
    ) -> Result<(EventListener, Vec<Bytes>), Error> {
        // Before anything is read: what changes meanwhile comes after it.
        let listener = self.0.hub.listen(user, channel)?;
        let snapshot = timeout(MAX_WAIT, self.snapshot(user, listener.channel())).await;
        Ok((listener, snapshot.unwrap_or(Err(Error::Busy))?))
    }

    /// Returns the settings and the player of a channel, or of all channels of the user, as events.
    pub async fn snapshot(&self, user: &UserId, channel: Option<&ChannelId>) -> Result<Vec<Bytes>, Error> {
        // It is never closed.
        let _permit = self.0.snapshots.acquire().await.map_err(|_| Error::Unavailable)?;
        let channels = match channel {
            Some(channel) => {
                vec![self.channel(&PlayerKey { user: user.clone(), channel: channel.clone() }).await?]
            }
            None => {
                let mut channels = self.0.channels.list(user).await?;
                if !channels.iter().any(|settings| settings.channel.is_main()) {
                    channels.push(ChannelSettings::initial(ChannelId::main()));
                }
                channels
            }
        };
        let mut frames = Vec::with_capacity(2 * channels.len());
        for settings in channels {
            let key = PlayerKey { user: user.clone(), channel: settings.channel.clone() };
            let player = match self.player(&key).await? {
                Some(record) => PlayerView::new(&key.channel, &record, self.now()),
                None => PlayerView::idle(&settings),
            };
            let settings = SettingsView::new(&settings, None);
            frames.push(event_frame(EventKind::Settings.name(), &event_json(&settings)));
            frames.push(event_frame(EventKind::Player.name(), &event_json(&player)));
        }
        Ok(frames)
    }
}
