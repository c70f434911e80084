#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    polypscope_fuzz::structure::run(bytes);
});
