//! What the chaos suite stands on: faults between real processes, and the accounts that are checked after.
//!
//! | file | job |
//! |---|---|
//! | `proxy` | a connection between two processes that fails on demand |
//! | `fault` | what a proxy does to which request |
//! | `world` | a planned run with its queue, its store and its workers |
//! | `work` | what it computes |
//! | `ledger` | what the queue and the workers say happened, held against the laws |
//! | `lab` | network namespaces |
//! | `random` | choices that follow from a seed |

pub mod fault;
pub mod lab;
pub mod ledger;
pub mod proxy;
pub mod random;
pub mod work;
pub mod world;
