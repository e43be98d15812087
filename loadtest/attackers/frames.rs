//! HTTP/2 frames as bytes (RFC 9113 §4.1).

/// A client's connection preface.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 §6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Returns a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the HEADERS frame of a GET.
pub fn request(path: &str, token: &str, stream: u32, flags: u8) -> Vec<u8> {
    // Names of the static table (RFC 7541, Appendix A), values as they are. `authorization` is the 23rd, beyond the prefix
    // of four bits.
    let authorization = literal(&[0x0f, 23 - 15], &format!("Bearer {token}"));
    let block = [vec![0x82, 0x86], literal(&[0x04], path), literal(&[0x01], "media.example"), authorization].concat();
    frame(HEADERS, flags, stream, &block)
}

fn literal(name: &[u8], value: &str) -> Vec<u8> {
    let mut field = name.to_vec();
    let mut length = value.len();
    // Integers of seven bits (RFC 7541 §5.1).
    if length < 127 {
        field.push(length as u8);
    } else {
        field.push(127);
        length -= 127;
        while length >= 128 {
            field.push((length % 128) as u8 | 128);
            length /= 128;
        }
        field.push(length as u8);
    }
    field.extend_from_slice(value.as_bytes());
    field
}
