//! Text for people: what a failure report says, and the tail of a long text.

use groundswell_common::limits::FAILURE_TEXT_MAX_BYTES;

/// What a failure report says: the reason first, then the end of the service's output, in 4 KiB.
pub(crate) fn failure(why: &str, output: &str) -> String {
    let why = head(why, FAILURE_TEXT_MAX_BYTES / 2);
    if output.trim().is_empty() {
        return why.to_owned();
    }
    let link = "; its last output:\n";
    let room = FAILURE_TEXT_MAX_BYTES - why.len() - link.len();
    format!("{why}{link}{}", tail(output.trim_end(), room))
}

/// A length of time in the largest unit that is not too coarse.
pub(crate) fn span(secs: u64) -> String {
    let (count, unit) = match secs {
        0..120 => (secs, "second"),
        120..7_200 => (secs / 60, "minute"),
        7_200..172_800 => (secs / 3_600, "hour"),
        _ => (secs / 86_400, "day"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

/// The first `most_bytes` of a text, cut between characters.
pub(crate) fn head(text: &str, most_bytes: usize) -> &str {
    let mut end = text.len().min(most_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The last `most_bytes` of a text, cut between characters.
pub(crate) fn tail(text: &str, most_bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(most_bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_text_fits_and_keeps_the_reason_and_the_end() {
        let text = failure("probe failed", &"ü".repeat(9_000));
        assert!(text.len() <= FAILURE_TEXT_MAX_BYTES, "{}", text.len());
        assert!(text.starts_with("probe failed; its last output:\nü"));
        assert_eq!(failure("why", " \n"), "why");
        assert!(failure(&"x".repeat(9_000), "end").ends_with("end"));
        assert_eq!(tail("aü", 1), "");
    }
}
