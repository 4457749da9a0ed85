//! Brings a release to this host's disk: what is lacking on the host is told apart from what is wrong with the
//! release. Nothing that is live is touched.

use std::io::{ErrorKind, Read as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use groundswell_common::condition::{CONDITION_TEXT_MAX_BYTES, Fetched, Held, Lack};
use groundswell_common::limits::MANIFEST_MAX_BYTES;
use groundswell_common::manifest::Manifest;
use groundswell_common::trust::{Refusal, TrustError, Verified, check_step};
use groundswell_common::wire::ReleaseProof;
use groundswell_common::{Digest, ReleaseId, chain};
use groundswell_machine::{Event, Known};

use crate::drift::{self, DriftError};
use crate::durable::Fault;
use crate::fetch::FetchError;
use crate::layout::Layout;
use crate::own;
use crate::ports::Lacking;
use crate::stage::{self, StageError, StagedRelease, Unpack};
use crate::text::{failure, head};
use crate::trustee::Trustee;
use crate::units::{ShippedError, UnitError};
use crate::work::Job;

/// Inodes beside a release's own files that staging and the agent's state may use.
const INODES_BESIDE: usize = 64;

/// What is free where releases are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) bytes: u64,
    /// `u64::MAX` where the file system has no bound.
    pub(crate) inodes: u64,
}

/// Measures what staging may use.
pub(crate) fn free(layout: &Layout) -> Result<Free, Fault> {
    let stat = rustix::fs::statvfs(layout.state())
        .map_err(|error| crate::durable::at("measure", layout.state())(error.into()))?;
    let inodes = if stat.f_files == 0 { u64::MAX } else { stat.f_favail };
    Ok(Free { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), inodes })
}

/// That nothing more fits on the disk of the agent's state, and what to do.
pub(crate) fn full(layout: &Layout) -> Option<String> {
    is_full(free(layout).ok()?, &layout.state().display().to_string())
}

fn is_full(free: Free, dir: &str) -> Option<String> {
    match free {
        Free { bytes: 0, .. } => {
            Some(format!("no byte is free on the disk of {dir}; make room ('df {dir}')"))
        }
        Free { bytes, inodes: 0 } => Some(format!(
            "no inode is free on the disk of {dir}, though {bytes} bytes are; remove files ('df --inodes {dir}')"
        )),
        Free { .. } => None,
    }
}

/// What the job of a service is about, for reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Mutex<About>>);

#[derive(Debug, Default)]
struct About {
    /// The blob that is on its way, and its size.
    blob: Option<(Digest, u64)>,
    /// What on the disk it waits for.
    disk: Option<String>,
}

impl Progress {
    fn about(&self) -> MutexGuard<'_, About> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, blob: Option<(Digest, u64)>) {
        self.about().blob = blob;
    }

    /// It waits for the disk, with why; or does so no more.
    pub(crate) fn wait_for_the_disk(&self, why: Option<String>) {
        self.about().disk = why;
    }

    /// Why it waits for the disk.
    pub(crate) fn disk(&self) -> Option<String> {
        self.about().disk.clone()
    }

    /// How far it has come, by what lies in the spool, whoever put it there.
    pub(crate) fn look(&self, layout: &Layout) -> Option<Fetched> {
        let (digest, of) = self.about().blob?;
        let found = std::fs::symlink_metadata(layout.part(&digest));
        Some(Fetched { bytes: found.map_or(0, |found| found.len()).min(of), of })
    }
}

/// Why a release cannot be brought here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BringError {
    #[error("the directive brought no proof of the release")]
    NoProof,
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Shipped(#[from] ShippedError),
    #[error(transparent)]
    Drift(#[from] DriftError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("{need} inodes are needed at most and {free} are free; remove files")]
    NoInodes { need: u64, free: u64 },
    #[error("{}", .0.why)]
    Lacking(Lacking),
    #[error(transparent)]
    Units(UnitError),
    #[error("{need_bytes} bytes are needed and {free_bytes} are free; make room")]
    Full { need_bytes: u64, free_bytes: u64 },
    #[error("the unpacking task was lost")]
    Lost,
}

impl BringError {
    /// What the host lacks; `None` where it is the release that this host can never run.
    fn lack(&self) -> Option<Lack> {
        match self {
            Self::Lacking(lacking) => Some(lacking.lack),
            Self::NoProof | Self::Lost => Some(Lack::Bytes),
            Self::Fetch(FetchError::Fault(fault)) | Self::Fault(fault) => Some(of_disk(fault)),
            Self::Fetch(_) => Some(Lack::Bytes),
            Self::Stage(error) => of_stage(error),
            Self::Shipped(_) => None,
            Self::Drift(_) => Some(Lack::Drift),
            Self::Full { .. } => Some(Lack::Room),
            Self::NoInodes { .. } => Some(Lack::Inodes),
            Self::Units(_) => Some(Lack::Bus),
        }
    }
}

fn of_disk(fault: &Fault) -> Lack {
    let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
    if full.contains(&fault.source.kind()) { Lack::Room } else { Lack::Bytes }
}

/// A release whose bytes are not what its manifest says, or a cache on the way whose bytes are not: nobody can tell.
fn of_stage(error: &StageError) -> Option<Lack> {
    match error {
        StageError::Refused(refusal) => Some(of_refusal(refusal)),
        StageError::Bundle(_)
        | StageError::Content(_)
        | StageError::Cancelled
        | StageError::Damaged(_) => Some(Lack::Bytes),
        StageError::Fault(fault) => Some(of_disk(fault)),
        StageError::Unit { .. } | StageError::UnitByRoot { .. } => Some(Lack::UnitNotAllowed),
        StageError::Switch(_) | StageError::Own(_) | StageError::Nothing => None,
    }
}

/// What a refusal lacks.
pub(crate) fn of_refusal(refusal: &Refusal) -> Lack {
    match refusal {
        // Fields of a manifest that this agent does not know.
        Refusal::Trust(TrustError::Json { .. } | TrustError::Invalid { .. }) => Lack::Agent,
        Refusal::Trust(_) | Refusal::RootExpired(_) | Refusal::OldRoot { .. } => Lack::Root,
        Refusal::Approvals { .. } => Lack::Approval,
        Refusal::WrongPlatform(_) => Lack::Platform,
        Refusal::BelowFloor { .. } | Refusal::StepDown { .. } => Lack::StepDown,
        Refusal::WrongRelease(_)
        | Refusal::WrongService(_)
        | Refusal::WrongHost(_)
        | Refusal::WrongEnvironment { .. }
        | Refusal::OldGeneration { .. }
        | Refusal::Equivocation(_)
        | Refusal::WrongPermit => Lack::Bytes,
    }
}

/// A release to bring here.
pub(crate) struct Bring {
    pub(crate) release: ReleaseId,
    pub(crate) proof: Option<ReleaseProof>,
    pub(crate) trustee: Trustee,
    pub(crate) floor: u64,
    pub(crate) running: Option<Known>,
    /// Whether the directive orders a step down.
    pub(crate) back: bool,
}

impl Job {
    /// Fetches, verifies and unpacks.
    pub(crate) async fn stage(self, bring: Bring) -> Event {
        let (release, revertible) = (bring.release, bring.running.clone().filter(|_| !bring.back));
        let staged = match self.bring(bring).await {
            Ok(known) => {
                self.can_go_back(revertible.filter(|_| !known.one_way)).await.map(|()| known)
            }
            Err(error) => Err(error),
        };
        self.progress.set(None);
        match staged {
            Ok(known) => Event::Staged(known),
            Err(error) => self.not_staged(release, &error),
        }
    }

    /// Most of what keeps a release from being staged is of the host, and holds it; what is left is the release's.
    pub(crate) fn not_staged(&self, release: ReleaseId, error: &BringError) -> Event {
        let text = chain(error);
        tracing::warn!(service = %self.service, release = %release, error = text,
            "the release cannot be staged");
        match error.lack() {
            Some(lack) => {
                let why = head(&text, CONDITION_TEXT_MAX_BYTES).to_owned();
                Event::StageHeld(Held { release, lack, why })
            }
            None => Event::StageFailed { release, why: failure(&text, "") },
        }
    }

    async fn bring(&self, bring: Bring) -> Result<Known, BringError> {
        let proof = bring.proof.clone().ok_or(BringError::NoProof)?;
        let layout = &self.outside.layout;
        match stage::open(layout, &self.service, &proof, &bring.trustee) {
            // What goes back was here for long: only what is as released counts as brought.
            Ok(Some(_)) if bring.back && self.changed(&proof.release).await.is_some() => {}
            Ok(Some(staged)) => {
                self.admit(staged.manifest(), &bring)?;
                self.admit_units(&staged).await?;
                stage::save_proof(layout, &self.service, &proof)?;
                return Ok(staged.known().clone());
            }
            Ok(None) => {}
            Err(StageError::Damaged(_)) => {
                crate::durable::remove_tree(&layout.release(&self.service, &proof.release))?;
            }
            Err(error) => return Err(error.into()),
        }
        // A disk that is full already cannot even take what says how much is needed.
        self.make_room(0, 0)?;
        let payload = self.fetch_manifest(proof.release.digest()).await?;
        let manifest = stage::verify_manifest(&payload, &proof, &self.service, &bring.trustee)?;
        self.admit(&manifest, &bring)?;
        let blob = manifest.full_blob().clone();
        // Directories of the tree are at most as many as its entries.
        let entries = 2 * (manifest.files.len() + manifest.links.len());
        self.make_room(blob.size.saturating_add(manifest.unpacked_bytes()), entries)?;
        self.progress.set(Some((blob.sha256, blob.size)));
        let depot = &self.outside.depot;
        let bundle = depot.fetch(&blob.sha256, blob.size, &self.cancel).await?;
        let staged = self.unpack(payload, proof, manifest, bundle).await;
        // A bundle whose content is not what the manifest lists is of no use a second time either.
        depot.discard(&blob.sha256);
        let staged = staged?;
        self.admit_units(&staged).await?;
        Ok(staged.known().clone())
    }

    /// Whether the units that the tree brings may be used, and those that the host has could be started.
    async fn admit_units(&self, staged: &StagedRelease) -> Result<(), BringError> {
        let (id, manifest) = (staged.known().id, staged.manifest());
        let tree = self.outside.layout.release(&self.service, &id).join("tree");
        self.outside.units.takes(&self.service, &tree, &manifest.units)?;
        self.could_start((&id, manifest)).await
    }

    /// Asks the supervisor whether it could start the release.
    pub(crate) async fn could_start(&self, of: (&ReleaseId, &Manifest)) -> Result<(), BringError> {
        let spec = self.spec(of);
        match self.outside.units.lacks(&spec).await.map_err(BringError::Units)? {
            Some(lacking) => Err(BringError::Lacking(lacking)),
            None => Ok(()),
        }
    }

    /// A release is staged where what it would go back to is whole on the disk.
    async fn can_go_back(&self, running: Option<Known>) -> Result<(), BringError> {
        let allowed = self.outside.settings.now().allow_drift.contains(&self.service);
        let Some(running) = running.filter(|_| !allowed) else { return Ok(()) };
        let job = self.clone();
        let look = move || {
            let cancelled = || job.cancel.is_cancelled();
            drift::check(&job.outside.layout, &job.service, &running.id, &cancelled)
        };
        let looked = tokio::task::spawn_blocking(look).await.map_err(|_| BringError::Lost)?;
        Ok(looked?)
    }

    async fn fetch_manifest(&self, digest: &Digest) -> Result<Vec<u8>, BringError> {
        let limit = u64::try_from(MANIFEST_MAX_BYTES).unwrap_or(u64::MAX);
        let file = self.outside.depot.fetch(digest, limit, &self.cancel).await?;
        let mut payload = Vec::new();
        // Whoever wrote the file may still write: what counts is what is read, and that is bounded.
        let read = file.take(limit).read_to_end(&mut payload);
        read.map_err(crate::durable::at("read", &self.outside.layout.part(digest)))?;
        self.outside.depot.discard(digest);
        Ok(payload)
    }

    /// Checks 4, 7 and the host's own say on units.
    fn admit(&self, manifest: &Manifest, bring: &Bring) -> Result<(), StageError> {
        let running_seq = bring.running.as_ref().map(|known| known.seq);
        check_step(manifest.seq, bring.floor, running_seq, bring.back)
            .map_err(StageError::Refused)?;
        if !self.outside.units.switches(manifest.switch) {
            return Err(StageError::Switch(manifest.switch));
        }
        let runs = |manifest: &Manifest| !manifest.units.is_empty() || !manifest.command.is_empty();
        let ran = bring.running.as_ref().and_then(|known| self.reopened(&known.id));
        let stops = !runs(manifest) && ran.is_some_and(|(_, ran)| runs(&ran));
        if stops || !self.outside.units.runs(manifest) {
            return Err(StageError::Nothing);
        }
        if own::is_own(&self.service) {
            own::fits(manifest, &self.outside.layout).map_err(StageError::Own)?;
        }
        let allowed_by_root = bring.trustee.root.units.iter().find(|e| e.service == self.service);
        let beyond_root = allowed_by_root.and_then(|entry| {
            manifest.units.iter().find(|unit| !entry.units.contains(unit)).cloned()
        });
        let here = self.outside.units.refused_unit(&self.service, &manifest.units);
        let service = self.service.clone();
        match (beyond_root, here) {
            (Some(unit), _) => Err(StageError::UnitByRoot { unit, service }),
            (None, Some(unit)) => Err(StageError::Unit { unit, service }),
            (None, None) => Ok(()),
        }
    }

    fn make_room(&self, bytes: u64, inodes: usize) -> Result<(), BringError> {
        let need_bytes = bytes.saturating_add(self.outside.settings.now().keep_free_bytes);
        let free = free(&self.outside.layout)?;
        if free.bytes < need_bytes {
            return Err(BringError::Full { need_bytes, free_bytes: free.bytes });
        }
        let need = u64::try_from(inodes + INODES_BESIDE).unwrap_or(u64::MAX);
        if free.inodes < need {
            return Err(BringError::NoInodes { need, free: free.inodes });
        }
        Ok(())
    }

    async fn unpack(
        &self,
        payload: Vec<u8>,
        proof: ReleaseProof,
        manifest: Verified<Manifest>,
        bundle: std::fs::File,
    ) -> Result<StagedRelease, BringError> {
        let job = self.clone();
        let work = move || {
            stage::unpack(Unpack {
                layout: &job.outside.layout,
                service: &job.service,
                payload: &payload,
                proof: &proof,
                manifest,
                bundle,
                cancelled: &|| job.cancel.is_cancelled(),
            })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| BringError::Lost)?.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_inodes_is_told_from_one_without_bytes() {
        let full = |bytes, inodes| is_full(Free { bytes, inodes }, "/srv/state");
        assert_eq!(full(1, 1), None);
        assert_eq!(full(1, u64::MAX), None, "a file system without such a bound");
        assert!(full(0, 9).is_some_and(|said| said.starts_with("no byte is free")));
        let said = full(850, 0).unwrap_or_default();
        let want = "no inode is free on the disk of /srv/state, though 850 bytes";
        assert!(said.starts_with(want), "{said}");
    }
}
