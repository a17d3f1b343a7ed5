//! coordinator

#[cfg(feature = "local")]
pub mod demo;
pub mod merge;
pub mod verify;
