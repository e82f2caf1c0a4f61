//! The decisions: given now and an event, what next and why.
//! (skeleton: the theory of operation is written with the bodies)
pub mod effect;
pub mod event;
pub mod instance;
pub mod order;
