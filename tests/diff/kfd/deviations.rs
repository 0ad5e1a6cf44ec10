//! Where the simulation is knowingly different.

use crate::frame::Deviation;

pub(super) const KNOWN: &[Deviation] = &[];
