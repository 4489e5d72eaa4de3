#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nbd_client_fuzz::server_script(data));
