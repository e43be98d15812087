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

    /// As the token service writes them.
    pub fn xml(&self) -> Answer {
        let Self { name, end } = self;
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\
             <Credentials><AccessKeyId>{name}</AccessKeyId><SecretAccessKey>canary-secret</SecretAccessKey>\
             <SessionToken>token-of-{name}</SessionToken><Expiration>{end}</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        );
        Answer::new(200, "text/xml", body)
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

    /// Does this with every request from now on.
    pub fn does(&self, step: Step) {
        self.0.always(step);
    }

    /// Bodies of the requests since the last call of this.
    pub fn questions(&self) -> Vec<String> {
        self.0.take_seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect()
    }
}

/// The session token that a request was signed with.
pub fn token_of(seen: &Seen) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(seen.query().as_bytes());
    pairs.find(|(name, _)| name == "X-Amz-Security-Token").map(|(_, token)| token.into_owned())
}
