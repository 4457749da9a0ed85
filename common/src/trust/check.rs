//! What a host checks, in the order of docs/trust.md. Each refusal has a code; none has a partial effect.

use std::collections::BTreeSet;

use super::approval::{Approval, Purpose};
use super::envelope::{Envelope, Signature};
use super::root::{Role, RoleKeys, Root};
use super::told::Told;
use super::verify::{TrustError, Verified, verify, verify_payload};
use crate::digest::Digest;
use crate::directive::{Directive, Permit};
use crate::limits::APPROVALS_MAX;
use crate::manifest::Manifest;
use crate::name::{Environment, HostId, ReleaseId, ServiceName};
use crate::time::Timestamp;

/// Who this host is and where it stands, from its own root-owned configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPin {
    /// The hash of its key.
    pub host: HostId,
    /// Pinned locally; the network cannot change it.
    pub environment: Environment,
}

/// The newest directive that the host accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectiveFloor {
    /// Its generation; 0 before the first.
    pub generation: u64,
    /// The digest of its payload.
    pub digest: Option<Digest>,
    /// The root that it was made under: under a newer one the same wishes are other bytes.
    pub root_version: u64,
}

/// The question that a permit must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitAsk {
    /// The host that asked.
    pub host: HostId,
    /// For which service.
    pub service: ServiceName,
    /// For which release.
    pub release: ReleaseId,
    /// Under which directive.
    pub generation: u64,
    /// Digest of the nonce sent.
    pub nonce: Digest,
}

/// Why a host refuses what it was sent. [`Refusal::code`] is what the report carries.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Size, kind, signature or form.
    #[error("trust the document")]
    Trust(#[source] TrustError),
    /// A directive for another host.
    #[error("accept the directive: it is for host {0}, not for this one")]
    WrongHost(HostId),
    /// A directive for another environment.
    #[error("accept the directive: it is for environment {got}; this host is pinned to {pinned}")]
    WrongEnvironment {
        /// What came.
        got: Environment,
        /// What the host's configuration says.
        pinned: Environment,
    },
    /// A directive older than one accepted before.
    #[error("accept the directive: generation {got} is older than {have}")]
    OldGeneration {
        /// What came.
        got: u64,
        /// What was accepted before.
        have: u64,
    },
    /// Two directives of one generation that differ: the coordinator lies or was restored from a backup.
    #[error("accept the directive: two different ones of generation {0}; a person must look")]
    Equivocation(u64),
    /// A directive signed under a root older than the host's.
    #[error("accept the directive: made under root {got}, this host knows root {have}")]
    OldRoot {
        /// What came.
        got: u64,
        /// What the host trusts.
        have: u64,
    },
    /// A manifest with another digest than the one assigned.
    #[error("accept the release: the manifest is not {0}; fetch it again")]
    WrongRelease(ReleaseId),
    /// A manifest of another service.
    #[error("accept the release: it is of service {0}")]
    WrongService(ServiceName),
    /// A manifest for another platform.
    #[error(
        "accept the release: it is for {0}, which this host is not; 'swell rollout exclude' leaves it out"
    )]
    WrongPlatform(String),
    /// A release below the floor.
    #[error("accept the release: seq {seq} is below the floor {floor}; publish a newer release")]
    BelowFloor {
        /// The release's seq.
        seq: u64,
        /// The floor kept by the host.
        floor: u64,
    },
    /// A step down without a revert.
    #[error(
        "accept the release: seq {seq} is below the running {running}; only a revert goes down"
    )]
    StepDown {
        /// The release's seq.
        seq: u64,
        /// The running release's seq.
        running: u64,
    },
    /// Too few approvals.
    #[error(
        "accept the release: {good} of {needed} approvals for it in this environment; 'swell approve' gives one, at \
         a wave that has gate = \"approval\" in the policy"
    )]
    Approvals {
        /// Distinct approvers.
        good: u32,
        /// What the root asks for.
        needed: u32,
    },
    /// A permit that answers another question.
    #[error("use the permit: it answers another question; ask again")]
    WrongPermit,
    /// The root's time is over.
    #[error("switch")]
    RootExpired(#[source] TrustError),
}

impl Refusal {
    /// The code of docs/trust.md, stable over versions.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trust(_) => "untrusted",
            Self::WrongHost(_) => "wrong_host",
            Self::WrongEnvironment { .. } => "wrong_environment",
            Self::OldGeneration { .. } => "old_generation",
            Self::Equivocation(_) => "equivocation",
            Self::OldRoot { .. } => "old_root",
            Self::WrongRelease(_) => "wrong_release",
            Self::WrongService(_) => "wrong_service",
            Self::WrongPlatform(_) => "wrong_platform",
            Self::BelowFloor { .. } => "below_floor",
            Self::StepDown { .. } => "step_down",
            Self::Approvals { .. } => "approvals",
            Self::WrongPermit => "wrong_permit",
            Self::RootExpired(_) => "root_expired",
        }
    }
}

/// Check 3: the director's directive, for me, here, and not older than what I have.
///
/// # Errors
/// The first rule broken, as a [`Refusal`].
pub fn check_directive(
    envelope: &Envelope,
    root: &Verified<Root>,
    pin: &HostPin,
    floor: &DirectiveFloor,
) -> Result<Verified<Directive>, Refusal> {
    let keys = role_or_nobody(root, Role::Director, None, Some(&pin.environment));
    let directive: Verified<Directive> = verify(envelope, &keys).map_err(Refusal::Trust)?;
    if directive.host != pin.host {
        return Err(Refusal::WrongHost(directive.host));
    }
    if directive.environment != pin.environment {
        let (got, pinned) = (directive.environment.clone(), pin.environment.clone());
        return Err(Refusal::WrongEnvironment { got, pinned });
    }
    let (got, have) = (directive.generation, floor.generation);
    if got < have {
        return Err(Refusal::OldGeneration { got, have });
    }
    let under_the_same = directive.root_version <= floor.root_version;
    let other = floor.digest.is_some_and(|digest| digest != directive.digest());
    if got == have && other && under_the_same {
        return Err(Refusal::Equivocation(got));
    }
    if directive.root_version < root.version {
        return Err(Refusal::OldRoot { got: directive.root_version, have: root.version });
    }
    Ok(directive)
}

/// What the director tells this host of itself and of the way to the coordinator, unless it is older than what it
/// was told before.
///
/// # Errors
/// The first rule broken, as a [`Refusal`].
pub fn check_told(
    envelope: &Envelope,
    root: &Verified<Root>,
    pin: &HostPin,
    have: u64,
) -> Result<Verified<Told>, Refusal> {
    let keys = role_or_nobody(root, Role::Director, None, Some(&pin.environment));
    let told: Verified<Told> = verify(envelope, &keys).map_err(Refusal::Trust)?;
    if told.host != pin.host {
        return Err(Refusal::WrongHost(told.host));
    }
    if told.number < have {
        return Err(Refusal::OldGeneration { got: told.number, have });
    }
    Ok(told)
}

/// Check 4: the release that was assigned, by the release role (and the builders, where the root asks).
///
/// # Errors
/// The first rule broken, as a [`Refusal`].
pub fn check_release(
    payload: &[u8],
    signatures: &[Signature],
    want: &ReleaseId,
    (service, environment): (&ServiceName, &Environment),
    root: &Verified<Root>,
) -> Result<Verified<Manifest>, Refusal> {
    if Digest::of(payload) != *want.digest() {
        return Err(Refusal::WrongRelease(*want));
    }
    let release = role_or_nobody(root, Role::Release, Some(service), Some(environment));
    let builder = root.role(Role::Builder, Some(service), Some(environment));
    let roles: Vec<&RoleKeys> = std::iter::once(&release).chain(&builder).collect();
    let manifest: Verified<Manifest> =
        verify_payload(payload, signatures, &roles).map_err(Refusal::Trust)?;
    if manifest.service != *service {
        return Err(Refusal::WrongService(manifest.service.clone()));
    }
    let here = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    if manifest.platform != "any" && manifest.platform != here {
        return Err(Refusal::WrongPlatform(manifest.platform.clone()));
    }
    Ok(manifest)
}

/// Check 5: enough distinct approvers of this environment, for exactly this release, within its time.
/// Where the root names no approvers none are needed.
///
/// # Errors
/// [`Refusal::Approvals`].
pub fn check_approvals(
    approvals: &[Envelope],
    release: &ReleaseId,
    (service, environment): (&ServiceName, &Environment),
    root: &Verified<Root>,
    now: Timestamp,
) -> Result<(), Refusal> {
    let Some(role) = root.role(Role::Approver, Some(service), Some(environment)) else {
        return Ok(());
    };
    let one = RoleKeys { keys: role.keys.clone(), threshold: 1 };
    let mut approvers = BTreeSet::new();
    for envelope in approvals.iter().take(APPROVALS_MAX) {
        let Ok(approval) = verify::<Approval>(envelope, &one) else { continue };
        let fits = approval.release == *release
            && approval.service == *service
            && approval.environment == *environment
            && approval.purpose == Purpose::Deploy
            && (approval.not_before..=approval.not_after).contains(&now.as_secs());
        if fits {
            approvers.extend(approval.signers().iter().copied());
        }
    }
    let good = u32::try_from(approvers.len()).unwrap_or(u32::MAX);
    if good < role.threshold {
        return Err(Refusal::Approvals { good, needed: role.threshold });
    }
    Ok(())
}

/// Check 7: down only by a revert, and never below the floor.
///
/// # Errors
/// [`Refusal::BelowFloor`] or [`Refusal::StepDown`].
pub fn check_step(
    seq: u64,
    floor: u64,
    running_seq: Option<u64>,
    reverting: bool,
) -> Result<(), Refusal> {
    if seq < floor {
        return Err(Refusal::BelowFloor { seq, floor });
    }
    match running_seq {
        Some(running) if seq < running && !reverting => Err(Refusal::StepDown { seq, running }),
        Some(_) | None => Ok(()),
    }
}

/// Check 9, at the moment of the switch: the permit answers what I asked and the root still stands.
///
/// # Errors
/// [`Refusal::Trust`], [`Refusal::WrongPermit`] or [`Refusal::RootExpired`].
pub fn check_permit(
    envelope: &Envelope,
    ask: &PermitAsk,
    environment: &Environment,
    root: &Verified<Root>,
    now: Timestamp,
) -> Result<Verified<Permit>, Refusal> {
    let keys = role_or_nobody(root, Role::Director, None, Some(environment));
    let permit: Verified<Permit> = verify(envelope, &keys).map_err(Refusal::Trust)?;
    let answers = permit.host == ask.host
        && permit.service == ask.service
        && permit.release == ask.release
        && permit.generation == ask.generation
        && permit.nonce == ask.nonce;
    if !answers {
        return Err(Refusal::WrongPermit);
    }
    root.unexpired(now).map_err(Refusal::RootExpired)?;
    Ok(permit)
}

/// The keys of a role; a role without an entry is one that nobody can fill.
fn role_or_nobody(
    root: &Root,
    role: Role,
    service: Option<&ServiceName>,
    environment: Option<&Environment>,
) -> RoleKeys {
    root.role(role, service, environment)
        .unwrap_or(RoleKeys { keys: BTreeSet::new(), threshold: u32::MAX })
}
