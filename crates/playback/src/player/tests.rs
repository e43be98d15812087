//! Players over a database in a file, without Redis.

use axum::body::BodyDataStream;
use futures::future::join_all;
use futures::{StreamExt, poll};
use prometheus::Registry;
use tempfile::TempDir;

use super::channel::{ChannelId, PlayerKey};
use super::record::{PlayState, PlayerReport};
use super::settings::Settings;
use super::snapshot::MAX_SNAPSHOTS;
use super::{Error, PlayerService, PlayerServiceParts, event_stream};
use primitives::clock::Clock;
use primitives::ids::UserId;
use primitives::lifecycle::BackgroundTasks;
use primitives::unix_time::UnixMillis;
use server_kit::database::Database;
use server_kit::on;

struct Stage {
    service: PlayerService,
    database: Database,
    streams: BackgroundTasks,
    _folder: TempDir,
}

impl Stage {
    async fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = server_kit::database::settings::Settings::Sqlite(folder.path().join("players.db"));
        let database = Database::open(&file).await.expect("a database");
        database.migrate().await.expect("tables");
        let streams = BackgroundTasks::default();
        let parts = PlayerServiceParts {
            settings,
            database: database.clone(),
            redis: None,
            reporter: None,
            revocations: None,
            streams: streams.clone(),
            clock: Clock::system(),
        };
        let service = PlayerService::start(parts, &BackgroundTasks::default(), &Registry::new());
        Self { service: service.expect("the names are free"), database, streams, _folder: folder }
    }

    /// Channels of the user's live players.
    async fn players(&self) -> Vec<String> {
        let due = self.service.0.players.due(UnixMillis::new(i64::MAX)).await.expect("memory");
        due.into_iter().map(|key| key.channel.as_str().to_owned()).collect()
    }

    async fn pauses_in(&self, channel: &str) -> Result<bool, Error> {
        let report = PlayerReport {
            session: None,
            track: "t".to_owned(),
            title: None,
            state: PlayState::Paused,
            position: 0,
            duration: None,
            speed: None,
            seq: None,
            at: None,
        };
        let key = PlayerKey { user: user(), channel: ChannelId::parse(channel).expect("an id") };
        self.service.report(&key, report).await.map(|(applied, _)| applied)
    }

    /// A stream of events, after what holds at first.
    async fn follow(&self) -> BodyDataStream {
        let (listener, snapshot) = self.service.listen(&user(), None).await.expect("there is room");
        let frames = 1 + snapshot.len();
        let response = event_stream::respond(self.service.clone(), listener, snapshot, UnixMillis::MAX).await;
        let mut events = response.into_body().into_data_stream();
        for _ in 0..frames {
            text(events.next().await);
        }
        events
    }
}

fn user() -> UserId {
    UserId::parse("u").expect("an id")
}

fn text(frame: Option<Result<bytes::Bytes, axum::Error>>) -> String {
    String::from_utf8(frame.expect("it goes on").expect("bytes").to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn players_go_with_the_channels_that_are_dropped() {
    let stage = Stage::with(Settings { max_channels_per_user: 4, ..Settings::default() }).await;
    assert_eq!(stage.pauses_in("main").await, Ok(true));
    for number in 0..20 {
        assert_eq!(stage.pauses_in(&number.to_string()).await, Ok(true), "{number}");
    }
    let mut players = stage.players().await;
    players.sort();
    assert_eq!(players.len(), 4, "{players:?}");
    assert!(["main", "19"].iter().all(|channel| players.iter().any(|known| known == channel)), "{players:?}");
}

#[tokio::test]
async fn of_many_channels_that_are_opened_at_once_no_player_is_left_over() {
    let stage = Stage::with(Settings { max_channels_per_user: 4, ..Settings::default() }).await;
    let channels: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    join_all(channels.iter().map(|channel| stage.pauses_in(channel))).await;
    let known: Vec<_> = stage.service.0.channels.list(&user()).await.expect("a database");
    let is_known = |channel: &String| known.iter().any(|settings| settings.channel.as_str() == channel);
    let players = stage.players().await;
    assert!(players.len() <= 4 && players.iter().all(is_known), "{players:?}");
}

#[tokio::test]
async fn a_stream_ends_also_while_everything_is_read_anew() {
    let stage = Stage::with(Settings::default()).await;
    let mut events = stage.follow().await;
    on!(&stage.database, pool => pool.close().await);
    stage.service.0.hub.resynchronize();
    let next = events.next();
    tokio::pin!(next);
    assert!(poll!(&mut next).is_pending(), "it is being read");
    stage.streams.begin_stop();
    let last = text(next.await);
    assert!(last.contains("shutdown"), "{last}");
}

#[tokio::test]
async fn so_many_streams_read_everything_at_once() {
    let stage = Stage::with(Settings::default()).await;
    let mut events = stage.follow().await;
    let all = stage.service.0.snapshots.acquire_many(MAX_SNAPSHOTS as u32).await.expect("all of them");
    stage.service.0.hub.resynchronize();
    let next = events.next();
    tokio::pin!(next);
    assert!(poll!(&mut next).is_pending());
    // From here on nothing but the clock is waited for.
    tokio::time::pause();
    assert_eq!(stage.service.listen(&user(), None).await.err(), Some(Error::Busy));
    tokio::time::resume();
    drop(all);
    let mut found = text(next.await);
    // Comments keep the connection open meanwhile.
    while found == ":\n\n" {
        found = text(events.next().await);
    }
    assert!(found.contains("event: settings"), "{found}");
}
