//! coordinator

pub mod merge;
pub mod verify;
