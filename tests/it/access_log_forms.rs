//! Access lines in other forms and elsewhere: by a template, on standard output, and through a real rsyslog.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::service::{Service, free_port};
use crate::support::tools::{self, TempFolder, whole_lines};
use crate::support::{Gate, ScriptedOrigin, config, eventually, gate};

const TRACK: &str = "/stream/track.mp3";

/// A gate whose access log is `log`.
async fn with(log: Value) -> (ScriptedOrigin, Gate) {
    let origin = ScriptedOrigin::with_track("music").await;
    let mut config = config::objects(&origin.url(), "audio");
    config["Telemetry"]["AccessLog"] = log;
    let gate = Gate::start(&config).await;
    (origin, gate)
}

/// Waits for `count` lines in the file at `path`.
pub async fn lines_of(path: &Path, count: usize) -> Vec<String> {
    eventually(&format!("{count} lines are in {}", path.display()), async || {
        Some(whole_lines(path)).filter(|lines| lines.len() == count)
    })
    .await
}

/// `line` with its time, which stands in brackets, as `TIME`, once it is seen to be one of this day and the next.
fn without_time(line: &str) -> String {
    let (before, rest) = line.split_once('[').expect("a time");
    let (time, after) = rest.split_once(']').expect("its end");
    let is_time = time.len() == 26 && time.ends_with(" +0000") && time.as_bytes()[2] == b'/' && time.contains("/20");
    assert!(is_time, "{time}");
    format!("{before}[TIME]{after}")
}

#[tokio::test]
async fn the_combined_log_format_goes_to_standard_output() {
    let (_origin, mut gate) = with(json!({ "Format": "combined", "Output": "stdout" })).await;
    let agent = ("user-agent", r#"player "1" \ x"#);
    gate.client().get(TRACK, &[agent]).await.is(200);
    gate.client().get("/absent?secret=1", &[("referer", "https://pages.example/?token=1")]).await.is(404);
    let expected = format!(r#"127.0.0.1 - - [TIME] "GET {TRACK} HTTP/1.1" 200 5 "-" "player \x221\x22 \x5C x""#);
    assert_eq!(without_time(&gate.stdout_line().await), expected);
    let failed = without_time(&gate.stdout_line().await);
    assert!(failed.starts_with(r#"127.0.0.1 - - [TIME] "GET /absent HTTP/1.1" 404 "#), "{failed}");
    assert!(failed.ends_with(r#" "-" "-""#), "{failed}");
    // The rest of the log is where it was, and is JSON.
    assert!(gate.log_lines().iter().all(|line| line["target"] != "access"), "{}", gate.log());
}

#[tokio::test]
async fn a_template_has_the_values_that_it_names() {
    let folder = TempFolder::new("access-log");
    let path = folder.path().join("access.log");
    let template = "{route}|{method}|{protocol}|{status}|{failure}|{user}|{{}}|{time}";
    let (_origin, gate) = with(json!({ "Template": template, "File": path })).await;
    gate.client().get(TRACK, &[]).await.is(200);
    gate.client().get("/absent", &[]).await.is(404);
    let lines = lines_of(&path, 2).await;
    let untimed: Vec<_> = lines.iter().map(|line| line.rsplit_once('|').expect("a time").0).collect();
    assert_eq!(untimed, ["stream|GET|HTTP/1.1|200|-|-|{}", "none|GET|HTTP/1.1|404|no_route|-|{}"]);
    // Without a place of their own they stand among the lines of JSON.
    let (_origin, gate) = with(json!({ "Template": "line of {status}" })).await;
    gate.client().get(TRACK, &[]).await.is(200);
    eventually("the line", async || gate.log().contains("line of 200\n").then_some(())).await;
    assert!(gate.log().lines().any(|line| line.starts_with('{')), "{}", gate.log());
}

#[tokio::test]
async fn of_requests_that_went_well_a_share_has_lines_and_of_others_each() {
    let folder = TempFolder::new("access-log");
    let path = folder.path().join("access.log");
    let (_origin, gate) = with(json!({ "Template": "{status}", "File": path, "SampleSuccesses": 0.25 })).await;
    let client = gate.client();
    for _ in 0..400 {
        client.get(TRACK, &[]).await.is(200);
    }
    for _ in 0..20 {
        client.get("/absent", &[]).await.is(404);
    }
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    let failed = eventually("each failure", async || {
        Some(read()).filter(|text| text.lines().filter(|line| *line == "404").count() == 20)
    });
    let well = failed.await.lines().filter(|line| *line == "200").count();
    // Six standard deviations on both sides of a hundred.
    assert!((48..=152).contains(&well), "{well}");
}

/// A real rsyslog that writes what it understood of each message into a file.
struct Rsyslog {
    _service: Service,
    socket: std::path::PathBuf,
    port: u16,
    heard: std::path::PathBuf,
}

impl Rsyslog {
    /// Starts it; `None` where it is missing and not required.
    fn start() -> Option<Self> {
        let program = tools::find("rsyslogd")?;
        let (folder, port) = (TempFolder::new("rsyslog"), free_port());
        let at = |name: &str| folder.path().join(name);
        let (socket, heard, file, pid) = (at("log"), at("heard"), at("rsyslog.conf"), at("pid"));
        let text = format!(
            r#"module(load="imuxsock" SysSock.Use="off")
               input(type="imuxsock" Socket="{}" CreatePath="on")
               module(load="imudp")
               input(type="imudp" Address="127.0.0.1" Port="{port}")
               template(name="parts" type="string" string="%programname%|%procid%|%syslogfacility-text%|%syslogseverity-text%|%msg:::sp-if-no-1st-sp%%msg%\n")
               *.* action(type="omfile" File="{}" Template="parts")"#,
            socket.display(),
            heard.display(),
        );
        std::fs::write(&file, text).expect("the file can be written");
        let command = ["-n".into(), "-f".into(), file.into(), "-i".into(), pid.into()];
        let command = std::iter::once(program.into()).chain(command).collect();
        let ready = socket.clone();
        let service = Service::start(folder, command, move || ready.exists());
        Some(Self { _service: service, socket, port, heard })
    }

    /// Waits for the message of Tidegate with `text`: of what program, process, facility and severity, and its rest.
    async fn message(&self, text: &str) -> [String; 5] {
        eventually(&format!("a message with {text}"), async || {
            let heard = whole_lines(&self.heard);
            let line = heard.iter().find(|line| line.starts_with("tidegate|") && line.contains(text))?;
            let parts: Vec<_> = line.splitn(5, '|').map(|part| part.trim().to_owned()).collect();
            parts.try_into().ok()
        })
        .await
    }
}

#[tokio::test]
async fn rsyslog_understands_what_is_sent_to_it() {
    let Some(rsyslog) = Rsyslog::start() else { return };
    for address in [format!("unix:{}", rsyslog.socket.display()), format!("udp:127.0.0.1:{}", rsyslog.port)] {
        let kind = &address[..3];
        let template = format!("{kind} {{method}} {{path}} {{status}}");
        let (_origin, gate) = with(json!({ "Template": template, "Syslog": address })).await;
        gate.client().get(TRACK, &[]).await.is(200);
        let [program, process, facility, severity, text] = rsyslog.message(&format!("{kind} GET")).await;
        assert_eq!((program.as_str(), process), ("tidegate", gate.process().to_string()));
        assert_eq!((facility.as_str(), severity.as_str()), ("local0", "info"));
        assert_eq!(text, format!("{kind} GET {TRACK} 200"));
    }
    // As JSON, which a shipper takes apart.
    let address = format!("udp:127.0.0.1:{}", rsyslog.port);
    let (_origin, gate) = with(json!({ "Syslog": address })).await;
    gate.client().get("/in-json", &[]).await.is(404);
    let [.., text] = rsyslog.message("/in-json").await;
    let line: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&line["path"], &line["status"]), (&json!("/in-json"), &json!(404)));
}

#[tokio::test]
async fn lines_that_no_syslog_takes_are_counted_until_one_does() {
    let folder = TempFolder::new("access-log");
    let socket = folder.path().join("log");
    let (_origin, gate) = with(json!({ "Template": "{path}", "Syslog": format!("unix:{}", socket.display()) })).await;
    gate.client().get(TRACK, &[]).await.is(200);
    let lost = async || (gate.metric("tidegate_access_log_lost_lines_total", "").await == 1.0).then_some(());
    eventually("it is counted", lost).await;
    eventually("it is said", async || {
        gate.log().contains("(Telemetry.AccessLog.Syslog) cannot be written").then_some(())
    })
    .await;
    let service = std::os::unix::net::UnixDatagram::bind(&socket).expect("a socket");
    gate.client().get(TRACK, &[]).await.is(200);
    let heard = tokio::task::spawn_blocking(move || {
        let mut message = [0; 256];
        let length = service.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    });
    assert_eq!(heard.await.expect("it is heard"), format!("<134>tidegate[{}]: {TRACK}", gate.process()));
}

#[tokio::test]
async fn an_access_log_that_cannot_be_is_refused_with_what_was_expected() {
    let folder = TempFolder::new("access-log");
    let mut config = config::objects("http://127.0.0.1:1", "audio");
    for (log, place, reason) in [
        (json!({ "Template": "{statuss}" }), "Template", "did you mean `status`?"),
        (json!({ "Template": "nothing" }), "Template", "at least one value"),
        (json!({ "Template": "{status" }), "Template", "stands alone"),
        (json!({ "Template": "{status}", "Format": "json" }), "Template", "both say how"),
        (json!({ "Template": "{status}", "Fields": ["status"] }), "Fields", "`json` or `text`"),
        (json!({ "Output": "stdout", "Syslog": "unix:/dev/log" }), "AccessLog", "each say where"),
        (json!({ "Syslog": "tcp:host:514" }), "Syslog", "`udp:HOST:PORT`"),
        (json!({ "Output": "stdout", "Format": "off" }), "Output", "`Format` is `off`"),
        (json!({ "SampleSuccesses": 0 }), "SampleSuccesses", "above 0 and at most 1"),
        (json!({ "SampleSuccesses": 1.5 }), "SampleSuccesses", "above 0 and at most 1"),
    ] {
        config["Telemetry"]["AccessLog"] = log.clone();
        let file = gate::write_config(&folder, &config).display().to_string();
        let checked = gate::run(&["check", &file], &folder).await;
        assert_eq!(checked.code, Some(64), "{log}: {}", checked.stdout);
        assert!(checked.stderr.contains(reason) && checked.stderr.contains(place), "{log}: {}", checked.stderr);
    }
}
