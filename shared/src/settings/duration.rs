//! Durations as people write them: `90s`, `30m`, `2h`, `7d`, `250ms`.

use std::time::Duration;

/// Reads a whole or decimal number with its unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let rule = || format!("{text:?} is not a time: a number and ms, s, m, h or d, for instance 90s");
    let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(rule)?;
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(rule()),
    };
    let number: f64 = number.trim().parse().map_err(|_| rule())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| rule())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "90", "s", "-1s", "1y", "nan s", "1e30d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
