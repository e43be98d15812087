//! Metrics of playlists.

use prometheus::{IntCounter, IntCounterVec, Registry};

use server_kit::telemetry::registration;

/// Change of a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaylistChange {
    /// Made from a request.
    Created,
    /// Made from a file.
    Imported,
    /// Replaced.
    Replaced,
    /// Tracks were added at its end.
    Appended,
    /// Deleted.
    Deleted,
}

impl PlaylistChange {
    const ALL: [Self; 5] = [Self::Created, Self::Imported, Self::Replaced, Self::Appended, Self::Deleted];

    fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Imported => "imported",
            Self::Replaced => "replaced",
            Self::Appended => "appended",
            Self::Deleted => "deleted",
        }
    }
}

/// Metrics of playlists.
#[derive(Clone, Debug)]
pub struct PlaylistMetrics {
    changes: IntCounterVec,
    /// Changes that were refused because the playlist was another one by then.
    pub conflicts: IntCounter,
    /// Exports.
    pub exports: IntCounter,
    /// Entries of imported files that name no track of this server.
    pub skipped_entries: IntCounter,
}

impl PlaylistMetrics {
    /// Registers the metrics, each with all its labels; fails if a name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| registration::counter(registry, name, help);
        let changes = "tidegate_playlists_changes_total";
        let changes = registration::counters(registry, changes, "Changes of playlists, by kind", "kind")?;
        PlaylistChange::ALL.iter().for_each(|change| drop(changes.with_label_values(&[change.name()])));
        Ok(Self {
            changes,
            conflicts: counter("tidegate_playlists_conflicts_total", "Changes refused since the playlist was changed")?,
            exports: counter("tidegate_playlists_exports_total", "Playlists exported as files")?,
            skipped_entries: counter(
                "tidegate_playlists_skipped_entries_total",
                "Entries of imported files that name no track of this server",
            )?,
        })
    }

    /// Counts a change.
    pub fn count_change(&self, change: PlaylistChange) {
        self.changes.with_label_values(&[change.name()]).inc();
    }
}
