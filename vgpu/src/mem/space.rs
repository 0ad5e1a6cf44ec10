//! Reading, writing and copying through a translation, page by page.

use super::{Address, Place, Span};
use crate::engine::Permit;

/// What an access wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Read-modify-write in one step.
    Atomic,
}

impl Access {
    /// Whether the access changes memory.
    pub fn writes(self) -> bool {
        self != Access::Read
    }
}

/// An address space with its translation.
pub trait Space {
    /// Its addresses.
    type Addr: Address;
    /// Why an access stops.
    type Error;

    /// Translates one address; the span ends at the end of its page at the latest.
    fn translate(&self, at: Self::Addr, access: Access) -> Result<Span, Self::Error>;

    /// Called before each bounded piece of an access; the answer is held until the piece is done, so that an
    /// invalidation can wait for it (see [`crate::engine::Gate`]).
    fn enter(&self) -> Result<Permit<'_>, Self::Error>;
}

/// Bytes that one piece of an access covers at most.
const PIECE: u64 = 64 << 10;

/// Reads `into.len()` bytes from `at`.
pub fn read<S: Space + ?Sized>(space: &S, at: S::Addr, into: &mut [u8]) -> Result<(), S::Error> {
    let mut done = 0;
    while done < into.len() {
        let _permit = space.enter()?;
        let left = (into.len() - done) as u64;
        let span = space.translate(at.plus(done as u64), Access::Read)?.cut(left.min(PIECE));
        let part = &mut into[done..done + span.len() as usize];
        match &span {
            Span::Null { .. } => part.fill(0),
            Span::Memory { mapping, offset, .. } => {
                if mapping.read(*offset, part).is_err() {
                    part.fill(0xff);
                }
            }
        }
        done += part.len();
    }
    Ok(())
}

/// Writes all of `from` to `at`.
pub fn write<S: Space + ?Sized>(space: &S, at: S::Addr, from: &[u8]) -> Result<(), S::Error> {
    let mut done = 0;
    while done < from.len() {
        let _permit = space.enter()?;
        let left = (from.len() - done) as u64;
        let span = space.translate(at.plus(done as u64), Access::Write)?.cut(left.min(PIECE));
        let part = &from[done..done + span.len() as usize];
        if let Span::Memory { mapping, offset, .. } = &span {
            // A store into memory that is mapped read-only (a ROM) vanishes, as it does on a bus.
            let _ = mapping.write(*offset, part);
        }
        done += part.len();
    }
    Ok(())
}

/// Reads a dword.
pub fn read32<S: Space + ?Sized>(space: &S, at: S::Addr) -> Result<u32, S::Error> {
    let mut bytes = [0; 4];
    read(space, at, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Reads a qword.
pub fn read64<S: Space + ?Sized>(space: &S, at: S::Addr) -> Result<u64, S::Error> {
    let mut bytes = [0; 8];
    read(space, at, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Writes a dword.
pub fn write32<S: Space + ?Sized>(space: &S, at: S::Addr, value: u32) -> Result<(), S::Error> {
    write(space, at, &value.to_le_bytes())
}

/// Writes a qword.
pub fn write64<S: Space + ?Sized>(space: &S, at: S::Addr, value: u64) -> Result<(), S::Error> {
    write(space, at, &value.to_le_bytes())
}

/// Fills `len` bytes from `at` with `byte`.
pub fn fill<S: Space + ?Sized>(space: &S, at: S::Addr, byte: u8, len: u64) -> Result<(), S::Error> {
    let block = vec![byte; len.min(PIECE) as usize];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(PIECE);
        write(space, at.plus(done), &block[..part as usize])?;
        done += part;
    }
    Ok(())
}

/// Bytes that a copy moved, by where they came from and went to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// From guest memory (or a null page) into the device's memory.
    pub to_vram: u64,
    /// From the device's memory into guest memory.
    pub from_vram: u64,
    /// Within the device's memory.
    pub inside_vram: u64,
    /// From or to the memory of another device.
    pub peer: u64,
    /// Within guest memory.
    pub system: u64,
}

impl Traffic {
    /// Accounts for `len` bytes from `source` to `target`.
    pub fn add(&mut self, source: Option<Place>, target: Option<Place>, len: u64) {
        let field = match (source, target) {
            (Some(Place::Peer), _) | (_, Some(Place::Peer)) => &mut self.peer,
            (Some(Place::Vram), Some(Place::Vram)) => &mut self.inside_vram,
            (Some(Place::Vram), _) => &mut self.from_vram,
            (_, Some(Place::Vram)) => &mut self.to_vram,
            _ => &mut self.system,
        };
        *field += len;
    }
}

/// Copies `len` bytes between two spaces, lowest address first, and accounts for them in `traffic`.
///
/// On an error the bytes before the failing page have been copied; repeating the copy is harmless unless source
/// and target overlap.
pub fn copy<S, T>(
    source: &S,
    from: S::Addr,
    target: &T,
    to: T::Addr,
    len: u64,
    traffic: &mut Traffic,
) -> Result<(), T::Error>
where
    S: Space<Error = T::Error> + ?Sized,
    T: Space + ?Sized,
{
    let mut done = 0;
    while done < len {
        // One permit for both sides: they share a gate, and taking it twice could wait for ourselves.
        let _permit = target.enter()?;
        let left = (len - done).min(PIECE);
        let reading = source.translate(from.plus(done), Access::Read)?.cut(left);
        let writing = target.translate(to.plus(done), Access::Write)?.cut(reading.len());
        let part = writing.len();
        traffic.add(reading.place(), writing.place(), part);
        match (&reading, &writing) {
            (_, Span::Null { .. }) => {}
            (Span::Null { .. }, Span::Memory { mapping, offset, .. }) => {
                let _ = mapping.write(*offset, &vec![0; part as usize]);
            }
            (
                Span::Memory { mapping: source, offset: from, .. },
                Span::Memory { mapping: target, offset: to, .. },
            ) => {
                let _ = source.copy_to(*from, target, *to, part);
            }
        }
        done += part;
    }
    Ok(())
}
