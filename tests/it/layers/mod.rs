//! The layers that the compiler does not hold. Members of the workspace can only use what their `Cargo.toml` names; this
//! reads the rest: which modules of one member may use each other, where an external crate may be named, that every
//! dependency is used, and that `docs/architecture.md` lists every member and module.

mod examples;
mod pages;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules of the members that have several, and what each may use of its own member. `*`: everything.
const MODULES: &[(&str, &str)] = &[
    (
        "src",
        "
        proxy:
        config:    proxy
        cli:       *
        app:       *
        ",
    ),
    (
        "crates/primitives/src",
        "
        secret:
        regular_file:
        blocking_calls:
        change_detector: clock
        unix_time:
        clock: unix_time
        ids:
        loading_cache: clock
        failure_log: clock
        lifecycle:
        ",
    ),
    (
        "crates/server-kit/src",
        "
        failed_attempts:
        database:
        redis:
        telemetry:
        live_streams:
        auth:      database redis on
        limit:     failed_attempts database redis on
        admission: auth limit
        api:       admission auth limit live_streams telemetry
        ",
    ),
    (
        "crates/lyrics/src",
        "
        text:
        settings:     sources text
        sources:      settings text track_lyrics
        track_lyrics: sources text
        metrics:      sources
        store:        Error
        recent_failures:
        track_question: LyricsTrack metrics service sources track_lyrics
        edit_events:  LyricsTrack track_lyrics
        service:      Error LyricsTrack TrackResolver edit_events metrics recent_failures search settings sources store track_lyrics track_question
        search:       Error metrics service sources store track_lyrics
        view:         search service sources store text track_lyrics
        bodies:       sources text track_lyrics
        routes:       Error LyricsTrack bodies service view
        tests:        Error LyricsTrack TrackResolver service settings sources text track_lyrics
        ",
    ),
    (
        "crates/playback/src",
        "
        player:    reports
        positions:
        reports:
        ",
    ),
    (
        "crates/vod/src",
        "
        settings:
        cmcd:
        player_metrics: cmcd
        session:      settings
        metrics:      session
        subscription: metrics settings
        events:
        film_store:
        grant:        session settings
        manifest:     session
        manifest_url: grant session
        view_log:     metrics session
        service:      events film_store grant manifest_url metrics session settings subscription view_log
        movie_id:
        page:         movie_id settings
        routes:       events grant movie_id service session
        session_routes: movie_id session
        ",
    ),
    (
        "crates/share/src",
        "
        settings:
        metrics:
        recent_addresses:
        token_bucket:
        refusal:      audio session
        access:       refusal token_bucket
        tickets:      refusal session
        thumbnails:   session
        program:      Relay audio refusal session tickets
        listening_right: Relay tickets
        audio:        metrics
        session:      audio metrics recent_addresses recording refusal replication thumbnails tickets token_bucket
        recording:    audio metrics session settings
        replication:  audio metrics refusal session settings tickets
        transport:    *
        ",
    ),
];

/// Folders of pure state: inputs and times go in, effects come out.
const PURE: &[&str] = &["crates/share/src/session/state/"];

/// Crates of locks, tasks, sockets, stores, chance and the log, which pure state does not name.
const IMPURE: &[&str] =
    &["axum", "fred", "http", "hyper", "parking_lot", "prometheus", "rand", "reqwest", "tokio", "tracing"];

/// Files that may name an external crate, by the beginnings of their paths. Crates that are not listed may be named
/// wherever `Cargo.toml` allows it.
const ADAPTERS: &[(&str, &[&str])] = &[
    (
        "fred",
        &[
            "crates/server-kit/src/redis/",
            "crates/server-kit/src/auth/revocation.rs",
            "crates/server-kit/src/limit/egress_store.rs",
            "crates/server-kit/src/limit/shared_limits.rs",
            "crates/catalog/src/api/stream_url_cache.rs",
            "crates/channels/src/feed/relay.rs",
            "crates/channels/src/player/station_store/redis.rs",
            "crates/channels/src/queue/store/redis.rs",
            "crates/playback/src/player/event_relay.rs",
            "crates/playback/src/player/store/redis.rs",
            "crates/playback/src/positions/store/",
            "crates/playback/src/positions/write_back/redis.rs",
            "crates/share/src/replication/",
            "crates/vod/src/session/redis.rs",
            "crates/vod/src/subscription/cache.rs",
        ],
    ),
    (
        "sqlx",
        &[
            "crates/server-kit/src/database/",
            "crates/server-kit/src/auth/revocation.rs",
            "crates/server-kit/src/limit/egress_store.rs",
            "crates/backup/src/source/postgres.rs",
            "crates/backup/src/source/sqlite.rs",
            "crates/backup/src/store.rs",
            "crates/catalog/src/lib.rs",
            "crates/catalog/src/grants.rs",
            "crates/catalog/src/tracks.rs",
            "crates/events/src/outbox/",
            "crates/lyrics/src/store.rs",
            "crates/playback/src/player/channel_store.rs",
            "crates/playback/src/positions/store/",
            "crates/playlists/src/store.rs",
            "crates/radio/src/station_store.rs",
            "crates/recognition/src/history.rs",
            "crates/schedules/src/run_store.rs",
            "crates/schedules/src/store.rs",
            "crates/telegram/src/database_queries.rs",
            "crates/telegram/src/link_store.rs",
            "crates/telegram/src/update_store.rs",
            "crates/vod/src/view_log.rs",
        ],
    ),
    ("lofty", &["crates/lyrics/src/sources/embedded/tags.rs"]),
    ("rdkafka", &["crates/events/src/"]),
    ("h2", &["crates/http-server/src/http2/"]),
    ("instant_acme", &["crates/acme/src/"]),
    ("pingora", &["crates/http-server/src/", "crates/upstream/src/connection.rs"]),
    ("jsonwebtoken", &["crates/server-kit/src/auth/", "src/cli/token.rs"]),
    ("s3s", &["crates/demo/src/embedded/"]),
    ("rusty_s3", &["crates/s3/src/", "crates/demo/src/embedded/tests/"]),
    ("opentelemetry_proto", &["crates/request-traces/src/otlp/"]),
    ("prost", &["crates/request-traces/src/otlp/"]),
    ("tonic", &["crates/request-traces/src/otlp/"]),
    ("opusic_c", &["crates/share/src/", "crates/track-audio/src/opus.rs"]),
    ("clap", &["src/cli/"]),
    ("command_fds", &["src/app/upgrade.rs"]),
    ("listenfd", &["crates/http-server/src/listen_sockets.rs"]),
    ("sd_notify", &["src/cli/service_manager.rs"]),
    ("saphyr", &["src/config/source.rs"]),
];

/// `from` uses `to`, seen in `file` on `line`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    file: PathBuf,
    line: usize,
    from: String,
    to: String,
}

#[test]
fn every_module_uses_only_what_its_layer_may_use() {
    for (folder, allowed) in MODULES {
        let allowed = table(allowed);
        let mut edges = Vec::new();
        for file in rust_files(&root().join(folder)) {
            let inside = file.strip_prefix(root().join(folder)).expect("the file is in its folder").to_owned();
            edges.extend(edges_of(&inside, &text(&file)));
        }
        assert!(folder.starts_with("crates/p") || !edges.is_empty(), "{folder}: no `crate::` path found at all");
        let wrong = forbidden(&allowed, &edges);
        assert!(wrong.is_empty(), "{folder}: edges that tests/it/layers.rs does not list:\n{}", wrong.join("\n"));
        let unused = unused(&allowed, &edges);
        assert!(unused.is_empty(), "{folder}: edges of tests/it/layers.rs that nothing uses: {unused:?}");
    }
}

#[test]
fn external_crates_are_named_only_in_their_adapters() {
    let sources = sources();
    for (name, places) in ADAPTERS {
        let named: Vec<&String> =
            sources.iter().filter(|(_, text)| mentions(text, name)).map(|(file, _)| file).collect();
        let wrong: Vec<_> = named.iter().filter(|file| !places.iter().any(|place| file.starts_with(place))).collect();
        assert!(wrong.is_empty(), "`{name}` is named outside its adapters: {wrong:?}");
        let idle: Vec<_> = places.iter().filter(|place| !named.iter().any(|file| file.starts_with(**place))).collect();
        assert!(idle.is_empty(), "`{name}` is not named any more in {idle:?}: take it out of tests/it/layers.rs");
    }
}

#[test]
fn pure_state_names_no_lock_no_task_no_socket_and_no_clock() {
    let sources = sources();
    let pure: Vec<_> = sources.iter().filter(|(file, _)| PURE.iter().any(|folder| file.starts_with(folder))).collect();
    assert!(!pure.is_empty(), "no file in {PURE:?}");
    for (file, text) in pure {
        let named: Vec<_> = IMPURE.iter().filter(|name| mentions(text, name)).collect();
        assert!(named.is_empty(), "{file} names {named:?}");
        // Points in time are plain values.
        let rest = text.replace("primitives::unix_time", "");
        assert!(!mentions(&rest, "primitives"), "{file} names the clock or tasks: times are arguments");
    }
}

#[test]
fn every_dependency_of_a_member_is_used() {
    let mut folders: Vec<PathBuf> = subfolders(&root().join("crates"));
    folders.push(root());
    for folder in folders {
        let manifest = text(&folder.join("Cargo.toml"));
        let code: String = rust_files(&folder.join("src")).iter().map(|file| text(file)).collect();
        // Those that are there for a feature alone say so to cargo-machete too.
        let ignored = manifest.lines().find(|line| line.starts_with("ignored = ")).unwrap_or_default();
        for name in dependencies(&manifest).iter().filter(|name| !ignored.contains(&format!("\"{name}\""))) {
            assert!(mentions(&code, &name.replace('-', "_")), "{}: `{name}` is not used", folder.display());
        }
    }
}

#[test]
fn the_table_of_the_architecture_lists_every_member_and_module() {
    let document = text(&root().join("docs/architecture.md"));
    let mut listed: BTreeSet<String> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| line.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2).map(str::to_owned))
        .collect();
    let mut there: BTreeSet<String> = modules_of(&root().join("src")).map(|name| format!("src/{name}")).collect();
    for member in subfolders(&root().join("crates")) {
        let name = format!("crates/{}", file_name(&member));
        there.extend(
            modules_of(&member.join("src")).filter(|module| module.ends_with('/')).map(|m| format!("{name}/{m}")),
        );
        there.insert(name + "/");
    }
    for module in subfolders(&root().join("src")) {
        let name = file_name(&module);
        there.extend(subfolders(&module).iter().map(|folder| format!("src/{name}/{}/", file_name(folder))));
    }
    there.retain(|name| !["/testdata/", "/tests/", "/page/"].iter().any(|end| name.ends_with(end)));
    // A file of its member that has a row of its own.
    listed.remove("failed_attempts.rs");
    let missing: Vec<_> = there.difference(&listed).collect();
    assert!(missing.is_empty(), "docs/architecture.md lacks a row for {missing:#?}");
    let gone: Vec<_> = listed.difference(&there).collect();
    assert!(gone.is_empty(), "docs/architecture.md lists what is not there: {gone:#?}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn table(lines: &str) -> BTreeMap<String, Vec<String>> {
    let words = |to: &str| to.split_whitespace().map(str::to_owned).collect();
    lines
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(from, to)| (from.to_owned(), words(to)))
        .collect()
}

/// The edges that `allowed` does not have, as messages.
fn forbidden(allowed: &BTreeMap<String, Vec<String>>, edges: &[Edge]) -> Vec<String> {
    let may = |edge: &&Edge| {
        allowed.get(&edge.from).is_some_and(|to| to.iter().any(|to| to == "*" || *to == edge.to))
            || (edge.from == "lib" || edge.from == "main")
    };
    let message =
        |edge: &Edge| format!("{}:{}: `{}` must not use `{}`", edge.file.display(), edge.line, edge.from, edge.to);
    edges.iter().filter(|edge| edge.from != edge.to && !may(edge)).map(message).collect()
}

/// The edges that `allowed` has and nothing uses.
fn unused(allowed: &BTreeMap<String, Vec<String>>, edges: &[Edge]) -> Vec<String> {
    let uses = |from: &str, to: &str| edges.iter().any(|edge| edge.from == from && edge.to == to);
    let pairs = allowed.iter().flat_map(|(from, tos)| tos.iter().map(move |to| (from, to)));
    pairs.filter(|(from, to)| *to != "*" && !uses(from, to)).map(|(from, to)| format!("{from}: {to}")).collect()
}

/// The edges that the text of one file (its path relative to its member's `src/`) makes.
fn edges_of(file: &Path, text: &str) -> Vec<Edge> {
    let module = |path: &Path| path.components().next().map(|first| first.as_os_str().to_string_lossy().into_owned());
    let from = module(&file.with_extension("")).expect("a path has a first component");
    // `mod.rs` stands for its folder; any other file is one level below it.
    let depth = file.components().count() - usize::from(file.ends_with("mod.rs"));
    let code: Vec<String> = text.lines().map(without_comment).collect();
    let mut edges = Vec::new();
    for (index, line) in code.iter().enumerate() {
        let rest = || code[index..].join("\n");
        let mut found: Vec<String> = line
            .match_indices("crate::")
            .filter(|(at, _)| !line[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
            .flat_map(|(at, _)| names(&rest()[at + "crate::".len()..]))
            .collect();
        if let Some(path) = escaping_super(line, depth) {
            found.extend(names(&path));
        }
        found.sort();
        found.dedup();
        edges.extend(found.into_iter().map(|to| Edge { file: file.into(), line: index + 1, from: from.clone(), to }));
    }
    edges
}

/// The path after the `super::`s of a top-level `use`, where they reach the crate's root. (Indented ones stand in an
/// inline module, which is one level deeper.)
fn escaping_super(line: &str, depth: usize) -> Option<String> {
    let path = ["use ", "pub use ", "pub(crate) use "].iter().find_map(|start| line.strip_prefix(start))?;
    let mut rest = path;
    let mut ups = 0;
    while let Some(next) = rest.strip_prefix("super::") {
        rest = next;
        ups += 1;
    }
    (ups >= depth && ups > 0).then(|| rest.to_owned())
}

/// The first names of a path, or of each path in a `{…}` group.
fn names(path: &str) -> Vec<String> {
    let word =
        |text: &str| -> String { text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = path.strip_prefix('{') else {
        return Some(word(path)).filter(|name| !name.is_empty()).into_iter().collect();
    };
    let mut nesting = 0usize;
    let mut parts = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => nesting += 1,
            '}' if nesting == 0 => break,
            '}' => nesting -= 1,
            ',' if nesting == 0 => parts.push(String::new()),
            _ => {}
        }
        parts.last_mut().expect("there is always one part").push(c);
    }
    parts.iter().map(|part| word(part.trim_start_matches([',', ' ', '\n']))).filter(|name| !name.is_empty()).collect()
}

fn without_comment(line: &str) -> String {
    if line.trim_start().starts_with("//") { String::new() } else { line.to_owned() }
}

/// Whether code names the external crate `name` in a path or a `use`.
fn mentions(code: &str, name: &str) -> bool {
    code.lines().map(without_comment).any(|line| {
        line.match_indices(name).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + name.len()..]);
            let starts = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                || before
                    .strip_suffix("::")
                    .is_some_and(|before| before.is_empty() || before.ends_with([' ', '(', '<', '[']));
            starts && (after.starts_with("::") || before.trim_start() == "use " && after.starts_with([';', ' ']))
        })
    })
}

/// The names under `[dependencies]` of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let name = |line: &str| line.split(['.', ' ', '=']).next().map(str::to_owned);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).filter_map(name).collect()
}

/// Every source file of the workspace's members, with its path from the repository's root.
pub fn sources() -> Vec<(String, String)> {
    ["src", "crates"]
        .iter()
        .flat_map(|folder| rust_files(&root().join(folder)))
        .map(|file| {
            let path = file.strip_prefix(root()).expect("the file is in the repository").display().to_string();
            (path, text(&file))
        })
        .collect()
}

/// The modules of a `src` folder: folders with a `/`, files as they are called, without the crate's own.
fn modules_of(folder: &Path) -> impl Iterator<Item = String> {
    entries(folder).into_iter().filter_map(|path| {
        let name = file_name(&path);
        if path.is_dir() {
            return Some(name + "/");
        }
        let own = ["lib.rs", "mod.rs"].contains(&name.as_str());
        (!own && name.ends_with(".rs")).then_some(name)
    })
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.is_dir()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry is readable").path()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in entries(folder) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}
