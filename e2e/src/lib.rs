//! Whole-binary tests live in `tests/`; this crate exports nothing.
