//! Values of callers inside messages: quoted, control characters escaped, and never longer than useful.

use std::fmt;

/// How many bytes of a caller's value a message repeats. Bad input may be as long as a whole body, and
/// the error about it is answered, logged and counted against nobody.
pub const QUOTE_LIMIT: usize = 256;

/// A string in quotes, cut after [`QUOTE_LIMIT`] bytes.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() <= QUOTE_LIMIT {
            return write!(f, "{:?}", self.0);
        }
        write!(f, "{:?}... ({} bytes)", &self.0[..self.0.floor_char_boundary(QUOTE_LIMIT)], self.0.len())
    }
}

impl fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_value_is_repeated_whole_and_a_long_one_is_cut_at_a_character() {
        assert_eq!(Quoted("a\nb").to_string(), r#""a\nb""#);
        let long = "ä".repeat(1000);
        let quoted = Quoted(&long).to_string();
        assert!(quoted.ends_with("\"... (2000 bytes)"), "{quoted}");
        assert!(quoted.len() < QUOTE_LIMIT + 40);
    }
}
