//! The promises of the project, named once. Tests and `verify` cite them by these names; the module
//! beside each name is the one place that owns it.
//!
//! | law | owner |
//! |---|---|
//! | [`Law::StoreIsTheRecord`] | `coordinator::resume` |
//! | [`Law::ObjectsAreImmutable`] | [`crate::store`] |
//! | [`Law::LeasesAreFenced`] | [`crate::queue`] |
//! | [`Law::EveryItemIsAccountedFor`] | [`crate::part`] |
//! | [`Law::SameBytesAgain`] | [`crate::part`], `worker::batch` |
//! | [`Law::OneFingerprint`] | [`crate::plan`] |
//! | [`Law::MemoryIsBounded`] | [`crate::npz`], [`crate::bundle`] |
//! | [`Law::LeastRights`] | [`crate::settings`] |

use std::fmt;

/// One promise of the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    /// The object store is the record, the queue is a scheduler that can be rebuilt from it.
    StoreIsTheRecord,
    /// Objects are named by their content and never overwritten; a shard is finished when a valid
    /// part for it exists.
    ObjectsAreImmutable,
    /// Every change of a lease carries its token; leases expire by the queue server's clock.
    LeasesAreFenced,
    /// Expected items = embedded rows + failed items with a reason, which is never a single machine's fault.
    EveryItemIsAccountedFor,
    /// The same shard on the same kind of device with the same build and budget gives the same bytes.
    SameBytesAgain,
    /// One run has one fingerprint; parts of another are refused by name.
    OneFingerprint,
    /// Payload memory is bounded by a shard, not by the run.
    MemoryIsBounded,
    /// A worker holds no more rights than it needs and no secret is ever printed.
    LeastRights,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StoreIsTheRecord => "law 1: the object store is the record",
            Self::ObjectsAreImmutable => "law 2: objects are immutable and named by their content",
            Self::LeasesAreFenced => "law 3: leases are fenced by a token and the server's clock",
            Self::EveryItemIsAccountedFor => "law 4: every item is accounted for",
            Self::SameBytesAgain => "law 5: the same shard gives the same bytes",
            Self::OneFingerprint => "law 6: one run, one fingerprint",
            Self::MemoryIsBounded => "law 7: payload memory is bounded by a shard",
            Self::LeastRights => "law 8: a worker holds no more rights than it needs",
        })
    }
}
