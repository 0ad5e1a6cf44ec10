//! Tests of a whole scan: on a model kernel whose memory is known, and on the real one.

mod model;
mod pictures;
mod procedure;
mod properties;

use super::kernel::Kernel;
use super::place::Class;
use super::procfs::Proc;
use super::{Depth, Place, Run, Scanner};
use crate::range::{PageRange, page_size};

#[test]
fn a_slice_is_looked_at_in_whole_pages() {
    let page = page_size() as usize;
    let data = crate::Buffer::<u8>::from_slice(&vec![1; 3 * page]).unwrap();
    let found = super::of(&data[page - 1..=page]).unwrap();
    let first_two = PageRange::new(data.range().start(), 2 * page_size()).unwrap();
    assert_eq!(found.runs().iter().map(|run| run.range()).reduce(|a, b| a.hull(b)), Some(first_two));
    assert_eq!(found.summary().bytes(Place::System), 2 * page_size());
}

#[test]
fn the_page_map_has_a_word_for_each_page() {
    let data = crate::Buffer::<u8>::from_slice(&vec![1; 3 * page_size() as usize]).unwrap();
    let mut words = [0; 3];
    let read = Proc::open().unwrap().entries(data.range().start(), &mut words).unwrap();
    assert_eq!((read, words.map(|word| word >> 63)), (3, [1; 3]));
}

#[test]
fn runs_are_equal_when_range_place_and_size_of_pages_are() {
    let run = |pages, class, huge| Run::new(0, pages * page_size(), class, huge);
    let one = run(1, Class::System, false);
    assert_eq!(one, run(1, Class::File, false), "two kinds of one place");
    for other in [run(2, Class::System, false), run(1, Class::Device, false), run(1, Class::System, true)] {
        assert_ne!(one, other);
    }
}

#[test]
fn a_scanner_shows_how_it_looks() {
    let mut scanner = Scanner::new().unwrap();
    scanner.set_depth(Depth::Cheap);
    let text = format!("{scanner:?}");
    assert!(text.contains("Scanner") && text.contains("Cheap"), "{text}");
}
