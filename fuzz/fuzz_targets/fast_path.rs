#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imdsd::fuzzing::fast_path(data));
