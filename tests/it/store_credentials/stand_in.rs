//! A token service that answers as a test tells it, and keys in the forms of Amazon's services.

use std::time::{Duration, SystemTime};

use crate::support::fault::Step;
use crate::support::origin::ScriptedOrigin;
use crate::support::origin_http::{Answer, Seen};

/// Keys with a name and an end.
pub struct Keys {
    name: &'static str,
    end: String,
}

impl Keys {
    /// Keys that end in this many seconds.
    pub fn new(name: &'static str, seconds: u64) -> Self {
        Self::ending(name, SystemTime::now() + Duration::from_secs(seconds))
    }

    /// Keys that ended this many seconds ago.
    pub fn ended(name: &'static str, seconds: u64) -> Self {
        Self::ending(name, SystemTime::now() - Duration::from_secs(seconds))
    }

    fn ending(name: &'static str, end: SystemTime) -> Self {
        Self { name, end: humantime::format_rfc3339_seconds(end).to_string() }
    }

    /// As metadata and container endpoints write them.
    pub fn json(&self) -> Answer {
        let Self { name, end } = self;
        let body = format!(
            r#"{{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"{name}","SecretAccessKey":"canary-secret","Token":"token-of-{name}","Expiration":"{end}"}}"#
        );
        Answer::new(200, "application/json", body)
    }

    /// As the token service writes them for a token.
    pub fn xml(&self) -> Answer {
        self.answer_to("AssumeRoleWithWebIdentity")
    }

    /// As the token service writes them for other keys.
    pub fn of_role(&self) -> Answer {
        self.answer_to("AssumeRole")
    }

    fn answer_to(&self, action: &str) -> Answer {
        let Self { name, end } = self;
        let body = format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
             <Credentials><AccessKeyId>{name}</AccessKeyId><SecretAccessKey>canary-secret</SecretAccessKey>\
             <SessionToken>token-of-{name}</SessionToken><Expiration>{end}</Expiration></Credentials>\
             </{action}Result></{action}Response>"
        );
        Answer::new(200, "text/xml", body)
    }

    /// As the metadata service gives them to the requests of one attempt.
    pub fn of_instance(&self) -> [Step; 3] {
        let text = |body: &str| Answer::new(200, "text/plain", body);
        let session = text("metadata-session").with("x-aws-ec2-metadata-token-ttl-seconds", "21600");
        [Step::Answer(session), Step::Answer(text("media-role")), Step::Answer(self.json())]
    }
}

/// A token service.
pub struct TokenService(ScriptedOrigin);

impl TokenService {
    /// Starts one, which has nothing to give.
    pub async fn start() -> Self {
        Self(ScriptedOrigin::start().await)
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Gives `keys` from now on.
    pub fn gives(&self, keys: &Keys) {
        self.does(Step::Answer(keys.xml()));
    }

    /// Does this with the next requests, one step each.
    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.0.script(steps);
    }

    /// Does this with every request from now on.
    pub fn does(&self, step: Step) {
        self.0.always(step);
    }

    /// The requests since the last call of this.
    pub fn take_seen(&self) -> Vec<Seen> {
        self.0.take_seen()
    }

    /// Bodies of the requests since the last call of this or that.
    pub fn questions(&self) -> Vec<String> {
        self.take_seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect()
    }
}

/// The session token that a request was signed with.
pub fn token_of(seen: &Seen) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(seen.query().as_bytes());
    pairs.find(|(name, _)| name == "X-Amz-Security-Token").map(|(_, token)| token.into_owned())
}
