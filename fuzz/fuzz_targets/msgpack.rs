//! Bytes without end for `fuzz::msgpack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::msgpack::one(data));
