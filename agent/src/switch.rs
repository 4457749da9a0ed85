//! The live link of a service and the one before it: relative symlinks, replaced by rename. Knows no
//! process and no signature; takes only what [`crate::stage`] proved.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use groundswell_common::{ReleaseId, ServiceName};

use crate::durable::{Fault, at, remove, sync_parent};
use crate::layout::Layout;
use crate::stage::StagedRelease;

/// Why a live link cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiveError {
    /// The file system failed.
    #[error("read the live link")]
    Fault(#[from] Fault),
    /// Not `releases/DIGEST`.
    #[error("read the live link: {0} names no release; make it releases/DIGEST again")]
    Foreign(PathBuf),
}

/// One step on the way; each is atomic, and the live tree is old or new after any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    /// Makes the new link under a name that nobody reads.
    Prepare { link: PathBuf, target: PathBuf },
    /// Puts it in place of the old one.
    Replace { link: PathBuf },
    /// Puts the link of the release before in place of the live one; needs no room on the disk.
    Promote { before: PathBuf, link: PathBuf },
    /// Takes a link away.
    Remove { link: PathBuf },
    /// Makes the directory's names durable.
    Sync { link: PathBuf },
}

impl Op {
    fn run(&self) -> Result<(), Fault> {
        match self {
            Self::Prepare { link, target } => {
                let new = beside(link);
                remove(&new)?;
                std::os::unix::fs::symlink(target, &new).map_err(at("link", &new))
            }
            Self::Replace { link } => fs::rename(beside(link), link).map_err(at("replace", link)),
            Self::Promote { before, link } => fs::rename(before, link).map_err(at("replace", link)),
            Self::Remove { link } => remove(link),
            Self::Sync { link } => sync_parent(link),
        }
    }
}

fn beside(link: &std::path::Path) -> PathBuf {
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    link.with_file_name(format!(".{name}.new"))
}

fn set(link: PathBuf, release: Option<&ReleaseId>) -> Vec<Op> {
    match release {
        Some(release) => {
            let target = PathBuf::from("releases").join(release.to_string());
            vec![
                Op::Prepare { link: link.clone(), target },
                Op::Replace { link: link.clone() },
                Op::Sync { link },
            ]
        }
        None => vec![Op::Remove { link: link.clone() }, Op::Sync { link }],
    }
}

/// Points the live link at a release that is on disk.
///
/// # Errors
/// [`Fault`]; the live link is as it was.
pub(crate) fn point(
    layout: &Layout,
    service: &ServiceName,
    release: &ReleaseId,
) -> Result<(), Fault> {
    set(layout.current(service), Some(release)).iter().try_for_each(Op::run)
}

/// The release that `current` names; `None` when nothing is live.
pub(crate) fn live(layout: &Layout, service: &ServiceName) -> Result<Option<ReleaseId>, LiveError> {
    named(&layout.current(service))
}

/// The release that `previous` names; `None` where a revert has nothing to put back.
pub(crate) fn before(
    layout: &Layout,
    service: &ServiceName,
) -> Result<Option<ReleaseId>, LiveError> {
    named(&layout.previous(service))
}

fn named(link: &Path) -> Result<Option<ReleaseId>, LiveError> {
    let target = match fs::read_link(link) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("read", link)(error).into()),
    };
    let name = target.strip_prefix("releases").ok().and_then(|name| name.to_str());
    match name.and_then(|name| name.parse().ok()) {
        Some(release) => Ok(Some(release)),
        None => Err(LiveError::Foreign(target)),
    }
}

/// What makes a release live: all that can be done beforehand, the one rename, and what makes it durable.
struct Activation {
    before: Vec<Op>,
    replace: Op,
    sync: Op,
}

fn activation(
    layout: &Layout,
    service: &ServiceName,
    running: Option<&ReleaseId>,
    staged: &ReleaseId,
) -> Activation {
    let link = layout.current(service);
    let mut before = match running {
        Some(running) => set(layout.previous(service), Some(running)),
        None => Vec::new(),
    };
    let target = PathBuf::from("releases").join(staged.to_string());
    before.push(Op::Prepare { link: link.clone(), target });
    Activation { before, replace: Op::Replace { link: link.clone() }, sync: Op::Sync { link } }
}

/// What became of a staged release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// It is live.
    Done,
    /// The time for it was over: what was live is live.
    Late,
}

/// Makes a staged release live; `running` becomes the previous one. Whether it is `in_time` is asked right
/// before the one rename and right after it.
///
/// # Errors
/// [`Fault`]; the live link is the old one, unless it could not be put back either.
pub(crate) fn activate(
    layout: &Layout,
    staged: &StagedRelease,
    running: Option<&ReleaseId>,
    in_time: &dyn Fn() -> bool,
) -> Result<Replaced, Fault> {
    replace(layout, (staged.service(), &staged.known().id), running, in_time)
}

fn replace(
    layout: &Layout,
    (service, release): (&ServiceName, &ReleaseId),
    running: Option<&ReleaseId>,
    in_time: &dyn Fn() -> bool,
) -> Result<Replaced, Fault> {
    // What cannot be read is no way back.
    let previous = before(layout, service).ok().flatten();
    let ops = activation(layout, service, running, release);
    let tried = ops.run(in_time);
    if matches!(tried, Ok(Replaced::Done)) {
        return tried;
    }
    let is_new = live(layout, service).is_ok_and(|live| live.as_ref() == Some(release));
    let undone = match is_new {
        true => put_back(layout, service, (running, previous.as_ref())),
        false => set(layout.previous(service), previous.as_ref()).iter().try_for_each(Op::run),
    };
    tried.and_then(|late| undone.map(|()| late))
}

/// Makes the links what they were before an activation.
///
/// # Errors
/// [`Fault`]; either link may be as the activation left it.
pub(crate) fn put_back(
    layout: &Layout,
    service: &ServiceName,
    (running, previous): (Option<&ReleaseId>, Option<&ReleaseId>),
) -> Result<(), Fault> {
    let links = [(layout.current(service), running), (layout.previous(service), previous)];
    links.into_iter().flat_map(|(link, to)| set(link, to)).try_for_each(|op| op.run())
}

impl Activation {
    fn run(&self, in_time: &dyn Fn() -> bool) -> Result<Replaced, Fault> {
        self.before.iter().try_for_each(Op::run)?;
        if !in_time() {
            return Ok(Replaced::Late);
        }
        self.replace.run()?;
        if !in_time() {
            return Ok(Replaced::Late);
        }
        self.sync.run().map(|()| Replaced::Done)
    }
}

/// Makes a release that was live before live again, or nothing at all.
///
/// # Errors
/// [`Fault`]; the live link is the old one, or the new one whose name may not be durable yet.
pub(crate) fn restore(
    layout: &Layout,
    service: &ServiceName,
    to: Option<&ReleaseId>,
) -> Result<(), Fault> {
    let (link, before) = (layout.current(service), layout.previous(service));
    let names = |link: &Path| to.is_some() && named(link).is_ok_and(|named| named.as_ref() == to);
    let mut ops = if names(&link) {
        Vec::new()
    } else if names(&before) {
        vec![Op::Promote { before, link: link.clone() }, Op::Sync { link }]
    } else {
        set(link, to)
    };
    ops.extend(set(layout.previous(service), None));
    ops.iter().try_for_each(Op::run)
}

#[cfg(test)]
mod tests {
    use groundswell_common::Digest;

    use super::*;

    fn id(name: &str) -> ReleaseId {
        ReleaseId::from_digest(Digest::of(name.as_bytes()))
    }

    #[test]
    fn after_each_operation_the_live_tree_is_old_or_new() {
        for stop in 0..=7 {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::new(dir.path());
            let service: ServiceName = "shop".parse().unwrap();
            fs::create_dir_all(layout.releases(&service)).unwrap();
            let (old, new) = (id("old"), id("new"));
            let all = |parts: Activation| [parts.before, vec![parts.replace, parts.sync]].concat();
            let first = all(activation(&layout, &service, None, &old));
            first.iter().try_for_each(Op::run).unwrap();
            let ops = all(activation(&layout, &service, Some(&old), &new));
            assert_eq!(ops.len(), 6);
            ops.iter().take(stop).try_for_each(Op::run).unwrap();
            let want = if stop >= 5 { new } else { old };
            assert_eq!(live(&layout, &service).unwrap(), Some(want), "stopped after {stop}");
            // Whatever a kill left behind, the whole sequence works again.
            ops.iter().try_for_each(Op::run).unwrap();
            assert_eq!(live(&layout, &service).unwrap(), Some(new));
            restore(&layout, &service, Some(&old)).unwrap();
            assert_eq!(live(&layout, &service).unwrap(), Some(old));
            assert!(layout.previous(&service).symlink_metadata().is_err());
            restore(&layout, &service, None).unwrap();
            assert_eq!(live(&layout, &service).unwrap(), None);
        }
    }

    #[test]
    fn a_permit_that_runs_out_at_the_rename_leaves_everything_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let service: ServiceName = "shop".parse().unwrap();
        fs::create_dir_all(layout.releases(&service)).unwrap();
        let (older, old, new) = (id("older"), id("old"), id("new"));
        let at = |release, running, looks: &std::cell::Cell<u32>| {
            let in_time = || {
                looks.set(looks.get().saturating_sub(1));
                looks.get() > 0
            };
            replace(&layout, (&service, release), running, &in_time).unwrap()
        };
        for running in [None, Some(&older)] {
            let release = if running.is_some() { &old } else { &older };
            assert_eq!(at(release, running, &std::cell::Cell::new(9)), Replaced::Done);
        }
        // Before the rename, and right after it: the link was the new one for a moment.
        for looks in [1, 2] {
            assert_eq!(at(&new, Some(&old), &std::cell::Cell::new(looks)), Replaced::Late);
            assert_eq!(live(&layout, &service).unwrap(), Some(old));
            assert_eq!(before(&layout, &service).unwrap(), Some(older));
        }
        assert_eq!(at(&new, Some(&old), &std::cell::Cell::new(3)), Replaced::Done);
        assert_eq!(live(&layout, &service).unwrap(), Some(new));
    }

    #[test]
    fn a_link_to_anything_else_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let service: ServiceName = "shop".parse().unwrap();
        fs::create_dir_all(layout.service(&service)).unwrap();
        std::os::unix::fs::symlink("/etc", layout.current(&service)).unwrap();
        assert!(matches!(live(&layout, &service), Err(LiveError::Foreign(_))));
    }
}
