//! Owns what `common` does with bytes from outside: signed documents, manifests, messages, damaged or hostile.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod documents;
mod manifests;
mod samples;
mod trust;
mod wire;
