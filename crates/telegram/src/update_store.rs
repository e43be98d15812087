//! Updates in the database: each is kept before the Bot API forgets it, and begun by one node, once; and which node has the bot.

use std::sync::Arc;

use uuid::Uuid;

use crate::Error;
use crate::database_queries::BotDatabase;
use crate::incoming::{BotRequest, IncomingUpdate};
use crate::lease::BotHolder;
use primitives::unix_time::UnixMillis;
use server_kit::on;

/// One that is there already came before. Of a chat that has as many waiting as one may have, nothing more is done: it would
/// keep the bot from all others.
const INSERT: &str = "INSERT INTO telegram_updates
        (update_id, chat_id, request, state, node, is_interrupted, received_at)
    SELECT $1, $2, CASE WHEN waiting.number < 20 THEN CAST($3 AS TEXT) ELSE '' END,
        CASE WHEN waiting.number < 20 THEN CAST($4 AS TEXT) ELSE 'done' END, '', 0, $5
    FROM (SELECT COUNT(*) AS number FROM telegram_updates WHERE chat_id = $2 AND state = 'received') AS waiting
    WHERE true ON CONFLICT (update_id) DO NOTHING RETURNING update_id";
const OFFSET: &str = "SELECT next_offset, offset_at FROM telegram_bot WHERE id = 1";
/// Only the node that has the bot asks on.
const SET_OFFSET: &str = "UPDATE telegram_bot SET next_offset = $1, offset_at = $2 WHERE id = 1 AND node = $3";
const WAITING: &str = "SELECT COUNT(*) FROM telegram_updates WHERE state = 'received'";
/// The first of each chat: a chat's updates are done one after another.
const DUE: &str = "SELECT update_id, chat_id, request, is_interrupted FROM telegram_updates WHERE update_id IN
        (SELECT MIN(update_id) FROM telegram_updates WHERE state = 'received' GROUP BY chat_id)
    ORDER BY update_id LIMIT $1";
const BEGIN: &str = "UPDATE telegram_updates SET state = 'begun', node = $2
    WHERE update_id = $1 AND state = 'received' RETURNING update_id";
/// What this node has begun, perhaps without knowing it.
const RETURN: &str = "UPDATE telegram_updates SET state = 'received'
    WHERE update_id = $1 AND state = 'begun' AND node = $2";
const FINISH: &str = "UPDATE telegram_updates SET state = 'done', request = ''
    WHERE update_id = $1 AND state = 'begun' AND node = $2";
/// Begun by a node that does not have the bot any more.
const INTERRUPT: &str = "UPDATE telegram_updates SET state = 'received', is_interrupted = 1
    WHERE state = 'begun' AND node <> $1 RETURNING update_id";
const PRUNE: &str = "DELETE FROM telegram_updates WHERE state = 'done' AND received_at < $1";
const HOLDER: &str = "SELECT node, beat FROM telegram_bot WHERE id = 1";
const TAKE: &str = "UPDATE telegram_bot SET node = $1, beat = beat + 1
    WHERE id = 1 AND node = $2 AND beat = $3 RETURNING beat";
const BEAT: &str = "UPDATE telegram_bot SET beat = beat + 1 WHERE id = 1 AND node = $1 RETURNING beat";
const RELEASE: &str = "UPDATE telegram_bot SET node = '' WHERE id = 1 AND node = $1";
const ADOPT: &str = "UPDATE telegram_bot SET bot_id = $1, username = '', next_offset = 0
    WHERE id = 1 AND bot_id <> $1 RETURNING bot_id";
const FORGET: &str = "DELETE FROM telegram_updates";
const SET_USERNAME: &str = "UPDATE telegram_bot SET username = $1 WHERE id = 1";
const USERNAME: &str = "SELECT username FROM telegram_bot WHERE id = 1";

/// Update that is to be done.
#[derive(Debug, PartialEq, Eq)]
pub struct DueUpdate {
    /// Its id.
    pub id: i64,
    /// Its chat.
    pub chat: i64,
    /// What is asked; `None` where another version has written it.
    pub request: Option<BotRequest>,
    /// True where a node has died amid it.
    pub is_interrupted: bool,
}

/// Updates that came in, as they were kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceivedCounts {
    /// New ones.
    pub new: usize,
    /// New ones that the bot does not listen to.
    pub ignored: usize,
    /// Those that had come before.
    pub repeated: usize,
}

/// Store over the tables `telegram_updates` and `telegram_bot`.
#[derive(Clone)]
pub struct UpdateStore(pub Arc<BotDatabase>);

impl UpdateStore {
    /// Keeps updates, all or none; `offset` is where the node `node` asks on.
    pub async fn receive(
        &self,
        updates: &[IncomingUpdate],
        offset: Option<(i64, Uuid)>,
        now: UnixMillis,
    ) -> Result<ReceivedCounts, Error> {
        let mut counts = ReceivedCounts::default();
        let rows: Vec<(i64, i64, String, &str)> = updates.iter().map(row).collect();
        let kept = async {
            on!(&self.0.database, pool => {
                let mut transaction = pool.begin().await?;
                for (id, chat, request, state) in &rows {
                    let query = sqlx::query_scalar::<_, i64>(INSERT).bind(*id).bind(*chat).bind(request).bind(*state);
                    match query.bind(now.as_millis()).fetch_optional(&mut *transaction).await? {
                        Some(_) if *state == "done" => counts.ignored += 1,
                        Some(_) => counts.new += 1,
                        None => counts.repeated += 1,
                    }
                }
                if let Some((next, node)) = offset {
                    let query = sqlx::query(SET_OFFSET).bind(next).bind(now.as_millis()).bind(node.to_string());
                    query.execute(&mut *transaction).await?;
                }
                transaction.commit().await
            })
        };
        self.0.run(kept).await?;
        Ok(counts)
    }

    /// Returns the first update that is to be asked for, and since when that is known.
    pub async fn offset(&self) -> Result<(i64, UnixMillis), Error> {
        let found =
            async { on!(&self.0.database, pool => sqlx::query_as::<_, (i64, i64)>(OFFSET).fetch_one(pool).await) };
        let (offset, at) = self.0.run(found).await?;
        Ok((offset, UnixMillis::new(at)))
    }

    /// Returns how many updates wait.
    pub async fn waiting(&self) -> Result<i64, Error> {
        let found = async { on!(&self.0.database, pool => sqlx::query_scalar(WAITING).fetch_one(pool).await) };
        self.0.run(found).await
    }

    /// Lists the first update of each of at most `most` chats.
    pub async fn due(&self, most: u32) -> Result<Vec<DueUpdate>, Error> {
        let found = async {
            on!(&self.0.database, pool => {
                let query = sqlx::query_as::<_, (i64, i64, String, i64)>(DUE).bind(i64::from(most));
                query.fetch_all(pool).await
            })
        };
        let due = |(id, chat, request, is_interrupted): (i64, i64, String, i64)| DueUpdate {
            id,
            chat,
            request: serde_json::from_str(&request).ok(),
            is_interrupted: is_interrupted != 0,
        };
        Ok(self.0.run(found).await?.into_iter().map(due).collect())
    }

    /// Begins an update; returns false where somebody has.
    pub async fn begin(&self, id: i64, node: Uuid) -> Result<bool, Error> {
        let begun = async {
            on!(&self.0.database, pool => {
                let query = sqlx::query_scalar::<_, i64>(BEGIN).bind(id).bind(node.to_string());
                query.fetch_optional(pool).await
            })
        };
        Ok(self.0.run(begun).await?.is_some())
    }

    /// Takes back that an update was begun, which nobody knows to have been kept.
    pub async fn take_back(&self, id: i64, node: Uuid) -> Result<(), Error> {
        self.change(RETURN, id, node).await
    }

    /// Notes that an update is done, and forgets what it asked.
    pub async fn finish(&self, id: i64, node: Uuid) -> Result<(), Error> {
        self.change(FINISH, id, node).await
    }

    async fn change(&self, sql: &'static str, id: i64, node: Uuid) -> Result<(), Error> {
        let finished = async {
            on!(&self.0.database, pool => {
                sqlx::query(sql).bind(id).bind(node.to_string()).execute(pool).await.map(drop)
            })
        };
        self.0.run(finished).await
    }

    /// Notes what other nodes have begun and not finished; returns how much.
    pub async fn interrupt(&self, node: Uuid) -> Result<usize, Error> {
        let found = async {
            on!(&self.0.database, pool => {
                sqlx::query_scalar::<_, i64>(INTERRUPT).bind(node.to_string()).fetch_all(pool).await
            })
        };
        Ok(self.0.run(found).await?.len())
    }

    /// Forgets updates that were done and came before `before`.
    pub async fn prune(&self, before: UnixMillis) -> Result<(), Error> {
        let pruned = async {
            on!(&self.0.database, pool => sqlx::query(PRUNE).bind(before.as_millis()).execute(pool).await.map(drop))
        };
        self.0.run(pruned).await
    }

    /// Returns the node that has the bot.
    pub async fn holder(&self) -> Result<BotHolder, Error> {
        let found =
            async { on!(&self.0.database, pool => sqlx::query_as::<_, (String, i64)>(HOLDER).fetch_one(pool).await) };
        let (node, beat) = self.0.run(found).await?;
        Ok(BotHolder { node, beat })
    }

    /// Takes the bot over from `holder`; returns false where that has lived on, or another node was first.
    pub async fn take(&self, holder: &BotHolder, node: Uuid) -> Result<bool, Error> {
        let taken = async {
            on!(&self.0.database, pool => {
                let query = sqlx::query_scalar::<_, i64>(TAKE).bind(node.to_string()).bind(&holder.node);
                query.bind(holder.beat).fetch_optional(pool).await
            })
        };
        Ok(self.0.run(taken).await?.is_some())
    }

    /// Gives a sign of life; returns false where another node has the bot.
    pub async fn beat(&self, node: Uuid) -> Result<bool, Error> {
        let beat = async {
            on!(&self.0.database, pool => {
                sqlx::query_scalar::<_, i64>(BEAT).bind(node.to_string()).fetch_optional(pool).await
            })
        };
        Ok(self.0.run(beat).await?.is_some())
    }

    /// Gives the bot back, so that another node takes it at once.
    pub async fn release(&self, node: Uuid) -> Result<(), Error> {
        let released = async {
            on!(&self.0.database, pool => sqlx::query(RELEASE).bind(node.to_string()).execute(pool).await.map(drop))
        };
        self.0.run(released).await
    }

    /// Makes the bot `bot` the one whose updates are kept: ids of another one would be taken for its own.
    pub async fn adopt(&self, bot: &str) -> Result<(), Error> {
        let adopted = async {
            on!(&self.0.database, pool => {
                let mut transaction = pool.begin().await?;
                let other = sqlx::query_scalar::<_, String>(ADOPT).bind(bot).fetch_optional(&mut *transaction).await?;
                if other.is_some() {
                    sqlx::query(FORGET).execute(&mut *transaction).await?;
                }
                transaction.commit().await
            })
        };
        self.0.run(adopted).await
    }

    /// Keeps the name of the bot.
    pub async fn set_username(&self, username: &str) -> Result<(), Error> {
        let set = async {
            on!(&self.0.database, pool => sqlx::query(SET_USERNAME).bind(username).execute(pool).await.map(drop))
        };
        self.0.run(set).await
    }

    /// Returns the name of the bot; `None` where it is not known yet.
    pub async fn username(&self) -> Result<Option<String>, Error> {
        let found =
            async { on!(&self.0.database, pool => sqlx::query_scalar::<_, String>(USERNAME).fetch_one(pool).await) };
        Ok(Some(self.0.run(found).await?).filter(|name| !name.is_empty()))
    }
}

/// Returns the row of an update; one that the bot does not listen to is done.
fn row(update: &IncomingUpdate) -> (i64, i64, String, &'static str) {
    match &update.request {
        Some(request) => {
            let text = serde_json::to_string(request).expect("texts and numbers have a JSON form");
            (update.id, request.chat, text, "received")
        }
        None => (update.id, 0, String::new(), "done"),
    }
}
