//! Command `tidegate demo`: object proxy without configuration: sample music in a folder, served through the proxy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rand::distr::{Alphanumeric, SampleString};
use serde_json::Map;

use super::demo_catalog::FolderCatalog;
use super::{refuse, say, serve};
use crate::config::{self, Settings};
use demo::configuration;
use demo::media::{self, AudioFile};
use http_server::bind::BoundAddress;
use primitives::clock::Clock;
use server_kit::auth::TokenIssuer;

/// Lifetime of the demo's token.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// The user of the demo, whose the tracks are.
pub(super) const USER: &str = "demo";
/// The bucket of the demo's configuration.
pub(super) const BUCKET: &str = "audio";
/// Characters of a key that need no encoding in a path (RFC 3986 §2.3, and the separator).
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Where the demo keeps its music and listens.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// The folder with the music; what you drop into its `audio` folder is served too.
    #[arg(long, default_value = "data/demo")]
    folder: PathBuf,
    /// The port on loopback; another one is taken when it is busy.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

/// Creates the sample music, prints what to try, and serves until asked to stop.
pub fn run(arguments: &DemoArgs) -> ExitCode {
    let tracks = match prepare(arguments) {
        Ok(tracks) => tracks,
        Err(error) => {
            say(&mut io::stderr(), &format!("tidegate demo: cannot write to {}: {error}", arguments.folder.display()));
            return ExitCode::FAILURE;
        }
    };
    let secret = Alphanumeric.sample_string(&mut rand::rng(), 48);
    let text = configuration(&arguments.folder, free_address(arguments.port));
    // The secret is passed as a variable of this lookup only: it is neither in the text, which a report would show, nor
    // in the process's environment.
    let environment = |name: &str| (name == "TIDEGATE_DEMO_SECRET").then(|| secret.clone());
    let mut settings = match config::load_text("the demo's configuration", &text, &environment) {
        Ok(settings) => settings,
        Err(report) => return refuse(&report),
    };
    let Some(token) = token(&settings) else {
        say(&mut io::stderr(), "tidegate demo: the demo's configuration has no issuer to make a token for");
        return ExitCode::FAILURE;
    };
    // The page is on loopback, and whoever is there may listen.
    settings.player.iter_mut().for_each(|page| page.token = Some(token.clone()));
    let catalog = FolderCatalog::new(&settings, arguments.folder.join(BUCKET));
    if let Err(error) = catalog.and_then(FolderCatalog::follow) {
        say(&mut io::stderr(), &format!("tidegate demo: the music cannot be put into the catalogue: {error}"));
        return ExitCode::FAILURE;
    }
    serve::with(settings, None, Router::new(), |running| {
        if let Some(address) = running.listeners.first().and_then(BoundAddress::tcp) {
            say(&mut io::stdout(), &welcome(address, &token, &tracks, &arguments.folder));
        }
    })
}

fn prepare(arguments: &DemoArgs) -> io::Result<Vec<AudioFile>> {
    let folder = arguments.folder.join(BUCKET);
    std::fs::create_dir_all(&folder)?;
    media::generate_samples(&folder, |step| say(&mut io::stdout(), step))?;
    media::tracks(&folder)
}

/// Returns the wanted port, or port 0 (any) if it is busy.
fn free_address(port: u16) -> SocketAddr {
    let wanted = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    match TcpListener::bind(wanted) {
        // The probe is closed again here; another program may take the port in between, and the start then fails with
        // its own message.
        Ok(_) => wanted,
        Err(_) => SocketAddr::new(wanted.ip(), 0),
    }
}

fn token(settings: &Settings) -> Option<String> {
    let issuer = TokenIssuer::new(settings.auth.issuers.first()?)?.ok()?;
    Some(issuer.issue(USER, TOKEN_LIFE, &Map::new(), &Clock::system()))
}

fn welcome(address: SocketAddr, token: &str, tracks: &[AudioFile], folder: &std::path::Path) -> String {
    let key = tracks.first().map_or("", |track| track.key.as_str());
    let url = format!("http://{address}/stream/{}", utf8_percent_encode(key, PATH));
    let folder = folder.join(BUCKET);
    format!(
        "
Tidegate serves {count} tracks from {folder} on http://{address}
Drop audio files into that folder to serve them too.

Listen and seek in the browser:
  http://{address}/player/

A token, good for a day:
  {token}

Try (with TOKEN set to it):
  TOKEN={token}
  curl -i -H \"Authorization: Bearer $TOKEN\" -r 0-99 -o /dev/null -D - {url}
  curl -I -H \"Authorization: Bearer $TOKEN\" {url}
  curl -i {url}

Stop with Ctrl-C.",
        count = tracks.len(),
        folder = folder.display(),
    )
}
