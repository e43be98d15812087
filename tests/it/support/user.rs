//! A user of the API: a client with a token of its own; and users that report positions without pause.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Method;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::client::Reply;
use super::eventually::eventually;
use super::{Client, Gate, token};

/// A client with a token.
#[derive(Clone)]
pub struct ApiUser {
    /// The client.
    pub client: Client,
    /// What it sends as `Authorization`.
    pub authorization: String,
}

impl ApiUser {
    /// The user of this name.
    pub fn new(gate: &Gate, user: &str) -> Self {
        Self { client: gate.client(), authorization: format!("Bearer {}", token::of(user)) }
    }

    /// Sends a request, with a JSON body if there is one.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let request = self.client.request(method, path).header("authorization", &self.authorization);
        let request = body.into_iter().fold(request, |request, body| request.json(body));
        let response = request.send().await.expect("the gate answers");
        let (status, headers) = (response.status(), response.headers().clone());
        Reply { status, headers, body: response.bytes().await.expect("a whole answer") }
    }
}

/// One report: the item, where it is sent, and its body.
pub struct PositionReport {
    pub item: String,
    pub path: String,
    pub body: Value,
}

/// Users that report without pause, and remember what was acknowledged.
pub struct Reporters {
    users: Vec<(String, JoinHandle<BTreeMap<String, i64>>)>,
    stop: Arc<AtomicBool>,
    kept: Arc<AtomicUsize>,
    /// Reports that were refused with the request to come back.
    pub refused: Arc<AtomicUsize>,
}

impl Reporters {
    /// Starts `users`, which report what `report` makes of the positions from 1 on; `kept` is the status of a report that is
    /// acknowledged.
    pub fn start(
        gate: &Gate,
        users: impl Iterator<Item = String>,
        kept: u16,
        report: fn(i64) -> PositionReport,
    ) -> Self {
        let acknowledged = kept;
        let (stop, kept, refused) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let start = |name: String| {
            let user = ApiUser::new(gate, &name);
            let (stop, kept, refused) = (Arc::clone(&stop), Arc::clone(&kept), Arc::<AtomicUsize>::clone(&refused));
            let reporting = tokio::spawn(async move {
                let mut last = BTreeMap::new();
                for position in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let PositionReport { item, path, body } = report(position);
                    let request = user.client.request(Method::POST, &path);
                    let sent = request.header("authorization", &user.authorization).json(&body).send().await;
                    match sent.map(|sent| (sent.status().as_u16(), sent.headers().contains_key("retry-after"))) {
                        Ok((status, _)) if status == acknowledged => {
                            last.insert(item, position);
                            kept.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok((503, true)) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(other) => panic!("neither kept nor told to come back: {other:?}"),
                        // Only one test ends the gate; the others look at the log of it.
                        Err(_) => break,
                    }
                }
                last
            });
            (name, reporting)
        };
        let users = users.map(start).collect();
        Self { users, stop, kept, refused }
    }

    /// Waits until `more` reports are kept.
    pub async fn go_on(&self, more: usize) {
        let before = self.kept.load(Ordering::Relaxed);
        let more = async || (self.kept.load(Ordering::Relaxed) > before + more).then_some(());
        eventually("reports are kept", more).await;
    }

    /// Waits until a report is refused.
    pub async fn are_refused(&self) {
        let refused = async || (self.refused.load(Ordering::Relaxed) > 0).then_some(());
        eventually("reports are refused", refused).await;
    }

    /// Ends them; returns what was acknowledged last: user, item and position.
    pub async fn acknowledged(self) -> Vec<(String, String, i64)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for (user, reporting) in self.users {
            let last = reporting.await.expect("the user had only good answers");
            all.extend(last.into_iter().map(|(item, position)| (user.clone(), item, position)));
        }
        all
    }
}
