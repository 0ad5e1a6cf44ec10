//! What can be wrong about each call.

use crate::frame::Mistakes;

/// Bytes that break the alignment.
const CROOKED: &[&str] = &["1", "8", "2048"];
const ADDRESSES: &[&str] = &[
    "0",
    "0x1000",
    "0x10000",
    "0x1000000000000",
    "0xffff800000000000",
    "0xfffffffffffff000",
    "0x7ffffffff000",
];
const LENGTHS: &[&str] =
    &["0", "0x1000000000000", "0xfffffffffffff000", "0x7ffffffff000", "0x800000000000", "0x40000000"];
const GPUS: &[&str] = &["0", "7", "0xffff", "4294967295"];
const WRONG_FOR_BOTH: &[&str] = &[
    "pref:7",
    "move:undef",
    "move:7",
    "access:sys",
    "access:undef",
    "inplace:7",
    "noaccess:0",
    "8:0",
    "99:1",
    "4294967295:g0",
    "gran:9,8:0",
    "pref:sys,access:7",
    "access:g0,8:1,move:g0",
    "",
];

pub(super) const MISTAKES: &[Mistakes] = &[
    (
        "set",
        &[
            ("off", CROOKED),
            ("plus", CROOKED),
            ("addr", ADDRESSES),
            ("len", LENGTHS),
            ("op", &["2", "7", "4294967295"]),
            ("nattr", &["0", "1", "9", "4294967295", "2044"]),
            ("room", &["0", "1", "9"]),
            ("attrs", WRONG_FOR_BOTH),
        ],
    ),
    (
        "get",
        &[
            ("off", CROOKED),
            ("plus", CROOKED),
            ("addr", ADDRESSES),
            ("len", LENGTHS),
            ("op", &["2", "7"]),
            ("nattr", &["0", "1", "9", "4294967295"]),
            ("room", &["0", "1", "9"]),
            ("attrs", WRONG_FOR_BOTH),
            (
                "attrs",
                &[
                    "inplace:g0",
                    "pref:0,access:7,gran:0",
                    "pref:0,noaccess:g0",
                    "access:sys",
                    "gran:0,access:undef",
                ],
            ),
        ],
    ),
    ("xnack", &[("mode", &["2", "0x7fffffff", "0x80000000", "4294967294"])]),
    ("acquire", &[("gpu", GPUS), ("fd", &["null", "closed", "second"])]),
    ("apertures", &[("room", &["1", "2", "3", "9", "0xffffffff"])]),
    ("smi", &[("gpu", GPUS)]),
    (
        "create-queue",
        &[
            ("gpu", GPUS),
            ("type", &["5", "99", "0", "2", "3", "4"]),
            ("ring", &["0", "3", "1", "1000"]),
            ("percentage", &["101", "255", "256"]),
            ("priority", &["16"]),
            ("base", &["0xffff800000000000", "0x10000"]),
            ("pointers", &["0xffff800000000000", "0x10000"]),
        ],
    ),
    ("object", &[("gpu", GPUS), ("kind", &["none", "userptr", "doorbell"]), ("pages", &["0"])]),
    ("map-object", &[("gpu", GPUS), ("count", &["0"]), ("done", &["1", "2", "9"]), ("n", &["9"])]),
    ("unmap-object", &[("gpu", GPUS), ("count", &["0"]), ("done", &["1", "2"]), ("n", &["9"])]),
    ("free-object", &[("n", &["9"])]),
];
