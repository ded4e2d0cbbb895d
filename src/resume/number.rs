//! A number of a session's messages.

/// The largest number (1*15DIGIT): a JavaScript number is exact up to there.
pub(crate) const MAX_NUMBER: u64 = 999_999_999_999_999;

/// 1 to 15 digits.
pub(super) fn parse(text: &str) -> Option<u64> {
    let is_number =
        (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}
