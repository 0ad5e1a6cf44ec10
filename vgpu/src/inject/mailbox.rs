//! The mailbox: a vendor-specific PCI capability through which the guest orders trouble and reads counters.
//!
//! The registers are described in the crate's README; both must agree.

use super::{Injector, Kind, Order};
use crate::counters::{Counter, Counters};
use crate::pci::Capability;

/// Where the capability starts in configuration space.
const MAILBOX_AT: u8 = 0x60;
/// Its length in bytes.
const MAILBOX_LEN: u8 = 0x30;

const SIGNATURE: u32 = u32::from_le_bytes(*b"VGPU");
const VERSION: u8 = 1;

const R_SIGNATURE: u64 = 0x04;
const R_COMMAND: u64 = 0x08;
const R_SELECT: u64 = 0x0c;
const R_NTH: u64 = 0x10;
const R_TIMES: u64 = 0x14;
const R_FILTER: u64 = 0x18;
const R_VALUE: u64 = 0x1c;
const R_RESULT_LOW: u64 = 0x20;
const R_RESULT_HIGH: u64 = 0x24;
const R_DEVICE: u64 = 0x28;

/// What a command asks for; the number is what the guest writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Command {
    Arm = 1,
    Clear = 2,
    ReadCounter = 3,
    ResetCounters = 4,
    Unplug = 5,
    Replug = 6,
    Waiting = 7,
    Mark = 8,
    Fired = 9,
}

/// How a command went; the number is what the guest reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Status {
    Done = 0,
    UnknownCommand = 1,
    UnknownKind = 2,
    UnknownCounter = 3,
}

/// What the function behind the mailbox must do itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Take the device off the bus.
    Unplug,
    /// Bring it back.
    Replug,
}

/// The registers of the mailbox.
#[derive(Debug, Default)]
pub struct Mailbox {
    status: u32,
    select: u32,
    nth: u32,
    times: u32,
    filter: u32,
    value: u32,
    result: u64,
    device: u32,
}

impl Mailbox {
    /// The mailbox of device `index` out of `count` that the process serves.
    pub fn new(index: usize, count: usize) -> Mailbox {
        Mailbox { device: (index as u32 & 0xff) | ((count as u32 & 0xff) << 8), ..Mailbox::default() }
    }

    /// The capability as configuration space lists it.
    pub fn capability() -> Capability {
        Capability { at: MAILBOX_AT, id: 0x09, body: vec![MAILBOX_LEN, VERSION], writable: vec![] }
    }

    /// Whether configuration space offset `at` is one of the mailbox's registers, and which.
    pub fn register(at: u64) -> Option<u64> {
        let offset = at.checked_sub(u64::from(MAILBOX_AT))?;
        (R_SIGNATURE..u64::from(MAILBOX_LEN)).contains(&offset).then_some(offset & !3)
    }

    /// Reads a register.
    pub fn read(&self, register: u64) -> u32 {
        match register {
            R_SIGNATURE => SIGNATURE,
            R_COMMAND => self.status,
            R_SELECT => self.select,
            R_NTH => self.nth,
            R_TIMES => self.times,
            R_FILTER => self.filter,
            R_VALUE => self.value,
            R_RESULT_LOW => self.result as u32,
            R_RESULT_HIGH => (self.result >> 32) as u32,
            R_DEVICE => self.device,
            _ => 0,
        }
    }

    /// Writes a register; a write to the command register executes at once.
    pub fn write(
        &mut self,
        register: u64,
        value: u32,
        injector: &Injector,
        counters: &Counters,
    ) -> Option<Request> {
        match register {
            R_COMMAND => return self.execute(value, injector, counters),
            R_SELECT => self.select = value,
            R_NTH => self.nth = value,
            R_TIMES => self.times = value,
            R_FILTER => self.filter = value,
            R_VALUE => self.value = value,
            _ => {}
        }
        None
    }

    fn execute(&mut self, command: u32, injector: &Injector, counters: &Counters) -> Option<Request> {
        const COMMANDS: [Command; 9] = [
            Command::Arm,
            Command::Clear,
            Command::ReadCounter,
            Command::ResetCounters,
            Command::Unplug,
            Command::Replug,
            Command::Waiting,
            Command::Mark,
            Command::Fired,
        ];
        let mut request = None;
        let kind = Kind::from_code(self.select);
        let kind_or_all = if self.select == 0 { Some(None) } else { kind.map(Some) };
        let status = match COMMANDS.into_iter().find(|c| *c as u32 == command) {
            None => Status::UnknownCommand,
            Some(Command::Arm) => kind.map_or(Status::UnknownKind, |kind| {
                let order = Order {
                    kind,
                    nth: self.nth.max(1),
                    times: self.times.max(1),
                    filter: self.filter,
                    value: self.value,
                };
                tracing::info!(target: "inject", ?order, "armed by the guest");
                injector.arm(order);
                Status::Done
            }),
            Some(Command::Clear) => kind_or_all.map_or(Status::UnknownKind, |kind| {
                injector.clear(kind);
                Status::Done
            }),
            Some(Command::Waiting) => kind_or_all.map_or(Status::UnknownKind, |kind| {
                self.result = u64::from(injector.waiting(kind));
                Status::Done
            }),
            Some(Command::Fired) => kind_or_all.map_or(Status::UnknownKind, |kind| {
                self.result = u64::from(injector.fired(kind));
                Status::Done
            }),
            Some(Command::ReadCounter) => {
                Counter::from_code(self.select).map_or(Status::UnknownCounter, |counter| {
                    self.result = counters.get(counter);
                    Status::Done
                })
            }
            Some(Command::ResetCounters) => {
                counters.reset();
                Status::Done
            }
            Some(Command::Unplug) => {
                request = Some(Request::Unplug);
                Status::Done
            }
            Some(Command::Replug) => {
                request = Some(Request::Replug);
                Status::Done
            }
            Some(Command::Mark) => {
                tracing::info!(target: "inject", value = self.value, "mark of the guest");
                Status::Done
            }
        };
        self.status = (command << 16) | status as u32;
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Guest {
        mailbox: Mailbox,
        injector: Injector,
        counters: Counters,
    }

    impl Guest {
        fn write(&mut self, register: u64, value: u32) -> Option<Request> {
            self.mailbox.write(register, value, &self.injector, &self.counters)
        }

        fn command(&mut self, command: u32) -> u32 {
            self.write(R_COMMAND, command);
            self.mailbox.read(R_COMMAND)
        }
    }

    fn guest() -> Guest {
        Guest { mailbox: Mailbox::new(1, 2), injector: Injector::default(), counters: Counters::default() }
    }

    #[test]
    fn guest_arms_and_asks() {
        let mut g = guest();
        assert_eq!(g.mailbox.read(R_SIGNATURE).to_le_bytes(), *b"VGPU");
        assert_eq!(g.mailbox.read(R_DEVICE), 0x0201);
        g.write(R_SELECT, Kind::CopyHang as u32);
        g.write(R_NTH, 2);
        g.write(R_FILTER, 1);
        assert_eq!(g.command(Command::Arm as u32), 1 << 16);
        assert_eq!(g.injector.strike(&[Kind::CopyHang], &[1]), None);
        assert!(g.injector.strike(&[Kind::CopyHang], &[1]).is_some());
        assert_eq!(g.command(Command::Fired as u32) & 0xffff, 0);
        assert_eq!(g.mailbox.read(R_RESULT_LOW), 1);
    }

    #[test]
    fn counters_are_read_and_reset() {
        let mut g = guest();
        g.counters.add(Counter::BytesToVram, 5 << 32 | 7);
        g.write(R_SELECT, Counter::BytesToVram as u32);
        assert_eq!(g.command(3), 3 << 16);
        assert_eq!((g.mailbox.read(R_RESULT_LOW), g.mailbox.read(R_RESULT_HIGH)), (7, 5));
        g.command(4);
        g.command(3);
        assert_eq!(g.mailbox.read(R_RESULT_LOW), 0);
    }

    #[test]
    fn mistakes_are_answered() {
        let mut g = guest();
        assert_eq!(g.command(99), 99 << 16 | Status::UnknownCommand as u32);
        g.write(R_SELECT, 999);
        assert_eq!(g.command(1), 1 << 16 | Status::UnknownKind as u32);
        assert_eq!(g.command(3), 3 << 16 | Status::UnknownCounter as u32);
        assert_eq!(g.write(R_COMMAND, 5), Some(Request::Unplug));
    }

    #[test]
    fn register_addresses() {
        assert_eq!(Mailbox::register(0x60), None, "the header belongs to configuration space");
        assert_eq!(Mailbox::register(0x64), Some(4));
        assert_eq!(Mailbox::register(0x6a), Some(8));
        assert_eq!(Mailbox::register(0x8f), Some(0x2c));
        assert_eq!(Mailbox::register(0x90), None);
    }
}
