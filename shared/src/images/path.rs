//! How a path is written, on both sides of a match: `\` becomes `/`, leading `./` goes, NFC.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

/// The path as it is compared.
pub fn normalise(path: &str) -> String {
    let path: Cow<'_, str> = if path.contains('\\') { path.replace('\\', "/").into() } else { path.into() };
    let mut rest = path.as_ref();
    while let Some(stripped) = rest.strip_prefix("./") {
        rest = stripped.trim_start_matches('/');
    }
    if is_nfc(rest) { rest.to_owned() } else { rest.nfc().collect() }
}

/// Refuses a path that is empty, absolute, or leaves its root.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    // As it is compared: a drive letter behind "./" is one too.
    let path = normalise(path);
    let bytes = path.as_bytes();
    if path.is_empty() {
        return Err("the path is empty");
    }
    if path.contains('\0') {
        return Err("the path holds a NUL");
    }
    if path.starts_with('/') {
        return Err("the path is absolute; paths are relative to a folder or zip of --images");
    }
    if bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' {
        return Err("the path has a drive letter; paths are relative to a folder or zip of --images");
    }
    let mut depth = 0i64;
    for segment in path.split('/') {
        match segment {
            ".." => depth -= 1,
            "" | "." => {}
            _ => depth += 1,
        }
        if depth < 0 {
            return Err("the path leaves its folder");
        }
    }
    Ok(())
}

/// The path with its leading date written the other way: `20170311/..` as `2017/03/11/..` and back. Any
/// eight digits are a date.
pub fn other_date(path: &str) -> Option<String> {
    let digits =
        |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let (first, rest) = path.split_once('/')?;
    if digits(first, 8) {
        return Some(format!("{}/{}/{}/{rest}", &first[..4], &first[4..6], &first[6..]));
    }
    let (second, rest) = rest.split_once('/')?;
    let (third, rest) = rest.split_once('/')?;
    (digits(first, 4) && digits(second, 2) && digits(third, 2))
        .then(|| format!("{first}{second}{third}/{rest}"))
}

/// The path with Unicode case folded.
pub fn fold(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    caseless::default_case_fold_str(path).nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_one_way() {
        assert_eq!(normalise(r".\a\b.png"), "a/b.png");
        assert_eq!(normalise("././/a"), "a");
        assert_eq!(normalise("\u{1100}\u{1161}"), "가");
    }

    #[test]
    fn dates_turn_both_ways() {
        assert_eq!(other_date("20170311/a/b").as_deref(), Some("2017/03/11/a/b"));
        assert_eq!(other_date("2017/03/11/a/b").as_deref(), Some("20170311/a/b"));
        assert_eq!(other_date("2017/3/11/a"), None);
        assert_eq!(other_date("20170311"), None);
        assert_eq!(other_date("2017/03/11"), None);
    }

    #[test]
    fn paths_that_leave_are_refused() {
        for path in ["", "/a", r"\a", "C:/a", "c:a", "./C:/x", "..", "../a", "a/../../b", r"..\a", "a\0"] {
            assert!(check_path(path).is_err(), "{path}");
        }
        for path in ["a", "a/../b", "./a", "..a", "a..", "a b/[c].png"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
    }
}
