//! What is on the screen, and where in its lists.

use std::sync::Arc;

use crate::watch::Watched;

/// A list that can be scrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    /// The workers.
    Workers,
    /// The failures.
    Failures,
}

impl Focus {
    /// The other list.
    pub fn other(self) -> Self {
        match self {
            Self::Workers => Self::Failures,
            Self::Failures => Self::Workers,
        }
    }
}

/// A list as drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct List {
    /// The first row shown.
    pub top: usize,
    /// Rows there is room for.
    pub room: usize,
}

/// Both lists as drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The workers.
    pub workers: List,
    /// The failures.
    pub failures: List,
}

/// How far to scroll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scroll {
    /// So many rows down, or up where negative.
    Rows(isize),
    /// So many rooms full.
    Pages(isize),
    /// To the first row.
    First,
    /// To the last row.
    Last,
}

/// All that is drawn.
#[derive(Debug, Clone)]
pub struct Screen {
    /// What was seen.
    pub watched: Arc<Watched>,
    /// The list that the arrows move.
    pub focus: Focus,
    /// Where the lists stand.
    pub place: Place,
    /// The answer to the last order.
    pub message: Option<String>,
    /// Whether there is a queue to give orders to.
    pub can_order: bool,
}

impl Screen {
    /// At the top of the workers.
    pub fn new(watched: Arc<Watched>, can_order: bool) -> Self {
        Self { watched, focus: Focus::Workers, place: Place::default(), message: None, can_order }
    }

    /// Moves the list in focus. Drawing keeps it from going past its end.
    pub fn scroll(&mut self, scroll: Scroll) {
        let list = match self.focus {
            Focus::Workers => &mut self.place.workers,
            Focus::Failures => &mut self.place.failures,
        };
        let rows = |count: isize| list.top.saturating_add_signed(count);
        list.top = match scroll {
            Scroll::Rows(count) => rows(count),
            Scroll::Pages(count) => rows(count.saturating_mul(list.room.max(1) as isize)),
            Scroll::First => 0,
            Scroll::Last => usize::MAX,
        };
    }
}
