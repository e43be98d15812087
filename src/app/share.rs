//! Live sharing, where it is switched on, and the sessions that channels play to.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use share::{ProgramHost, ProgramSong, RecordingUploader, Relay};
use utoipa_axum::router::OpenApiRouter;

use super::StartError;
use super::modules::{ModuleDependencies, StartedModules};
use crate::config::Settings;
use ::channels::player::output::{Program, ProgramEnded, ProgramListener, ProgramOutput, ProgramUnavailable};
use server_kit::api::rate_limit_layer::limit_routes;
use server_kit::api::router;

/// Starts the relay; `None` where it is switched off.
pub fn open(all: &Settings, dependencies: &ModuleDependencies<'_>) -> Result<Option<Arc<Relay>>, StartError> {
    let Some(settings) = all.share.clone() else { return Ok(None) };
    let recording = settings.recording.clone();
    let store = recording.as_ref().and_then(|recording| all.stores.iter().find(|store| store.name == recording.store));
    let signer = store.map(|store| dependencies.stores.signer(store)).transpose()?;
    let depot =
        recording.zip(signer).map(|(settings, signer)| RecordingUploader::open(settings, signer)).transpose()?;
    let (redis, registry) = (dependencies.storage.redis.as_ref(), dependencies.metrics.registry());
    let parts = (depot, dependencies.revocations.cloned());
    Ok(Some(Relay::start(settings, redis, dependencies.clock.clone(), dependencies.tasks, registry, parts)?))
}

/// Puts its paths beside `modules`. Its number of live sessions is for health.
pub fn mount(
    relay: Option<Arc<Relay>>,
    dependencies: &ModuleDependencies<'_>,
    mut modules: Vec<OpenApiRouter>,
) -> StartedModules {
    let Some(relay) = relay else {
        return StartedModules { routes: router::modules(modules), active_sessions: None };
    };
    modules.push(share::routes(Arc::clone(&relay), |routes, class| limit_routes(routes, dependencies.limiters, class)));
    let mut routes = router::modules(modules);
    let second: Vec<String> = routes.paths.iter().filter_map(|path| share::second_path(path)).collect();
    routes.paths.extend(second);
    StartedModules { routes, active_sessions: Some(Arc::new(move || relay.active_sessions())) }
}

/// Returns the sessions of the relay, for channels.
pub fn programs(relay: &Arc<Relay>) -> Arc<dyn ProgramOutput> {
    Arc::new(RelayPrograms(Arc::clone(relay)))
}

/// Sessions of the relay.
struct RelayPrograms(Arc<Relay>);

impl ProgramOutput for RelayPrograms {
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Program>, ProgramUnavailable>> {
        Box::pin(async move {
            let host = self.0.open_program().await.map_err(|refused| ProgramUnavailable(refused.to_string()))?;
            Ok(Box::new(RelayProgram(host)) as Box<dyn Program>)
        })
    }

    fn issue_ticket<'a>(
        &'a self,
        session: &'a str,
        ttl: Duration,
        ProgramListener { user, token_until }: ProgramListener<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, ProgramUnavailable>> {
        Box::pin(async move {
            let issued = self.0.issue_program_ticket(session, ttl, (user, token_until)).await;
            issued.map_err(|refused| ProgramUnavailable(refused.to_string()))
        })
    }
}

/// Session of the relay that a channel plays to.
struct RelayProgram(ProgramHost);

impl Program for RelayProgram {
    fn session(&self) -> String {
        self.0.session()
    }

    fn send(&mut self, samples: &[f32]) -> Result<(), ProgramEnded> {
        if self.0.send(samples) { Ok(()) } else { Err(ProgramEnded) }
    }

    fn announce(&mut self, title: &str, elapsed: Duration, length: Duration) {
        self.0.announce(ProgramSong { title, elapsed, length });
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.0.end())
    }
}
