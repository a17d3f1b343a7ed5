//! Files by name, numbers in names read as numbers: `part2` before `part10`.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// Sorts files and removes repetitions.
pub fn order_files(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    files.sort_by(|a, b| compare(a, b));
    files.dedup();
    files
}

fn compare(a: &Path, b: &Path) -> Ordering {
    let (left, right) = (a.to_string_lossy(), b.to_string_lossy());
    natural(&left, &right).then_with(|| a.cmp(b))
}

fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(x), Some(y)) = (a.first(), b.first()) else {
            return a.len().cmp(&b.len());
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (left, right) = (digits(a), digits(b));
            let order = significant(left).len().cmp(&significant(right).len());
            let order = order.then_with(|| significant(left).cmp(significant(right)));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[left.len()..], &b[right.len()..]);
        } else if x == y {
            (a, b) = (&a[1..], &b[1..]);
        } else {
            return x.cmp(y);
        }
    }
}

fn digits(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

fn significant(digits: &[u8]) -> &[u8] {
    let start = digits.iter().position(|byte| *byte != b'0').unwrap_or(digits.len());
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers() {
        let names = ["p10.json", "p2.json", "p02.json", "p1a.json", "p1.json", "p2.json"];
        let ordered = order_files(names.iter().map(PathBuf::from).collect());
        let expected = ["p1.json", "p1a.json", "p02.json", "p2.json", "p10.json"];
        assert_eq!(ordered, expected.map(PathBuf::from));
    }
}
