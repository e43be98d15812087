//! Command `tidegate serve`: reads the configuration and serves until asked to stop.

use std::path::Path;
use std::process::ExitCode;

use axum::Router;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tracing::{error, info, warn};

use super::{check, refuse, say};
use crate::app::{self, RunningServer};
use crate::config::{self, Settings};
use primitives::lifecycle::{ProcessSignal, ProcessSignals};
use server_kit::telemetry::log;

/// Serves the configuration of `file`.
pub fn run(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(settings) => with(settings, Some(file), Router::new(), ready),
        Err(report) => refuse(&report),
    }
}

/// Serves `settings`, which are those of `file`, if there is one, and the pages `extra`; `started` is called with the
/// bound addresses.
pub fn with(settings: Settings, file: Option<&Path>, extra: Router, started: impl FnOnce(&RunningServer)) -> ExitCode {
    log::start(&settings.telemetry);
    for warning in check::warnings(&settings) {
        warn!("{warning}");
    }
    let runtime = match runtime(settings.server.http.threads) {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = runtime.block_on(async {
        // Before the start: a signal that arrives while it runs must not end the process unasked.
        let mut signals = match ProcessSignals::listen() {
            Ok(signals) => signals,
            Err(error) => return fail(&error),
        };
        let running = match app::start(settings, file, extra).await {
            Ok(running) => running,
            Err(error) => return fail(&error),
        };
        started(&running);
        let files = running.files();
        let handle = |signal| match signal {
            ProcessSignal::ReopenFiles => files.reopen(),
            ProcessSignal::Reload => running.reload("SIGHUP"),
        };
        signals.wait_for_shutdown(handle).await;
        info!("stopping: no new connections; streams under way may end");
        // The second signal ends the wait for streams.
        let reopen = |signal| match signal {
            ProcessSignal::ReopenFiles => files.reopen(),
            ProcessSignal::Reload => {}
        };
        if running.stop(signals.wait_for_shutdown(reopen)).await {
            info!("stopped");
        } else {
            warn!("stopped with streams under way");
        }
        ExitCode::SUCCESS
    });
    // Tasks that still run, a request to Kafka for example, have nobody left to answer: they are not waited for.
    runtime.shutdown_background();
    code
}

fn runtime(threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).thread_name("tidegate").enable_all().build()
}

/// Prints one line with the bound ports, for the program that started this process.
fn ready(running: &RunningServer) {
    let listeners: Vec<String> = running.listeners.iter().map(ToString::to_string).collect();
    let admin = running.admin.map(|address| address.to_string());
    info!(listeners = listeners.join(", "), admin = admin.as_deref(), "ready");
    say(&mut std::io::stdout(), &format!("ready {}", json!({ "listeners": listeners, "admin": admin })));
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    error!(%error, "cannot start");
    say(&mut std::io::stderr(), &format!("tidegate: {error}"));
    ExitCode::FAILURE
}
