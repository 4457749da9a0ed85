//! What a certificate says of the clock of the machine that refused it. Reads errors; reads no clock.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::CertificateError;

use crate::framed::NetError;

/// How a peer's certificate and this machine's clock disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untimely {
    /// The certificate begins this many seconds after what the clock says.
    Early {
        /// Seconds.
        secs: u64,
    },
    /// The certificate ended this many seconds before what the clock says.
    Late {
        /// Seconds.
        secs: u64,
    },
}

impl fmt::Display for Untimely {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |secs: u64| secs.div_ceil(3_600);
        match *self {
            Self::Early { secs } => write!(
                f,
                "the clock of this host is at least {} h behind: by it the coordinator's certificate has \
                 not begun yet",
                hours(secs)
            ),
            Self::Late { secs } => write!(
                f,
                "by the clock of this host the coordinator's certificate ended {} h ago: that clock is \
                 ahead, or the coordinator must be restarted",
                hours(secs)
            ),
        }
    }
}

impl NetError {
    /// Whether a certificate was refused for its time, and by how much.
    #[must_use]
    pub fn untimely(&self) -> Option<Untimely> {
        if let Self::Reach { source, .. } = self {
            return source.errors().find_map(of);
        }
        of(self.source()?.downcast_ref::<io::Error>()?)
    }
}

/// Whether one try ended for the time of a certificate.
fn of(error: &io::Error) -> Option<Untimely> {
    let rustls::Error::InvalidCertificate(found) = error.get_ref()?.downcast_ref()? else {
        return None;
    };
    let since = |later: rustls_pki_types::UnixTime, earlier: rustls_pki_types::UnixTime| {
        later.as_secs().saturating_sub(earlier.as_secs())
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign list that grows")]
    match found {
        CertificateError::NotValidYetContext { time, not_before } => {
            Some(Untimely::Early { secs: since(*not_before, *time) })
        }
        CertificateError::ExpiredContext { time, not_after } => {
            Some(Untimely::Late { secs: since(*time, *not_after) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::UnixTime;

    use super::*;

    fn refused(error: CertificateError) -> NetError {
        let source = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::from(error));
        NetError::Io { peer: "10.0.0.1:7443".to_owned(), source }
    }

    #[test]
    fn the_clock_is_named_and_nothing_else_is() {
        let at = |secs| UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
        let (time, day) = (at(100_000), 86_400);
        let early = CertificateError::NotValidYetContext { time, not_before: at(100_000 + day) };
        let early = refused(early).untimely();
        assert_eq!(early, Some(Untimely::Early { secs: day }));
        assert!(early.is_some_and(|early| early.to_string().contains("24 h behind")));
        let late = CertificateError::ExpiredContext { time, not_after: at(100_000 - 60) };
        let late = refused(late).untimely();
        assert_eq!(late, Some(Untimely::Late { secs: 60 }));
        assert!(late.is_some_and(|late| late.to_string().contains("ended 1 h ago")));
        assert_eq!(refused(CertificateError::UnknownIssuer).untimely(), None);
        assert_eq!(NetError::Address("x".to_owned()).untimely(), None);
    }
}
