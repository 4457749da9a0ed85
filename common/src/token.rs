//! Enrolment tokens: one line that carries where to enrol, which root to trust, and a secret for one use.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::limits::TOKEN_MAX_BYTES;

const PREFIX: &str = "gsw1.";

/// A one-time enrolment token. `Debug` hides the secret; the text form carries it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// `HOST:PORT` of the coordinator's API, TLS with the root's authority.
    pub api: String,
    /// Base of the blob URLs, `http://HOST:PORT`; serves the root before anything is trusted.
    pub blobs: String,
    /// Digest of the root envelope's JSON bytes: the name of its blob.
    pub root_blob: Digest,
    /// Digest of the root's payload: what is trusted.
    pub root: Digest,
    /// 32 hexadecimal digits, for one enrolment.
    pub secret: String,
    /// Seconds UTC after which the coordinator refuses it.
    pub expires: u64,
}

/// Why a text is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Longer than any token.
    #[error(
        "read the enrolment token: over 2048 bytes; paste the one line that 'swell host enroll-token' printed"
    )]
    TooLong,
    /// Without the prefix.
    #[error(
        "read the enrolment token: it must start with gsw1.; paste the whole line that \
         'swell host enroll-token' printed"
    )]
    Prefix,
    /// Not base64.
    #[error("read the enrolment token: it is damaged; paste the whole line again")]
    Base64(#[source] base64::DecodeError),
    /// Not the JSON of a token.
    #[error("read the enrolment token: it is damaged or of another version; ask for a new one")]
    Json(#[source] serde_json::Error),
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_MAX_BYTES {
            return Err(TokenError::TooLong);
        }
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(TokenError::Base64)?;
        serde_json::from_slice(&json).map_err(TokenError::Json)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token holds text, digests and a number only: nothing in it can fail to become JSON.
        let json = serde_json::to_vec(self).unwrap_or_default();
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(for {}, root {})", self.api, self.root.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_line_and_damage_is_named() {
        let token = Token {
            api: "10.0.0.1:7443".into(),
            blobs: "http://10.0.0.1:7480".into(),
            root_blob: Digest::of(b"blob"),
            root: Digest::of(b"root"),
            secret: "00112233445566778899aabbccddeeff".into(),
            expires: 9,
        };
        let line = token.to_string();
        assert_eq!(format!(" {line}\n").parse::<Token>().expect("token"), token);
        assert!(!format!("{token:?}").contains("0011"), "the secret is never printed by Debug");
        assert!(matches!("x".parse::<Token>(), Err(TokenError::Prefix)));
        assert!(matches!("gsw1.!".parse::<Token>(), Err(TokenError::Base64(_))));
        assert!(matches!("gsw1.AAAA".parse::<Token>(), Err(TokenError::Json(_))));
        assert!(matches!("g".repeat(4096).parse::<Token>(), Err(TokenError::TooLong)));
        let cut = &line[..line.len() - 4];
        assert!(matches!(cut.parse::<Token>(), Err(TokenError::Json(_))));
    }
}
