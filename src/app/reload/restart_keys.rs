//! Keys of the configuration that a running process cannot change.

use crate::config::Settings;
use crate::proxy::process::Process;

/// Returns the keys by which `new` differs from `old` in what a running process cannot change.
pub fn fixed_differences(old: &Settings, new: &Settings, process: &Process) -> Vec<&'static str> {
    let (old_http, new_http) = (&old.server.http, &new.server.http);
    let ends_streams = new.auth.end_revoked_streams && process.revocations.is_none();
    [
        ("Server.Threads", old_http.threads != new_http.threads),
        ("Server.PidFile or Server.UpgradeTimeout", old.process != new.process),
        ("Auth.PathToken (on or off)", old.auth.path_token.is_some() != new.auth.path_token.is_some()),
        ("Auth.EndRevokedStreams", ends_streams),
        ("State", old.state != new.state),
        ("Database", old.database != new.database),
        ("Positions", old.positions != new.positions),
        ("Playback", old.playback != new.playback),
        ("Lyrics", old.lyrics != new.lyrics),
        ("Radio", old.radio != new.radio),
        ("Channels", old.channels != new.channels),
        ("Playlists", old.playlists != new.playlists),
        ("Recognition", old.recognition != new.recognition),
        ("Schedules", old.schedules != new.schedules),
        ("Telegram", old.telegram != new.telegram),
        ("Backup", old.backup != new.backup),
        ("Events", old.events != new.events),
        ("Share", old.share != new.share),
        ("Player", old.player != new.player),
        ("Vod", old.vod != new.vod),
        ("Telemetry.AccessLog.Format or Template", old.telemetry.access_format != new.telemetry.access_format),
        ("Telemetry.AccessLog.File, Output or Syslog", old.telemetry.access_output != new.telemetry.access_output),
    ]
    .into_iter()
    .filter_map(|(key, is_changed)| is_changed.then_some(key))
    .collect()
}
