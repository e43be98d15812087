//! Closing of players that do not report any more, and dropping of those that stopped long ago. Every node does it; of two
//! that close the same player one finds it changed.

use std::time::Duration;

use super::Error;
use super::channel::PlayerKey;
use super::record::PlayState;
use super::service::PlayerService;
use primitives::lifecycle::BackgroundTasks;

/// Interval between two looks.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Looks for players whose time is over, until `tasks` stop.
pub async fn run(service: PlayerService, tasks: BackgroundTasks) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            () = tasks.stopping() => return,
        }
        let due = match service.0.players.due(service.now()).await {
            Ok(due) => due,
            Err(error) => {
                // It logs what is new.
                let _ = service.store_failed(&error);
                continue;
            }
        };
        for key in due {
            if sweep(&service, &key).await.is_err() {
                break;
            }
        }
    }
}

async fn sweep(service: &PlayerService, key: &PlayerKey) -> Result<(), Error> {
    let (players, now) = (&service.0.players, service.now());
    let found = service.player(key).await?;
    let done = match found {
        None => players.drop_player(key, None).await,
        Some(record) => {
            let deadline = record.deadline(&service.0.settings);
            if deadline > now {
                // It has reported, or another node has changed it, since the deadline was written.
                players.set_deadline(key, deadline).await
            } else if record.state == PlayState::Stopped {
                players.drop_player(key, Some(record.revision)).await
            } else {
                return service.close(key, &record).await.map(drop);
            }
        }
    };
    done.map_err(|error| service.store_failed(&error))
}
