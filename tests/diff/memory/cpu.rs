//! What the CPU does: mappings and accesses.

use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};

use super::{Access, Arena, PAGE, PAGES, address, load, places, runs, stamp, store};
use crate::frame::{BadStep, Step};

/// `at=` and `pages=` inside the arena.
fn pages(step: &Step) -> Result<(u64, u64), BadStep> {
    // A look at nothing in particular is one at everything.
    let everything = matches!(step.verb.as_str(), "where" | "read") && step.args.is_empty();
    let (at, pages) = (step.number("at", 0)?, step.number("pages", if everything { PAGES } else { 1 })?);
    if Arena::holds(at, pages) && pages > 0 {
        Ok((at, pages))
    } else {
        Err(BadStep(format!("{step}: outside the arena")))
    }
}

fn allowed(step: &Step) -> Result<(bool, bool), BadStep> {
    Ok(match step.text("prot").unwrap_or("rw") {
        "rw" => (true, true),
        "r" => (true, false),
        "none" => (false, false),
        other => return Err(BadStep(format!("prot={other} means nothing"))),
    })
}

fn told(answer: rustix::io::Result<()>) -> String {
    match answer {
        Ok(()) => "ok".to_owned(),
        Err(errno) => drm_pagemap::Errno::from(errno).to_string(),
    }
}

impl Arena {
    /// Does one of the steps below.
    pub(crate) fn perform(&mut self, step: &Step) -> Result<String, BadStep> {
        match step.verb.as_str() {
            "map" => self.map(step),
            "unmap" => self.unmap(step),
            "remap" => self.remap(step),
            "protect" => self.protection(step),
            "discard" => self.discard(step),
            "write" => self.write(step),
            "read" => self.read(step),
            "where" => self.find(step),
            _ => Err(BadStep(format!("no verb {}", step.verb))),
        }
    }

    /// `map at= pages= kind=anon|shared|private-file|shared-file prot=rw|r|none reserve=no|yes`: replaces what was there.
    fn map(&mut self, step: &Step) -> Result<String, BadStep> {
        let (at, pages) = pages(step)?;
        let (readable, writable) = allowed(step)?;
        let (to, len) = (address(at) as *mut _, (pages * PAGE) as usize);
        let mut prot = ProtFlags::empty();
        prot.set(ProtFlags::READ, readable);
        prot.set(ProtFlags::WRITE, writable);
        let mut private = MapFlags::PRIVATE | MapFlags::FIXED;
        private.set(MapFlags::NORESERVE, step.text("reserve").unwrap_or("no") == "no");
        let shared = MapFlags::SHARED | MapFlags::FIXED;
        let anonymous = |flags| {
            // SAFETY: replaces pages of the arena, which nothing but steps uses.
            unsafe { rustix::mm::mmap_anonymous(to, len, prot, flags) }
        };
        let file = |flags| {
            let file = rustix::fs::memfd_create("arena", rustix::fs::MemfdFlags::CLOEXEC)?;
            rustix::fs::ftruncate(&file, len as u64)?;
            // SAFETY: as above; the file is this mapping's own.
            unsafe { rustix::mm::mmap(to, len, prot, flags, &file, 0) }
        };
        let answer = match step.text("kind").unwrap_or("anon") {
            "anon" => anonymous(private),
            "shared" => anonymous(shared),
            "private-file" => file(private),
            "shared-file" => file(shared),
            other => return Err(BadStep(format!("kind={other} means nothing"))),
        };
        if answer.is_ok() {
            self.set(at, pages, Access { mapped: true, readable, writable });
        }
        Ok(told(answer.map(drop)))
    }

    /// `unmap at= pages=`
    fn unmap(&mut self, step: &Step) -> Result<String, BadStep> {
        let (at, pages) = pages(step)?;
        // SAFETY: pages of the arena, which nothing but steps uses.
        let answer = unsafe { rustix::mm::munmap(address(at) as *mut _, (pages * PAGE) as usize) };
        if answer.is_ok() {
            self.set(at, pages, Access::default());
        }
        Ok(told(answer))
    }

    /// `remap at= pages= to= each=`: moves pages, all at once or so many at a time; what is moved at once has to be one mapping, or
    /// the kernel may say EFAULT.
    fn remap(&mut self, step: &Step) -> Result<String, BadStep> {
        let (at, pages) = pages(step)?;
        let (to, each) = (step.number("to", 0)?, step.number("each", pages)?.max(1));
        if !Arena::holds(to, pages) {
            return Err(BadStep(format!("{step}: outside the arena")));
        }
        let mut answers = Vec::new();
        for offset in (0..pages).step_by(each as usize) {
            answers.push(self.remap_at_once(at + offset, to + offset, each.min(pages - offset)));
        }
        Ok(runs(answers.into_iter(), Clone::clone))
    }

    fn remap_at_once(&mut self, at: u64, to: u64, pages: u64) -> String {
        let len = (pages * PAGE) as usize;
        // SAFETY: both are pages of the arena, which nothing but steps uses.
        let answer = unsafe {
            rustix::mm::mremap_fixed(
                address(at) as *mut _,
                len,
                len,
                MremapFlags::MAYMOVE,
                address(to) as *mut _,
            )
        };
        if answer.is_ok() {
            let moved = self.take(at, pages);
            self.put(to, &moved);
        } else if matches!(answer, Err(rustix::io::Errno::FAULT)) {
            // The kernel unmaps the target before it looks at the source.
            self.set(to, pages, Access::default());
        }
        told(answer.map(drop))
    }

    /// `protect at= pages= prot=`
    fn protection(&mut self, step: &Step) -> Result<String, BadStep> {
        let (at, pages) = pages(step)?;
        let (readable, writable) = allowed(step)?;
        let mut prot = MprotectFlags::empty();
        prot.set(MprotectFlags::READ, readable);
        prot.set(MprotectFlags::WRITE, writable);
        // SAFETY: pages of the arena, which steps access only as far as it knows them to be accessible.
        let answer = unsafe { rustix::mm::mprotect(address(at) as *mut _, (pages * PAGE) as usize, prot) };
        // Up to the first hole it is done also when it fails.
        let reached = match answer {
            Ok(()) => pages,
            Err(_) => self.mapped_from(at).min(pages),
        };
        self.protect(at, reached, readable, writable);
        Ok(told(answer))
    }

    /// `discard at= pages=`: `MADV_DONTNEED`.
    fn discard(&mut self, step: &Step) -> Result<String, BadStep> {
        let (at, pages) = pages(step)?;
        // SAFETY: pages of the arena, whose content only steps look at.
        let answer = unsafe {
            rustix::mm::madvise(address(at) as *mut _, (pages * PAGE) as usize, Advice::LinuxDontNeed)
        };
        Ok(told(answer))
    }

    /// `write at= pages= v=`: stamps the first word of each page.
    fn write(&mut self, step: &Step) -> Result<String, BadStep> {
        let (at, pages) = pages(step)?;
        let value = step.number("v", 1)?;
        for page in at..at + pages {
            match self.word(page, 0, true) {
                Some(word) => store(word, stamp(page, value)),
                None => return Ok(format!("SEGV at {}", page - at)),
            }
        }
        Ok("ok".to_owned())
    }

    /// `read at= pages=`: what the pages hold: the value stamped, `@page` if the stamp is another page's, and `+n` for a second
    /// word that is not zero.
    fn read(&mut self, step: &Step) -> Result<String, BadStep> {
        let (at, pages) = pages(step)?;
        let contents = (at..at + pages).map(|page| {
            let first = load(self.word(page, 0, false)?);
            let second = load(self.word(page, 8, false)?);
            let whose = if first == 0 || first & 0xffff == page { None } else { Some(first & 0xffff) };
            Some((first >> 16, whose, second))
        });
        Ok(runs(contents, |content| match content {
            None => "SEGV".to_owned(),
            Some((value, whose, second)) => {
                let whose = whose.map_or(String::new(), |page| format!("@{page}"));
                let second = if *second == 0 { String::new() } else { format!("+{second}") };
                format!("{value}{whose}{second}")
            }
        }))
    }

    /// `where at= pages=`
    fn find(&mut self, step: &Step) -> Result<String, BadStep> {
        let (at, pages) = pages(step)?;
        Ok(places(at, pages))
    }
}
