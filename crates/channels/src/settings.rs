//! Settings of channels.

use std::time::Duration;

use crate::channel::ChannelId;
use server_kit::api::user::UserRole;

/// The channels, and the rules of their queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The channels; there are no others.
    pub channels: Vec<ChannelId>,
    /// Roles that may schedule what is played on them, for everybody hears it.
    pub scheduled_by: Vec<UserRole>,
    /// Rules of each channel's queue.
    pub queue: QueueSettings,
    /// Time for which the end of a track and the beginning of the next are heard together.
    pub crossfade: Duration,
    /// Time without tracks after which a channel's session ends.
    pub idle_timeout: Duration,
}

/// Rules of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Head start of a VIP: an item counts as if it had been queued so much earlier.
    pub vip_head_start: Duration,
    /// Head start of an admin.
    pub admin_head_start: Duration,
    /// Bounds of a channel's queue.
    pub channel_limits: QueueLimits,
    /// Bounds of what one user has in it.
    pub user_limits: QueueLimits,
    /// Length of a track whose length nobody has said, for estimates.
    pub typical_duration: Duration,
    /// Time for which an item belongs to whoever plays it, unless that is renewed.
    pub claim_lease: Duration,
}

/// Bounds of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most items.
    pub items: u32,
    /// Most bytes of their records.
    pub bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            channels: vec![ChannelId::main()],
            scheduled_by: vec![UserRole::Admin],
            queue: QueueSettings::default(),
            crossfade: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(300),
        }
    }
}

impl Default for QueueSettings {
    /// The head starts are those of the document's VIP queue. Five hundred songs are more than a day of music, and ten of one
    /// user more than half an hour.
    fn default() -> Self {
        Self {
            vip_head_start: Duration::from_secs(600),
            admin_head_start: Duration::from_secs(3600),
            channel_limits: QueueLimits { items: 500, bytes: 256 << 10 },
            user_limits: QueueLimits { items: 10, bytes: 16 << 10 },
            typical_duration: Duration::from_secs(240),
            claim_lease: Duration::from_secs(15),
        }
    }
}

impl QueueSettings {
    /// Returns the head start of a role.
    pub fn head_start(&self, role: UserRole) -> Duration {
        match role {
            UserRole::User => Duration::ZERO,
            UserRole::Vip => self.vip_head_start,
            UserRole::Admin => self.admin_head_start,
        }
    }
}
