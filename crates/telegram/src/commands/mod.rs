//! What the bot does for linked users, by the API of this server.

pub(crate) mod clip;
mod lyrics;
mod playback;
mod queue;
mod radio;
mod schedules;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::command::CommandName;
use crate::conversation::{Asker, Reply};
use crate::user_api::{ApiAnswer, ApiRefusal, ApiRequest};

/// Does a command with what is written after it.
pub(crate) async fn run(asker: &Asker<'_>, name: CommandName, argument: &str) -> Reply {
    let texts = asker.texts();
    let reply = match name {
        CommandName::Speed => playback::speed(asker, argument).await,
        CommandName::Pitch => playback::pitch(asker, argument).await,
        CommandName::Seek => playback::seek(asker, argument).await,
        CommandName::Rewind => playback::rewind(asker, argument).await,
        CommandName::Radio => radio::play(asker, argument).await,
        CommandName::AddRadio => radio::add(asker, argument).await,
        CommandName::Schedule => schedules::schedule(asker, argument).await,
        CommandName::Lyrics => lyrics::find(asker, argument).await,
        CommandName::Queue => queue::queue(asker, argument).await,
        CommandName::Help | CommandName::Start => Ok(Reply::text(format!("{}\n\n{}", texts.help, texts.list()))),
        // Both are answered before anybody's account is looked for.
        CommandName::Link | CommandName::Unlink => Ok(Reply::text(texts.usage_of(name))),
    };
    reply.unwrap_or_else(|refusal| Reply::refusal(texts, &refusal))
}

/// Does what a button says. Its data came from outside: a wrong one finds nothing, with the user's own rights.
pub(crate) async fn press(asker: &Asker<'_>, data: &str) -> Reply {
    let (kind, value) = data.split_once(':').unwrap_or((data, ""));
    let reply = match kind {
        "speed" => playback::speed(asker, value).await,
        "pitch" => playback::pitch(asker, value).await,
        "station" => radio::play_station(asker, value).await,
        "unschedule" => schedules::delete(asker, value).await,
        "queue" => queue::queue(asker, "").await,
        _ => Err(ApiRefusal::NotFound),
    };
    reply.unwrap_or_else(|refusal| Reply::refusal(asker.texts(), &refusal))
}

impl Asker<'_> {
    /// Sends a request of the API for the user.
    async fn send(&self, request: ApiRequest) -> ApiAnswer {
        self.telegram.0.users.send(&self.user, request).await
    }
}

/// Returns a text as a part of a path or a query.
fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
