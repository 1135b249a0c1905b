//! Declarations of DPDK's C interface, generated at build time for the version installed, and nothing else: no logic, no
//! wrappers with an opinion. Only the `dpdk` crate uses it. Names are DPDK's own; `millrace_*` and `MILLRACE_*` come from
//! `shim.h`, which says why each is needed. What is compiled besides is `allowance.c`, a bound for the memory of one call.
//!
//! Every function here is unsafe to call; its contract is DPDK's documentation of the same name.
#![no_std]
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    unreachable_pub,
    missing_debug_implementations,
    reason = "generated code keeps the names and the shape of the C headers"
)]
#![allow(clippy::all, clippy::pedantic, clippy::restriction, reason = "generated code is not ours to polish")]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
