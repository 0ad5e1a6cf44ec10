//! Tests of a whole scan: on a model kernel whose memory is known, and on the real one.

mod model;
mod pictures;
mod procedure;
mod properties;
