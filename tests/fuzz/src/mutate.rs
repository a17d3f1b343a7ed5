//! Numbers in texts, replaced whole. By bytes alone a count never becomes one that overflows: a digit more
//! or less is still a small number, and twenty digits beside another are none.

use std::ops::Range;

use libfuzzer_sys::fuzzer_mutate;

/// Edges of the types and ranges that readers count with.
const NUMBERS: [&str; 20] = [
    "0",
    "1",
    "2",
    "3",
    "255",
    "65536",
    "65537",
    "1048577",
    "16777217",
    "4294967295",
    "4294967296",
    "281474976710656",
    "9007199254740993",
    "4611686018427387904",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e308",
];

/// A mutation: of one number in half of the cases, of bytes in the others. The arguments are libFuzzer's.
pub fn numbers(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let runs = runs_of_digits(&data[..size]);
    if runs.is_empty() || draw(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let Range { start, end } = runs[draw(runs.len())];
    let number = NUMBERS[draw(NUMBERS.len())].as_bytes();
    let new_size = size - (end - start) + number.len();
    if new_size > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data.copy_within(end..size, start + number.len());
    data[start..start + number.len()].copy_from_slice(number);
    new_size
}

fn runs_of_digits(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}
