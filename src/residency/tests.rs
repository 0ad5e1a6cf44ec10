//! Tests of a whole scan: on a model kernel whose memory is known, and on the real one.

mod model;
mod pictures;
mod procedure;
mod properties;

use super::Place;
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
