//! Messages from guest to host, framed for a byte stream.
//!
//! A frame is `magic (4) | kind (1) | program (4, little endian) | length (4, little endian) | payload`. The magic lets the
//! host notice a stream that lost its place (a serial line that something else wrote to) instead of misreading it.

use std::fmt;

const MAGIC: [u8; 4] = [0xf5, b'D', b'P', 0x0a];
const HEADER: usize = 13;
const MAX_PAYLOAD: usize = 1 << 20;

/// One message of the guest. `program` counts from zero in the order of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first process runs; milliseconds since the kernel started.
    Ready(u64),
    /// Modules are loaded and the GPUs are there; milliseconds since the kernel started.
    Prepared(u64),
    /// A remark for the log.
    Note(String),
    /// A program is about to run.
    Started(u32),
    /// Bytes of a program's standard output.
    Stdout(u32, Vec<u8>),
    /// Bytes of a program's standard error.
    Stderr(u32, Vec<u8>),
    /// Bytes a program wrote to its results descriptor.
    Results(u32, Vec<u8>),
    /// A program ended by itself.
    Exited(u32, i32),
    /// A signal ended a program.
    Signaled(u32, i32),
    /// A program outlived its time and was killed; where its threads were.
    TimedOut(u32, String),
    /// A program could not be started.
    NotStarted(u32, String),
    /// The job cannot go on.
    Fatal(String),
    /// All is done, the guest powers off; milliseconds since the kernel started.
    Done(u64),
}

impl Message {
    /// The bytes to send. Payloads longer than a frame allows are cut at the end.
    pub fn encode(&self) -> Vec<u8> {
        let number;
        let (kind, program, payload): (u8, u32, &[u8]) = match self {
            Self::Ready(ms) => {
                number = ms.to_le_bytes().to_vec();
                (0, 0, &number)
            }
            Self::Prepared(ms) => {
                number = ms.to_le_bytes().to_vec();
                (1, 0, &number)
            }
            Self::Note(text) => (2, 0, text.as_bytes()),
            Self::Started(program) => (3, *program, &[]),
            Self::Stdout(program, bytes) => (4, *program, bytes),
            Self::Stderr(program, bytes) => (5, *program, bytes),
            Self::Results(program, bytes) => (6, *program, bytes),
            Self::Exited(program, code) => {
                number = code.to_le_bytes().to_vec();
                (7, *program, &number)
            }
            Self::Signaled(program, signal) => {
                number = signal.to_le_bytes().to_vec();
                (8, *program, &number)
            }
            Self::TimedOut(program, text) => (9, *program, text.as_bytes()),
            Self::NotStarted(program, text) => (10, *program, text.as_bytes()),
            Self::Fatal(text) => (11, 0, text.as_bytes()),
            Self::Done(ms) => {
                number = ms.to_le_bytes().to_vec();
                (12, 0, &number)
            }
        };
        let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        frame.extend_from_slice(&MAGIC);
        frame.push(kind);
        frame.extend_from_slice(&program.to_le_bytes());
        frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    fn decode(kind: u8, program: u32, payload: &[u8]) -> Option<Self> {
        let text = || String::from_utf8_lossy(payload).into_owned();
        let wide = || payload.try_into().ok().map(u64::from_le_bytes);
        let narrow = || payload.try_into().ok().map(i32::from_le_bytes);
        Some(match kind {
            0 => Self::Ready(wide()?),
            1 => Self::Prepared(wide()?),
            2 => Self::Note(text()),
            3 => Self::Started(program),
            4 => Self::Stdout(program, payload.to_vec()),
            5 => Self::Stderr(program, payload.to_vec()),
            6 => Self::Results(program, payload.to_vec()),
            7 => Self::Exited(program, narrow()?),
            8 => Self::Signaled(program, narrow()?),
            9 => Self::TimedOut(program, text()),
            10 => Self::NotStarted(program, text()),
            11 => Self::Fatal(text()),
            12 => Self::Done(wide()?),
            _ => return None,
        })
    }
}

/// The stream lost its place; carries the bytes found where a frame should begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameError(pub Vec<u8>);

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message stream is damaged: found {:?}", String::from_utf8_lossy(&self.0))
    }
}

impl std::error::Error for FrameError {}

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    /// Takes the next bytes of the stream, in pieces of any size.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// [`FrameError`] when the stream does not continue with a frame; it cannot be read any further.
    pub fn next_message(&mut self) -> Result<Option<Message>, FrameError> {
        let known = self.pending.len().min(MAGIC.len());
        if self.pending[..known] != MAGIC[..known] {
            return Err(self.damage());
        }
        if self.pending.len() < HEADER {
            return Ok(None);
        }
        let word = |at: usize| {
            u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.pending.get(at + byte).copied().unwrap_or(0)))
        };
        let (kind, program, length) = (self.pending[4], word(5), word(9) as usize);
        if length > MAX_PAYLOAD {
            return Err(self.damage());
        }
        let Some(payload) = self.pending.get(HEADER..HEADER + length) else { return Ok(None) };
        let Some(message) = Message::decode(kind, program, payload) else { return Err(self.damage()) };
        self.pending.drain(..HEADER + length);
        Ok(Some(message))
    }

    /// Whether the stream ended in the middle of a frame.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn damage(&self) -> FrameError {
        FrameError(self.pending.iter().take(80).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Vec<Message> {
        vec![
            Message::Ready(3012),
            Message::Prepared(u64::MAX),
            Message::Note("loaded ümlaut".into()),
            Message::Started(7),
            Message::Stdout(1, b"a\0b\n".to_vec()),
            Message::Stderr(2, vec![]),
            Message::Results(3, vec![0xf5, b'D', b'P', 0x0a, 0xff]),
            Message::Exited(4, -1),
            Message::Signaled(5, 11),
            Message::TimedOut(6, "here".into()),
            Message::NotStarted(7, "why".into()),
            Message::Fatal("x".into()),
            Message::Done(1),
        ]
    }

    #[test]
    fn every_message_survives_the_wire_in_any_cutting() {
        let stream: Vec<u8> = every_kind().iter().flat_map(Message::encode).collect();
        for piece in [1, 2, 3, 5, 13, 64, stream.len()] {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for bytes in stream.chunks(piece) {
                decoder.push(bytes);
                while let Some(message) = decoder.next_message().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, every_kind(), "pieces of {piece}");
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn the_header_is_as_documented() {
        let frame = Message::Stdout(0x0102_0304, b"hi".to_vec()).encode();
        assert_eq!(frame, [0xf5, b'D', b'P', 0x0a, 4, 4, 3, 2, 1, 2, 0, 0, 0, b'h', b'i']);
    }

    #[test]
    fn foreign_bytes_are_an_error_not_a_message() {
        let mut decoder = Decoder::default();
        decoder.push(b"[    1.0] stray kernel line");
        assert!(decoder.next_message().unwrap_err().to_string().contains("stray kernel line"));
        let mut decoder = Decoder::default();
        decoder.push(&Message::Started(1).encode());
        decoder.push(b"x");
        assert_eq!(decoder.next_message(), Ok(Some(Message::Started(1))));
        assert!(decoder.next_message().is_err());
    }

    #[test]
    fn absurd_lengths_unknown_kinds_and_short_numbers_are_errors() {
        for (kind, length, payload) in [(4u8, u32::MAX, 0usize), (99, 0, 0), (0, 3, 3), (7, 8, 8)] {
            let mut frame = MAGIC.to_vec();
            frame.push(kind);
            frame.extend_from_slice(&[0; 4]);
            frame.extend_from_slice(&length.to_le_bytes());
            frame.extend_from_slice(&vec![0; payload]);
            let mut decoder = Decoder::default();
            decoder.push(&frame);
            assert!(decoder.next_message().is_err(), "kind {kind} length {length}");
        }
    }
}
