//! Views of films: their begin and end, published and recorded, and the look at sessions that nobody tells of.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;

use super::FilmService;
use crate::metrics::ViewEndCause;
use crate::session::{DueSession, FilmView};
use primitives::lifecycle::BackgroundTasks;

/// Interval at which sessions are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Subscriptions that are checked again at the same time.
const MAX_RECHECKS: usize = 16;

impl FilmService {
    pub(super) async fn begin_view(&self, view: &FilmView) {
        self.0.views.started(view);
        self.0.events.started(&view.user, &view.movie, view.started_at).await;
    }

    /// Publishes the end of a view, with the time and position of its last report, and has it recorded.
    pub(super) async fn end_view(&self, view: &FilmView, cause: ViewEndCause) {
        let parts = &*self.0;
        // Where Redis fails, it is published or recorded once more: at least once.
        if !view.is_published {
            parts.metrics.count_end(cause);
            parts.events.stopped(&view.user, &view.movie, view.position, view.last_seen_at).await;
            if parts.views.is_kept() {
                let _ = parts.sessions.note_published(view.session, view.id).await;
            }
        }
        match parts.views.is_kept() {
            // Which finishes it when it is written.
            true => parts.views.ended(view),
            false => drop(parts.sessions.finish_view(view.session, view.id).await),
        }
    }

    pub(super) async fn watch_sessions(self, tasks: BackgroundTasks) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = tasks.stopping() => return,
            }
            let active = self.0.sessions.active_count();
            self.0.metrics.sessions.set(i64::try_from(active).unwrap_or(i64::MAX));
            // An outage is in the log already.
            while let Ok(due) = self.0.sessions.take_due().await {
                if due.is_empty() || tasks.is_stopping() {
                    break;
                }
                stream::iter(due).for_each_concurrent(MAX_RECHECKS, |session| self.look_at(session)).await;
            }
        }
    }

    async fn look_at(&self, DueSession { id, user, ended, is_recheck_due, is_ending }: DueSession) {
        for view in &ended {
            self.end_view(view, ViewEndCause::Silent).await;
        }
        if let (true, Some(subscriptions)) = (is_recheck_due, &self.0.subscriptions) {
            // Softly: a film that plays is not cut, and a service that is away says nothing. One that was renewed goes on.
            let Some(is_active) = subscriptions.is_active(&user).await else { return };
            if is_active != is_ending || self.0.sessions.set_ending(id, !is_active).await.is_err() {
                return;
            }
            match is_active {
                true => tracing::info!("a subscription was renewed while a film plays: its session is extended again"),
                false => {
                    tracing::info!("a subscription has ended while a film plays: its session is not extended any more");
                }
            }
        }
    }
}
