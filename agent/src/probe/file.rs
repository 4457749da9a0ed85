//! A file that must be there, and written lately where an age is given: for services that have no port,
//! or beat by touching a file. What the file holds is not looked at.

use std::io;
use std::time::{Duration, SystemTime};

use super::ProbeError;

/// A file system that does not answer for this long is no answer.
pub(super) const ANSWER_SECS: u64 = 5;

pub(super) async fn look(path: &str, max_age_secs: u64) -> Result<(), ProbeError> {
    let what = || path.to_owned();
    let io = |source: io::Error| ProbeError::Io { what: what(), source };
    let found = tokio::fs::metadata(path).await.map_err(io)?;
    if !found.is_file() {
        return Err(ProbeError::NoFile(what()));
    }
    if max_age_secs == 0 {
        return Ok(());
    }
    let written = found.modified().map_err(io)?;
    // One that is written in the future by a clock that was set is as fresh as can be.
    let age = SystemTime::now().duration_since(written).unwrap_or(Duration::ZERO).as_secs();
    if age <= max_age_secs {
        Ok(())
    } else {
        Err(ProbeError::Old { what: what(), age, max_age_secs })
    }
}
