//! Bytes without end for `fuzz::pass`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::pass::one(data));
