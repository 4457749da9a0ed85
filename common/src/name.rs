//! Names as types: private fields, built by parsing only, so that a name that exists is valid.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError, hex, unhex};
use crate::limits::{LABELS_MAX, NAME_MAX_BYTES, VERSION_MAX_BYTES};

/// Text that is no valid name.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("read {what} {text:?}: want {want}")]
pub struct NameError {
    what: &'static str,
    text: String,
    want: &'static str,
}

impl NameError {
    fn new(what: &'static str, text: &str, want: &'static str) -> Self {
        let text = text.chars().take(NAME_MAX_BYTES).collect();
        Self { what, text, want }
    }
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:path, $want:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if $valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError::new($what, text, $want))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_plain(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= NAME_MAX_BYTES
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && text.bytes().all(inner)
        && !text.ends_with('-')
}

fn is_host(text: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| edge(byte) || byte == b'-' || byte == b'.';
    text.len() <= NAME_MAX_BYTES
        && text.bytes().next().is_some_and(edge)
        && text.bytes().next_back().is_some_and(edge)
        && text.bytes().all(inner)
        && !text.contains("..")
}

fn is_version(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-~".contains(&byte);
    text.len() <= VERSION_MAX_BYTES
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(inner)
}

fn is_label(text: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_alphanumeric();
    let inner = |byte: u8| edge(byte) || b"-_./".contains(&byte);
    text.len() <= NAME_MAX_BYTES
        && text.bytes().next().is_some_and(edge)
        && text.bytes().next_back().is_some_and(edge)
        && text.bytes().all(inner)
}

text_name!(
    /// What runs, owned by one team, released on its own.
    ServiceName, "a service name", is_plain,
    "1 to 63 of a-z, 0-9 and '-', a letter first, no '-' last"
);
text_name!(
    /// What a person calls a host; unique among the hosts of a fleet.
    HostName, "a host name", is_host,
    "1 to 63 of a-z, 0-9, '-' and '.', a letter or digit first and last"
);
text_name!(
    /// Where a host stands in the order dev, staging, production; pinned in each host's configuration.
    Environment, "an environment", is_plain,
    "1 to 63 of a-z, 0-9 and '-', a letter first, no '-' last"
);

/// The service that is the agent of a host itself.
pub const AGENT_SERVICE: &str = "groundswell-agent";
/// The environment of hosts and policies that name none.
pub const DEFAULT_ENVIRONMENT: &str = "production";

impl Default for Environment {
    fn default() -> Self {
        Self(DEFAULT_ENVIRONMENT.to_owned())
    }
}

text_name!(
    /// All hosts under one root of trust.
    Fleet, "a fleet name", is_plain,
    "1 to 63 of a-z, 0-9 and '-', a letter first, no '-' last"
);
text_name!(
    /// A person or a job that talks to the coordinator.
    OperatorName, "an operator name", is_host,
    "1 to 63 of a-z, 0-9, '-' and '.', a letter or digit first and last"
);
text_name!(
    /// The version of a release, as its publisher writes it; compared for equality only.
    Version, "a version", is_version,
    "1 to 64 of letters, digits and '. _ + - ~', a letter or digit first"
);
text_name!(
    /// One rollout: the service's name, '-', a number that grows.
    RolloutId, "a rollout id", is_plain,
    "SERVICE-NUMBER as 'swell rollout ls' prints it"
);
text_name!(
    /// A key or a value of a label.
    Label, "a label", is_label,
    "1 to 63 of letters, digits and '- _ . /', a letter or digit first and last"
);

/// The labels of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Label, Label>", into = "BTreeMap<Label, Label>")]
pub struct Labels(BTreeMap<Label, Label>);

impl Labels {
    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.as_str() == key).map(|(_, value)| value.as_str())
    }

    /// All pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Label, &Label)> {
        self.0.iter()
    }
}

impl TryFrom<BTreeMap<Label, Label>> for Labels {
    type Error = NameError;

    fn try_from(pairs: BTreeMap<Label, Label>) -> Result<Self, NameError> {
        if pairs.len() > LABELS_MAX {
            return Err(NameError::new("labels", "too many", "at most 64 labels"));
        }
        Ok(Self(pairs))
    }
}

impl From<Labels> for BTreeMap<Label, Label> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

impl FromStr for Labels {
    type Err = NameError;

    /// Reads `key=value,key=value`; an empty text is no labels.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut pairs = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| NameError::new("a label", pair, "key=value"))?;
            if pairs.insert(key.trim().parse()?, value.trim().parse()?).is_some() {
                return Err(NameError::new("labels", pair, "each key once"));
            }
        }
        Self::try_from(pairs)
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}={value}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A host's identity: the first 16 bytes of the SHA-256 of its public key. A host that enrols again
/// with a new key is a new host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostId([u8; 16]);

impl HostId {
    /// The identity of whoever holds the private half of `public_key`.
    #[must_use]
    pub fn of_key(public_key: &[u8; 32]) -> Self {
        let digest = Digest::of(public_key);
        let mut id = [0; 16];
        id.copy_from_slice(&digest.as_bytes()[..16]);
        Self(id)
    }

    /// An identity from its bytes, for tests and simulations that need many.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for HostId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        unhex(text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| NameError::new("a host id", text, "32 lower-case hexadecimal digits"))
    }
}

impl TryFrom<String> for HostId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<HostId> for String {
    fn from(id: HostId) -> String {
        id.to_string()
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostId({})", hex(&self.0[..4]))
    }
}

/// A release's identity: the digest of its manifest's exact bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(Digest);

impl ReleaseId {
    /// The identity of the manifest whose payload has this digest.
    #[must_use]
    pub fn from_digest(digest: Digest) -> Self {
        Self(digest)
    }

    /// The manifest's digest, which is also the name of its blob.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

impl FromStr for ReleaseId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseId({})", self.0.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_with_what_is_wanted() {
        for bad in ["", "-a", "a-", "A", "1a", "a/b", "..", &"a".repeat(64), "a\0"] {
            let error = bad.parse::<ServiceName>().expect_err(bad);
            assert!(error.to_string().contains("a letter first"), "{error}");
        }
        for good in ["a", "shop", "shop-2", &"a".repeat(63)] {
            assert_eq!(good.parse::<ServiceName>().expect(good).as_str(), good);
        }
    }

    #[test]
    fn host_names_may_be_dotted_but_never_climb() {
        assert!("web-1.eu.example".parse::<HostName>().is_ok());
        for bad in ["..", ".a", "a.", "a..b", "a/b", ""] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_read_and_print_the_same_text() {
        let labels: Labels = "role=web,region=eu".parse().expect("labels");
        assert_eq!(labels.to_string(), "region=eu,role=web");
        assert_eq!(labels.get("role"), Some("web"));
        assert!("role".parse::<Labels>().is_err());
        assert!("a=1,a=2".parse::<Labels>().is_err());
    }

    #[test]
    fn json_cannot_make_an_invalid_name() {
        assert!(serde_json::from_str::<HostName>("\"../x\"").is_err());
        assert!(serde_json::from_str::<HostId>("\"00\"").is_err());
    }
}
