//! Keys of the configuration that a running process cannot change.

use std::net::SocketAddr;

use crate::app::cache;
use crate::config::Settings;
use crate::proxy::process::Process;
use http_server::connection_counts::ConnectionCountSettings;
use http_server::connection_limits::ConnectionLimits;

/// Returns where the admin listener is.
fn admin_place(settings: &Settings) -> Option<(SocketAddr, &Option<String>)> {
    settings.admin.as_ref().map(|admin| (admin.address, &admin.socket))
}

/// Returns the keys by which `new` differs from `old` in what a running process cannot change.
pub fn fixed_differences(old: &Settings, new: &Settings, process: &Process) -> Vec<&'static str> {
    let (old_http, new_http) = (&old.server.http, &new.server.http);
    let (old_limits, new_limits) = (old_http.limits, new_http.limits);
    let with_old_times = ConnectionLimits {
        head: old_limits.head,
        write: old_limits.write,
        body: old_limits.body,
        idle: old_limits.idle,
        ..new_limits
    };
    let of_clients = |counts: ConnectionCountSettings| (counts.per_address, counts.per_network);
    let is_limited_otherwise =
        old_limits != with_old_times || of_clients(old_http.connections) != of_clients(new_http.connections);
    let needs_cache = process.cache.is_none() && cache::is_used(new);
    let ends_streams = new.auth.end_revoked_streams && process.revocations.is_none();
    [
        ("Server.Listeners", old_http.listeners != new_http.listeners),
        ("Server.Threads", old_http.threads != new_http.threads),
        ("Server.HeaderTimeout", old_limits.head != new_limits.head),
        ("Server.WriteTimeout", old_limits.write != new_limits.write),
        ("Server.BodyTimeout", old_limits.body != new_limits.body),
        ("Server.KeepAliveTimeout", old_limits.idle != new_limits.idle),
        ("Server.Limits (other than RequestTimeout)", is_limited_otherwise),
        ("Server.ShutdownDelay", old_http.shutdown_delay != new_http.shutdown_delay),
        ("Server.ShutdownGrace", old_http.shutdown_grace != new_http.shutdown_grace),
        ("Server.MaxConnections", old_http.connections.total != new_http.connections.total),
        ("Server.PidFile or Server.UpgradeTimeout", old.process != new.process),
        ("Server.Acme", old.acme != new.acme),
        ("Server.Admin (other than Token)", admin_place(old) != admin_place(new)),
        ("Auth.PathToken (on or off)", old.auth.path_token.is_some() != new.auth.path_token.is_some()),
        ("Auth.EndRevokedStreams", ends_streams),
        ("Cache", old.cache != new.cache),
        ("Cache (no route used one at the start)", needs_cache),
        ("State", old.state != new.state),
        ("Database", old.database != new.database),
        ("Positions", old.positions != new.positions),
        ("Playback", old.playback != new.playback),
        ("Events", old.events != new.events),
        ("Share", old.share != new.share),
        ("Vod", old.vod != new.vod),
        ("Telemetry.LogLevel", old.telemetry.log_level != new.telemetry.log_level),
        ("Telemetry.AccessLog.Format", old.telemetry.access_log != new.telemetry.access_log),
    ]
    .into_iter()
    .filter_map(|(key, is_changed)| is_changed.then_some(key))
    .collect()
}
