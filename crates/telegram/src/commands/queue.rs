//! Queue of the channel `main`.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::conversation::{Asker, Reply};
use crate::texts::fill;
use crate::user_api::{ApiRefusal, ApiRequest};

/// Path of the queue.
const ITEMS: &str = "/api/v1/queue/main/items";
/// Items that are shown.
const MAX_SHOWN: usize = 10;

/// Page of a queue.
#[derive(Deserialize)]
struct Items {
    items: Vec<Item>,
}

/// Item of a queue.
#[derive(Deserialize)]
struct Item {
    track_id: String,
    position: u32,
}

/// Item that was queued.
#[derive(Deserialize)]
struct Queued {
    position: Option<u32>,
}

/// Shows the queue, or adds a track to it.
pub async fn queue(asker: &Asker<'_>, argument: &str) -> Result<Reply, ApiRefusal> {
    let texts = asker.texts();
    if !argument.is_empty() {
        let request = ApiRequest::json(Method::POST, ITEMS, json!({ "track_id": argument }));
        let queued = asker.send(request).await.read::<Queued>()?;
        let place = queued.position.map_or_else(|| "?".to_owned(), |position| position.to_string());
        return Ok(Reply::text(fill(texts.queued, &[&place])));
    }
    let path = format!("{ITEMS}?limit={MAX_SHOWN}");
    let items = asker.send(ApiRequest::new(Method::GET, path)).await.read::<Items>()?.items;
    let line = |item: &Item| match item.position {
        0 => format!("{}: {}", texts.now, item.track_id),
        place => format!("{place}. {}", item.track_id),
    };
    let lines: Vec<String> = items.iter().map(line).collect();
    let text = if lines.is_empty() { texts.queue_empty.to_owned() } else { lines.join("\n") };
    Ok(Reply::with_buttons(text, vec![vec![("↻".to_owned(), "queue".to_owned())]]))
}
