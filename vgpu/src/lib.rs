//! Virtual GPUs for running real kernel drivers without hardware.
