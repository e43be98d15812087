//! Command `tidegate serve`: reads the configuration and serves until asked to stop.

use std::future::pending;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use futures::FutureExt as _;
use futures::future::{Fuse, FusedFuture as _};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tracing::{error, info, warn};

use super::pid_file::{PidFile, PreparedPidFile};
use super::upgrade_socket::{UpgradeOutcome, UpgradeRequest, UpgradeSocket};
use super::{check, refuse, say, service_manager};
use crate::app::upgrade::{PredecessorProcess, SuccessorProcess, UPGRADE_VARIABLE, UpgradeError, UpgradeLauncher};
use crate::app::{self, EarlyResources, ReopenableFiles, RunningServer};
use crate::config::{self, Settings};
use http_server::listen_sockets::ListenSockets;
use primitives::lifecycle::{ProcessSignal, ProcessSignals};
use server_kit::api::config_reload::ConfigReload;
use server_kit::telemetry::log;

/// Time for the last lines of the access log's file to be written.
const LAST_LINES_TIME: Duration = Duration::from_secs(2);

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
    let log = match log::start(&settings.telemetry) {
        Ok(log) => log,
        Err(error) => return fail(&error),
    };
    for note in &settings.source.notes {
        info!("{note}");
    }
    for warning in check::warnings(&settings) {
        warn!("{warning}");
    }
    // First, while no other thread could open a descriptor or read the environment.
    let sockets = match ListenSockets::inherit(config::environment("LISTEN_FDNAMES").as_deref()) {
        Ok(sockets) => sockets,
        Err(error) => return fail(&error),
    };
    let runtime = match runtime(settings.server.http.worker_threads()) {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = runtime.block_on(async {
        // Before the start: a signal that arrives while it runs must not end the process unasked.
        let mut signals = match ProcessSignals::listen() {
            Ok(signals) => signals,
            Err(error) => return fail(&error),
        };
        let process = settings.process.clone();
        let launcher = UpgradeLauncher::of_this_process(process.upgrade_timeout);
        let predecessor = predecessor();
        let early = EarlyResources { sockets, predecessor: predecessor.clone(), log: log.clone() };
        let running = match app::start_with(settings, file, extra, early).await {
            Ok(running) => running,
            Err(error) => return fail(&error),
        };
        let socket = UpgradeSocket::open();
        let mut pid_file = match take_over(process.pid_file.as_deref(), predecessor.as_ref()).await {
            Ok(file) => file,
            Err(error) => return fail(&error),
        };
        started(&running);
        let upgrades = ProcessUpgrades { launcher, sockets: running.sockets(), predecessor, socket };
        serve(running, &mut signals, &upgrades, &mut pid_file).await;
        ExitCode::SUCCESS
    });
    if let Some(access_log) = &log.access_log {
        access_log.flush(LAST_LINES_TIME);
    }
    // Tasks that still run, a request to Kafka for example, have nobody left to answer: they are not waited for.
    runtime.shutdown_background();
    code
}

/// Tells those who wait that this process serves: the file of its id, the service manager and the process before, which
/// until its answer may go on in place of this one. Fails where the file cannot be written.
async fn take_over(
    pid_file: Option<&Path>,
    predecessor: Option<&PredecessorProcess>,
) -> std::io::Result<Option<PidFile>> {
    let prepared = pid_file.map(PreparedPidFile::write).transpose()?;
    if let Some(former) = predecessor {
        former.hand_over().await;
    }
    let file = prepared.map(PreparedPidFile::publish).transpose()?;
    service_manager::ready();
    if let Some(former) = predecessor {
        former.tell_serving();
    }
    Ok(file)
}

/// Serves until a signal asks for the end, or another process has taken over.
async fn serve(
    running: RunningServer,
    signals: &mut ProcessSignals,
    upgrades: &ProcessUpgrades,
    pid_file: &mut Option<PidFile>,
) {
    let (files, reloader) = (running.files(), running.reloader());
    let whole = match until_end(signals, &files, reloader.as_deref(), upgrades, pid_file).await {
        EndCause::Stopped => {
            service_manager::stopping();
            info!("stopping: streams under way may end");
            // The second signal ends the wait for streams.
            running.stop(stop_signal(signals, &files, &upgrades.socket)).await
        }
        EndCause::Replaced(successor) => {
            info!(
                process = successor.process,
                "upgrade: the process {} serves now; streams under way may end", successor.process
            );
            running.stop_for(successor, stop_signal(signals, &files, &upgrades.socket)).await
        }
    };
    if whole {
        info!("stopped");
    } else {
        warn!("stopped with streams under way");
    }
}

/// Cause of the process's end.
enum EndCause {
    /// A signal.
    Stopped,
    /// Another process has taken over.
    Replaced(SuccessorProcess),
}

/// Resources of an upgrade.
struct ProcessUpgrades {
    launcher: UpgradeLauncher,
    sockets: ListenSockets,
    predecessor: Option<PredecessorProcess>,
    socket: UpgradeSocket,
}

impl ProcessUpgrades {
    /// Has a new process take over, once the former one has ended: three at a time would be three times the memory.
    async fn replace(&self) -> Result<SuccessorProcess, UpgradeError> {
        if let Some(former) = &self.predecessor {
            former.ended().await;
        }
        self.launcher.start(&self.sockets).await
    }
}

/// Answers signals and requests for an upgrade until a signal asks for a stop, or an upgrade has succeeded.
async fn until_end(
    signals: &mut ProcessSignals,
    files: &ReopenableFiles,
    reloader: Option<&dyn ConfigReload>,
    upgrades: &ProcessUpgrades,
    pid_file: &mut Option<PidFile>,
) -> EndCause {
    let mut reloading = pin!(Fuse::terminated());
    let mut reload_again = false;
    let mut upgrade = pin!(Fuse::terminated());
    let mut asked = None;
    let mut watchdog = service_manager::ServiceWatchdog::start();
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                ProcessSignal::Stop => return EndCause::Stopped,
                ProcessSignal::ReopenFiles => files.reopen(),
                ProcessSignal::Reload if reloading.is_terminated() => reloading.set(reload(reloader).fuse()),
                // The file may have been read before.
                ProcessSignal::Reload => reload_again = true,
                ProcessSignal::Upgrade if upgrade.is_terminated() => upgrade.set(upgrades.replace().fuse()),
                ProcessSignal::Upgrade => warn!("SIGUSR2: an upgrade is under way already"),
            },
            request = upgrades.socket.next() => match upgrade.is_terminated() {
                true => {
                    asked = Some(request);
                    upgrade.set(upgrades.replace().fuse());
                }
                false => request.answer(&failure("an upgrade is under way already")).await,
            },
            outcome = &mut upgrade => match outcome {
                Ok(successor) => {
                    service_manager::replaced_by(successor.process);
                    answer(&mut asked, &UpgradeOutcome::Upgraded(successor.process)).await;
                    return EndCause::Replaced(successor);
                }
                Err(error) => {
                    error!(%error, "the upgrade failed, and this process goes on");
                    restore(pid_file);
                    answer(&mut asked, &failure(&error.to_string())).await;
                }
            },
            () = withdrawn(&mut asked) => {
                // Where a new process was started, it ends with this.
                upgrade.set(Fuse::terminated());
                warn!("the upgrade was withdrawn by whoever asked for it, and this process goes on");
                restore(pid_file);
                answer(&mut asked, &failure("the request was withdrawn")).await;
            }
            () = &mut reloading => if std::mem::take(&mut reload_again) {
                reloading.set(reload(reloader).fuse());
            },
            () = watchdog.due() => service_manager::alive(),
        }
    }
}

fn failure(reason: &str) -> UpgradeOutcome {
    UpgradeOutcome::Failed(reason.to_owned())
}

/// Tells the outcome to whoever has asked for the upgrade, if it was not asked for by a signal.
async fn answer(asked: &mut Option<UpgradeRequest>, outcome: &UpgradeOutcome) {
    if let Some(request) = asked.take() {
        request.answer(outcome).await;
    }
}

/// Resolves when whoever has asked for the upgrade does not wait any longer; never where it was asked for by a signal.
async fn withdrawn(asked: &mut Option<UpgradeRequest>) {
    match asked {
        Some(request) => request.withdrawn().await,
        None => pending().await,
    }
}

/// Has the file of the process id name this process again: a new one that failed may have written it.
fn restore(pid_file: &mut Option<PidFile>) {
    if let Some(error) = pid_file.as_mut().and_then(|file| file.restore().err()) {
        error!(%error, "the file of the process id names a process that has ended");
    }
}

/// Answers signals until one asks for a stop, and whoever asks for an upgrade.
async fn stop_signal(signals: &mut ProcessSignals, files: &ReopenableFiles, socket: &UpgradeSocket) {
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            request = socket.next() => {
                request.answer(&failure(&format!("the process {} is ending", std::process::id()))).await;
                continue;
            }
        };
        match signal {
            ProcessSignal::Stop => return,
            ProcessSignal::ReopenFiles => files.reopen(),
            ProcessSignal::Reload => warn!("SIGHUP: the process is ending"),
            ProcessSignal::Upgrade => warn!("SIGUSR2: the process is ending"),
        }
    }
}

/// Reloads the configuration file, if there is one; what came of it is in the log.
async fn reload(reloader: Option<&dyn ConfigReload>) {
    service_manager::reloading();
    match reloader {
        Some(reloader) => drop(reloader.reload("SIGHUP").await),
        None => warn!("SIGHUP: there is no configuration file"),
    }
    // Whatever became of it, the service goes on: systemd waits for this.
    service_manager::ready();
}

/// Returns the process that this one replaces, where there is one.
fn predecessor() -> Option<PredecessorProcess> {
    config::environment(UPGRADE_VARIABLE)?;
    PredecessorProcess::connect()
        .inspect_err(|error| error!(%error, "standard input leads to no process that this one could replace"))
        .ok()
}

fn runtime(threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).thread_name("tidegate").enable_all().build()
}

/// Prints one line with the bound ports, for the program that started this process.
fn ready(running: &RunningServer) {
    let listeners: Vec<String> = running.listeners.iter().map(ToString::to_string).collect();
    let admin = running.admin.map(|address| address.to_string());
    info!(listeners = listeners.join(", "), admin = admin.as_deref(), "ready");
    let line = format!("ready {}", json!({ "listeners": listeners, "admin": admin }));
    // In a thread of its own: a pipe that nobody reads keeps nobody from being served. One that cannot be started leaves the
    // line out.
    let _ = std::thread::Builder::new().name("ready".to_owned()).spawn(move || say(&mut std::io::stdout(), &line));
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    error!(%error, "cannot start");
    say(&mut std::io::stderr(), &format!("tidegate: {error}"));
    ExitCode::FAILURE
}
