//! The registers of one VM hub that translations depend on.

use std::collections::HashMap;

use super::entry::Entry;
use super::walk::Shape;

/// Contexts that a hub has.
pub const VMIDS: u32 = 16;

/// One of the two hubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HubId {
    /// Graphics and compute.
    Gc,
    /// SDMA and everything else.
    Mm,
}

impl HubId {
    /// Both.
    pub const ALL: [HubId; 2] = [HubId::Gc, HubId::Mm];

    /// Position in a pair.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// One address space of a hub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Context {
    /// `VM_CONTEXTn_CNTL`.
    pub control: u32,
    /// `VM_CONTEXTn_PAGE_TABLE_BASE_ADDR`.
    pub base: u64,
    /// `VM_CONTEXTn_PAGE_TABLE_START_ADDR`, in pages.
    pub start: u64,
    /// `VM_CONTEXTn_PAGE_TABLE_END_ADDR`, in pages, the last one included.
    pub end: u64,
}

impl Context {
    /// Depth of the tables (bits 2:1) and block size (bits 6:3).
    pub fn shape(&self) -> Shape {
        Shape { depth: (self.control >> 1) & 3, block: (self.control >> 3) & 0xf }
    }

    /// Whether a failed access is repeated until it succeeds (bit 7).
    pub fn retry(&self) -> bool {
        self.control & 1 << 7 != 0
    }

    /// The root of the tables.
    pub fn root(&self) -> Entry {
        Entry(self.base)
    }
}

/// A register of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextField {
    /// `CNTL`.
    Control,
    /// `PAGE_TABLE_BASE_ADDR`, low and high in a row.
    Base,
    /// `PAGE_TABLE_START_ADDR`.
    Start,
    /// `PAGE_TABLE_END_ADDR`.
    End,
}

/// Apertures of VMID 0; addresses in units of 16 MiB, as the registers hold them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Apertures {
    /// `MC_VM_FB_LOCATION_BASE`.
    pub frame_base: u32,
    /// `MC_VM_FB_LOCATION_TOP`, included.
    pub frame_top: u32,
    /// `MC_VM_AGP_BASE`.
    pub agp_base: u32,
    /// `MC_VM_AGP_BOT`.
    pub agp_bottom: u32,
    /// `MC_VM_AGP_TOP`, included.
    pub agp_top: u32,
}

/// A register of the apertures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApertureField {
    /// Start of the frame buffer.
    FrameBase,
    /// End of the frame buffer.
    FrameTop,
    /// Bus address behind the AGP aperture.
    AgpBase,
    /// Start of the AGP aperture.
    AgpBottom,
    /// End of the AGP aperture.
    AgpTop,
}

/// What an address of VMID 0 falls into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Frame buffer, with the offset.
    Frame(u64),
    /// GART, with the offset.
    Gart(u64),
    /// AGP, with the bus address.
    Agp(u64),
}

/// One hub.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    contexts: [Context; VMIDS as usize],
    extra: HashMap<u32, Context>,
    /// Apertures of VMID 0.
    pub apertures: Apertures,
}

impl Hub {
    /// The context of a VMID, or of a process without one; an absent one translates nothing.
    pub fn context(&self, slot: u32) -> Context {
        match self.contexts.get(slot as usize) {
            Some(context) => *context,
            None => self.extra.get(&slot).copied().unwrap_or_default(),
        }
    }

    /// Gives a process its tables; one without a VMID behaves as the last VMID does.
    pub fn assign(&mut self, slot: u32, base: u64) {
        match self.contexts.get_mut(slot as usize) {
            Some(context) => context.base = base,
            None => {
                let context = Context { base, ..self.contexts[VMIDS as usize - 1] };
                self.extra.insert(slot, context);
            }
        }
    }

    /// Forgets the processes without a VMID.
    pub fn forget_extra(&mut self) {
        self.extra.clear();
    }

    /// A register of a context changed; `index` counts the dwords of that kind.
    pub fn set_context(&mut self, field: ContextField, index: u32, value: u32) {
        let vmid = if field == ContextField::Control { index } else { index / 2 };
        let Some(context) = self.contexts.get_mut(vmid as usize) else { return };
        let wide = match field {
            ContextField::Control => {
                context.control = value;
                return;
            }
            ContextField::Base => &mut context.base,
            ContextField::Start => &mut context.start,
            ContextField::End => &mut context.end,
        };
        let shift = 32 * (index & 1);
        *wide = (*wide & !(0xffff_ffff << shift)) | u64::from(value) << shift;
    }

    /// A register of the apertures changed.
    pub fn set_aperture(&mut self, field: ApertureField, value: u32) {
        let a = &mut self.apertures;
        match field {
            ApertureField::FrameBase => a.frame_base = value,
            ApertureField::FrameTop => a.frame_top = value,
            ApertureField::AgpBase => a.agp_base = value,
            ApertureField::AgpBottom => a.agp_bottom = value,
            ApertureField::AgpTop => a.agp_top = value,
        }
    }

    /// What an address of VMID 0 falls into.
    pub fn place(&self, address: u64) -> Option<Place> {
        let inside = |base: u32, top: u32| {
            let (base, end) = (u64::from(base) << 24, (u64::from(top) + 1) << 24);
            (base..end).contains(&address).then(|| address - base)
        };
        let a = &self.apertures;
        if let Some(offset) = inside(a.frame_base, a.frame_top) {
            return Some(Place::Frame(offset));
        }
        let gart = self.contexts[0];
        if gart.end > 0 && (gart.start..=gart.end).contains(&(address >> 12)) {
            return Some(Place::Gart(address - (gart.start << 12)));
        }
        if a.agp_bottom > a.agp_top {
            return None;
        }
        inside(a.agp_bottom, a.agp_top).map(|offset| Place::Agp((u64::from(a.agp_base) << 24) + offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_become_contexts() {
        let mut hub = Hub::default();
        hub.set_context(ContextField::Base, 6, 0x1234_5001);
        hub.set_context(ContextField::Base, 7, 0x1);
        hub.set_context(ContextField::Control, 3, 1 | 2 << 1 | 9 << 3 | 1 << 7);
        let context = hub.context(3);
        assert_eq!(context.base, 0x1_1234_5001);
        assert_eq!((context.shape(), context.retry()), (Shape { depth: 2, block: 9 }, true));
        hub.set_context(ContextField::Control, 15, 7 | 1 << 7);
        hub.assign(20, 0x9001);
        assert_eq!((hub.context(20).base, hub.context(20).retry()), (0x9001, true));
        hub.forget_extra();
        assert_eq!(hub.context(20), Context::default());
    }

    #[test]
    fn apertures() {
        let mut hub = Hub::default();
        hub.set_aperture(ApertureField::FrameBase, 0xf400);
        hub.set_aperture(ApertureField::FrameTop, 0xf43f);
        hub.set_aperture(ApertureField::AgpBottom, 0xff_ffff);
        hub.set_context(ContextField::Start, 0, 0x10_0000);
        hub.set_context(ContextField::End, 0, 0x10_ffff);
        assert_eq!(hub.place(0xf4_3fff_ffff), Some(Place::Frame(0x3fff_ffff)));
        assert_eq!(hub.place(0xf4_4000_0000), None);
        assert_eq!(hub.place(0x1_0000_1004), Some(Place::Gart(0x1004)));
        assert_eq!(hub.place(0x1_1000_0000), None);
        hub.set_aperture(ApertureField::AgpBottom, 0x200);
        hub.set_aperture(ApertureField::AgpTop, 0x20f);
        hub.set_aperture(ApertureField::AgpBase, 0x10);
        assert_eq!(hub.place(0x2_0000_0010), Some(Place::Agp(0x1000_0010)));
    }
}
