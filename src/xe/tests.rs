//! The wrappers against nodes that record, nodes that answer from a script, and files of the wrong kind.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use super::errors::Meaning;
use super::*;
use crate::channel::{Channel, VirtualNode};
use crate::error::{Errno, Error, ErrorKind, Result};
use crate::range::PageRange;
use crate::uapi::IoctlArg;
use crate::uapi::xe as abi;

mod fork;
mod golden;
mod meanings;
mod wrong_file;

/// Records requests and argument bytes; answers with errnos from a list, then with success.
#[derive(Debug, Default)]
struct Script {
    calls: Mutex<Vec<(u32, Vec<u8>)>>,
    answers: Mutex<Vec<Errno>>,
    /// What a node that is opened as file 0 gives out.
    as_file_0: bool,
}

// SAFETY: it writes ids into the argument, and answers no call that makes a descriptor.
unsafe impl VirtualNode for Script {
    unsafe fn ioctl(&self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        self.calls.lock().unwrap().push((request, arg.to_vec()));
        // Ids and handles are outputs at these places.
        match request {
            abi::VmCreate::REQUEST => arg[12..16].copy_from_slice(&2u32.to_ne_bytes()),
            abi::GemCreate::REQUEST => arg[28..32].copy_from_slice(&5u32.to_ne_bytes()),
            abi::ExecQueueCreate::REQUEST => arg[20..24].copy_from_slice(&6u32.to_ne_bytes()),
            _ => {}
        }
        self.answers.lock().unwrap().pop().map_or(Ok(()), Err)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: number 0 is open in the tests, and only ever duplicated.
        self.as_file_0.then(|| unsafe { BorrowedFd::borrow_raw(0) })
    }

    fn name(&self) -> String {
        "script".into()
    }
}

impl Script {
    fn device(self: &Arc<Self>) -> Device {
        Device::unchecked(Channel::to_virtual(self.clone()))
    }

    /// The only call since the last look, as dwords.
    #[track_caller]
    fn only(&self) -> (u32, Vec<u32>) {
        let mut calls = self.calls.lock().unwrap();
        assert_eq!(calls.len(), 1, "{calls:?}");
        let (request, bytes) = calls.remove(0);
        (request, bytes.chunks(4).map(|dword| u32::from_ne_bytes(dword.try_into().unwrap())).collect())
    }

    fn forget(&self) {
        self.calls.lock().unwrap().clear();
    }

    fn fail_with(&self, errno: Errno) {
        *self.answers.lock().unwrap() = vec![errno];
    }
}
