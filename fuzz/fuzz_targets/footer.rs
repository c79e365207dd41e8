//! Bytes without end for `fuzz::footer`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    // Panics of the decoder are caught by the code under test; those of the target still end the program.
    init: std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))),
    |data: &[u8]| fuzz::footer::one(data)
);
