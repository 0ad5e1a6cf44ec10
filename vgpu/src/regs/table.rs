//! Registers as data: name, address, value after reset, behaviour.

use std::collections::BTreeMap;

/// What a register does when accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour<H> {
    /// Storage.
    Ram,
    /// Writes are ignored (fuses, identity, capabilities).
    ReadOnly,
    /// A written one clears the bit.
    WriteOneToClear,
    /// Bits 31:16 of a write select which of the bits 15:0 change.
    Masked,
    /// Storage whose given bits read as zero at once: the operation they start is already over.
    SelfClearing(u32),
    /// Storage whose given bits read as one once written: locked, or valid.
    Latching(u32),
    /// The device model acts; see its handler for the key.
    Hook(H),
}

/// One register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register<H> {
    /// Name, as the driver's headers have it.
    pub name: String,
    /// Value after reset.
    pub reset: u32,
    /// Behaviour.
    pub behaviour: Behaviour<H>,
}

/// A register of a table that is written down in source code, at an address relative to a block.
#[derive(Debug, Clone, Copy)]
pub struct Def<H: 'static> {
    /// Name.
    pub name: &'static str,
    /// Address inside the block.
    pub at: u32,
    /// How many registers in a row; their names get an index.
    pub count: u32,
    /// Distance of two registers of the row.
    pub stride: u32,
    /// Value after reset.
    pub reset: u32,
    /// Behaviour.
    pub behaviour: Behaviour<H>,
}

impl<H: Copy> Def<H> {
    /// A single register.
    pub const fn new(name: &'static str, at: u32, behaviour: Behaviour<H>) -> Def<H> {
        Def { name, at, count: 1, stride: 4, reset: 0, behaviour }
    }

    /// With a value after reset.
    pub const fn reset(mut self, value: u32) -> Def<H> {
        self.reset = value;
        self
    }

    /// `count` of them, `stride` apart.
    pub const fn row(mut self, count: u32, stride: u32) -> Def<H> {
        self.count = count;
        self.stride = stride;
        self
    }
}

/// All registers of a device.
#[derive(Debug, Clone)]
pub struct Table<H> {
    entries: BTreeMap<u32, Register<H>>,
    areas: Vec<(u32, u32, String)>,
}

impl<H: Copy> Default for Table<H> {
    fn default() -> Self {
        Table { entries: BTreeMap::new(), areas: Vec::new() }
    }
}

impl<H: Copy> Table<H> {
    /// Adds a block of definitions at `base`, with `prefix` before each name.
    ///
    /// # Panics
    ///
    /// When two definitions claim one address: the table contradicts itself.
    pub fn block(&mut self, prefix: &str, base: u32, defs: &[Def<H>]) {
        for def in defs {
            for i in 0..def.count {
                let index = if def.count > 1 { format!("({i})") } else { String::new() };
                let register = Register {
                    name: format!("{prefix}{}{index}", def.name),
                    reset: def.reset,
                    behaviour: def.behaviour,
                };
                let address = base + def.at + i * def.stride;
                if let Some(old) = self.entries.get(&address) {
                    panic!("{} and {} both at {address:#x}", old.name, register.name);
                }
                self.entries.insert(address, register);
            }
        }
    }

    /// Names a range, so that an unknown register inside it can be reported as "name+offset".
    pub fn area(&mut self, name: &str, base: u32, size: u32) {
        self.areas.push((base, size, name.into()));
    }

    /// Changes the value after reset of a register that depends on the profile.
    ///
    /// # Panics
    ///
    /// When there is no such register.
    pub fn preset(&mut self, address: u32, value: u32) {
        match self.entries.get_mut(&address) {
            Some(register) => register.reset = value,
            None => panic!("no register at {address:#x} to preset"),
        }
    }

    /// The register at an address.
    pub fn get(&self, address: u32) -> Option<&Register<H>> {
        self.entries.get(&address)
    }

    /// All registers with their addresses, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Register<H>)> {
        self.entries.iter().map(|(a, r)| (*a, r))
    }

    /// The name of an address; for one outside the table the range it lies in, else "?".
    pub fn name(&self, address: u32) -> String {
        if let Some(register) = self.entries.get(&address) {
            return register.name.clone();
        }
        let area = self.areas.iter().find(|(base, size, _)| address >= *base && address - base < *size);
        area.map_or_else(|| "?".into(), |(base, _, name)| format!("{name}+{:#x}", address - base))
    }
}
