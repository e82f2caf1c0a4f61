//! What is bounded, and by what: history, listings, proposals, places with a schema; what goes by itself.

mod leases;
mod listings;
mod moved;
mod past;
mod seals;
mod waiting;
mod world;
