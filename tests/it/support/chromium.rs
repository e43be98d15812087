//! Headless Chromium through ChromeDriver (the W3C WebDriver protocol, which is JSON over HTTP).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::eventually::{LIMIT, in_time};
use super::tools::{self, TempFolder};

/// A browser, at first with one window; it ends when dropped.
pub struct Chromium {
    client: reqwest::Client,
    session: String,
    _driver: Child,
    _profile: TempFolder,
    _turn: SemaphorePermit<'static>,
}

/// Starts chromedriver on a free port, and returns it with its address; `None` where it ends at once.
async fn start_driver(program: &Path) -> Option<(Child, String)> {
    let mut driver = Command::new(program)
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("chromedriver starts");
    let mut lines = BufReader::new(driver.stdout.take().expect("stdout is piped")).lines();
    let port = in_time("chromedriver says its port", async {
        loop {
            let line = lines.next_line().await.expect("readable")?;
            let port = line.split_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned());
            if let Some(port) = port.filter(|port| port.parse::<u16>().is_ok()) {
                break Some(port);
            }
        }
    });
    let base = format!("http://127.0.0.1:{}", port.await?);
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Some((driver, base))
}

impl Chromium {
    /// Starts one with an empty profile; `None` where it is not installed and not required.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[ANY_SOUND]).await
    }

    /// As [`Self::start`], with the rule that people's browsers have: sound begins after a click or a key.
    pub async fn start_silent() -> Option<Self> {
        Self::start_with(&["--autoplay-policy=document-user-activation-required"]).await
    }

    async fn start_with(flags: &[&str]) -> Option<Self> {
        let program = tools::find("chromedriver")?;
        let browser = tools::find("chromium")?;
        // However many tests run at once: a browser that plays sound needs a core.
        static TURNS: Semaphore = Semaphore::const_new(2);
        let turn = TURNS.acquire().await.expect("it is never closed");
        let profile = TempFolder::new("chromium");
        let mut started = None;
        // The port that it takes for IPv4 may be taken for IPv6: then it ends at once.
        for _ in 0..5 {
            if started.is_none() {
                started = start_driver(&program).await;
            }
        }
        let (driver, base) = started.expect("chromedriver says its port");
        let client = super::client::plain();
        let data = format!("--user-data-dir={}", profile.path().display());
        let mut arguments: Vec<&str> = FLAGS.to_vec();
        let tab = format!("--auto-select-tab-capture-source-by-title={SHARED_TAB}");
        arguments.extend([&*data, &tab]);
        arguments.extend(flags);
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments, "binary": browser },
            "timeouts": { "script": SCRIPT_LIMIT.as_millis() as u64 },
        } } });
        let answer = post(&client, &format!("{base}/session"), &wanted).await;
        let id = answer["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}")).to_owned();
        Some(Self { client, session: format!("{base}/session/{id}"), _driver: driver, _profile: profile, _turn: turn })
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) {
        post(&self.client, &format!("{}/url", self.session), &json!({ "url": url })).await;
    }

    /// Runs the body of an async function in the page and gives what it returns.
    pub async fn run(&self, body: &str) -> Value {
        self.run_where_there_is_one(body).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// As [`Self::run`]; fails with what WebDriver or the page says, such as that the page has gone to another one meanwhile.
    pub async fn run_where_there_is_one(&self, body: &str) -> Result<Value, Value> {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             {UNTIL}
             (async () => {{ {body} }})().then(done, error => done({{ error: String(error) }}));",
            UNTIL = UNTIL.replace("LIMIT", &LIMIT.as_millis().to_string())
        );
        let answer = json!({ "script": script, "args": [] });
        ask(&self.client, &format!("{}/execute/async", self.session), &answer).await
    }

    /// Opens a page in another window and goes on there; returns the window from before.
    pub async fn another_window(&self, url: &str) -> Value {
        let opened = post(&self.client, &format!("{}/window/new", self.session), &json!({ "type": "window" })).await;
        let before = self.to_window(&opened["handle"]).await;
        self.open(url).await;
        before
    }

    /// Goes on in this window; returns the one from before.
    pub async fn to_window(&self, window: &Value) -> Value {
        let address = format!("{}/window", self.session);
        let before: Value = self.client.get(&address).send().await.expect("it answers").json().await.expect("JSON");
        post(&self.client, &address, &json!({ "handle": window })).await;
        before["value"].clone()
    }

    /// Closes this window, and goes on in another one.
    pub async fn close_window(&self, next: &Value) {
        let closed = self.client.delete(format!("{}/window", self.session)).send().await.expect("it answers");
        assert!(closed.status().is_success(), "{}", closed.status());
        post(&self.client, &format!("{}/window", self.session), &json!({ "handle": next })).await;
    }

    /// Sends a command of the DevTools protocol.
    pub async fn command(&self, name: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": name, "params": parameters });
        post(&self.client, &format!("{}/goog/cdp/execute", self.session), &body).await
    }

    /// Clicks an element, as a person does.
    pub async fn click(&self, selector: &str) {
        let found = json!({ "using": "css selector", "value": selector });
        let found = post(&self.client, &format!("{}/element", self.session), &found).await;
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str).expect("an element");
        post(&self.client, &format!("{}/element/{id}/click", self.session), &json!({})).await;
    }

    /// Presses a key of the keyboard, as a person does: a character, or one of WebDriver's codes for others.
    pub async fn press(&self, key: char) {
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": [
            { "type": "keyDown", "value": key }, { "type": "keyUp", "value": key } ] }] });
        post(&self.client, &format!("{}/actions", self.session), &actions).await;
    }

    /// Ends the browser in order.
    pub async fn close(self) {
        let _ = self.client.delete(&self.session).send().await;
    }
}

/// The title of the tab that is chosen where a page asks for one.
pub const SHARED_TAB: &str = "A tone to share";

/// Longest time of a script of a test: one that waits says itself what it waited for.
const SCRIPT_LIMIT: Duration = LIMIT.saturating_add(Duration::from_secs(10));

/// What all scripts may use: waiting until a test holds; gives what it returned.
const UNTIL: &str = r#"
    const until = async (what, test) => {
        for (const end = performance.now() + LIMIT; performance.now() < end;) {
            const found = await test();
            if (found) return found;
            await new Promise(done => setTimeout(done, 50));
        }
        const media = [...document.querySelectorAll("audio, video")].map(one => `${one.currentTime} s, paused: ${one.paused}`);
        const notice = document.getElementById("notice-title") ?? document.getElementById("state");
        throw `never ${what}: ${document.body.dataset.state}, ${notice?.textContent}, ${media}`;
    };
"#;

const ANY_SOUND: &str = "--autoplay-policy=no-user-gesture-required";

const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

async fn post(client: &reqwest::Client, url: &str, body: &Value) -> Value {
    let answer = ask(client, url, body).await;
    answer.unwrap_or_else(|error| panic!("WebDriver failed: {error:#}"))
}

/// Sends a command; the error is WebDriver's, or what a script has thrown.
async fn ask(client: &reqwest::Client, url: &str, body: &Value) -> Result<Value, Value> {
    let response = client.post(url).timeout(SCRIPT_LIMIT * 2).json(body).send().await.expect("chromedriver answers");
    let mut answer: Value = response.json().await.expect("WebDriver speaks JSON");
    let value = answer["value"].take();
    if value["error"].is_null() { Ok(value) } else { Err(value) }
}
