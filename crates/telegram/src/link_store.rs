//! Links of Telegram accounts in the database, the codes that make them, and how often wrong ones were sent.

use std::sync::Arc;

use crate::Error;
use crate::database_queries::BotDatabase;
use crate::user_api::LinkedUser;
use primitives::ids::UserId;
use primitives::unix_time::UnixMillis;
use server_kit::api::user::UserRole;
use server_kit::on;

/// A user's newest code is the one that is good.
const SAVE_CODE: &str = "INSERT INTO telegram_link_codes (user_id, code_hash, role, generation, expires_at)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_id) DO UPDATE SET code_hash = excluded.code_hash,
        role = excluded.role, generation = excluded.generation, expires_at = excluded.expires_at";
/// Whoever deletes a code has it.
const USE_CODE: &str = "DELETE FROM telegram_link_codes WHERE code_hash = $1 AND expires_at > $2
    RETURNING user_id, role, generation";
const DELETE_CODE: &str = "DELETE FROM telegram_link_codes WHERE user_id = $1";
const COUNT_ATTEMPT: &str = "INSERT INTO telegram_link_attempts (telegram_id, attempts, since) VALUES ($1, 1, $2)
    ON CONFLICT (telegram_id) DO UPDATE SET
        attempts = CASE WHEN telegram_link_attempts.since < $3 THEN 1 ELSE telegram_link_attempts.attempts + 1 END,
        since = CASE WHEN telegram_link_attempts.since < $3 THEN $2 ELSE telegram_link_attempts.since END
    RETURNING attempts";
const FORGET_ATTEMPTS: &str = "DELETE FROM telegram_link_attempts WHERE telegram_id = $1";
/// A user has one account, and an account one user.
const UNLINK_BOTH: &str = "DELETE FROM telegram_links WHERE user_id = $1 OR telegram_id = $2";
const LINK: &str = "INSERT INTO telegram_links (telegram_id, user_id, role, generation, linked_at)
    VALUES ($1, $2, $3, $4, $5)";
const FIND: &str = "SELECT user_id, role, generation FROM telegram_links WHERE telegram_id = $1";
const UNLINK: &str = "DELETE FROM telegram_links WHERE telegram_id = $1 RETURNING user_id";
const UNLINK_USER: &str = "DELETE FROM telegram_links WHERE user_id = $1 RETURNING user_id";
const PRUNE_CODES: &str = "DELETE FROM telegram_link_codes WHERE expires_at <= $1";
const PRUNE_ATTEMPTS: &str = "DELETE FROM telegram_link_attempts WHERE since < $1";

/// Right that a link gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLink {
    /// Whose it is.
    pub user: LinkedUser,
    /// Generation of the user's tokens when its code was made; `None` where there were no logouts.
    pub generation: Option<u32>,
}

/// Store over the tables of links.
#[derive(Clone)]
pub struct LinkStore(pub Arc<BotDatabase>);

impl LinkStore {
    /// Keeps the hash of a code for a link like `link`, in the place of the user's last one.
    pub async fn save_code(&self, link: &AccountLink, hash: &str, until: UnixMillis) -> Result<(), Error> {
        let saved = async {
            on!(&self.0.database, pool => {
                let query = sqlx::query(SAVE_CODE).bind(link.user.id.as_str()).bind(hash);
                let query = query.bind(link.user.role.name()).bind(link.generation.map(i64::from));
                query.bind(until.as_millis()).execute(pool).await.map(drop)
            })
        };
        self.0.run(saved).await
    }

    /// Links an account by the hash of a code, which is used up; `None` where the code is none. Either both happen or neither.
    pub async fn link(&self, telegram: i64, hash: &str, now: UnixMillis) -> Result<Option<AccountLink>, Error> {
        let linked = async {
            on!(&self.0.database, pool => {
                let mut transaction = pool.begin().await?;
                let query = sqlx::query_as::<_, (String, String, Option<i64>)>(USE_CODE).bind(hash);
                let found = query.bind(now.as_millis()).fetch_optional(&mut *transaction).await?;
                if let Some((user, role, generation)) = &found {
                    sqlx::query(UNLINK_BOTH).bind(user).bind(telegram).execute(&mut *transaction).await?;
                    let query = sqlx::query(LINK).bind(telegram).bind(user).bind(role).bind(*generation);
                    query.bind(now.as_millis()).execute(&mut *transaction).await?;
                    sqlx::query(FORGET_ATTEMPTS).bind(telegram).execute(&mut *transaction).await?;
                }
                transaction.commit().await?;
                Ok(found)
            })
        };
        Ok(self.0.run(linked).await?.and_then(of_row))
    }

    /// Counts a code that an account has sent; returns how many it has since `cutoff` at the earliest.
    pub async fn count_attempt(&self, telegram: i64, cutoff: UnixMillis, now: UnixMillis) -> Result<i64, Error> {
        let counted = async {
            on!(&self.0.database, pool => {
                let query = sqlx::query_scalar::<_, i64>(COUNT_ATTEMPT).bind(telegram).bind(now.as_millis());
                query.bind(cutoff.as_millis()).fetch_one(pool).await
            })
        };
        self.0.run(counted).await
    }

    /// Returns the link of an account.
    pub async fn find(&self, telegram: i64) -> Result<Option<AccountLink>, Error> {
        let found = async {
            on!(&self.0.database, pool => {
                let query = sqlx::query_as::<_, (String, String, Option<i64>)>(FIND).bind(telegram);
                query.fetch_optional(pool).await
            })
        };
        Ok(self.0.run(found).await?.and_then(of_row))
    }

    /// Ends the link of an account; returns false where there was none.
    pub async fn unlink(&self, telegram: i64) -> Result<bool, Error> {
        let ended = async {
            on!(&self.0.database, pool => {
                sqlx::query_scalar::<_, String>(UNLINK).bind(telegram).fetch_optional(pool).await
            })
        };
        Ok(self.0.run(ended).await?.is_some())
    }

    /// Ends the link of a user, and the code; returns false where there was no link.
    pub async fn unlink_user(&self, user: &UserId) -> Result<bool, Error> {
        let ended = async {
            on!(&self.0.database, pool => {
                let mut transaction = pool.begin().await?;
                sqlx::query(DELETE_CODE).bind(user.as_str()).execute(&mut *transaction).await?;
                let query = sqlx::query_scalar::<_, String>(UNLINK_USER).bind(user.as_str());
                let ended = query.fetch_optional(&mut *transaction).await?;
                transaction.commit().await?;
                Ok(ended)
            })
        };
        Ok(self.0.run(ended).await?.is_some())
    }

    /// Forgets codes that are good no more, and attempts before `cutoff`.
    pub async fn prune(&self, cutoff: UnixMillis, now: UnixMillis) -> Result<(), Error> {
        let pruned = async {
            on!(&self.0.database, pool => {
                sqlx::query(PRUNE_CODES).bind(now.as_millis()).execute(pool).await?;
                sqlx::query(PRUNE_ATTEMPTS).bind(cutoff.as_millis()).execute(pool).await.map(drop)
            })
        };
        self.0.run(pruned).await
    }
}

/// Returns the link of a row; one that cannot be read is none.
fn of_row((user, role, generation): (String, String, Option<i64>)) -> Option<AccountLink> {
    let user = LinkedUser { id: UserId::parse(user)?, role: UserRole::from_name(&role)? };
    Some(AccountLink { user, generation: generation.map(|generation| u32::try_from(generation).unwrap_or_default()) })
}
