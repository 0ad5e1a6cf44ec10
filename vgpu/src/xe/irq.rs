//! The interrupt tree of the device (`dg1_irq_handler` and `gt_engine_identity` in `xe_irq.c`).

use super::topology::Source;

const ENABLE: u32 = 1 << 31;
const VALID: u32 = 1 << 31;

#[derive(Debug, Default)]
struct Bank {
    /// Pending sources, as the guest reads them.
    pending: u32,
    /// Vectors of each source that have not been read yet.
    vectors: [u16; 32],
    /// Class and instance of each source.
    owners: [(u32, u32); 32],
    /// The source that the guest asks for, as a bit.
    selected: u32,
    /// The identity that was given out and not cleared yet.
    given: u32,
}

/// Pending interrupts, from the source up to the message.
///
/// Every method that can make an interrupt deliverable tells so; the caller sends the message.
#[derive(Debug, Default)]
pub struct Interrupts {
    enabled: bool,
    tile: u32,
    master: u32,
    banks: [Bank; 2],
}

impl Interrupts {
    /// A source raises a vector; `true` when a message is due.
    #[must_use]
    pub fn raise(&mut self, source: Source, vector: u16) -> bool {
        let bank = &mut self.banks[source.bank];
        let bit = source.bit as usize;
        bank.vectors[bit] |= vector;
        bank.owners[bit] = (source.class, source.instance);
        bank.pending |= 1 << source.bit;
        self.propagate()
    }

    /// Carries pending sources up to the tile level.
    fn propagate(&mut self) -> bool {
        for (i, bank) in self.banks.iter().enumerate() {
            if bank.pending != 0 {
                self.master |= 1 << i;
                self.tile |= 1;
            }
        }
        self.enabled && self.tile != 0
    }

    /// Reads the tile level.
    pub fn tile(&self) -> u32 {
        (if self.enabled { ENABLE } else { 0 }) | self.tile
    }

    /// Writes the tile level: clears the bits written, sets the enable; `true` when a message is due.
    #[must_use]
    pub fn write_tile(&mut self, value: u32) -> bool {
        self.tile &= !(value & !ENABLE);
        self.enabled = value & ENABLE != 0;
        // While enabled, whatever is still pending shows up again.
        if self.enabled { self.propagate() } else { false }
    }

    /// Reads which banks have something pending.
    pub fn master(&self) -> u32 {
        self.master
    }

    /// Clears banks.
    pub fn clear_master(&mut self, value: u32) {
        self.master &= !value;
    }

    /// Reads the pending sources of a bank.
    pub fn bank(&self, bank: usize) -> u32 {
        self.banks[bank].pending
    }

    /// Clears pending sources. A source that was raised again since its identity was read stays pending: clearing
    /// it here would lose that interrupt. `true` when a message is due.
    #[must_use]
    pub fn clear_bank(&mut self, bank: usize, value: u32) -> bool {
        let b = &mut self.banks[bank];
        let raised_again = (0..32).filter(|i| b.vectors[*i] != 0).fold(0, |bits, i| bits | 1 << i);
        b.pending = (b.pending & !value) | raised_again;
        self.propagate()
    }

    /// Selects the source whose identity is asked for.
    pub fn select(&mut self, bank: usize, value: u32) {
        self.banks[bank].selected = value;
        self.banks[bank].given = 0;
    }

    /// The identity of the selected source; zero when it has none.
    pub fn identity(&mut self, bank: usize) -> u32 {
        let b = &mut self.banks[bank];
        if b.given == 0 && b.selected != 0 {
            let bit = b.selected.trailing_zeros() as usize;
            if b.vectors[bit] != 0 {
                let (class, instance) = b.owners[bit];
                b.given = VALID | instance << 20 | class << 16 | u32::from(b.vectors[bit]);
            }
        }
        b.given
    }

    /// Acknowledges the identity that was given out. Vectors raised since it was given out remain.
    pub fn clear_identity(&mut self, bank: usize) {
        let b = &mut self.banks[bank];
        if b.selected != 0 {
            b.vectors[b.selected.trailing_zeros() as usize] &= !(b.given as u16);
        }
        b.given = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xe::topology::{ENGINES, GUC_SOURCE, VECTOR_GUC_TO_HOST, VECTOR_USER};

    const BCS0: Source = ENGINES[1].source;
    const GUC: Source = GUC_SOURCE[0];

    /// What the driver's handler does, with a chance to interfere at each step.
    fn handle(irq: &mut Interrupts, mut at: impl FnMut(&mut Interrupts, &str)) -> Vec<u32> {
        let mut seen = Vec::new();
        let _ = irq.write_tile(0);
        let tile = irq.tile();
        let _ = irq.write_tile(tile & !ENABLE);
        let master = irq.master();
        irq.clear_master(master);
        for bank in (0..2).filter(|b| master >> b & 1 == 1) {
            let pending = irq.bank(bank);
            for bit in (0..32).filter(|b| pending >> b & 1 == 1) {
                irq.select(bank, 1 << bit);
                at(irq, "selected");
                let identity = irq.identity(bank);
                assert_ne!(identity & VALID, 0, "the driver would time out");
                at(irq, "read");
                irq.clear_identity(bank);
                seen.push(identity);
                at(irq, "identified");
            }
            let _ = irq.clear_bank(bank, pending);
        }
        seen
    }

    #[test]
    fn one_interrupt_is_delivered_once() {
        let mut irq = Interrupts::default();
        assert!(!irq.raise(BCS0, VECTOR_USER), "disabled");
        assert!(irq.write_tile(ENABLE), "pending when enabled");
        assert_eq!(handle(&mut irq, |_, _| {}), [VALID | 3 << 16 | 1]);
        assert!(!irq.write_tile(ENABLE), "nothing left");
        assert_eq!((irq.tile() & !ENABLE, irq.master(), irq.bank(0)), (0, 0, 0));
    }

    #[test]
    fn banks_and_instances() {
        let mut irq = Interrupts::default();
        let _ = irq.raise(ENGINES[5].source, VECTOR_USER);
        let _ = irq.raise(GUC_SOURCE[1], VECTOR_GUC_TO_HOST);
        let _ = irq.write_tile(ENABLE);
        assert_eq!(handle(&mut irq, |_, _| {}), [VALID | 16 << 20 | 4 << 16 | 1 << 15, VALID | 2 << 16 | 1]);
    }

    /// The race of the identity: raised again at any moment of the handler, an interrupt must not be lost.
    #[test]
    fn raised_again_while_handled() {
        for moment in ["selected", "read", "identified"] {
            let mut irq = Interrupts::default();
            let _ = irq.raise(GUC, VECTOR_GUC_TO_HOST);
            let _ = irq.write_tile(ENABLE);
            let mut raised = false;
            let first = handle(&mut irq, |irq, now| {
                if now == moment && !raised {
                    raised = true;
                    assert!(!irq.raise(GUC, 1 << 3), "disabled while handled");
                }
            });
            let due = irq.write_tile(ENABLE);
            let second = if due { handle(&mut irq, |_, _| {}) } else { vec![] };
            let vectors = first.iter().chain(&second).fold(0, |all, i| all | i & 0xffff);
            assert_eq!(vectors, 1 << 15 | 1 << 3, "raised when {moment}");
        }
    }
}
