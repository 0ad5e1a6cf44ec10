//! The registers of a running device: values, behaviours, and a record of what the table does not know.

use std::collections::{BTreeMap, HashMap};

use super::{Behaviour, Table};

/// How often an unknown register was touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Touch {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Value of the first write.
    pub first_write: u32,
}

/// Register values with the behaviour that a [`Table`] gives them.
///
/// A register outside the table behaves as storage that starts at zero, and is recorded.
#[derive(Debug)]
pub struct RegisterFile<H> {
    table: Table<H>,
    values: HashMap<u32, u32>,
    unknown: BTreeMap<u32, Touch>,
}

impl<H: Copy> RegisterFile<H> {
    /// All registers at their values after reset.
    pub fn new(table: Table<H>) -> RegisterFile<H> {
        let mut file = RegisterFile { table, values: HashMap::new(), unknown: BTreeMap::new() };
        file.reset();
        file
    }

    /// Back to the values after reset; the record of unknown registers stays.
    pub fn reset(&mut self) {
        self.values = self.table.iter().map(|(address, r)| (address, r.reset)).collect();
    }

    /// The table.
    pub fn table(&self) -> &Table<H> {
        &self.table
    }

    /// The stored value, without any side effect.
    pub fn get(&self, address: u32) -> u32 {
        self.values.get(&address).copied().unwrap_or(0)
    }

    /// Stores a value, without any side effect.
    pub fn set(&mut self, address: u32, value: u32) {
        self.values.insert(address, value);
    }

    /// A read by the guest: the stored value, and the key of the hook that may replace it.
    pub fn read(&mut self, address: u32) -> (u32, Option<H>) {
        let hook = match self.table.get(address) {
            Some(register) => match register.behaviour {
                Behaviour::Hook(hook) => Some(hook),
                _ => None,
            },
            None => {
                self.touch(address).reads += 1;
                None
            }
        };
        (self.get(address), hook)
    }

    /// A write by the guest; with a hook nothing is stored, the device model does what it must.
    pub fn write(&mut self, address: u32, value: u32) -> Option<H> {
        let old = self.get(address);
        let behaviour = match self.table.get(address) {
            Some(register) => register.behaviour,
            None => {
                let touch = self.touch(address);
                if touch.writes == 0 {
                    touch.first_write = value;
                }
                touch.writes += 1;
                Behaviour::Ram
            }
        };
        let new = match behaviour {
            Behaviour::Ram => value,
            Behaviour::ReadOnly => old,
            Behaviour::WriteOneToClear => old & !value,
            Behaviour::Masked => merge_masked(old, value),
            Behaviour::SelfClearing(bits) => value & !bits,
            Behaviour::Latching(bits) => value | bits,
            Behaviour::Hook(hook) => return Some(hook),
        };
        self.set(address, new);
        None
    }

    fn touch(&mut self, address: u32) -> &mut Touch {
        let table = &self.table;
        self.unknown.entry(address).or_insert_with(|| {
            tracing::info!(target: "mmio", at = format_args!("{address:#x}"), name = table.name(address), "unknown register");
            Touch::default()
        })
    }

    /// The registers outside the table that were touched, in order of address.
    pub fn unknown(&self) -> impl Iterator<Item = (u32, Touch)> + '_ {
        self.unknown.iter().map(|(address, touch)| (*address, *touch))
    }

    /// Lines for a report: address, name of the range if there is one, counts.
    pub fn unknown_lines(&self) -> Vec<String> {
        let line = |(address, t): (u32, Touch)| {
            let name = self.table.name(address);
            let first =
                if t.writes > 0 { format!(" first written {:#x}", t.first_write) } else { String::new() };
            format!("{address:#08x} {name} reads {} writes {}{first}", t.reads, t.writes)
        };
        self.unknown().map(line).collect()
    }
}

/// A write to a masked register: bits 31:16 select which of the bits 15:0 change.
pub fn merge_masked(old: u32, value: u32) -> u32 {
    let mask = value >> 16;
    (old & !mask) | (value & mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regs::Def;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Key {
        Doorbell,
    }

    fn file() -> RegisterFile<Key> {
        let mut table = Table::default();
        table.block(
            "T.",
            0x100,
            &[
                Def::new("RAM", 0x00, Behaviour::Ram).reset(7),
                Def::new("FUSE", 0x04, Behaviour::ReadOnly).reset(0xabc),
                Def::new("IIR", 0x08, Behaviour::WriteOneToClear).reset(0xff),
                Def::new("CTL", 0x0c, Behaviour::Masked).reset(0x5),
                Def::new("GO", 0x10, Behaviour::SelfClearing(1)),
                Def::new("LOCK", 0x14, Behaviour::Latching(1)),
                Def::new("BELL", 0x18, Behaviour::Hook(Key::Doorbell)),
                Def::new("ROW", 0x20, Behaviour::Ram).row(3, 8),
            ],
        );
        table.area("AREA", 0x1000, 0x100);
        RegisterFile::new(table)
    }

    #[test]
    fn behaviours() {
        let mut f = file();
        let cases = [
            (0x100, 9, 9),
            (0x104, 1, 0xabc),
            (0x108, 0x0f, 0xf0),
            (0x10c, 0x0003_0002, 0x6),
            (0x110, 0x31, 0x30),
            (0x114, 0x70, 0x71),
        ];
        for (address, written, expected) in cases {
            assert_eq!(f.write(address, written), None);
            assert_eq!(f.read(address), (expected, None), "{}", f.table().name(address));
        }
        assert_eq!(f.write(0x118, 1), Some(Key::Doorbell));
        assert_eq!(f.read(0x118), (0, Some(Key::Doorbell)));
        f.reset();
        assert_eq!(f.get(0x100), 7);
        assert_eq!(f.get(0x10c), 5);
    }

    #[test]
    fn names_rows_and_areas() {
        let f = file();
        assert_eq!(f.table().name(0x128), "T.ROW(1)");
        assert_eq!(f.table().name(0x1010), "AREA+0x10");
        assert_eq!(f.table().name(0x4), "?");
    }

    #[test]
    fn unknown_registers_are_storage_and_recorded() {
        let mut f = file();
        assert_eq!(f.read(0x1010), (0, None));
        f.write(0x1010, 5);
        f.write(0x1010, 6);
        assert_eq!(f.read(0x1010), (6, None));
        f.read(0x100);
        assert_eq!(f.unknown_lines(), ["0x001010 AREA+0x10 reads 2 writes 2 first written 0x5"]);
    }

    #[test]
    #[should_panic(expected = "both at")]
    fn contradictions_are_refused() {
        let mut table: Table<Key> = Table::default();
        table.block("", 0, &[Def::new("A", 0, Behaviour::Ram), Def::new("B", 0, Behaviour::Ram)]);
    }
}
