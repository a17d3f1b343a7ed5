//! tests

pub mod checkpoint;
pub mod hub;
