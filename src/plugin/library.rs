//! The plugin as a shared object for the tests: the library that they were built with, linked once more. (What is
//! installed is made by `make plugin`, from the library alone.)

// Only so that it is linked: GStreamer finds what it needs by its symbol.
extern crate polypscope as _;
