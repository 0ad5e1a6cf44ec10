//! Logs that no kernel writes: damaged, cut, made up. `DRM_PAGEMAP_FUZZ_SECONDS` makes the search as long as one likes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Pending, SmiEvent};
use crate::kfd::fuzzing::{Damage, damage, search};

/// Every line that some kernel writes.
const LOG: &[u8] = b"5 28714996104 -155 @7fec26c00(800) 0->f267 f267:ffffffff 0\n\
6 28750976097 -155 @7fec26c00(800) 0->f267 0 0\n\
6 28750976097 -155 @7fec26c00(800) f267->0 2\n\
6 28750976097 -155 @7fec26c00(800) f267->0 2 -12\n\
7 27463135515 -160 @7f6ab4e00(f267) R\n\
8 27519120720 -160 @7f6ab4e00(f267) M\n\
9 28715871554 -155 f267 0\n\
a 28715871554 -155 f267 0\n\
a 28715871554 -155 f267 \0\n\
a 28715871554 -155 f267 R\n\
b 28715871554 -155 @10(2) f267 2\n\
c 9b cargo\n\
d 9b cargo\n\
1 9b:cargo\n\
2 3:7f\n\
3 1 a cause with blanks\n\
4 1 \n\
e 1 2 3\n";

/// What is read of a log that arrives in pieces.
fn events(log: &[u8], cuts: &[usize]) -> Vec<SmiEvent> {
    let mut pending = Pending::default();
    let mut rest = log;
    for &cut in cuts {
        let (piece, behind) = rest.split_at(cut.min(rest.len()));
        pending.add(piece);
        rest = behind;
    }
    pending.add(rest);
    std::iter::from_fn(|| pending.take()).collect()
}

#[test]
fn every_line_of_the_start_is_understood() {
    let raw: Vec<_> =
        events(LOG, &[]).into_iter().filter(|event| matches!(event, SmiEvent::Raw(_))).collect();
    assert_eq!(raw, [SmiEvent::Raw("e 1 2 3".into())], "the one of a kernel to come");
}

#[test]
fn no_log_does_harm() {
    search(
        "SMI lines",
        (damage(LOG, b"0123456789abcdefRWMU@()->: \n\0x-"), vec(0usize..200, 0..6)),
        |(damages, cuts)| {
            let log = Damage::all(&damages, LOG);
            let found = events(&log, &cuts);
            // Where it is cut makes no difference, and nothing is made out of nothing.
            prop_assert_eq!(&found, &events(&log, &[]));
            let lines = log.split(|&byte| byte == b'\n').map(|line| line.len().div_ceil(96)).sum::<usize>();
            prop_assert!(found.len() <= lines, "{} events of {lines} lines", found.len());
            for event in &found {
                if let SmiEvent::MigrateStart(start) = event {
                    prop_assert!(start.range.start() <= start.range.end());
                }
            }
            Ok(())
        },
    );
}
