//! The other side: what an API says of itself.
//!
//! [`document`] reads an OpenAPI file into operations; [`calls`] finds the one that a page tells of; `upkeep-schema` judges
//! values by the schemas in it; [`example`] makes values of them.

pub mod calls;
pub mod document;
pub mod example;
