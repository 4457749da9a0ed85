//! Tokens, and what enrolment and removal of hosts need besides the decision.

use groundswell_common::api::TokensRequest;
use groundswell_common::digest::hex;
use groundswell_common::trust::PublicKey;
use groundswell_common::{Digest, HostId, HostName, OperatorName};
use groundswell_control::Refused;

use super::desk::Desk;
use crate::entry::{By, What};
use crate::view::Host;

/// Tokens that one request may make.
const TOKENS_MAX: u32 = 1_000;
/// Seconds that a token may be valid.
const TTL_SECS: std::ops::RangeInclusive<u64> = 60..=2_592_000;

/// Secrets of new tokens; kept nowhere but in the answer.
#[derive(Clone)]
pub struct TokensMade {
    /// 32 hexadecimal digits each.
    pub secrets: Vec<String>,
    /// Seconds UTC after which they are refused.
    pub expires: u64,
}

impl std::fmt::Debug for TokensMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokensMade({})", self.secrets.len())
    }
}

impl Desk {
    /// Makes enrolment tokens; the ledger keeps the digests of their secrets only.
    ///
    /// # Errors
    /// [`Refused::Bounds`].
    pub fn make_tokens(
        &mut self,
        by: &OperatorName,
        request: &TokensRequest,
    ) -> Result<TokensMade, Refused> {
        if !(1..=TOKENS_MAX).contains(&request.count) {
            return Err(Refused::Bounds { key: "count", want: "1 to 1000" });
        }
        if !TTL_SECS.contains(&request.ttl_secs) {
            return Err(Refused::Bounds { key: "ttl_secs", want: "60 to 2592000 (30 days)" });
        }
        let mut secrets = Vec::new();
        for _ in 0..request.count {
            let mut secret = [0; 16];
            getrandom::fill(&mut secret).map_err(|error| Refused::Random(Box::new(error)))?;
            secrets.push(hex(&secret));
        }
        let expires = self.now().plus_secs(request.ttl_secs).as_secs();
        let what = What::TokensMade {
            secrets: secrets.iter().map(|secret| Digest::of(secret.as_bytes())).collect(),
            labels: request.labels.clone(),
            environment: request.environment.clone(),
            expires,
        };
        self.submit(By::Operator(by.clone()), what)?;
        Ok(TokensMade { secrets, expires })
    }

    /// Enrols the holder of `key`. The same key with the same token gets the same answer again.
    ///
    /// # Errors
    /// As [`groundswell_control::Control::enrol`].
    pub fn enrol(
        &mut self,
        secret: &str,
        name: &HostName,
        key: &PublicKey,
    ) -> Result<(HostId, Host), Refused> {
        let enrolled = self.control.enrol(secret, name, key)?;
        tracing::info!(host = %enrolled.0, %name, "host enrolled");
        Ok(enrolled)
    }

    /// Removes a host, and ends its session.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`].
    pub fn remove_host(&mut self, by: &OperatorName, name: &HostName) -> Result<(), Refused> {
        let host = self.host_id(name)?;
        self.control.remove_host(by, name)?;
        self.seats.end(&host);
        Ok(())
    }
}
