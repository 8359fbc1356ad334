#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    secchat_fuzz::legs::passing(data);
});
