//! The fleet's certificate authority. The one file that names `rcgen`. Gives certificates for keys that
//! it never sees the private half of.

use groundswell_common::trust::PublicKey;
use groundswell_common::{Fleet, HostId, OperatorName, Timestamp};
use groundswell_net::{Peer, PeerRole};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm,
};
use time::OffsetDateTime;

/// Days that an agent's certificate is valid; agents renew it themselves.
pub const AGENT_DAYS: i64 = 30;
/// Days that an operator's certificate is valid.
pub const OPERATOR_DAYS: i64 = 365;
/// Days that the coordinator's own certificate is valid; made anew at each start, and then only.
pub const SERVER_DAYS: i64 = 730;
/// Days that the authority itself is valid.
const AUTHORITY_DAYS: i64 = 3_650;
/// Seconds by which a certificate is backdated: for whoever has a clock that is behind, and for certificates that were
/// made while the coordinator's clock was ahead. That one does not count yet keeps nobody out who has a key.
const BACKDATE_SECS: i64 = 365 * 86_400;

/// Why no certificate can be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The certificate library refuses.
    #[error("make a certificate")]
    Make(#[source] rcgen::Error),
    /// The authority's key file is no key.
    #[error("read the authority's key: want an Ed25519 key in PKCS#8 PEM form")]
    Key(#[source] rcgen::Error),
    /// A time that no certificate can carry.
    #[error("make a certificate: the clock is far off; set it")]
    Time,
    /// No random bytes for a serial number.
    #[error("make a certificate: no random bytes from the system")]
    Random(#[source] getrandom::Error),
}

/// The authority with its key.
#[derive(Debug)]
pub struct Authority {
    fleet: Fleet,
    issuer: Issuer<'static, KeyPair>,
}

/// A new authority: its certificate as PEM and DER, and its key.
#[derive(Debug)]
pub struct NewAuthority {
    /// The certificate, PEM.
    pub pem: String,
    /// The certificate, DER.
    pub der: Vec<u8>,
}

struct Ed25519Key([u8; 32]);

impl PublicKeyData for Ed25519Key {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl Authority {
    /// The authority of `fleet` with the key in `key_pem`.
    ///
    /// # Errors
    /// [`CaError::Key`].
    pub fn load(fleet: &Fleet, key_pem: &str) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(key_pem).map_err(CaError::Key)?;
        let issuer = Issuer::new(authority_params(fleet), key);
        Ok(Self { fleet: fleet.clone(), issuer })
    }

    /// The authority's own certificate, new.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn self_signed(&self, now: Timestamp) -> Result<NewAuthority, CaError> {
        let mut params = authority_params(&self.fleet);
        set_validity(&mut params, now, AUTHORITY_DAYS)?;
        let certificate = params.self_signed(self.issuer.key()).map_err(CaError::Make)?;
        Ok(NewAuthority { pem: certificate.pem(), der: certificate.der().to_vec() })
    }

    /// A certificate for an agent's key, PEM.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn agent(&self, key: &PublicKey, now: Timestamp) -> Result<String, CaError> {
        let role = PeerRole::Agent(HostId::of_key(key.as_bytes()));
        self.client(&role, key, (now, AGENT_DAYS))
    }

    /// A certificate for an operator's key, PEM.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn operator(
        &self,
        name: &OperatorName,
        key: &PublicKey,
        now: Timestamp,
    ) -> Result<String, CaError> {
        self.client(&PeerRole::Operator(name.clone()), key, (now, OPERATOR_DAYS))
    }

    /// A certificate and a new key for the coordinator's own listeners, both PEM.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn server(&self, names: &[String], now: Timestamp) -> Result<(String, String), CaError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(CaError::Make)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(CaError::Make)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        finish(&mut params, "coordinator", (now, SERVER_DAYS))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(CaError::Make)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn client(
        &self,
        role: &PeerRole,
        key: &PublicKey,
        validity: (Timestamp, i64),
    ) -> Result<String, CaError> {
        let uri = Peer::uri(&self.fleet, role);
        let mut params = CertificateParams::default();
        let name = uri.as_str().try_into().map_err(CaError::Make)?;
        params.subject_alt_names = vec![SanType::URI(name)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        finish(&mut params, &uri, validity)?;
        let certificate =
            params.signed_by(&Ed25519Key(*key.as_bytes()), &self.issuer).map_err(CaError::Make)?;
        Ok(certificate.pem())
    }
}

/// Fills in what all leaves share.
fn finish(
    params: &mut CertificateParams,
    name: &str,
    (now, days): (Timestamp, i64),
) -> Result<(), CaError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(CaError::Random)?;
    // Positive and without leading zeros, as RFC 5280 wants it.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::ExplicitNoCa;
    set_validity(params, now, days)
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) -> Result<(), CaError> {
    let secs = i64::try_from(now.as_secs()).map_err(|_| CaError::Time)?;
    let time = |secs: i64| OffsetDateTime::from_unix_timestamp(secs).map_err(|_| CaError::Time);
    params.not_before = time(secs - BACKDATE_SECS)?;
    params.not_after = time(secs.saturating_add(days * 86_400))?;
    Ok(())
}

/// What identifies the authority: the same at each load, so that its leaves chain to its certificate.
fn authority_params(fleet: &Fleet) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Groundswell authority of {fleet}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

#[cfg(test)]
mod tests {
    use groundswell_common::trust::SecretKey;
    use groundswell_net::tls;
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn certificates_carry_the_identity_that_they_were_made_for() {
        let key = |seed| SecretKey::from_seed(&Zeroizing::new([seed; 32]));
        let fleet: Fleet = "main".parse().unwrap();
        let authority = Authority::load(&fleet, &key(1).to_pem().unwrap()).unwrap();
        let now = Timestamp::from_secs(1_795_000_000);
        assert!(authority.self_signed(now).unwrap().pem.contains("BEGIN CERTIFICATE"));
        let public = key(2).public();
        let chain = tls::chain(&authority.agent(&public, now).unwrap()).unwrap();
        let peer = Peer::from_certificates(Some(&chain)).unwrap().unwrap();
        let host = HostId::of_key(public.as_bytes());
        assert_eq!((peer.fleet, peer.key), (fleet, public));
        assert_eq!(peer.role, PeerRole::Agent(host));
        let ann: OperatorName = "ann".parse().unwrap();
        let chain = tls::chain(&authority.operator(&ann, &public, now).unwrap()).unwrap();
        let peer = Peer::from_certificates(Some(&chain)).unwrap().unwrap();
        assert_eq!(peer.role, PeerRole::Operator(ann));
    }
}
