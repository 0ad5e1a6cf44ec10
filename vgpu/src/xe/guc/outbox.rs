//! Messages to the driver: sent when there is room, kept while there is none, delayed or lost when ordered so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Firmware, Message};
use crate::counters::Counter;
use crate::inject::Kind;
use crate::xe::memory::GgttSpace;
use crate::xe::topology::{GUC_SOURCE, VECTOR_GUC_TO_HOST};

/// Header bits of a message: from the firmware, and its type.
const FROM_GUC: u32 = 1 << 31;
const TYPE_EVENT: u32 = 1 << 28;
const TYPE_FAILURE: u32 = 6 << 28;
const TYPE_SUCCESS: u32 = 7 << 28;

/// How often a full channel is looked at again; the driver does not announce that it has made room.
const RETRY: Duration = Duration::from_millis(1);

/// Messages that are not in the channel yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Message>,
    delayed: Vec<(Instant, Message)>,
}

impl Firmware<'_> {
    /// Sends an event.
    pub(super) fn event(&mut self, code: u32, data: &[u32]) {
        let mut hxg = vec![FROM_GUC | TYPE_EVENT | code];
        hxg.extend(data);
        self.post(code, Message { fence: 0, hxg });
    }

    /// Answers the request with number `fence`, whose action was `code`, with one value.
    pub(super) fn reply(&mut self, fence: u32, code: u32, value: u32) {
        self.post(code, Message { fence, hxg: vec![FROM_GUC | TYPE_SUCCESS | (value & 0x0fff_ffff)] });
    }

    /// Refuses the request with number `fence`.
    pub(super) fn refuse(&mut self, fence: u32, code: u32, error: u32) {
        self.post(code, Message { fence, hxg: vec![FROM_GUC | TYPE_FAILURE | (error & 0xffff)] });
    }

    fn post(&mut self, code: u32, message: Message) {
        let strike = self.core.board.strike(&[Kind::ReplyLose, Kind::ReplyDelay], &[code]);
        match strike.map(|s| (s.kind, s.value)) {
            Some((Kind::ReplyDelay, micros)) => {
                let due = Instant::now() + Duration::from_micros(u64::from(micros));
                self.guc().outbox.delayed.push((due, message));
                self.core.postman.wake();
            }
            Some(_) => {}
            None => {
                self.guc().outbox.waiting.push_back(message);
                self.deliver();
            }
        }
    }

    /// Moves what is due into the channel, as far as there is room. Tells when to look again.
    pub fn deliver(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let outbox = &mut self.guc().outbox;
        let mut i = 0;
        while i < outbox.delayed.len() {
            if outbox.delayed[i].0 <= now {
                let message = outbox.delayed.remove(i).1;
                outbox.waiting.push_back(message);
            } else {
                i += 1;
            }
        }
        let mut sent = 0;
        let channel = self.guc_to_host();
        while let Some(message) = self.guc().outbox.waiting.front().cloned() {
            let Some(channel) = channel else {
                tracing::warn!(target: "guc", unit = self.unit, ?message, "no channel to the driver");
                self.guc().outbox.waiting.clear();
                break;
            };
            match channel.send(&GgttSpace(&self.core.memory), &message) {
                Ok(true) => {
                    tracing::debug!(target: "guc", unit = self.unit, fence = message.fence, hxg = ?Hex(&message.hxg), "to driver");
                    self.guc().outbox.waiting.pop_front();
                    sent += 1;
                }
                Ok(false) => {
                    self.core.board.counters.add(Counter::FirmwareBacklog, 1);
                    break;
                }
                Err(error) => {
                    tracing::warn!(target: "guc", unit = self.unit, ?error, "channel to the driver is broken");
                    self.guc().outbox.waiting.clear();
                }
            }
        }
        if sent > 0 {
            self.core.board.counters.add(Counter::FirmwareMessages, sent);
            self.core.raise(self.state, GUC_SOURCE[self.unit], VECTOR_GUC_TO_HOST);
        }
        let outbox = &self.guc().outbox;
        let retry = (!outbox.waiting.is_empty()).then_some(RETRY);
        let next = outbox.delayed.iter().map(|(due, _)| due.saturating_duration_since(now)).min();
        if retry.is_some() {
            self.core.postman.wake();
        }
        [retry, next].into_iter().flatten().min()
    }
}

/// Dwords in hexadecimal.
pub(super) struct Hex<'a>(pub(super) &'a [u32]);

impl std::fmt::Debug for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x?}", self.0)
    }
}
