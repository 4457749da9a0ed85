//! Owns waiting in tests: a condition is polled until it holds or its bound has passed.
//!
//! Tests never sleep for a guessed time; the short pause between two looks is in here alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Pause between two looks at a condition: short against the 0.1 s and more of what tests await,
/// long enough that twenty waiting tests do not load a machine of two cores.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `probe` gives a value, and returns it.
///
/// # Panics
/// When `bound` has passed without one: the message tells `what` was awaited and for how long.
#[track_caller]
pub fn until<T>(what: &str, bound: Duration, probe: impl FnMut() -> Option<T>) -> T {
    match within(bound, probe) {
        Some(value) => value,
        None => panic!("waited {} s in vain for: {what}", bound.as_secs_f32()),
    }
}

/// Looks until `probe` gives a value or `bound` has passed; `None` when it has.
pub fn within<T>(bound: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if start.elapsed() >= bound {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Says that it is over when it is dropped, by a panic too: threads that work beside a test end with it.
#[derive(Debug)]
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_first_value() {
        let mut looks = 0;
        let value = until("the third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(value, 3);
    }

    #[test]
    #[should_panic(expected = "waited 0.05 s in vain for: a thing that never comes")]
    fn names_what_never_came() {
        until("a thing that never comes", Duration::from_millis(50), || None::<()>);
    }
}
