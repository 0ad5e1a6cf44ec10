//! What can be wrong about each call.

use crate::frame::Mistakes;

/// Ids that nothing has.
const NO_ID: &[&str] = &["0", "9", "4294967295"];
const RUBBISH: &[&str] = &["1"];
/// To the first or the second word.
const RESERVED: &[&str] = &["2", "1"];
const EXTENSIONS: &[&str] = &["8"];
/// Bytes that break the alignment.
const CROOKED: &[&str] = &["1", "8", "2048"];
const ADDRESSES: &[&str] = &[
    "0",
    "0x1000000000000",
    "0xfffffffff000",
    "0xffff800000000000",
    "0xfffffffffffff000",
    "0x800000000000",
    "0xffff900000000000",
];
const LENGTHS: &[&str] =
    &["0", "0x1000000000000", "0x1000000001000", "0xfffffffffffff000", "0x1fffffffff000"];

pub(super) const MISTAKES: &[Mistakes] = &[
    (
        "vm",
        &[("ext", EXTENSIONS), ("reserved", RESERVED), ("flags", &["0x10", "0x80000006", "fault", "0xf"])],
    ),
    ("destroy-vm", &[("vm", NO_ID), ("pad", RUBBISH), ("reserved", RESERVED)]),
    (
        "bind",
        &[
            ("vm", NO_ID),
            ("pad", RUBBISH),
            ("pad2", RUBBISH),
            ("reserved", RESERVED),
            ("ext", EXTENSIONS),
            ("op", &["5", "99", "map", "userptr", "unmap-all"]),
            (
                "flags",
                &[
                    "0x100",
                    "0x80000000",
                    "mirror+null",
                    "null",
                    "mirror",
                    "autoreset",
                    "decompress",
                    "pxp+dumpable",
                ],
            ),
            ("pat", &["16", "19", "28", "99", "65535", "0", "9"]),
            ("off", CROOKED),
            ("plus", CROOKED),
            ("addr", ADDRESSES),
            ("len", LENGTHS),
            ("queue", &["1", "2", "9"]),
            ("region", &["1", "2", "3", "31", "32", "33", "4294967294", "advised"]),
            ("bo", &["1", "77"]),
            ("offset", &["1", "4096", "0xfffffffffffff000"]),
            ("fence", &["2", "1025"]),
            ("sync-type", &["0", "1", "7"]),
        ],
    ),
    (
        "binds",
        &[
            ("vm", NO_ID),
            ("pad", RUBBISH),
            ("reserved", RESERVED),
            ("vector", &["8"]),
            ("count", &["0", "1"]),
            ("fence", &["2"]),
            ("queue", &["1", "9"]),
        ],
    ),
    (
        "madvise",
        &[
            ("vm", NO_ID),
            ("ext", EXTENSIONS),
            ("reserved", RESERVED),
            ("type", &["4", "99"]),
            ("value", &["2", "4", "16", "99", "4294967295"]),
            ("value-pad", RUBBISH),
            ("value-reserved", &["1", "4096"]),
            ("fd", &["minus2", "closed", "other", "own"]),
            ("region", &["1", "2", "0"]),
            ("policy", &["2", "65535"]),
            ("off", CROOKED),
            ("plus", CROOKED),
            ("addr", ADDRESSES),
            ("len", LENGTHS),
            ("retained-is", &["1"]),
        ],
    ),
    (
        "attrs",
        &[
            ("vm", NO_ID),
            ("room", &["1", "0", "100"]),
            ("size", &["0", "63", "65"]),
            ("size-first", &["64", "1"]),
            ("vector", &["8", "0"]),
            ("ext", EXTENSIONS),
            ("reserved", RESERVED),
            ("pages", &["0"]),
        ],
    ),
    (
        "faults",
        &[
            ("vm", NO_ID),
            ("ext", EXTENSIONS),
            ("pad", RUBBISH),
            ("reserved", RESERVED),
            ("property", &["1"]),
            ("size", &["1", "47", "48", "96", "4800"]),
        ],
    ),
    (
        "queue",
        &[
            ("vm", NO_ID),
            ("class", &["6", "99"]),
            ("instance", &["1", "9"]),
            ("gt", &["5", "255"]),
            ("width", &["0", "2"]),
            ("placements", &["0", "2"]),
            ("flags", &["1", "2"]),
            ("reserved", RESERVED),
        ],
    ),
    ("destroy-queue", &[("queue", NO_ID), ("pad", RUBBISH), ("reserved", RESERVED)]),
    ("banned", &[("queue", NO_ID), ("property", &["1"]), ("reserved", RESERVED), ("ext", EXTENSIONS)]),
    (
        "gpu",
        &[
            ("queue", NO_ID),
            ("buffers", &["0", "2"]),
            ("pad", RUBBISH),
            ("reserved", RESERVED),
            ("ext", EXTENSIONS),
            ("syncs", &["0", "2"]),
            ("sync-type", &["0", "1", "7"]),
            ("sync-flags", &["0", "2", "3"]),
            ("sync-off", &["4", "1"]),
        ],
    ),
    (
        "wait",
        &[
            ("op", &["6", "65535"]),
            ("flags", &["1", "2"]),
            ("off", &["1", "4"]),
            ("pad", RUBBISH),
            ("pad2", RUBBISH),
            ("ext", EXTENSIONS),
            ("reserved", RESERVED),
            ("queue", NO_ID),
            ("at", &["2500"]),
        ],
    ),
    (
        "bo",
        &[
            ("place", &["0", "4", "8", "0x80000000"]),
            ("cache", &["0", "3", "wb"]),
            ("flags", &["1", "2", "4", "8", "16"]),
            ("plus", CROOKED),
            ("pages", &["0"]),
            ("handle", &["1"]),
            ("vm", &["9"]),
            ("pad", RUBBISH),
            ("reserved", RESERVED),
            ("ext", EXTENSIONS),
        ],
    ),
    ("close-bo", &[("bo", &["0", "77"]), ("pad", RUBBISH)]),
    (
        "bo-word",
        &[
            ("bo", &["0", "77"]),
            ("flags", &["2"]),
            ("ext", EXTENSIONS),
            ("reserved", RESERVED),
            ("page", &["600"]),
            ("skip", &["1"]),
        ],
    ),
];
