use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use proptest::prelude::{any, prop_assert, proptest};

use super::*;
use crate::session::{ManifestType, SessionEnd, SessionVerdict, SessionsUnavailable};
use crate::settings::GrantKeySettings;
use primitives::ids::{TrackId, UserId};
use primitives::secret::Secret;

const PREFIX: &str = "movies/b1/";

fn clock() -> Clock {
    Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
}

fn keys(ids: &[u8], clock: &Clock) -> GrantKeys {
    let key = |id: &u8| GrantKeySettings { id: *id, key: Secret::new(format!("key {id} of 32 characters or more")) };
    let settings = GrantSettings { keys: ids.iter().map(key).collect(), ..GrantSettings::default() };
    GrantKeys::new(&settings, clock.clone())
}

fn session(clock: &Clock) -> FilmSession {
    FilmSession {
        id: SessionId([7; 16]),
        user: UserId::parse("alice").expect("an id"),
        generation: 3,
        movie: TrackId::parse("b1").expect("an id"),
        prefix: PREFIX.into(),
        manifest_type: ManifestType::Hls,
        policy: GrantPolicy(0b101),
        opened_at: clock.unix_millis(),
        expires_at: clock.unix_millis() + Duration::from_secs(3600),
    }
}

#[test]
fn a_token_names_its_session_and_opens_its_film_only() {
    let clock = clock();
    let keys = keys(&[1], &clock);
    let session = session(&clock);
    let token = keys.issue(&session);
    assert!(token.len() == TOKEN_CHARACTERS && token.len() <= 120, "{}", token.len());
    let grant = keys.verify(&token).expect("it is good");
    assert_eq!((grant.session, grant.generation, grant.policy), (session.id, 3, GrantPolicy(0b101)));
    assert!(keys.opens(&grant, PREFIX));
    for other in ["movies/b2/", "movies/b1", "movies/b1/x/", "movies/B1/", ""] {
        assert!(!keys.opens(&grant, other), "{other}");
    }
    assert!(may_hold_grant(&token) && may_hold_grant(&format!("x={token}&y")) && !may_hold_grant(&token[1..]));
}

#[test]
fn a_token_ends_after_the_longest_lifetime_of_its_session() {
    let clock = clock();
    let keys = keys(&[1], &clock);
    let token = keys.issue(&session(&clock));
    clock.advance(Duration::from_secs(12 * 3600 - 1));
    assert!(keys.verify(&token).is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(keys.verify(&token), Err(AuthenticationError::Expired));
}

#[test]
fn grants_of_the_old_key_are_good_while_it_is_known() {
    let clock = clock();
    let token = keys(&[1], &clock).issue(&session(&clock));
    let both = keys(&[2, 1], &clock);
    let grant = both.verify(&token).expect("the old key still verifies");
    assert!(both.opens(&grant, PREFIX));
    assert_eq!(keys(&[2], &clock).verify(&token), Err(AuthenticationError::UnknownKey));
    assert!(keys(&[2], &clock).verify(&both.issue(&session(&clock))).is_ok());
    assert!(keys(&[], &clock).verify(&keys(&[0], &clock).issue(&session(&clock))).is_err());
}

#[test]
fn no_changed_character_of_a_grant_goes_unnoticed() {
    let clock = clock();
    let keys = keys(&[1], &clock);
    let token = keys.issue(&session(&clock));
    for at in 0..token.len() {
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
        let refusal = keys.verify(&changed).expect_err("it was changed");
        assert!(refusal.is_invalid_token(), "{at}: counted as a guess");
    }
    for cut in [&token[1..], &token[..token.len() - 1], &format!("{token}A"), ""] {
        assert_eq!(keys.verify(cut), Err(AuthenticationError::Malformed));
    }
}

/// Sessions that answer what they are told, with the number of questions.
fn verifier(
    answer: impl Fn(u32) -> Result<SessionVerdict, SessionsUnavailable> + Send + Sync + 'static,
) -> (GrantVerifier, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let answer = Arc::new(answer);
    let judge: JudgeSession = Arc::new(move |_| {
        let (count, answer) = (Arc::clone(&count), Arc::clone(&answer));
        Box::pin(async move { answer(count.fetch_add(1, Ordering::Relaxed)) })
    });
    (GrantVerifier::new(Arc::new(keys(&[1], &clock())), judge), asked)
}

fn live() -> SessionVerdict {
    SessionVerdict::Live(UserId::parse("alice").expect("an id"))
}

fn granted(verifier: &GrantVerifier) -> Grant {
    let token = GrantToken::new(keys(&[1], &clock()).issue(&session(&clock())));
    assert_eq!(format!("{token:?}"), "GrantToken(***)");
    verifier.authenticate(&token).expect("it is good")
}

#[tokio::test]
async fn segments_ask_once_and_keys_each_time() {
    let alice = UserId::parse("alice");
    let (verifier, asked) = verifier(move |_| Ok(live()));
    let grant = granted(&verifier);
    for _ in 0..3 {
        assert_eq!(verifier.admit(&grant, PREFIX).await, Ok(alice.clone()));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    for _ in 0..3 {
        assert_eq!(verifier.admit_to_key(&grant, PREFIX).await.ok(), alice);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    assert_eq!(verifier.admit(&grant, "movies/b2/").await, Err(GrantRefusal::OtherFilm));
    assert_eq!(asked.load(Ordering::Relaxed), 4, "another film's token asks nobody");
}

#[tokio::test]
async fn a_session_that_has_ended_opens_nothing() {
    let (verifier, _) = verifier(|_| Ok(SessionVerdict::Ended(SessionEnd::Revoked)));
    let grant = granted(&verifier);
    assert_eq!(verifier.admit(&grant, PREFIX).await, Err(GrantRefusal::Ended(SessionEnd::Revoked)));
    assert_eq!(verifier.admit_to_key(&grant, PREFIX).await, Err(GrantRefusal::Ended(SessionEnd::Revoked)));
}

#[tokio::test(start_paused = true)]
async fn a_body_under_way_learns_that_its_session_has_ended() {
    let (verifier, _) = verifier(|asked| match asked {
        0 => Ok(live()),
        _ => Ok(SessionVerdict::Ended(SessionEnd::Displaced)),
    });
    let grant = granted(&verifier);
    assert_eq!(verifier.admit(&grant, PREFIX).await, Ok(UserId::parse("alice")));
    assert_eq!(verifier.wait_until_ended(grant.session).await, SessionEnd::Displaced);
}

#[tokio::test]
async fn while_sessions_cannot_be_asked_segments_go_on_and_keys_do_not() {
    let (verifier, _) = verifier(|_| Err(SessionsUnavailable));
    let grant = granted(&verifier);
    assert_eq!(verifier.admit(&grant, PREFIX).await, Ok(None));
    assert_eq!(verifier.admit_to_key(&grant, PREFIX).await, Err(GrantRefusal::Unavailable(SessionsUnavailable)));
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,100}", bytes in any::<[u8; TOKEN_BYTES]>()) {
        let keys = keys(&[1], &clock());
        prop_assert!(keys.verify(&text).is_err());
        prop_assert!(keys.verify(&URL_SAFE_NO_PAD.encode(bytes)).is_err());
    }
}
