//! HTTP/2 frames by hand, for cases that no client library supports.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;

/// END_STREAM as a flag of DATA and HEADERS; ACK as a flag of SETTINGS and PING.
pub const END: u8 = 1;
const END_HEADERS: u8 = 4;

/// Identifier of SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: [u8; 2] = [0, 4];

const CANCEL: u32 = 8;

/// A received frame.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// Opens a connection whose streams begin with a window of `window` bytes.
pub async fn connect(address: SocketAddr, window: u32) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let settings = [&WINDOW[..], &window.to_be_bytes()].concat();
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &settings)[..]].concat();
    connection.write_all(&begin).await.unwrap();
    connection
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the head of a request, a GET without a content type. Every field is a literal or one of the static table
/// (RFC 7541, A).
pub fn head(stream: u32, path: &str, content_type: Option<&str>, flags: u8) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let method = if content_type.is_some() { 0x83 } else { 0x82 };
    let mut fields = [&[method, 0x86, 0x01], &text("x")[..], &[0x04], &text(path)].concat();
    if let Some(content_type) = content_type {
        fields.extend([&[0x0f, 0x10], &text(content_type)[..]].concat());
    }
    frame(HEADERS, flags | END_HEADERS, stream, &fields)
}

pub fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// Returns the next frame; none once the connection is closed.
pub async fn next(connection: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    connection.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
}

/// Returns the body of the answer on this stream.
pub async fn body(connection: &mut TcpStream, stream: u32) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let frame = next(connection).await.unwrap();
        assert_ne!(frame.kind, GOAWAY, "{frame:?}");
        if frame.stream == stream && matches!(frame.kind, DATA | HEADERS) {
            if frame.kind == DATA {
                body.extend(frame.payload);
            }
            if frame.flags & END != 0 {
                return body;
            }
        }
    }
}
