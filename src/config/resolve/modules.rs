//! Sections of the modules that need nothing but the database, and the events where there are any.

use super::playback::PlaybackSections;
use super::{ConfigLocation, channels, lyrics, playback, player, playlists, radio, recognition, schedules, telegram};
use crate::config::file::ConfigFile;

/// Settings of modules. Of each the outer `None` is one that is wrong, the inner one that is not configured.
pub(super) struct ResolvedModules {
    pub playback: Option<Option<::playback::player::settings::Settings>>,
    pub lyrics: Option<Option<::lyrics::settings::Settings>>,
    pub radio: Option<Option<::radio::settings::Settings>>,
    pub channels: Option<Option<::channels::settings::Settings>>,
    pub playlists: Option<Option<::playlists::settings::Settings>>,
    pub recognition: Option<Option<::recognition::settings::Settings>>,
    pub schedules: Option<Option<::schedules::settings::Settings>>,
    pub telegram: Option<Option<::telegram::settings::Settings>>,
    pub player: Option<Option<::player_page::settings::Settings>>,
}

/// Resolves the sections of `file`; problems are reported at `at`.
pub(super) fn modules(at: &ConfigLocation<'_>, file: &ConfigFile, sections: PlaybackSections) -> ResolvedModules {
    let database = sections.database;
    ResolvedModules {
        playback: playback::playback(&at.key("Playback"), file.playback.as_ref(), sections),
        lyrics: lyrics::lyrics(&at.key("Lyrics"), file.lyrics.as_ref(), sections),
        radio: radio::radio(&at.key("Radio"), file.radio.as_ref(), sections),
        channels: channels::channels(&at.key("Channels"), file.channels.as_ref(), database),
        playlists: playlists::playlists(&at.key("Playlists"), file.playlists.as_ref(), database),
        recognition: recognition::recognition(&at.key("Recognition"), file.recognition.as_ref(), database),
        schedules: schedules::schedules(&at.key("Schedules"), file.schedules.as_ref(), database),
        telegram: telegram::telegram(&at.key("Telegram"), file.telegram.as_ref(), database),
        player: player::player(&at.key("Player"), file.player.as_ref()),
    }
}
