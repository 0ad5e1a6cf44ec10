//! Random scripts that make sense, most of the time.

use super::mistakes::MISTAKES;
use crate::frame::{Random, Step};
use crate::memory::PAGES;

/// Pages of 64 KiB and 2 MiB.
const LARGE: u64 = 16;
const HUGE: u64 = 512;

/// What the script has done so far, roughly.
struct Story {
    random: Random,
    steps: Vec<Step>,
    /// Places used before: first page and how many.
    places: Vec<(u64, u64)>,
    objects: u64,
    value: u64,
}

type Chapter = fn(&mut Story);

/// What a script is made of.
const CHAPTERS: &[(u64, Chapter)] = &[
    (7, Story::map),
    (5, Story::unmap),
    (3, Story::remap),
    (3, Story::discard),
    (8, Story::write),
    (6, Story::read),
    (24, Story::set),
    (10, Story::prefetch),
    (12, Story::get),
    (12, Story::gpu),
    (3, Story::xnack),
    (2, Story::end_queue),
    (2, Story::acquire),
    (1, Story::apertures),
    (1, Story::calls),
    (4, Story::objects),
    (5, Story::events),
];

/// Makes a script of about `count` steps.
pub(super) fn script(random: &mut Random, count: usize) -> Vec<Step> {
    let mut story =
        Story { random: random.clone(), steps: Vec::new(), places: Vec::new(), objects: 0, value: 0 };
    story.prologue();
    while story.steps.len() < count {
        let chapter = *story.random.weighted(CHAPTERS);
        chapter(&mut story);
    }
    for verb in ["where", "events", "read"] {
        story.tell(Step::new(verb));
    }
    story.steps
}

impl Story {
    fn tell(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// A call, now and then with something wrong about it, and often followed by a look at where the pages are.
    fn call(&mut self, mut step: Step) {
        if self.random.chance(1, 12) {
            step = step.with_mistake(MISTAKES, &mut self.random);
        }
        self.tell(step);
        if self.random.chance(1, 2) {
            self.tell(Step::new("where"));
        }
    }

    fn prologue(&mut self) {
        if self.random.chance(1, 15) {
            self.map();
            self.set();
        }
        self.tell(Step::new("acquire"));
        self.tell(Step::new("acquire").with("gpu", "g1"));
        if self.random.chance(1, 2) {
            self.tell(Step::new("xnack").with("mode", 1));
        }
        if self.random.chance(2, 3) {
            self.map_at(0, PAGES, "anon");
        }
        for _ in 0..self.random.below(3) {
            self.map();
        }
    }

    /// A place: one used before, or near one, or any.
    fn place(&mut self) -> (u64, u64) {
        if !self.places.is_empty() && self.random.chance(2, 3) {
            let (at, pages) = *self.random.pick(&self.places.clone());
            let (before, more) = (self.random.below(20), self.random.below(40));
            let (inside, fewer) = (self.random_below(pages), 1 + self.random_below(pages));
            return Self::clip(match self.random.below(4) {
                0 => (at + inside, fewer),
                1 => (at.saturating_sub(before), pages + more),
                _ => (at, pages),
            });
        }
        let unit = *self.random.weighted(&[(4, 1), (2, LARGE), (2, HUGE)]);
        let at = self.random.below(PAGES / unit) * unit;
        let pages = match self.random.below(3) {
            0 => 1 + self.random.below(8),
            1 => unit * (1 + self.random.below(3)),
            _ => 1 + self.random.below(700),
        };
        let place = Self::clip((at, pages));
        self.places.push(place);
        place
    }

    fn random_below(&mut self, limit: u64) -> u64 {
        self.random.below(limit.max(1))
    }

    fn clip((at, pages): (u64, u64)) -> (u64, u64) {
        let at = at.min(PAGES - 1);
        (at, pages.clamp(1, PAGES - at))
    }

    fn over(verb: &str, (at, pages): (u64, u64)) -> Step {
        Step::new(verb).with_unless(0, "at", at).with_unless(1, "pages", pages)
    }

    fn gpu_name(&mut self) -> &'static str {
        if self.random.chance(1, 4) { "g1" } else { "g0" }
    }

    fn map_at(&mut self, at: u64, pages: u64, kind: &str) {
        self.tell(Self::over("map", (at, pages)).with_unless("anon", "kind", kind));
    }

    fn map(&mut self) {
        let (at, pages) = self.place();
        let kind = *self.random.weighted(&[(12, "anon"), (1, "shared"), (1, "shared-file")]);
        self.map_at(at, pages, kind);
    }

    fn unmap(&mut self) {
        let place = self.place();
        self.tell(Self::over("unmap", place));
    }

    /// Page by page: what is one mapping to the kernel may be several in the simulation, which marks what it watches.
    fn remap(&mut self) {
        let (at, pages) = self.place();
        let pages = pages.min(6);
        let to = self.random.below(PAGES - pages + 1);
        // The kernel refuses places that overlap.
        if to + pages <= at || at + pages <= to {
            self.tell(Self::over("remap", (at, pages)).with("to", to).with("each", 1));
            self.places.push((to, pages));
        }
    }

    fn discard(&mut self) {
        let place = self.place();
        self.tell(Self::over("discard", place));
    }

    fn next_value(&mut self) -> u64 {
        self.value += 1;
        self.value
    }

    fn write(&mut self) {
        let place = self.place();
        let value = self.next_value();
        self.tell(Self::over("write", place).with("v", value));
    }

    fn read(&mut self) {
        let place = self.place();
        self.tell(Self::over("read", place));
        if self.random.chance(1, 2) {
            self.tell(Step::new("where"));
        }
    }

    fn location(&mut self) -> &'static str {
        const PLACES: &[(u64, &str)] = &[(4, "g0"), (1, "g1"), (3, "sys")];
        let place: &&str = self.random.weighted(PLACES);
        place
    }

    fn attribute(&mut self) -> String {
        let gpu = self.gpu_name();
        let location = self.location();
        match self.random.below(10) {
            0 => format!("pref:{location}"),
            1 => "pref:undef".to_owned(),
            2 | 3 => format!("move:{location}"),
            4 => format!("access:{gpu}"),
            5 => format!("inplace:{gpu}"),
            6 => format!("noaccess:{gpu}"),
            7 => format!("set:{:#x}", self.flags()),
            8 => format!("clear:{:#x}", self.flags()),
            _ => format!(
                "gran:{}",
                self.random.weighted(&[(6, 0u32), (3, 1), (2, 4), (3, 9), (1, 12), (1, 63), (1, 255)])
            ),
        }
    }

    fn flags(&mut self) -> u32 {
        *self.random.pick(&[0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80, 0, 0x43, 0x8000_0000, 0xffff_ffff])
    }

    fn set(&mut self) {
        let place = self.place();
        let count = *self.random.weighted(&[(1, 0), (8, 1), (4, 2), (3, 3), (1, 6)]);
        let attributes: Vec<String> = (0..count).map(|_| self.attribute()).collect();
        self.call(Self::over("set", place).with_unless("", "attrs", attributes.join(",").as_str()));
        if self.random.chance(1, 4) {
            self.get_at(place);
        }
    }

    fn prefetch(&mut self) {
        let place = self.place();
        let location = self.location();
        self.call(Self::over("set", place).with("attrs", format!("move:{location}")));
        if self.random.chance(1, 3) {
            self.tell(Step::new("events"));
        }
    }

    fn get_at(&mut self, place: (u64, u64)) {
        let everything = "pref:0,move:0,access:g0,access:g1,set:0,clear:0,gran:0";
        let few = ["pref:0", "move:0,move:0", "gran:0,access:g0", "clear:0,set:0", ""];
        let attrs = if self.random.chance(3, 4) { everything } else { self.random.pick(&few) };
        self.call(Self::over("get", place).with_unless("", "attrs", attrs));
    }

    fn get(&mut self) {
        let place = self.place();
        self.get_at(place);
    }

    fn gpu(&mut self) {
        let (at, pages) = self.place();
        let pages = pages.min(*self.random.pick(&[1, 4, 40, 300]));
        let value = self.next_value();
        let op = *self.random.weighted(&[(5, "write"), (4, "copy"), (2, "fill"), (1, "fence")]);
        let mut step = Self::over("gpu", (at, pages)).with_unless("write", "op", op);
        if op == "copy" {
            let to = self.place().0.min(PAGES - pages);
            if to < at + pages && at < to + pages {
                return;
            }
            step = step.with("to", to);
        } else {
            step = step.with("v", value);
        }
        let gpu = self.gpu_name();
        step = step.with_unless("g0", "gpu", gpu);
        if self.random.chance(1, 2) {
            step = step.with("access", "fault");
        }
        self.tell(step);
        if self.random.chance(1, 2) {
            self.tell(Step::new("where"));
        }
    }

    fn xnack(&mut self) {
        let mode = *self.random.pick(&[0u32, 1, u32::MAX]);
        self.call(Step::new("xnack").with_unless(u32::MAX, "mode", mode));
    }

    fn end_queue(&mut self) {
        self.tell(Step::new("end-queue"));
    }

    fn acquire(&mut self) {
        let gpu = self.gpu_name();
        self.call(Step::new("acquire").with_unless("g0", "gpu", gpu));
    }

    fn apertures(&mut self) {
        self.call(Step::new("apertures"));
    }

    fn calls(&mut self) {
        let step = match self.random.below(4) {
            0 => Step::new("number").with("nr", self.random.pick(&[0, 0x29, 0x40, 0xff])),
            1 => Step::new("smi").with("gpu", self.random.pick(&["0", "7"])),
            2 => Step::new("destroy-queue"),
            _ => Step::new("create-queue"),
        };
        self.call(step);
    }

    fn objects(&mut self) {
        let place = self.place();
        let number = self.random_below(self.objects.max(1));
        let step = match self.random.below(5) {
            0 | 1 => {
                self.objects += 1;
                Self::over("object", (place.0, place.1.min(64)))
            }
            2 => Step::new("map-object").with_unless(0, "n", number),
            3 => Step::new("unmap-object").with_unless(0, "n", number),
            _ => Step::new("free-object").with_unless(0, "n", number),
        };
        self.call(step);
    }

    fn events(&mut self) {
        self.tell(Step::new("events"));
    }
}
