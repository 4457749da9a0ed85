//! What an error of TLS means to a person, and what to do next. The library's own texts name alerts and
//! its manual; nobody who only wants to reach a coordinator can act on them.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

/// What the end of a connection without TLS's farewell means.
const CLOSED: &str = "the other end closed it without a word; it stopped, or it is another port (people \
    use the API's port, agents theirs)";

/// When the connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before both sides had agreed on keys.
    Handshake,
    /// After it, which is also when a server refuses a client's certificate.
    Talk,
}

/// The same error, its text saying what it means where that is known.
pub(crate) fn plain(error: io::Error, when: When) -> io::Error {
    let kind = error.kind();
    if kind == io::ErrorKind::UnexpectedEof {
        return io::Error::new(
            kind,
            match when {
                When::Handshake => {
                    "the other end closed it before TLS was set up; is it the right port?"
                }
                When::Talk => CLOSED,
            },
        );
    }
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match tls.and_then(of_tls) {
        Some(text) => io::Error::new(kind, text),
        None => error,
    }
}

/// What the first error of a TLS connection in a chain means, where that is known: for errors that another
/// library has wrapped.
#[must_use]
pub fn meaning(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let tls = io.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
            let closed = io.kind() == io::ErrorKind::UnexpectedEof;
            return tls.and_then(of_tls).or_else(|| closed.then_some(CLOSED)).map(str::to_owned);
        }
        next = error.source();
    }
    None
}

fn of_tls(error: &TlsError) -> Option<&'static str> {
    if let TlsError::InvalidMessage(_) = error {
        return Some("the other end speaks no TLS; is it the right port?");
    }
    if let TlsError::InvalidCertificate(why) = error {
        let foreign = [CertificateError::UnknownIssuer, CertificateError::BadSignature];
        return foreign.contains(why).then_some(FOREIGN);
    }
    if let TlsError::AlertReceived(alert) = error {
        return REFUSED.into_iter().find(|(known, _)| known == alert).map(|(_, text)| text);
    }
    None
}

/// What is wrong with the other end's certificate, where the library does not tell it with names and times.
const FOREIGN: &str = "invalid peer certificate: of no authority that is trusted here; is it the right machine and \
    port, or the profile of another fleet?";
/// What the other end says of our certificate.
const REFUSED: [(AlertDescription, &str); 5] = [
    (
        AlertDescription::CertificateExpired,
        "our certificate has ended; a person asks an admin for 'swell operator add', a host is enrolled again",
    ),
    (AlertDescription::UnknownCA, OTHER_FLEET),
    (AlertDescription::BadCertificate, OTHER_FLEET),
    (AlertDescription::DecryptError, OTHER_FLEET),
    (
        AlertDescription::CertificateRequired,
        "it wants a certificate and got none; is it the right port?",
    ),
];
const OTHER_FLEET: &str =
    "it does not take our certificate, which is of another fleet; give that fleet's own";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_sends_the_reader_to_the_library_s_manual() {
        let eof = || io::Error::new(io::ErrorKind::UnexpectedEof, "see https://docs.rs/rustls");
        assert!(plain(eof(), When::Handshake).to_string().contains("is it the right port?"));
        assert!(plain(eof(), When::Talk).to_string().contains("people use the API's port"));
        let alert = TlsError::AlertReceived(AlertDescription::CertificateExpired);
        let error = plain(io::Error::new(io::ErrorKind::InvalidData, alert), When::Talk);
        assert!(error.to_string().starts_with("our certificate has ended"), "{error}");
    }
}
