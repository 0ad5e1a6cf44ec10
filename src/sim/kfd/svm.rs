//! `AMDKFD_IOC_SVM`: the checks in the kernel's order, and the call itself.

use crate::error::Errno;
use crate::range::{PageRange, page_size};
use crate::sim::kfd::Shared;
use crate::sim::kfd::gpus::Gpus;
use crate::sim::kfd::memory::Kind;
use crate::sim::kfd::state::State;
use crate::uapi::kfd as abi;

pub(super) mod attributes;
mod blocks;
pub(super) mod carve;
mod count;
mod fault;
mod map;
pub(super) mod migrate;
mod notify;
mod query;
pub(super) mod range;

use attributes::{Attribute, any_changes_mappings, apply_all};
use carve::{Carved, NewRanges, carve, newly_registered};

const HEADER: usize = size_of::<abi::SvmHeader>();
const ATTRIBUTE: usize = size_of::<abi::SvmAttribute>();

impl State {
    /// Answers the call. `arg` is the kernel's buffer: at least the header, and as many attributes as the size check let in.
    pub(super) fn svm(&mut self, kfd: &Shared, arg: &mut [u8], secondary: bool) -> Result<(), Errno> {
        if !kfd.config.kernel.svm {
            return Err(Errno::EPERM);
        }
        if secondary {
            return Err(Errno::EOPNOTSUPP);
        }
        let header: abi::SvmHeader = bytemuck::pod_read_unaligned(&arg[..HEADER]);
        let page = page_size();
        if header.start_addr % page != 0
            || header.size % page != 0
            || header.start_addr == 0
            || header.size == 0
        {
            return Err(Errno::EINVAL);
        }
        let tail = &mut arg[HEADER..HEADER + header.nattr as usize * ATTRIBUTE];
        let mut attrs: Vec<abi::SvmAttribute> =
            tail.chunks_exact(ATTRIBUTE).map(bytemuck::pod_read_unaligned).collect();
        match header.op {
            abi::KFD_IOCTL_SVM_OP_SET_ATTR => {
                self.set_attributes(kfd, header.start_addr, header.size, &attrs)
            }
            abi::KFD_IOCTL_SVM_OP_GET_ATTR => {
                let result = self.get_attributes(kfd, header.start_addr, header.size, &mut attrs);
                tail.copy_from_slice(bytemuck::cast_slice(&attrs));
                result
            }
            _ if kfd.config.kernel.refuses_unknown_operation => Err(Errno::EINVAL),
            _ => Ok(()),
        }
    }

    fn set_attributes(
        &mut self,
        kfd: &Shared,
        start: u64,
        size: u64,
        attrs: &[abi::SvmAttribute],
    ) -> Result<(), Errno> {
        let attributes = attributes::check(attrs, &self.devices)?;
        if self.devices.iter().all(|device| device.acquired.is_none()) {
            return Err(if kfd.config.kernel.checks_acquired {
                Errno::EINVAL
            } else {
                kfd.would_oops(
                    "setting attributes before ACQUIRE_VM locks a mutex in a NULL kgd_process_info".into(),
                )
            });
        }
        let pages = self.valid_range(kfd, start, size)?;
        self.register(kfd, newly_registered(&self.ranges, pages))?;
        let in_vram = self.ranges_in_vram(pages);
        let new = self.new_ranges(kfd);
        let carved = carve(&mut self.ranges, pages, &attributes, new)?;
        for &created in &carved.created {
            self.watch(kfd, created);
        }
        self.apply(kfd, &carved, &attributes);
        self.follow_ranges(kfd, &in_vram);
        let update_mapping = any_changes_mappings(&attributes, self.xnack) && !carved.update.is_empty()
            || !self.xnack && !carved.remap.is_empty();
        let mut result = Ok(());
        for &start in &carved.update {
            if let Err(errno) = self.migrate_and_map(kfd, start, update_mapping) {
                result = Err(errno);
            }
        }
        for &start in &carved.remap {
            if let Some(pages) = self.ranges.get(start).map(|range| range.pages) {
                result = self.validate_and_map(kfd, start, pages, None).and(result);
            }
        }
        result
    }

    fn get_attributes(
        &mut self,
        kfd: &Shared,
        start: u64,
        size: u64,
        attrs: &mut [abi::SvmAttribute],
    ) -> Result<(), Errno> {
        let pages = match start.checked_add(size) {
            None if !kfd.config.kernel.checks_end_of_range => up_to_the_last_page(kfd, start)?,
            _ => self.valid_range(kfd, start, size)?,
        };
        let granularity = kfd.config.default_granularity.min(LARGEST_DEFAULT_GRANULARITY);
        query::answer(&self.ranges, pages, &self.devices, granularity, self.default_access(), attrs)
    }

    /// The addresses as pages: mapped without a hole, by nothing special, and free of memory objects.
    fn valid_range(&self, kfd: &Shared, start: u64, size: u64) -> Result<PageRange, Errno> {
        let pages = PageRange::new(start, size).map_err(|_| Errno::EOVERFLOW)?;
        let mut covered = start;
        for piece in kfd.memory.pieces(pages)? {
            if piece.range.start() != covered || piece.kind == Kind::Special {
                return Err(Errno::EFAULT);
            }
            covered = piece.range.end();
        }
        if covered != pages.end() {
            return Err(Errno::EFAULT);
        }
        if self.objects.any_mapped_within(pages) {
            return Err(Errno::EADDRINUSE);
        }
        Ok(pages)
    }

    /// From now on the process's changes to a new range are heard of.
    pub(super) fn watch(&mut self, kfd: &Shared, pages: PageRange) {
        if let Some(range) = self.ranges.get_mut(pages.start()) {
            range.watch = kfd.memory.watch(pages);
        }
    }

    pub(super) fn new_ranges(&self, kfd: &Shared) -> NewRanges {
        NewRanges {
            granularity: kfd.config.default_granularity.min(LARGEST_DEFAULT_GRANULARITY),
            access: self.default_access(),
            largest: kfd.config.largest_range(),
        }
    }

    /// With XNACK every GPU may access a new range.
    pub(super) fn default_access(&self) -> Gpus {
        let supported =
            self.devices.iter().enumerate().filter(|(_, device)| device.svm).map(|(index, _)| index);
        if self.xnack { supported.collect() } else { Gpus::NONE }
    }

    fn apply(&mut self, kfd: &Shared, carved: &Carved, attributes: &[Attribute]) {
        for &start in &carved.update {
            if let Some(range) = self.ranges.get_mut(start) {
                apply_all(attributes, range, kfd.config.kernel.no_access_unmaps);
            }
        }
    }

    /// Step C for one range.
    fn migrate_and_map(&mut self, kfd: &Shared, start: u64, update_mapping: bool) -> Result<(), Errno> {
        let Some(range) = self.ranges.get_mut(start) else { return Ok(()) };
        let pages = range.pages;
        let needs_unmap = std::mem::take(&mut range.needs_unmap);
        if !needs_unmap.is_empty() {
            self.unmap(kfd, start, pages, needs_unmap, abi::KFD_SVM_UNMAP_TRIGGER_UNMAP_FROM_CPU);
            if self.ranges.get(start).is_none_or(|range| range.mapped.is_empty()) {
                return Ok(());
            }
        }
        let migrated = self.trigger_migration(kfd, start)?;
        let Some(range) = self.ranges.get(start) else { return Ok(()) };
        if migrated && (!self.xnack || range.is_always_mapped()) && !range.mapped.is_empty() {
            // Migrating stopped the queues; the restore that follows maps the pages where they are now.
            return Ok(());
        }
        if !migrated && !update_mapping {
            return Ok(());
        }
        self.validate_and_map(kfd, start, pages, None)
    }
}

/// The largest `svm_default_granularity` that has an effect.
const LARGEST_DEFAULT_GRANULARITY: u8 = 27;

/// What a range beyond the last address comes to where its end is not checked: the end wraps, so that the look at the mappings
/// stops after the first, and the look at the attributes covers all there is from `start` on.
fn up_to_the_last_page(kfd: &Shared, start: u64) -> Result<PageRange, Errno> {
    let first = PageRange::new(start, page_size()).map_err(|_| Errno::EFAULT)?;
    if !kfd.memory.pieces(first)?.first().is_some_and(|piece| piece.kind != Kind::Special) {
        return Err(Errno::EFAULT);
    }
    let last_page = !(page_size() - 1);
    PageRange::new(start, last_page - start).map_err(|_| Errno::EFAULT)
}
