//! Command `tidegate purge`: asks a running proxy to drop objects from its cache, and prints the outcome.

use std::io::{stderr, stdout};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::admin_client::{AdminArgs, AdminClient};
use super::{bad_arguments, block_on, say};

/// What to drop, and where.
#[derive(clap::Args, Debug)]
pub struct PurgeArgs {
    #[command(flatten)]
    pub proxy: AdminArgs,
    #[command(flatten)]
    pub scope: PurgeSelection,
    /// Ask the store whether the object changed, and drop it only then; with --key.
    #[arg(long, conflicts_with_all = ["prefix", "route", "all"])]
    pub refresh: bool,
}

/// What is dropped: one of these.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
pub struct PurgeSelection {
    /// The object of this key, in every bucket.
    #[arg(long)]
    pub key: Option<String>,
    /// Objects whose keys begin with this.
    #[arg(long)]
    pub prefix: Option<String>,
    /// What the route of this id serves.
    #[arg(long)]
    pub route: Option<String>,
    /// Everything.
    #[arg(long)]
    pub all: bool,
}

impl PurgeSelection {
    fn body(&self) -> Value {
        match self {
            Self { key: Some(key), .. } => json!({ "key": key }),
            Self { prefix: Some(prefix), .. } => json!({ "prefix": prefix }),
            Self { route: Some(route), .. } => json!({ "route": route }),
            _ => json!({ "all": self.all }),
        }
    }

    fn words(&self) -> String {
        match self {
            Self { key: Some(key), .. } => format!("the object `{key}`"),
            Self { prefix: Some(prefix), .. } => format!("objects whose keys begin with `{prefix}`"),
            Self { route: Some(route), .. } => format!("what the route `{route}` serves"),
            _ => "everything".to_owned(),
        }
    }
}

/// Sends the request; returns the exit code.
pub fn run(args: &PurgeArgs) -> ExitCode {
    let proxy = match AdminClient::new(&args.proxy) {
        Ok(proxy) => proxy,
        Err(message) => return bad_arguments("purge", &message),
    };
    match block_on(ask(args, &proxy)) {
        Ok(said) => {
            say(&mut stdout(), &said);
            ExitCode::SUCCESS
        }
        Err(message) => {
            say(&mut stderr(), &format!("tidegate purge: {message}"));
            ExitCode::FAILURE
        }
    }
}

async fn ask(args: &PurgeArgs, proxy: &AdminClient) -> Result<String, String> {
    let path = if args.refresh { "/cache/refresh" } else { "/cache/purge" };
    let body = proxy.post(path, |request| request.json(&args.scope.body())).await?;
    Ok(if args.refresh { refreshed(&body) } else { purged(&args.scope, &body) })
}

fn purged(scope: &PurgeSelection, body: &Value) -> String {
    let what = scope.words();
    // Absent only if the body is not JSON; the status has already told that it was purged.
    match body["durable"].as_bool() {
        Some(false) => format!("purged {what}, until the next restart: the list of purges could not be written"),
        _ => format!("purged {what}"),
    }
}

fn refreshed(body: &Value) -> String {
    let count = |name: &str| body[name].as_u64().unwrap_or(0);
    let (same, changed, gone, failed) = (count("same"), count("changed"), count("gone"), count("failed"));
    if same + changed + gone + failed == 0 {
        return "nothing is cached of this object".to_owned();
    }
    format!("asked the store: {same} unchanged, {changed} changed, {gone} gone, {failed} could not be asked")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: PurgeArgs,
    }

    #[test]
    fn exactly_one_scope_is_asked_for() {
        let asked = |line: &[&str]| {
            let parsed = Command::try_parse_from([&["purge"], line].concat()).ok()?;
            Some((parsed.args.scope.body(), parsed.args.scope.words()))
        };
        for (option, value, body, words) in [
            ("--key", "a", json!({ "key": "a" }), "the object `a`"),
            ("--prefix", "a/", json!({ "prefix": "a/" }), "objects whose keys begin with `a/`"),
            ("--route", "r", json!({ "route": "r" }), "what the route `r` serves"),
        ] {
            assert_eq!(asked(&[option, value]), Some((body, words.to_owned())));
        }
        assert_eq!(asked(&["--all"]), Some((json!({ "all": true }), "everything".to_owned())));
        assert!(asked(&["--key", "a", "--refresh"]).is_some());
        for line in [&[][..], &["--all", "--key", "a"], &["--all", "--refresh"]] {
            assert_eq!(asked(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_was_done_is_said() {
        let all = PurgeSelection { key: None, prefix: None, route: None, all: true };
        assert_eq!(purged(&all, &json!({ "durable": true })), "purged everything");
        assert!(purged(&all, &json!({ "durable": false })).contains("until the next restart"));
        assert_eq!(refreshed(&json!({})), "nothing is cached of this object");
        assert!(refreshed(&json!({ "changed": 1 })).contains("1 changed"));
    }
}
