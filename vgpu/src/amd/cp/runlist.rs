//! The run list: processes and queues that the scheduler shall run.

use super::packet::{Header, MapQueues};
use crate::amd::stream::qword;

/// A process with its queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process address space identifier.
    pub pasid: u32,
    /// Root of the page tables, as a base register holds it.
    pub root: u64,
    /// `SH_MEM_CONFIG`.
    pub memory_config: u32,
    /// Its queues.
    pub queues: Vec<MapQueues>,
}

/// `SH_MEM_CONFIG__RETRY_DISABLE`.
const RETRY_DISABLE: u32 = 1 << 12;

impl Process {
    /// Whether failed accesses of its queues are final, whatever the context says.
    pub fn retry_disabled(&self) -> bool {
        self.memory_config & RETRY_DISABLE != 0
    }
}

/// Reads a list; what follows a broken packet is lost, and said so.
pub fn parse(words: &[u32]) -> (Vec<Process>, Option<String>) {
    let mut processes: Vec<Process> = Vec::new();
    let mut at = 0;
    while let Some(dword) = words.get(at) {
        let (code, length) = match Header::new(*dword) {
            Header::Filler => {
                at += 1;
                continue;
            }
            Header::Operation { code, length } => (code, length as usize),
            Header::Broken => return (processes, Some(format!("no packet in the run list: {dword:#x}"))),
        };
        let Some(body) = words.get(at + 1..at + length) else {
            return (processes, Some("run list ends inside a packet".into()));
        };
        match code {
            0xa1 if body.len() >= 5 => processes.push(Process {
                pasid: body[0] & 0xffff,
                root: qword(body[1], body[2]),
                memory_config: body[4],
                queues: Vec::new(),
            }),
            0xa2 if body.len() >= 6 => match processes.last_mut() {
                Some(process) => process.queues.push(MapQueues::new(body)),
                None => return (processes, Some("a queue before any process".into())),
            },
            // A list that goes on elsewhere comes round for more processes than there are slots; here all fit.
            0xa5 => {}
            _ => return (processes, Some(format!("operation {code:#x} in the run list"))),
        }
        at += length;
    }
    (processes, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(code: u32, body: usize) -> u32 {
        3 << 30 | (body as u32 - 1) << 16 | code << 8
    }

    #[test]
    fn processes_and_queues() {
        let mut list = vec![header(0xa1, 15), 0x8001, 0x5001, 1, 0, RETRY_DISABLE];
        list.extend([0; 10]);
        list.extend([header(0xa2, 6), 2 << 26, 0x10, 0x1000, 0, 0x2000, 0]);
        list.extend([header(0xa1, 20), 0x8002, 0x6001, 0]);
        list.extend([0; 17]);
        list.extend([header(0xa5, 3), 0, 0, 0]);
        let (processes, problem) = parse(&list);
        assert_eq!(problem, None);
        assert_eq!(processes.len(), 2);
        assert_eq!((processes[0].pasid, processes[0].root), (0x8001, 0x1_0000_5001));
        assert!(processes[0].retry_disabled() && !processes[1].retry_disabled());
        assert_eq!(processes[0].queues[0].sdma(), Some(0));
        assert!(processes[1].queues.is_empty());
    }

    #[test]
    fn broken_lists_are_noticed() {
        assert!(parse(&[0]).1.is_some());
        assert!(parse(&[header(0xa1, 15), 1]).1.is_some());
        assert!(parse(&[header(0xa2, 6), 0, 0, 0, 0, 0, 0]).1.is_some());
    }
}
