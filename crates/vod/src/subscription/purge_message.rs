//! Message that a subscription has changed, as the service of subscriptions or whoever bills publishes it:
//! `{"user_id": "…"}`, whatever else it has.

use serde::Deserialize;

use primitives::ids::UserId;

/// Longest message that is read, in bytes.
const MAX_BYTES: usize = 64 << 10;

#[derive(Deserialize)]
struct PurgeMessage {
    user_id: String,
}

/// Returns the user whose subscription has changed; `None` for a message of another form.
pub fn user_of(message: &[u8]) -> Option<UserId> {
    let message = Some(message).filter(|message| message.len() <= MAX_BYTES)?;
    UserId::parse(serde_json::from_slice::<PurgeMessage>(message).ok()?.user_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_a_user_and_may_say_more() {
        let user = |text: &str| user_of(text.as_bytes()).map(|user| user.as_str().to_owned());
        assert_eq!(user(r#"{"user_id":"ada"}"#).as_deref(), Some("ada"));
        assert_eq!(user(r#"{"event":"canceled","user_id":"ada","at":1}"#).as_deref(), Some("ada"));
        for other in ["", "ada", "[]", "{}", r#"{"user_id":7}"#, r#"{"user_id":""}"#, r#"{"userId":"ada"}"#] {
            assert_eq!(user(other), None, "{other}");
        }
        let long = format!(r#"{{"user_id":"ada","x":"{}"}}"#, "x".repeat(MAX_BYTES));
        assert_eq!(user(&long), None);
    }
}
