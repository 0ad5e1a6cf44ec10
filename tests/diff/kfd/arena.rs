//! What the CPU does to the arena, without what the driver does not survive and what is not the driver's doing.

use drm_pagemap::residency::Place;

use super::subject::Open;
use crate::frame::{BadStep, Step};
use crate::memory::{Arena, HUGE, expand, places};

impl Open {
    /// A step of [`Arena`].
    pub(super) fn change_memory(&mut self, step: &Step) -> Result<String, BadStep> {
        if step.verb == "remap" && moves_vram(step)? {
            return Ok("not done: the driver loses pages in VRAM that move".to_owned());
        }
        if step.verb != "map" {
            return self.arena.perform(step);
        }
        let mut answer = "ok".to_owned();
        for piece in divided(step)? {
            answer = self.arena.perform(&piece)?;
            if answer != "ok" {
                break;
            }
        }
        Ok(answer)
    }
}

/// Whether pages that a `remap` moves are in VRAM. The driver does not move what it knows of them along: at their new address a
/// touch by the CPU then never ends (`svm_migrate_to_ram` finds a range that has nothing in VRAM), and mapping them on a GPU
/// follows a NULL pointer (`svm_range_dma_map_dev` looks for the range's VRAM).
fn moves_vram(step: &Step) -> Result<bool, BadStep> {
    let (at, pages) = (step.number("at", 0)?, step.number("pages", 1)?);
    let holds = Arena::holds(at, pages) && pages > 0;
    Ok(holds && expand(&places(at, pages)).iter().any(|place| place == Place::Device.name()))
}

/// The pieces of a `map` that leave no mapping with a whole block of 2 MiB, as steps: mappings begin in the middle of blocks.
///
/// Where a mapping with a whole block is cut inside it, the kernel tells drivers that all of the block changes, because it could be a
/// huge page (`split_huge_pmd_address`). The simulation hears of what was unmapped, not of what lies around it, and so keeps
/// mappings that the driver drops to make them anew.
fn divided(step: &Step) -> Result<Vec<Step>, BadStep> {
    let (at, pages) = (step.number("at", 0)?, step.number("pages", 1)?);
    if !Arena::holds(at, pages) || pages == 0 {
        return Ok(vec![step.clone()]);
    }
    let mut pieces = Vec::new();
    let mut start = at;
    while start < at + pages {
        let end = (at + pages).min(stretch(start) * HUGE + HUGE / 2);
        let mut piece = step.clone();
        piece.args.retain(|(name, _)| !matches!(name.as_str(), "at" | "pages"));
        // Every second one is accounted for in another way, so that the kernel joins none of them.
        let reserve = if stretch(start) % 2 == 0 { "no" } else { "yes" };
        pieces.push(piece.with("at", start).with("pages", end - start).with("reserve", reserve));
        start = end;
    }
    Ok(pieces)
}

/// The number of the mapping that a page belongs to.
const fn stretch(page: u64) -> u64 {
    (page + HUGE / 2) / HUGE
}
