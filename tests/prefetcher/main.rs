//! Background prefetch, as a user of the crate sees it.
