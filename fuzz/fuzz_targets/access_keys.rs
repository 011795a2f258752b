#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imdsd::fuzzing::access_keys(data));
