//! The kernel's own test device for heterogeneous memory (`lib/test_hmm.c`): it moves pages of this process to memory of
//! its own as a GPU driver does, and tells where each page is. Numbers are those of `lib/test_hmm_uapi.h`.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use drm_pagemap::PageRange;
use rustix::ioctl::opcode::read_write;
use rustix::ioctl::{Opcode, Updater};

/// `struct hmm_dmirror_cmd`.
#[repr(C)]
#[derive(Default)]
struct Command {
    addr: u64,
    ptr: u64,
    npages: u64,
    cpages: u64,
    faults: u64,
}

const MIGRATE_TO_DEVICE: Opcode = read_write::<Command>(b'H', 2);
const MIGRATE_TO_SYSTEM: Opcode = read_write::<Command>(b'H', 3);
const SNAPSHOT: Opcode = read_write::<Command>(b'H', 4);
const EXCLUSIVE: Opcode = read_write::<Command>(b'H', 5);

/// What the device says of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// Not present: absent, swapped, guard or marker.
    Nothing,
    System,
    Zero,
    Private,
    Coherent,
}

/// One page of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) truth: Truth,
    /// Mapped by an entry of 2 MiB.
    pub(crate) huge: bool,
}

impl Seen {
    fn of(byte: u8) -> Self {
        let truth = match byte & 0x70 {
            _ if byte == 0xff => Truth::Nothing,
            0x20 | 0x30 => Truth::Private,
            0x40 | 0x50 => Truth::Coherent,
            0x10 => Truth::Zero,
            _ if byte & 3 != 0 => Truth::System,
            _ => Truth::Nothing,
        };
        Self { truth, huge: byte & 4 != 0 }
    }
}

/// Numbers of the devices with private and with coherent memory.
pub(crate) const PRIVATE: [u32; 2] = [0, 1];
pub(crate) const COHERENT: u32 = 2;

pub(crate) fn path(number: u32) -> String {
    format!("/dev/hmm_dmirror{number}")
}

/// The device, mirroring the process that opened it.
pub(crate) struct Device(File);

impl Device {
    pub(crate) fn open(number: u32) -> std::io::Result<Self> {
        File::options().read(true).write(true).open(path(number)).map(Self)
    }

    pub(crate) fn first() -> Self {
        Self::open(PRIVATE[0]).unwrap()
    }

    fn call<const REQUEST: Opcode>(&self, command: &mut Command) -> rustix::io::Result<()> {
        // SAFETY: every request of the device takes this struct.
        let call = unsafe { Updater::<REQUEST, Command>::new(command) };
        // SAFETY: the buffer that `ptr` names is alive and holds what `npages` needs (see the callers).
        unsafe { rustix::ioctl::ioctl(self.0.as_fd(), call) }
    }

    fn migrate<const REQUEST: Opcode>(&self, range: PageRange) -> u64 {
        // The device keeps a byte of each page's contents; nobody looks at them.
        let mut contents = vec![0u8; range.len() as usize];
        let ptr = contents.as_mut_ptr() as u64;
        let mut command = Command { addr: range.start(), ptr, npages: range.pages(), ..Command::default() };
        match self.call::<REQUEST>(&mut command) {
            // Pages that do not move are no failure here: the snapshot tells which did.
            Ok(()) | Err(rustix::io::Errno::NOENT) => command.cpages,
            Err(error) => panic!("migrating {range}: {error}"),
        }
    }

    /// Moves what can be moved of a range to the device.
    pub(crate) fn take(&self, range: PageRange) -> u64 {
        self.migrate::<MIGRATE_TO_DEVICE>(range)
    }

    /// Moves a range to the device of which nothing holds on to a page for long. A page that was just made can still wait in another
    /// processor's list of additions to the LRU, which is a reference, and then it stays.
    pub(crate) fn take_all(&self, range: PageRange) {
        const ATTEMPTS: usize = 200;
        for _ in 0..ATTEMPTS {
            self.take(range);
            if self.snapshot(range).iter().all(|seen| seen.truth == Truth::Private) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{range} did not go to the device");
    }

    /// Brings the device's pages of a range back.
    pub(crate) fn give_back(&self, range: PageRange) -> u64 {
        self.migrate::<MIGRATE_TO_SYSTEM>(range)
    }

    /// Gives the device exclusive access to pages, which stay in system memory.
    pub(crate) fn make_exclusive(&self, range: PageRange) {
        let mut contents = vec![0u8; range.len() as usize];
        let ptr = contents.as_mut_ptr() as u64;
        let mut command = Command { addr: range.start(), ptr, npages: range.pages(), ..Command::default() };
        self.call::<EXCLUSIVE>(&mut command).unwrap();
    }

    /// Where each page of a mapped range is; touches none.
    pub(crate) fn snapshot(&self, range: PageRange) -> Vec<Seen> {
        let mut bytes = vec![0u8; range.pages() as usize];
        let ptr = bytes.as_mut_ptr() as u64;
        let mut command = Command { addr: range.start(), ptr, npages: range.pages(), ..Command::default() };
        self.call::<SNAPSHOT>(&mut command).unwrap();
        assert_eq!(command.cpages, range.pages());
        bytes.into_iter().map(Seen::of).collect()
    }
}
