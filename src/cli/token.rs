//! Command `tidegate token`: creates a token for development, as an issuer with a shared secret would.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};
use thiserror::Error;

use primitives::clock::Clock;
use server_kit::auth::settings::{Issuer, KeySource};
use server_kit::auth::{KeyError, TokenIssuer};

/// What the token says.
#[derive(Args, Debug)]
pub struct TokenArgs {
    /// Who the token is for (`sub`).
    #[arg(long)]
    pub subject: String,
    /// A further claim, repeatable; the value is JSON if it reads as JSON (`level=3`, `roles=["vip"]`), else text.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = parse_claim)]
    pub claims: Vec<(String, Value)>,
    /// How long it is valid (`30m`, `12h`).
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
    /// In whose name, where more than one issuer has a `Secret`: its `Issuer` in the configuration.
    #[arg(long)]
    pub issuer: Option<String>,
}

/// Reason for which no token was made.
#[derive(Debug, Error, PartialEq, Eq)]
enum TokenError {
    #[error("no issuer of the configuration has a Secret: only those can be signed for")]
    NoSecret,
    #[error("no issuer named {wanted:?} has a Secret; those that have one: {known}")]
    Unknown { wanted: String, known: String },
    #[error("several issuers have a Secret; choose one by --issuer: {known}")]
    Several { known: String },
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Prints a token on stdout and nothing else; exit code 64 if the configuration has no issuer to sign for.
pub fn run(args: &TokenArgs, issuers: &[Issuer]) -> ExitCode {
    let (written, code) = match make(args, issuers, &Clock::system()) {
        Ok(token) => (writeln!(io::stdout(), "{token}"), ExitCode::SUCCESS),
        Err(error) => (writeln!(io::stderr(), "tidegate token: {error}"), ExitCode::from(64)),
    };
    if written.is_ok() { code } else { ExitCode::FAILURE }
}

fn make(args: &TokenArgs, issuers: &[Issuer], clock: &Clock) -> Result<String, TokenError> {
    let issuer = TokenIssuer::new(choose(issuers, args.issuer.as_deref())?).ok_or(TokenError::NoSecret)??;
    let claims: Map<String, Value> = args.claims.iter().cloned().collect();
    Ok(issuer.issue(&args.subject, args.ttl, &claims, clock))
}

/// Returns the issuer to sign for. Of several with one name the last one signs: a new secret is put below the old one.
fn choose<'a>(issuers: &'a [Issuer], wanted: Option<&str>) -> Result<&'a Issuer, TokenError> {
    let able = || issuers.iter().filter(|issuer| matches!(issuer.keys, KeySource::Secret(_)));
    let mut known: Vec<&str> = able().map(name_of).collect();
    // Only neighbours: two secrets of one issuer are written one below the other.
    known.dedup();
    let known_text = known.join(", ");
    match wanted {
        None if known.len() > 1 => Err(TokenError::Several { known: known_text }),
        None => able().next_back().ok_or(TokenError::NoSecret),
        Some(wanted) => able()
            .rfind(|issuer| name_of(issuer) == wanted)
            .ok_or_else(|| TokenError::Unknown { wanted: wanted.to_owned(), known: known_text }),
    }
}

fn name_of(issuer: &Issuer) -> &str {
    issuer.issuer.as_deref().unwrap_or("(without a name)")
}

fn parse_claim(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            // `level=3` is a number and `name=alice` a string, so that nobody has to quote twice for the shell.
            Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
        }
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use jsonwebtoken::dangerous::insecure_decode_claims;
    use serde_json::json;

    use super::*;
    use primitives::secret::Secret;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        token: TokenArgs,
    }

    fn issuer(name: &str, keys: KeySource) -> Issuer {
        Issuer { issuer: Some(name.into()), audiences: vec!["tidegate".into(), "other".into()], keys }
    }

    fn secret() -> KeySource {
        KeySource::Secret(Secret::new("a secret of the tests, 32 bytes or more"))
    }

    fn made(line: &[&str], issuers: &[Issuer]) -> Result<Value, TokenError> {
        let args = Command::try_parse_from([&["token"], line].concat()).expect("good arguments").token;
        let clock = Clock::manual(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
        make(&args, issuers, &clock).map(|token| insecure_decode_claims(token).expect("a token"))
    }

    #[test]
    fn a_token_says_what_was_asked_for() {
        let line = ["--subject", "user-1", "--ttl", "2m", "--claim", "role=vip", "--claim", "level=3"];
        assert_eq!(
            made(&line, &[issuer("a", secret())]),
            Ok(
                json!({"sub": "user-1", "iss": "a", "aud": "tidegate", "iat": 1000, "exp": 1120, "role": "vip", "level": 3})
            )
        );
    }

    #[test]
    fn a_given_claim_wins_over_what_the_token_would_say() {
        let line = ["--subject", "user-1", "--claim", "exp=1", "--claim", "aud=[\"x\"]", "--claim", "note=a=b"];
        let claims = made(&line, &[issuer("a", secret())]).expect("a token");
        assert_eq!((&claims["exp"], &claims["aud"], &claims["note"]), (&json!(1), &json!(["x"]), &json!("a=b")));
    }

    #[test]
    fn the_issuer_must_be_clear() {
        let jwks = || KeySource::Jwks("https://auth.example/jwks".parse().expect("a URL"));
        let two = [issuer("a", secret()), issuer("b", secret()), issuer("c", jwks())];
        let by = |name: &'static str| ["--subject", "u", "--issuer", name];
        assert_eq!(made(&by("b"), &two).expect("a token")["iss"], "b");
        assert_eq!(made(&["--subject", "u"], &two[1..]).expect("a token")["iss"], "b");
        assert_eq!(made(&["--subject", "u"], &two), Err(TokenError::Several { known: "a, b".into() }));
        assert_eq!(made(&by("c"), &two), Err(TokenError::Unknown { wanted: "c".into(), known: "a, b".into() }));
        assert_eq!(made(&["--subject", "u"], &two[2..]), Err(TokenError::NoSecret));
        let short = [issuer("a", KeySource::Secret(Secret::new("short")))];
        assert_eq!(made(&["--subject", "u"], &short), Err(TokenError::Key(KeyError::ShortSecret)));
    }

    #[test]
    fn a_claim_needs_a_name_and_a_value() {
        for claim in ["role", "=vip", ""] {
            assert!(Command::try_parse_from(["token", "--subject", "u", "--claim", claim]).is_err(), "{claim}");
        }
    }
}
