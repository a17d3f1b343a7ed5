//! Money: what a provider asks for and what a run cost.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub};

use serde::{Deserialize, Serialize};

/// US dollars. Printed with cents, or with more digits below ten cents.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dollars(pub f64);

impl Dollars {
    /// Nothing.
    pub const ZERO: Self = Self(0.0);

    /// What a price an hour comes to after so many seconds.
    #[must_use]
    pub fn an_hour_for(self, seconds: f64) -> Self {
        Self(self.0 * seconds.max(0.0) / 3600.0)
    }

    /// The larger of two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// The smaller of two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            amount if amount > 0.0 && amount < 0.000_1 => write!(f, "${:.6}", self.0),
            amount if amount > 0.0 && amount < 0.1 => write!(f, "${:.4}", self.0),
            _ => write!(f, "${:.2}", self.0),
        }
    }
}

impl std::str::FromStr for Dollars {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().trim_start_matches('$').parse::<f64>() {
            Ok(amount) if amount.is_finite() && amount >= 0.0 => Ok(Self(amount)),
            _ => Err("an amount in dollars, such as 6.00".to_owned()),
        }
    }
}

impl Add for Dollars {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Dollars {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Mul<f64> for Dollars {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self(self.0 * factor)
    }
}

impl AddAssign for Dollars {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sum for Dollars {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        // The sum of no floats is -0.
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::Dollars;

    #[test]
    fn small_amounts_keep_their_digits() {
        for (amount, text) in [
            (4.5, "$4.50"),
            (0.0, "$0.00"),
            (0.034, "$0.0340"),
            (0.000_02, "$0.000020"),
            (1234.567, "$1234.57"),
        ] {
            assert_eq!(Dollars(amount).to_string(), text);
        }
        assert_eq!("$6.00".parse(), Ok(Dollars(6.0)));
        for bad in ["-1", "much", "NaN", "inf"] {
            assert!(bad.parse::<Dollars>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_no_debt() {
        assert_eq!([].into_iter().sum::<Dollars>().to_string(), "$0.00");
    }

    #[test]
    fn an_hour_is_3600_seconds() {
        assert!((Dollars(0.36).an_hour_for(100.0).0 - 0.01).abs() < 1e-12);
        assert!(Dollars(0.36).an_hour_for(-5.0).0.abs() < 1e-12);
    }
}
