//! A mirror's prefetch to the memory of another GPU, and what it does where no fast link leads there.

use super::migrate::{check, filled};
use super::*;
use crate::mirror::Mirror;
use crate::sim::Machine;
use crate::{ErrorKind, Fallback, Gpu, Location, Observe};

/// Two GPUs, linked or not.
struct Pair {
    own: Gpu,
    peer: Gpu,
}

impl Pair {
    fn new(own: XeConfig, peer: XeConfig) -> Self {
        let device = |config| XeGpu::new(config).unwrap();
        let machine = Machine::new().with_xe(device(own)).with_xe(device(peer));
        let mut found = Gpu::discover_in(&machine).into_iter();
        Self { own: found.next().unwrap(), peer: found.next().unwrap() }
    }

    fn linked(group: u32) -> Self {
        let config = || XeConfig::new(Platform::Battlemage).linked(group);
        Self::new(config(), config())
    }

    fn apart() -> Self {
        Self::new(XeConfig::new(Platform::Battlemage), XeConfig::new(Platform::Battlemage))
    }
}

/// Bytes of a GPU's own memory that are in use.
fn used(gpu: &Gpu) -> u64 {
    let crate::Device::Xe(device) = gpu.device() else { unreachable!("of xe") };
    device.memory_regions().unwrap().iter().skip(1).map(|region| region.used).sum()
}

/// What the driver's attributes say of the preferred location over a range.
fn preferred(mirror: &Mirror, range: PageRange) -> Vec<crate::xe::ReportedLocation> {
    let told = mirror.vm().unwrap().range_attributes(range).unwrap();
    told.iter().map(|one| one.preferred_location).collect()
}

#[test]
fn a_linked_peer_gets_the_pages_and_advice_is_as_before() {
    use crate::xe::ReportedLocation::{FaultingDevice, System};
    let pair = Pair::linked(81);
    let mirror = pair.own.mirror().unwrap();
    let (buffer, advised) = (filled(2 * M2), filled(M2));
    for observe in [Observe::Cheaply, Observe::Nothing] {
        assert!(mirror.prefetch(&buffer).to_system().run().unwrap().is_complete());
        let outcome = mirror.prefetch(&buffer).to(pair.peer.vram()).observe(observe).run().unwrap();
        assert_eq!((outcome.requested(), outcome.fallback()), (2 * M2, None));
        assert_eq!(outcome.is_complete(), observe == Observe::Cheaply, "{outcome}");
        assert_eq!((used(&pair.own), used(&pair.peer)), (0, 2 * M2));
    }
    // From the peer's memory to one's own, and across.
    assert!(mirror.prefetch(&buffer).to(pair.own.vram()).run().unwrap().is_complete());
    assert_eq!((used(&pair.own), used(&pair.peer)), (2 * M2, 0));
    let across = mirror.prefetch(&buffer).to(pair.peer.vram()).run().unwrap();
    assert_eq!((used(&pair.own), used(&pair.peer)), (0, 2 * M2));
    assert_eq!(across.already_there(), 2 * M2, "whose VRAM it was the kernel does not tell");
    assert!(preferred(&mirror, buffer.range()).iter().all(|&location| location == FaultingDevice));
    // Advice of others is in force again afterwards.
    let guard = mirror.advise(&advised).prefer(Location::System).apply().unwrap();
    assert!(mirror.prefetch(&advised).to(pair.peer.vram()).run().unwrap().is_complete());
    assert_eq!(used(&pair.peer), 3 * M2);
    assert!(preferred(&mirror, advised.range()).iter().all(|&location| location == System));
    drop(guard);
    assert!(preferred(&mirror, advised.range()).iter().all(|&location| location == FaultingDevice));
    check(&buffer);
    check(&advised);
}

#[test]
fn without_a_link_the_caller_says_what_to_do() {
    let pair = Pair::apart();
    let mirror = pair.own.mirror().unwrap();
    let buffer = filled(M2);
    let prefetch = || mirror.prefetch(&buffer).to(pair.peer.vram());
    let error = prefetch().run().unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::NoInterconnect, Some(Errno::ENOLINK)));
    assert!(error.hint().is_some_and(|hint| hint.contains("fallback")), "{error}");
    assert_eq!((used(&pair.own), used(&pair.peer)), (0, 0), "an error moves nothing");
    for observe in [Observe::Cheaply, Observe::Nothing] {
        let own = prefetch().fallback(Fallback::OwnVram).observe(observe).run().unwrap();
        assert_eq!(own.fallback(), Some(Fallback::OwnVram));
        assert_eq!((used(&pair.own), used(&pair.peer)), (M2, 0));
        let system = prefetch().fallback(Fallback::System).observe(observe).run().unwrap();
        assert_eq!(system.fallback(), Some(Fallback::System));
        assert_eq!((used(&pair.own), used(&pair.peer)), (0, 0));
    }
    let text = prefetch().fallback(Fallback::OwnVram).run().unwrap().to_string();
    assert!(text.ends_with("no fast link to the other GPU"), "{text}");
    // Where the named place is one's own, there is nothing to fall back from.
    let here = mirror.prefetch(&buffer).to(pair.own.vram()).fallback(Fallback::System).run().unwrap();
    assert_eq!((here.fallback(), used(&pair.own)), (None, M2));
    check(&buffer);
}

#[test]
fn a_gpu_without_memory_of_its_own_falls_back_to_the_systems() {
    let pair = Pair::new(XeConfig::new(Platform::LunarLake), XeConfig::new(Platform::Battlemage));
    let mirror = pair.own.mirror().unwrap();
    let buffer = filled(M2);
    let outcome = mirror.prefetch(&buffer).to(pair.peer.vram()).fallback(Fallback::OwnVram).run().unwrap();
    assert_eq!(outcome.fallback(), Some(Fallback::System));
    assert_eq!(used(&pair.peer), 0);
    // And nobody can go to memory that an integrated GPU does not have.
    let mirror = pair.peer.mirror().unwrap();
    let error = mirror.prefetch(&buffer).to(pair.own.vram()).run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    check(&buffer);
}

#[test]
fn kernels_that_cannot_name_a_peer_say_so() {
    let config = || XeConfig::new(Platform::Battlemage).linked(82).kernel(KernelVersion::V6_19);
    let pair = Pair::new(config(), config());
    let mirror = pair.own.mirror().unwrap();
    let buffer = filled(M2);
    let prefetch = mirror.prefetch(&buffer).to(pair.peer.vram()).fallback(Fallback::System);
    let error = prefetch.run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("7.0")), "{error}");
    check(&buffer);
}

#[test]
fn an_empty_range_asks_nobody() {
    let pair = Pair::apart();
    let mirror = pair.own.mirror().unwrap();
    let nothing: [u8; 0] = [];
    let outcome = mirror.prefetch(&nothing).to(pair.peer.vram()).run().unwrap();
    assert_eq!((outcome.requested(), outcome.fallback()), (0, None));
}
