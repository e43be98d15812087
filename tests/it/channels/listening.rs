//! Right to listen to a channel: what it has opened ends with the user's token and with a logout.

use futures::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::*;
use crate::streaming_urls::log_out;
use crate::support::{eventually, in_time};

const HOST: &str = "the token of sharing";

/// A WAVE file of a minute of silence: 8 kHz, 16 bits, mono.
pub fn silence() -> Vec<u8> {
    let samples = vec![0_u8; 60 * 8000 * 2];
    let length = u32::try_from(samples.len()).expect("short");
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(8000_u32.to_le_bytes());
    file.extend(16_000_u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

/// A gate whose channel `main` plays.
async fn playing(folder: &TempFolder) -> Gate {
    let mut config = in_memory(folder);
    config["Share"] = json!({ "Token": "env:BEARER_TOKEN" });
    config["Auth"]["Jwt"]["Leeway"] = json!("1s");
    std::fs::write(folder.path().join("objects/audio/1.wav"), silence()).expect("a file");
    let gate = Gate::start_with(&config, &[("BEARER_TOKEN", HOST)]).await;
    let track = json!({ "id": "t1", "store": "main", "bucket": "audio", "key": "1.wav", "ownerId": "alice" });
    send(&gate, Method::POST, "/api/v1/admin/tracks", &admin(), Some(track)).await.is(201);
    queue(&gate, "main", &bearer("alice"), "t1").await;
    gate
}

/// Where `who` hears the channel, once it is heard.
async fn listen(gate: &Gate, who: &str) -> (String, String) {
    let heard = async || {
        let reply = send(gate, Method::POST, "/api/v1/channels/main/listen", who, None).await;
        (reply.status == 200).then(|| serde_json::from_slice::<Value>(&reply.body).expect("JSON"))
    };
    let heard = eventually("the channel is heard", heard).await;
    let text = |name: &str| heard[name].as_str().expect("a text").to_owned();
    (text("session_id"), text("ticket"))
}

/// Opens a stream of the session with a new ticket of `who`.
async fn open(gate: &Gate, who: &str, what: &str) -> reqwest::Response {
    let (session, ticket) = listen(gate, who).await;
    let path = format!("/api/v1/share/{session}/{what}?ticket={ticket}");
    let response = gate.client().request(Method::GET, &path).send().await.expect("the gate answers");
    assert_eq!(response.status(), 200, "{what}");
    response
}

/// Reads a stream to its end, whichever way it ends.
async fn ends(mut response: reqwest::Response) {
    in_time("it ends", async { while let Ok(Some(_)) = response.chunk().await {} }).await;
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open_socket(gate: &Gate, who: &str) -> Socket {
    let (session, ticket) = listen(gate, who).await;
    let url = format!("ws://{}/api/v1/share/{session}/ws?ticket={ticket}", gate.address());
    tokio_tungstenite::connect_async(url).await.expect("it opens").0
}

/// Code and reason with which a WebSocket is closed.
async fn closed(mut socket: Socket) -> (u16, String) {
    in_time("it is closed", async {
        loop {
            let message = socket.next().await.expect("it is closed in order").expect("a message");
            if let Message::Close(Some(frame)) = message {
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_a_user_has_opened_on_a_channel_ends_with_the_token_and_with_a_logout() {
    let folder = TempFolder::new("channels");
    let gate = playing(&folder).await;
    // Before a token's time runs: the channel takes a while to be heard.
    listen(&gate, &bearer("alice")).await;
    let mut claims = token::claims("bob");
    let until = token::now() + 8;
    claims["exp"] = json!(until);
    let bob = format!("Bearer {}", token::with(&claims));
    // The host's own ticket is bound to nobody.
    let (session, ticket) = listen(&gate, &bob).await;
    let issued = send(&gate, Method::POST, &format!("/api/v1/share/{session}/tickets"), HOST, Some(json!({}))).await;
    let issued: Value = serde_json::from_slice(&issued.is(200).body).expect("JSON");
    let path = format!("/api/v1/share/{session}/stream.ogg?ticket={}", issued["ticket"].as_str().expect("a text"));
    let mut hosts = gate.client().request(Method::GET, &path).send().await.expect("the gate answers");
    let opened = [
        open(&gate, &bob, "stream.ogg").await,
        open(&gate, &bob, "stream.wav").await,
        open(&gate, &bob, "events").await,
    ];
    assert_eq!(closed(open_socket(&gate, &bob).await).await, (4001, "expired".to_owned()));
    for response in opened {
        ends(response).await;
    }
    assert!(token::now() >= until);
    let late = format!("/api/v1/share/{session}/stream.ogg?ticket={ticket}");
    gate.client().get(&late, &[]).await.problem(401);
    send(&gate, Method::POST, "/api/v1/channels/main/listen", &bob, None).await.problem(401);
    // Carol is heard of until she logs out; then her tickets open nothing.
    let carol = bearer("carol");
    let (session, ticket) = listen(&gate, &carol).await;
    let opened = open(&gate, &carol, "stream.ogg").await;
    let socket = open_socket(&gate, &carol).await;
    log_out(&gate, "carol").await;
    assert_eq!(closed(socket).await, (4001, "logged_out".to_owned()));
    ends(opened).await;
    let refused = format!("/api/v1/share/{session}/events?ticket={ticket}");
    gate.client().get(&refused, &[]).await.problem(401);
    for reason in ["expired", "logged_out"] {
        assert_eq!(gate.metric("tidegate_share_closed_total", reason).await, 1.0, "{reason}");
    }
    let piece = hosts.chunk().await.expect("it goes on");
    assert!(piece.is_some(), "what the host has let in stays");
}
