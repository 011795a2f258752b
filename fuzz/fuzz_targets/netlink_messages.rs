#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| imdsd::fuzzing::netlink_messages(data));
