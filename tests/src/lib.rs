//! What the end-to-end tests stand on: the real binaries, a real redis-server on a free port, folders
//! that go when a test ends, and a reader of npz files that shares no code with the programs.

// Everything here is test code, where an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

pub mod browser;
pub mod chaos;
pub mod checkpoint;
pub mod http;
pub mod hub;
pub mod npz;
pub mod program;
pub mod redis;
pub mod rehearsal;
pub mod s3;
pub mod sample;
pub mod scale;
pub mod seaweed;
pub mod soak;
pub mod terminal;
pub mod tls;
pub mod vast;
pub mod wait;
pub mod watched;
