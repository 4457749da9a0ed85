//! Owns the one way the test bed gives up: a panic that says what was being done and why it failed.

use std::fmt::Display;

/// Takes the value out of a result or an option, or fails the test.
pub trait Must<T> {
    /// The value inside.
    ///
    /// # Panics
    /// When there is none: the message is `failed to {what}`, with the error where there is one.
    fn must(self, what: impl Display) -> T;
}

impl<T, E: Display> Must<T> for Result<T, E> {
    #[track_caller]
    fn must(self, what: impl Display) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("failed to {what}: {error}"),
        }
    }
}

impl<T> Must<T> for Option<T> {
    #[track_caller]
    fn must(self, what: impl Display) -> T {
        match self {
            Some(value) => value,
            None => panic!("failed to {what}"),
        }
    }
}
