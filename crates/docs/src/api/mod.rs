//! The other side: what an API says of itself.
//!
//! [`document`] reads an OpenAPI file into operations; [`schema`] judges values by the schemas in it; [`example`] makes
//! values of them.

pub mod document;
pub mod example;
pub mod schema;
