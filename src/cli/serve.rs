//! Command `tidegate serve`: reads the configuration and serves until asked to stop.

use std::path::Path;
use std::process::ExitCode;

use axum::Router;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tracing::{error, info, warn};

use super::{check, refuse, say};
use crate::app::{self, ReopenableFiles, RunningServer};
use crate::config::{self, Settings};
use primitives::lifecycle::{ProcessSignal, ProcessSignals};
use server_kit::telemetry::log;

/// Serves the configuration of `file`.
pub fn run(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(settings) => with(settings, Router::new(), ready),
        Err(report) => refuse(&report),
    }
}

/// Serves `settings` and the pages `extra`; `started` is called with the bound addresses.
pub fn with(settings: Settings, extra: Router, started: impl FnOnce(&RunningServer)) -> ExitCode {
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
        let running = match app::start(settings, extra).await {
            Ok(running) => running,
            Err(error) => return fail(&error),
        };
        started(&running);
        let files = running.files();
        stop_signal(&mut signals, &files).await;
        info!("stopping: streams under way may end");
        // The second signal ends the wait for streams.
        if running.stop(stop_signal(&mut signals, &files)).await {
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

/// Answers signals until one asks for a stop.
async fn stop_signal(signals: &mut ProcessSignals, files: &ReopenableFiles) {
    loop {
        match signals.next().await {
            ProcessSignal::Stop => return,
            ProcessSignal::ReopenFiles => files.reopen(),
            ProcessSignal::Reload => {
                warn!("SIGHUP: reload is not available in this version; restart to change the configuration");
            }
        }
    }
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
