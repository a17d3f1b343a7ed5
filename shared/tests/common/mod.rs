//! What integration tests share: a real `redis-server` on a free port, killed when it is dropped.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub mod proxy;
pub mod redis_server;
