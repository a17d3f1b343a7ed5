//! Dollars in integers, so that what a test adds up is exactly what was billed.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::time::Duration;

/// Nanoseconds of an hour: prices are per hour.
const HOUR: u128 = 3_600_000_000_000;

/// Hours of the month that storage is priced by.
pub const MONTH_HOURS: f64 = 720.0;

/// An amount, or a price per hour, in nano-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Money(pub u64);

impl Money {
    /// The nearest amount to so many dollars; nothing for a negative number.
    pub fn of_dollars(dollars: f64) -> Self {
        Self((dollars * 1e9).round() as u64)
    }

    /// In dollars.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Self::add)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "${}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// What is due for something priced per hour, without any rounding on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meter {
    /// Nano-dollars per hour times nanoseconds.
    due: u128,
}

impl Meter {
    /// Lets it run for a time at a price per hour.
    pub fn run(&mut self, price: Money, time: Duration) {
        self.due += u128::from(price.0) * time.as_nanos();
    }

    /// What it shows, rounded down to a nano-dollar.
    pub fn amount(self) -> Money {
        Money((self.due / HOUR) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_loses_nothing_in_small_steps() {
        let price = Money::of_dollars(0.4);
        let (mut steps, mut whole) = (Meter::default(), Meter::default());
        for _ in 0..1000 {
            steps.run(price, Duration::from_micros(7_777));
        }
        whole.run(price, Duration::from_micros(7_777_000));
        assert_eq!(steps, whole);
        assert_eq!(whole.amount(), Money(864_111));
    }

    #[test]
    fn amounts_are_written_in_full() {
        assert_eq!(Money::of_dollars(1.5).to_string(), "$1.500000000");
        assert_eq!(Money(7).to_string(), "$0.000000007");
        assert!((Money::of_dollars(0.3).dollars() - 0.3).abs() < 1e-12);
    }
}
