//! The one place that says how the cases of an enum are called for people: as on the wire.

use serde::Serialize;

/// The name of a case without data: its serde name.
#[must_use]
pub fn name_of<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
