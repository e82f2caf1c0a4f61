//! The survivor (skeleton).
pub mod protocol;
