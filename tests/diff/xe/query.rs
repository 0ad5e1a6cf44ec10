//! What the driver tells of a VM: attributes and faults.

use drm_pagemap::uapi::xe::*;

use super::bind::vm_id;
use super::subject::Open;
use super::words::rubbish;
use crate::frame::{BadStep, Step};
use crate::memory::{ARENA, PAGE, address};

/// Pages that a query without a place looks at.
const EVERYTHING: u64 = 16384;

/// An address as a page of the arena; of those outside, what is the same on both sides.
fn page_of(address: u64) -> String {
    let page = address.wrapping_sub(ARENA) as i64;
    if page % PAGE as i64 != 0 {
        return format!("{page:#x}");
    }
    match page / PAGE as i64 {
        page if page.unsigned_abs() < 1 << 24 => page.to_string(),
        _ => format!("{address:#x}"),
    }
}

impl Open {
    /// `attrs at= pages= vm=`: the mappings of a range with their attributes. `room=N` gives room for another number than told.
    pub(super) fn attributes(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let base = VmQueryMemRangeAttrs {
            extensions: rubbish.extensions,
            vm_id: vm_id(step)?,
            start: address(step.number("at", 0)?),
            range: step.number("pages", if step.text("at").is_some() { 1 } else { EVERYTHING })? * PAGE,
            reserved: rubbish.reserved,
            ..Default::default()
        };
        let mut count = base;
        count.sizeof_mem_range_attr = step.number("size-first", 0)?;
        if let Err(errno) = self.call(&mut count) {
            return Ok(errno);
        }
        let told = format!("count={} size={}", count.num_mem_ranges, count.sizeof_mem_range_attr);
        let room = step.number("room", count.num_mem_ranges.into())?.min(4096) as u32;
        if room == 0 {
            return Ok(told);
        }
        let mut entries = vec![MemRangeAttr::default(); room as usize];
        let mut list = VmQueryMemRangeAttrs {
            num_mem_ranges: room,
            sizeof_mem_range_attr: step.number("size", count.sizeof_mem_range_attr)?,
            vector_of_mem_attr: step.number("vector", entries.as_mut_ptr() as u64)?,
            ..base
        };
        if let Err(errno) = self.call(&mut list) {
            return Ok(format!("{told} {errno} n={}", list.num_mem_ranges));
        }
        let entries = &entries[..entries.len().min(list.num_mem_ranges as usize)];
        let shown: Vec<String> = entries.iter().map(|entry| self.describe(entry)).collect();
        Ok(format!("{told} n={} {}", list.num_mem_ranges, shown.join(" ")))
    }

    fn describe(&self, entry: &MemRangeAttr) -> String {
        let fd = self.file_name(entry.preferred_mem_loc.devmem_fd as i32);
        format!(
            "[{},{}):{fd}/{}/a{}/p{}",
            page_of(entry.start),
            page_of(entry.end),
            entry.preferred_mem_loc.migration_policy,
            entry.atomic.val,
            entry.pat_index.val
        )
    }

    /// `faults vm=`: the faults that could not be served.
    pub(super) fn faults(&mut self, step: &Step) -> Result<String, BadStep> {
        let rubbish = rubbish(step)?;
        let base = VmGetProperty {
            extensions: rubbish.extensions,
            vm_id: vm_id(step)?,
            property: step.number("property", 0)? as u32,
            pad: rubbish.pad,
            reserved: [0, rubbish.reserved[0], rubbish.reserved[1]],
            ..Default::default()
        };
        let mut size = base;
        if let Err(errno) = self.call(&mut size) {
            return Ok(errno);
        }
        let element = size_of::<VmFault>() as u32;
        let wanted = step.number("size", size.size.into())? as u32;
        if wanted == 0 {
            return Ok(format!("size={}", size.size));
        }
        let mut faults = vec![VmFault::default(); (wanted / element + 1) as usize];
        let mut list = VmGetProperty { size: wanted, data: faults.as_mut_ptr() as u64, ..base };
        if let Err(errno) = self.call(&mut list) {
            return Ok(format!("size={} {errno}", size.size));
        }
        let shown: Vec<String> = faults[..(wanted / element) as usize]
            .iter()
            .map(|fault| {
                let at = page_of(fault.address);
                // The level is that of the page table at which the hardware found nothing: how full the tables around an address
                // are, which is the hardware's and its driver's own affair.
                let VmFault { address_precision, access_type, fault_type, .. } = fault;
                format!("{at}/{address_precision}/a{access_type}/t{fault_type}")
            })
            .collect();
        Ok(format!("size={} {}", size.size, shown.join(" ")))
    }
}
