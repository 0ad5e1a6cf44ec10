//! How much VRAM there is for prefetches, and what to do when a prefetch does not fit.
//!
//! Drivers take a prefetch into full VRAM without a word: they send back to system memory what was used longest ago, which may
//! be what the same program put there a moment before. A program that goes over its data in turns then moves all of it on
//! every turn and finds none of it in VRAM. A [`Budget`] knows what this process has put into VRAM, compares with what the
//! driver says is free, and refuses, shortens, or makes room for a prefetch *before* the driver is asked.
//!
//! ```
//! use drm_pagemap::budget::{Budget, Policy};
//! use drm_pagemap::{Buffer, ErrorKind, Gpu};
//!
//! let gpu = Gpu::simulated();
//! let mirror = gpu.mirror()?;
//! let budget = Budget::new(&gpu.vram_regions()[0])?.with_limit(8 << 20).with_policy(Policy::Refuse);
//!
//! let first = Buffer::<u8>::zeroed(6 << 20)?;
//! let second = Buffer::<u8>::zeroed(6 << 20)?;
//! assert!(budget.prefetch(&mirror, &first)?.is_complete());
//! let error = budget.prefetch(&mirror, &second).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::OutOfVram);
//! # Ok::<(), drm_pagemap::Error>(())
//! ```
//!
//! # All figures are estimates
//!
//! | driver | what is free | what that leaves out |
//! |---|---|---|
//! | xe | size − used of the memory region (`DRM_XE_DEVICE_QUERY_MEM_REGIONS`) | `used` is of all clients, and moves at any time; kernels before 6.18 say 0 to processes without `CAP_PERFMON`, then only what this budget placed counts |
//! | KFD | `AMDKFD_IOC_AVAILABLE_MEMORY` − placed by this budget | SVM pages of other processes, which the driver does not count; before KFD 1.9, the size of VRAM is taken instead |
//!
//! Fragmentation, page tables and the rounding of drivers to blocks of up to 2 MiB (KFD: up to the whole registered range) are
//! not in the figures. [`Budget::keep_free`] leaves a margin for them. And nothing keeps another process from taking what was
//! free when the driver was asked.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::channel::ProcessGuard;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::location::{Location, VramRegion};
use crate::mirror::Mirror;
use crate::outcome::{Bytes, Cause, Observe, Outcome, Refusal};
use crate::range::{PageRange, SIZE_2M};
use crate::residency::{Residency, Scanner};
use crate::vma::VmaMap;

mod claim;
mod need;
mod placed;

pub(crate) use claim::{Admission, Claim};
use placed::Placed;

const CALL: &str = "Budget::prefetch";
/// How long a driver's figure may lag behind what has left VRAM, and the time between two looks at it.
const SETTLING: Duration = Duration::from_secs(1);
const SETTLING_PAUSE: Duration = Duration::from_millis(1);

/// What happens to a prefetch that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// It is refused as a whole, with [`ErrorKind::OutOfVram`]; nothing moves.
    #[default]
    Refuse,
    /// The front part that fits is prefetched, up to a multiple of 2 MiB. The rest is in [`Outcome::refusals`] with
    /// [`Cause::NoVram`].
    Split,
    /// What was placed through this budget is sent back to system memory, longest placed first and no more than needed. Where
    /// that is not enough, as [`Split`](Self::Split).
    Evict,
}

/// A bound on what prefetches put into one VRAM region, and the record of what they have put there.
///
/// Counts what is prefetched through [`prefetch`](Self::prefetch), or by a [`Prefetcher`](crate::Prefetcher) that was given the
/// budget. What GPU page faults bring to VRAM, and what other code puts there, shows in the driver's figure only.
///
/// All methods take `&self` and may be called from any thread. Room that was promised to a prefetch under way is not promised
/// again.
#[derive(Debug)]
pub struct Budget {
    region: VramRegion,
    policy: Policy,
    limit: u64,
    margin: u64,
    owner: ProcessGuard,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    placed: Placed,
    /// Promised to prefetches under way: number, range, bytes.
    claims: Vec<(u64, PageRange, u64)>,
    last_claim: u64,
    scanner: Scanner,
    residency: Residency,
    vmas: VmaMap,
}

impl Budget {
    /// A budget for a VRAM region: all that the driver says is free, with [`Policy::Refuse`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when the GPU has no memory of its own (the region's size is 0); otherwise as [`Scanner::new`].
    pub fn new(region: &VramRegion) -> Result<Self> {
        if region.size() == 0 {
            return Err(Error::new(ErrorKind::Unsupported, "Budget::new")
                .because("the GPU has no memory of its own; it works on system memory directly"));
        }
        Ok(Self {
            region: region.clone(),
            policy: Policy::default(),
            limit: u64::MAX,
            margin: 0,
            owner: ProcessGuard::current()?,
            book: Mutex::new(Book {
                placed: Placed::default(),
                claims: Vec::new(),
                last_claim: 0,
                scanner: Scanner::new()?,
                residency: Residency::new(),
                vmas: VmaMap::new(),
            }),
        })
    }

    /// Sets what happens to a prefetch that does not fit.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Places at most `bytes` at a time, even where more is free.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// Leaves `bytes` of what the driver says is free: for buffer objects, page tables, the desktop.
    #[must_use]
    pub fn keep_free(mut self, bytes: u64) -> Self {
        self.margin = bytes;
        self
    }

    /// The region.
    #[must_use]
    pub const fn region(&self) -> &VramRegion {
        &self.region
    }

    /// What happens to a prefetch that does not fit.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Bytes that a prefetch could take now; an estimate, see the [module](self). Looks first which of the placed pages are still
    /// in VRAM.
    ///
    /// # Errors
    ///
    /// Those of the driver's query; [`ErrorKind::ForeignProcess`] in a forked child.
    pub fn available(&self) -> Result<u64> {
        self.owner.check("Budget::available")?;
        let mut book = self.book();
        book.reconcile()?;
        self.estimate(&book)
    }

    /// The addresses that prefetches through this budget have put into VRAM, in ascending order, as far as is known without
    /// looking.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`] in a forked child.
    pub fn placed(&self) -> Result<Vec<PageRange>> {
        self.owner.check("Budget::placed")?;
        Ok(self.book().placed.ranges())
    }

    /// Looks where the placed pages are and strikes out those that have left VRAM since: touched by the CPU, evicted, unmapped.
    /// Answers how many bytes are left.
    ///
    /// A prefetch that seems not to fit does so by itself.
    ///
    /// # Errors
    ///
    /// As [`Scanner::scan`]; [`ErrorKind::ForeignProcess`] in a forked child.
    pub fn reconcile(&self) -> Result<u64> {
        self.owner.check("Budget::reconcile")?;
        let mut book = self.book();
        book.reconcile()?;
        Ok(book.placed.bytes())
    }

    /// Strikes out the pages of a range: they were freed, or are no longer to be sent back by [`Policy::Evict`]. Moves nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ForeignProcess`] in a forked child.
    pub fn forget(&self, range: PageRange) -> Result<()> {
        self.owner.check("Budget::forget")?;
        self.book().placed.remove(range);
        Ok(())
    }

    /// Prefetches the pages of `data`, rounded outward to whole pages, into the region, as far as the budget and its policy
    /// allow.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfVram`] with [`Policy::Refuse`]: it does not fit. Otherwise as [`Prefetch::run`](crate::mirror::Prefetch::run).
    pub fn prefetch<T>(&self, mirror: &Mirror, data: &[T]) -> Result<Outcome> {
        self.prefetch_range(mirror, PageRange::covering(data), Observe::default())
    }

    /// Prefetches the pages of `range`, exactly, into the region, as far as the budget and its policy allow.
    ///
    /// With [`Observe::Nothing`] the whole range counts as placed until the next look.
    ///
    /// # Errors
    ///
    /// As [`prefetch`](Self::prefetch).
    pub fn prefetch_range(&self, mirror: &Mirror, range: PageRange, observe: Observe) -> Result<Outcome> {
        let Admission { allowed, refused, claim } = Self::admit(self, mirror, range)?;
        let outcome =
            mirror.prefetch_range(allowed).to(self.location()).observe(observe).run().inspect_err(|_| {
                // Blocks before the one that failed may have moved.
                claim.placed(allowed, &Outcome::unobserved(allowed.len()));
            })?;
        claim.placed(allowed, &outcome);
        Ok(if refused.is_empty() { outcome } else { outcome.merge(no_room(refused)) })
    }

    /// The region as a target.
    pub(crate) fn location(&self) -> Location {
        Location::Vram(self.region.clone())
    }

    /// Decides how much of a prefetch may be made, sending older work back if that is the policy.
    pub(crate) fn admit<B>(this: B, mirror: &Mirror, range: PageRange) -> Result<Admission<B>>
    where
        B: Deref<Target = Self>,
    {
        this.owner.check(CALL)?;
        let (end, id) = this.decide(mirror, range)?;
        let allowed = PageRange::from_aligned(range.start(), end);
        let refused = PageRange::from_aligned(end, range.end());
        Ok(Admission { allowed, refused, claim: Claim::new(this, id) })
    }

    /// How far into `range` a prefetch may go, and the number of the claim on the room for it.
    fn decide(&self, mirror: &Mirror, range: PageRange) -> Result<(u64, u64)> {
        let mut book = self.book();
        if range.len() <= self.estimate(&book)? {
            return Ok((range.end(), book.claim(range, range.len())));
        }
        // It may be there already, and what was placed may have left.
        book.reconcile()?;
        let parts = book.parts_to_move(range)?;
        let need = need::bytes(&parts);
        let mut room = self.estimate(&book)?;
        if need > room && self.policy == Policy::Refuse {
            return Err(Error::new(ErrorKind::OutOfVram, CALL)
                .over(range)
                .because(format!("it takes {} of VRAM and about {} are free", Bytes(need), Bytes(room)))
                .hint_is(
                    "prefetch less, move older data back first, or use Policy::Split or Policy::Evict",
                ));
        }
        // More than once where the driver keeps some of what left, as xe 6.18 does with a block now and then.
        while need > room && self.policy == Policy::Evict {
            let sent_back = book.evict(mirror, need - room, range)?;
            room = self.settled(&book, need.min(room.saturating_add(sent_back)))?;
            if sent_back == 0 {
                break;
            }
        }
        let end = need::reach(range, &parts, room);
        let taken = need.min(room);
        Ok((end, book.claim(PageRange::from_aligned(range.start(), end), taken)))
    }

    /// The estimate once it shows that `room` bytes are free, or what it shows after a while: a driver can give memory back some
    /// time after its pages have left (xe 6.18 does so in a worker).
    fn settled(&self, book: &Book, room: u64) -> Result<u64> {
        let until = Instant::now() + SETTLING;
        loop {
            let free = self.estimate(book)?;
            if free >= room || Instant::now() >= until {
                return Ok(free);
            }
            std::thread::sleep(SETTLING_PAUSE);
        }
    }

    /// Bytes free, by the driver's figure, the limit, and what is promised.
    fn estimate(&self, book: &Book) -> Result<u64> {
        let placed = book.placed.bytes();
        let free = match self.region.device() {
            Device::Xe(device) => {
                let regions = device.memory_regions()?;
                let region = regions.iter().find(|region| region.instance == self.region.instance());
                region.map_or(0, |region| region.total.saturating_sub(region.used.max(placed)))
            }
            Device::Kfd(gpu) => match gpu.process().available_memory(gpu.id()) {
                Ok(available) => available.saturating_sub(placed),
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    self.region.size().saturating_sub(placed)
                }
                Err(error) => return Err(error),
            },
        };
        let promised: u64 = book.claims.iter().map(|&(_, _, bytes)| bytes).sum();
        Ok(free.saturating_sub(self.margin).min(self.limit.saturating_sub(placed)).saturating_sub(promised))
    }

    fn note(&self, range: PageRange, outcome: &Outcome) {
        let mut book = self.book();
        book.placed.insert(range);
        for refusal in outcome.refusals() {
            if let Some(part) = refusal.range.intersection(range) {
                book.placed.remove(part);
            }
        }
    }

    fn release(&self, id: u64) {
        // In a forked child the lock may be held by a thread that does not exist there.
        if self.owner.is_owner() {
            self.book().claims.retain(|&(claim, _, _)| claim != id);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of what was not tried for lack of room.
pub(crate) fn no_room(range: PageRange) -> Outcome {
    Outcome::observed(0, 0, vec![Refusal { range, cause: Cause::NoVram }])
}

impl Book {
    fn claim(&mut self, range: PageRange, bytes: u64) -> u64 {
        self.last_claim += 1;
        self.claims.push((self.last_claim, range, bytes));
        self.last_claim
    }

    fn reconcile(&mut self) -> Result<()> {
        for range in self.placed.ranges() {
            self.scanner.scan(range, &mut self.residency)?;
            for run in self.residency.runs().iter().filter(|run| !need::in_vram(run.place())) {
                self.placed.remove(run.range());
            }
        }
        Ok(())
    }

    fn parts_to_move(&mut self, range: PageRange) -> Result<Vec<PageRange>> {
        self.scanner.scan(range, &mut self.residency)?;
        self.vmas.read(range)?;
        Ok(need::parts(range, &self.residency, &self.vmas))
    }

    /// Sends back at least `bytes` of what was placed longest ago, by aligned blocks of 2 MiB, which drivers move as a whole. Spares
    /// blocks of `keep` and of what is being prefetched. As much as there is where there is less. Answers how
    /// many bytes went.
    fn evict(&mut self, mirror: &Mirror, bytes: u64, keep: PageRange) -> Result<u64> {
        let mut sent_back = 0;
        for range in self.placed.oldest_first() {
            for part in range.blocks(SIZE_2M) {
                if sent_back >= bytes {
                    return Ok(sent_back);
                }
                let Some(block) = part.align_outward(SIZE_2M) else { continue };
                let under_way = self.claims.iter().any(|&(_, claimed, _)| claimed.overlaps(block));
                // Nothing is left of it when it went with an older part of its block.
                let Some(placed) = self.placed.within(block).filter(|_| !under_way && !block.overlaps(keep))
                else {
                    continue;
                };
                let outcome = mirror.prefetch_range(placed).to_system().run()?;
                self.placed.remove(placed);
                for refusal in outcome.refusals().iter().filter(|refusal| refusal.cause != Cause::NotMapped) {
                    self.placed.insert(refusal.range);
                }
                sent_back += outcome.moved();
            }
        }
        Ok(sent_back)
    }
}
