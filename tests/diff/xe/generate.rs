//! Random scripts that make sense, most of the time.
//!
//! The generator keeps a rough idea of what there is (mapped pages, places that were used before, objects, queues), so that most steps
//! have something to work on; every now and then an argument is put wrong.

use super::mistakes::MISTAKES;
use crate::frame::{Random, Step};
use crate::memory::{CONTROL, HUGE, PAGES};

/// Pages of the window that the usual mirror has: the arena and what lies behind it.
const WINDOW: u64 = 4096;
/// GPU addresses, as pages, where nothing of the CPU is.
const FOREIGN: u64 = 8192;
/// Where scripts map user pointers, behind the objects.
pub(super) const USER_POINTERS: u64 = FOREIGN + 64;
/// Pages of 64 KiB.
const LARGE: u64 = 16;

/// What the script has done so far, roughly.
struct Story {
    random: Random,
    steps: Vec<Step>,
    mapped: Vec<bool>,
    /// Places used before: first page and how many.
    places: Vec<(u64, u64)>,
    queues: u64,
    /// Objects: pages.
    objects: Vec<u64>,
    value: u64,
}

type Chapter = fn(&mut Story);

/// What a script is made of.
const CHAPTERS: &[(u64, Chapter)] = &[
    (8, Story::map),
    (6, Story::unmap),
    (3, Story::remap),
    (3, Story::protect),
    (3, Story::discard),
    (10, Story::write),
    (7, Story::read),
    (15, Story::prefetch),
    (15, Story::gpu),
    (15, Story::advise),
    (6, Story::attributes),
    (5, Story::mirror),
    (5, Story::unbind),
    (3, Story::object),
    (4, Story::bind_object),
    (2, Story::userptr),
    (2, Story::nothing_bound),
    (3, Story::object_word),
    (1, Story::close_object),
    (4, Story::vector),
    (2, Story::vm),
    (3, Story::queue),
    (2, Story::faults),
    (2, Story::wait),
    (1, Story::ends),
];

/// Makes a script of about `count` steps.
pub(super) fn script(random: &mut Random, count: usize) -> Vec<Step> {
    let mut story = Story {
        random: random.clone(),
        steps: Vec::new(),
        mapped: vec![false; PAGES as usize],
        places: Vec::new(),
        queues: 0,
        objects: Vec::new(),
        value: 0,
    };
    story.prologue();
    while story.steps.len() < count {
        let chapter = *story.random.weighted(CHAPTERS);
        chapter(&mut story);
    }
    story.tell(Step::new("where"));
    story.tell(Step::new("read"));
    story.tell(Step::new("attrs"));
    story.steps
}

impl Story {
    fn tell(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// An ioctl, now and then with something wrong about it, and often followed by a look at where the pages are.
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
        self.tell(Step::new("vm"));
        if self.random.chance(1, 12) {
            self.vm();
        }
        for _ in 0..self.random.below(4) {
            self.map();
        }
        if self.random.chance(1, 2) {
            self.map_at(0, PAGES, "anon", "rw");
        }
        let mirror = Step::new("bind").with("flags", "mirror");
        let mirror = match self.random.below(8) {
            0 => mirror.with("at", CONTROL).with("pages", 16),
            1 | 2 => mirror.with("addr", 0).with("len", format!("{:#x}", 1u64 << 47)),
            3 => Step::new("bind").with("flags", "mirror+autoreset").with("pages", WINDOW),
            _ => mirror.with("pages", WINDOW),
        };
        self.tell(mirror);
        let class = *self.random.pick(&["copy", "copy", "compute", "render"]);
        self.tell(Step::new("queue").with_unless("copy", "class", class));
        self.queues += 1;
    }

    /// A place in the arena: near one that was used, or a new one that ends where something may happen.
    fn place(&mut self) -> (u64, u64) {
        if !self.places.is_empty() && self.random.chance(1, 2) {
            let (at, pages) = *self.random.pick(&self.places);
            return match self.random.below(4) {
                0 => {
                    let inner = self.random.below(pages);
                    (at + inner, 1 + self.random.below(pages - inner))
                }
                1 => (at, (pages + 1 + self.random.below(LARGE)).min(PAGES - at)),
                _ => (at, pages),
            };
        }
        let (at, pages) = match self.random.below(8) {
            0..=2 => (self.random.below(64), 1 + self.random.below(24)),
            3 | 4 => (LARGE * self.random.below(64), LARGE * (1 + self.random.below(3))),
            5 | 6 => (HUGE * self.random.below(4), HUGE),
            _ => {
                let before = 1 + self.random.below(24);
                (HUGE * (1 + self.random.below(3)) - before, before + 1 + self.random.below(24))
            }
        };
        let pages = pages.min(PAGES - at);
        self.places.push((at, pages));
        (at, pages)
    }

    /// A place that is mapped at its beginning, if there is one.
    fn mapped_place(&mut self) -> (u64, u64) {
        for _ in 0..8 {
            let (at, pages) = self.place();
            if self.mapped[at as usize] {
                return (at, pages);
            }
        }
        self.place()
    }

    fn fresh_value(&mut self) -> u64 {
        self.value += 1;
        self.value
    }

    fn at(step: Step, (at, pages): (u64, u64)) -> Step {
        step.with_unless(0, "at", at).with_unless(1, "pages", pages)
    }

    fn map_at(&mut self, at: u64, pages: u64, kind: &str, prot: &str) {
        let step = Self::at(Step::new("map"), (at, pages));
        self.tell(step.with_unless("anon", "kind", kind).with_unless("rw", "prot", prot));
        self.mapped[at as usize..(at + pages) as usize].fill(true);
    }

    fn map(&mut self) {
        let (at, pages) = self.place();
        let kind =
            *self.random.weighted(&[(8, "anon"), (2, "shared"), (1, "private-file"), (1, "shared-file")]);
        let prot = *self.random.weighted(&[(12, "rw"), (2, "r"), (1, "none")]);
        self.map_at(at, pages, kind, prot);
    }

    fn unmap(&mut self) {
        let (at, pages) = self.mapped_place();
        self.tell(Self::at(Step::new("unmap"), (at, pages)));
        self.mapped[at as usize..(at + pages) as usize].fill(false);
        if self.random.chance(1, 2) {
            self.tell(Step::new("where"));
        }
    }

    /// Moves memory that the driver may hold. Whole blocks of fresh memory: the kernel does not merge moved memory with what lies
    /// beside it, and does not move what is several mappings to it, neither of which the simulation can see.
    fn remap(&mut self) {
        let (from, to) = (self.random.below(4), self.random.below(4));
        if from == to {
            return;
        }
        let (from, to) = ((HUGE * from, HUGE), HUGE * to);
        self.map_at(from.0, from.1, "anon", "rw");
        if self.random.chance(1, 2) {
            let value = self.fresh_value();
            self.tell(Self::at(Step::new("write"), from).with("v", value));
        }
        if self.random.chance(2, 3) {
            let step = Self::at(Step::new("bind").with("op", "prefetch"), from);
            let region = self.random.below(2);
            self.tell(step.with_unless(0, "region", region));
        }
        self.tell(Self::at(Step::new("remap"), from).with_unless(0, "to", to));
        self.mapped[from.0 as usize..(from.0 + HUGE) as usize].fill(false);
        self.mapped[to as usize..(to + HUGE) as usize].fill(true);
        self.places.push((to, HUGE));
        self.tell(Step::new("where"));
    }

    fn protect(&mut self) {
        // Fresh memory, which no range of the driver's goes beyond: where one does, the driver's fault handler tries for ever.
        let place = self.mapped_place();
        self.map_at(place.0, place.1, "anon", "rw");
        let prot = *self.random.pick(&["r", "r", "none", "rw"]);
        self.tell(Self::at(Step::new("protect"), place).with_unless("rw", "prot", prot));
    }

    fn discard(&mut self) {
        let place = self.mapped_place();
        self.tell(Self::at(Step::new("discard"), place));
        self.tell(Step::new("where"));
    }

    fn write(&mut self) {
        let place = self.mapped_place();
        let value = self.fresh_value();
        self.tell(Self::at(Step::new("write"), place).with("v", value));
    }

    fn read(&mut self) {
        let place = self.mapped_place();
        self.tell(Self::at(Step::new("read"), place));
        if self.random.chance(1, 2) {
            self.tell(Step::new("where"));
        }
    }

    fn prefetch(&mut self) {
        let step = self.prefetch_step("bind");
        self.call(step);
    }

    fn prefetch_step(&mut self, verb: &str) -> Step {
        let place = self.mapped_place();
        let region = *self.random.weighted(&[(6, "1"), (3, "0"), (3, "advised")]);
        let step = Self::at(Step::new(verb).with("op", "prefetch"), place).with_unless("0", "region", region);
        self.fenced(step)
    }

    fn fenced(&mut self, step: Step) -> Step {
        if self.random.chance(1, 3) && step.verb == "bind" { step.with("fence", 1) } else { step }
    }

    fn gpu(&mut self) {
        let (at, pages) = match self.random.below(20) {
            // Where nothing may be: the end of the queue.
            0 => (self.random.below(PAGES), 1),
            1 => (FOREIGN + self.random.below(32), 1),
            _ => self.mapped_place(),
        };
        let op = *self.random.weighted(&[(5, "store"), (3, "copy"), (2, "inc"), (1, "dec"), (1, "none")]);
        let mut step = Step::new("gpu").with_unless("store", "op", op);
        step = Self::at(step, (at, 1 + self.random.below(pages.min(20))));
        match op {
            "store" => step = step.with("v", self.fresh_value()),
            "copy" => step = step.with("from", self.mapped_place().0),
            _ => {}
        }
        if self.random.chance(1, 10) {
            step = step.with("batch", self.mapped_place().0);
        }
        if self.random.chance(1, 10) {
            step = step.with("fence", self.mapped_place().0);
        }
        let queue = 1 + self.random.below(self.queues.max(1));
        self.call(step.with_unless(1, "queue", queue));
    }

    fn advise(&mut self) {
        let place = self.place();
        let step = Self::at(Step::new("madvise"), place);
        let step = match self.random.below(10) {
            0..=4 => {
                let step = step.with("type", "loc");
                let fd = *self.random.weighted(&[(4, "system"), (3, "default"), (3, "own"), (1, "second")]);
                let step = step.with_unless("default", "fd", fd);
                let step = if matches!(fd, "own" | "second") { step.with("region", 1) } else { step };
                if self.random.chance(1, 5) { step.with("policy", 1) } else { step }
            }
            5..=7 => step.with("type", "atomic").with_unless(0, "value", self.random.below(4)),
            8 => step.with("type", "pat").with("value", *self.random.pick(&[0, 1, 2, 3, 23])),
            _ => {
                let step = step.with("type", "purge").with_unless(0, "value", self.random.below(2));
                if self.random.chance(1, 2) { step.with("retained", 1) } else { step }
            }
        };
        self.call(step);
        if self.random.chance(1, 4) {
            self.tell(Step::new("attrs"));
        }
    }

    fn attributes(&mut self) {
        let step = Step::new("attrs");
        let step = if self.random.chance(1, 2) { step } else { Self::at(step, self.place()) };
        self.call(step);
    }

    fn mirror_step(&mut self, verb: &str) -> Step {
        let flags = *self.random.weighted(&[
            (6, "mirror"),
            (2, "mirror+autoreset"),
            (1, "mirror+readonly"),
            (1, "mirror+immediate"),
        ]);
        let pat = *self.random.weighted(&[(8, 2), (1, 0), (1, 1)]);
        let step = Step::new(verb).with("flags", flags);
        match self.random.below(6) {
            0 => step.with("pages", WINDOW),
            _ => Self::at(step, self.place()).with_unless(2, "pat", pat),
        }
    }

    fn mirror(&mut self) {
        let step = self.mirror_step("bind");
        let step = self.fenced(step);
        self.call(step);
        if self.random.chance(1, 3) {
            self.tell(Step::new("attrs"));
        }
    }

    fn unbind(&mut self) {
        let place = if self.random.chance(1, 8) { (FOREIGN, 64) } else { self.place() };
        let step = Self::at(Step::new("bind").with("op", "unmap"), place);
        let step = self.fenced(step);
        self.call(step);
    }

    fn object(&mut self) {
        let pages = *self.random.pick(&[1, 4, 16, 32, 512]);
        let place = *self.random.pick(&[1, 1, 2, 3]);
        let step = Step::new("bo").with_unless(1, "pages", pages).with_unless(1, "place", place);
        let step =
            step.with_unless("wb", "cache", if place == 1 && self.random.chance(2, 3) { "wb" } else { "wc" });
        let step = if self.random.chance(1, 2) { step.with("vm", 1) } else { step };
        self.objects.push(pages);
        self.call(step);
    }

    fn some_object(&mut self) -> (u64, u64) {
        if self.objects.is_empty() {
            self.object();
        }
        let number = self.random.below(self.objects.len() as u64);
        (number + 1, self.objects[number as usize])
    }

    fn object_step(&mut self, verb: &str) -> Step {
        let (object, pages) = self.some_object();
        let offset = if self.random.chance(1, 3) { self.random.below(pages) } else { 0 };
        let at = match self.random.below(3) {
            0 => self.place().0,
            _ => FOREIGN + LARGE * self.random.below(4),
        };
        let step = Step::new(verb).with("bo", object).with_unless(0, "at", at);
        let step = step.with_unless(1, "pages", pages - offset).with_unless(0, "offset", offset * 4096);
        let flags = *self.random.weighted(&[(4, ""), (2, "immediate"), (1, "readonly")]);
        step.with_unless("", "flags", flags)
    }

    fn bind_object(&mut self) {
        let step = if self.random.chance(1, 6) {
            let (object, _) = self.some_object();
            Step::new("bind").with("op", "unmap-all").with("bo", object).with("addr", 0).with("len", 0)
        } else {
            self.object_step("bind")
        };
        let step = self.fenced(step);
        self.call(step);
        if self.random.chance(1, 3) {
            let op = *self.random.pick(&["store", "inc", "copy"]);
            let step = Step::new("gpu").with("op", op).with("at", FOREIGN + LARGE * self.random.below(4));
            self.call(step.with("v", self.value));
        }
    }

    fn userptr(&mut self) {
        // Memory that stays out of VRAM: Linux 7.3 gets the addresses of huge pages in VRAM wrong here, and writes elsewhere.
        let (from, pages) = self.place();
        if self.random.chance(7, 8) {
            self.map_at(from, pages, "shared", "rw");
        }
        let at = USER_POINTERS + self.random.below(64);
        let step = Self::at(Step::new("bind").with("op", "userptr"), (at, pages)).with("from", from);
        let step = if self.random.chance(1, 2) { step.with("flags", "immediate") } else { step };
        let step = self.fenced(step);
        self.call(step);
        if self.random.chance(1, 2) {
            let value = self.fresh_value();
            self.call(Step::new("gpu").with("at", at).with("v", value));
        }
    }

    fn nothing_bound(&mut self) {
        let place = self.place();
        let step = Self::at(Step::new("bind").with("flags", "null"), place);
        self.call(step);
    }

    fn object_word(&mut self) {
        let (object, pages) = self.some_object();
        let step = Step::new("bo-word").with_unless(1, "bo", object).with_unless(
            0,
            "page",
            self.random.below(pages),
        );
        let step = if self.random.chance(1, 2) { step.with("v", self.fresh_value()) } else { step };
        self.call(step);
    }

    fn close_object(&mut self) {
        let (object, _) = self.some_object();
        self.call(Step::new("close-bo").with_unless(1, "bo", object));
    }

    /// Several operations in one call.
    fn vector(&mut self) {
        for _ in 0..1 + self.random.below(4) {
            let step = match self.random.below(5) {
                0 => self.object_step("op"),
                1 => Self::at(Step::new("op").with("op", "unmap"), self.place()),
                2 if self.random.chance(1, 3) => self.prefetch_step("op"),
                _ => self.mirror_step("op"),
            };
            self.tell(step);
        }
        let step = Step::new("binds");
        let step = if self.random.chance(1, 3) { step.with("fence", 1) } else { step };
        self.call(step);
        self.tell(Step::new("attrs"));
    }

    fn vm(&mut self) {
        let flags = *self.random.pick(&[
            "lr+fault",
            "lr+fault+noover",
            "lr",
            "0",
            "scratch",
            "fault",
            "noover",
            "lr+noover",
            "0x10",
        ]);
        self.call(Step::new("vm").with("flags", flags));
    }

    fn queue(&mut self) {
        let class = *self.random.pick(&["copy", "compute", "render", "bind"]);
        self.call(Step::new("queue").with_unless("copy", "class", class));
        self.queues += 1;
    }

    fn faults(&mut self) {
        self.call(Step::new("faults"));
    }

    fn wait(&mut self) {
        let queue = self.random.below(self.queues + 1);
        let step = Step::new("wait").with_unless(0, "op", self.random.below(6));
        let step = step.with_unless(0, "value", self.random.below(3)).with_unless(0, "queue", queue);
        let step = if self.random.chance(1, 3) { step.with("at", self.mapped_place().0) } else { step };
        self.call(step);
    }

    fn ends(&mut self) {
        let step = match self.random.below(3) {
            0 => Step::new("destroy-vm").with("vm", 1 + self.random.below(2)),
            1 => Step::new("destroy-queue").with("queue", 1 + self.random.below(self.queues.max(1))),
            _ => Step::new("banned").with("queue", 1 + self.random.below(self.queues.max(1))),
        };
        self.call(step);
    }
}
