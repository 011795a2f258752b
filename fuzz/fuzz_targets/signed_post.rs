#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imdsd::fuzzing::signed_post(data));
