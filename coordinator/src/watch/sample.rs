//! Something watched, for the tests of views.

use std::collections::HashMap;

use jiff::Timestamp;
use shared::ids::WorkerId;

use super::Watched;
use super::cells::Cells;
use super::history::Rate;
use crate::status::Status;

/// A status at the end of an hour of watching.
pub fn watched(status: Status) -> Watched {
    let rate = |minute: i32| Rate {
        at: 1_767_225_600.0 + f64::from(minute) * 60.0,
        items_per_second: 20.0 + f64::from(minute % 7) * 1.5,
    };
    Watched {
        at: Timestamp::from_second(1_767_229_200).unwrap(),
        worker_rates: HashMap::from([(WorkerId("box-a-711-1f00aa01".to_owned()), 12.4)]),
        status,
        trouble: None,
        rates: (0..61).map(rate).collect(),
        cells: Cells::default(),
    }
}
