//! Trouble on purpose: whatever the device, its firmware or its driver does, the caller gets a clear error or a true
//! outcome, and the process's data is intact wherever the kernel can keep it.
//!
//! On virtual devices the trouble is ordered through the device's mailbox and meets the real driver; simulated devices
//! have their own. Tests that take the device away come last, and give it back.

pub(crate) mod amdgpu;
mod bench;
mod copies;
mod firmware;
mod queues;
mod removal;

pub(crate) use copies::TESTS as COPIES;
pub(crate) use firmware::TESTS as FIRMWARE;
pub(crate) use queues::TESTS as QUEUES;
pub(crate) use removal::TESTS as REMOVAL;
