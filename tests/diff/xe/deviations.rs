//! Where the simulated xe is knowingly different from the real driver, and why it stays so.

use crate::frame::Deviation;

pub(super) const KNOWN: &[Deviation] = &[];
