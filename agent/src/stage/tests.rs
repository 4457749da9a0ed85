use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use groundswell_common::bundle::BundleError;
use groundswell_common::manifest::ManifestError;
use groundswell_common::trust::TrustError;

use super::*;
use crate::fixture::{self, Made, file, pack, release, shop};

const FILES: &[(&str, &[u8])] =
    &[("bin/shop", b"#!/bin/sh\n"), ("etc/a", b"same"), ("etc/b", b"same"), ("etc/deep/er/c", b"")];

/// One of the two ways of opening below a directory.
type Open = fn(&Builder, &str, OFlags, RawMode) -> Result<OwnedFd, Errno>;

/// A name, a bundle, and which error it must give.
type Case = (&'static str, Vec<u8>, fn(&StageError) -> bool);

struct Place {
    _dir: tempfile::TempDir,
    layout: Layout,
    trustee: Trustee,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let trustee = fixture::trustee(&fixture::root(1, |_| {}));
    Place { _dir: dir, layout, trustee }
}

impl Place {
    fn stage(&self, made: &Made, bundle: &[u8]) -> Result<StagedRelease, StageError> {
        self.stage_while(made, bundle, &|| false)
    }

    fn stage_while(
        &self,
        made: &Made,
        bundle: &[u8],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<StagedRelease, StageError> {
        let manifest = verify_manifest(&made.payload, &made.proof, &shop(), &self.trustee)?;
        unpack(Unpack {
            layout: &self.layout,
            service: &shop(),
            payload: &made.payload,
            proof: &made.proof,
            manifest,
            bundle: file(bundle),
            cancelled,
        })
    }

    /// What lies under `releases/`.
    fn left(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.layout.releases(&shop())) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn a_release_is_unpacked_exactly_and_opens_again() {
    let place = place();
    let made = release(1, FILES, &[("bin/link", "shop"), ("etc/up", "../bin/shop")], |_| {});
    let staged = place.stage(&made, &made.bundle).unwrap();
    assert_eq!(staged.known().id, made.id);
    let tree = place.layout.release(&shop(), &made.id).join("tree");
    for (path, content) in FILES {
        assert_eq!(fs::read(tree.join(path)).unwrap(), *content, "{path}");
        let want = if path.starts_with("bin/") { 0o100_755 } else { 0o100_644 };
        assert_eq!(fs::metadata(tree.join(path)).unwrap().permissions().mode(), want, "{path}");
    }
    assert_eq!(fs::metadata(tree.join("etc/deep")).unwrap().permissions().mode(), 0o40_755);
    assert_eq!(fs::read_link(tree.join("etc/up")).unwrap(), Path::new("../bin/shop"));
    let opened = open(&place.layout, &shop(), &made.proof, &place.trustee).unwrap().unwrap();
    assert_eq!(opened.known(), staged.known());
    assert_eq!(reopen(&place.layout, &shop(), &made.id).unwrap(), *staged.manifest());
    assert_eq!(place.left(), [made.id.to_string()]);
}

#[test]
fn zeros_take_no_room_and_every_byte_is_there() {
    use std::os::unix::fs::MetadataExt as _;
    let place = place();
    let mut image = vec![0; 5_000_000];
    image[2_000_000..2_000_003].copy_from_slice(b"end");
    let files: [(&str, &[u8]); 3] = [("a", b"odd"), ("disk.copy", &image), ("disk.img", &image)];
    let made = release(1, &files, &[], |_| {});
    place.stage(&made, &made.bundle).unwrap();
    let tree = place.layout.release(&shop(), &made.id).join("tree");
    for name in ["disk.img", "disk.copy"] {
        assert_eq!(fs::read(tree.join(name)).unwrap(), image, "{name}");
        let room = fs::metadata(tree.join(name)).unwrap().blocks() * 512;
        assert!(room < 400_000, "{name} takes {room} bytes of the disk");
    }
}

#[test]
fn each_hostile_bundle_is_refused_and_nothing_is_left() {
    let place = place();
    let made = release(1, FILES, &[], |_| {});
    let good = &made.bundle;
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    let mut longer = good.clone();
    longer.push(0);
    let swapped = pack(&[b"#!/bin/xx\n", b"same"]);
    let cases: [Case; 8] = [
        ("cut", good[..good.len() - 1].to_vec(), |e| {
            matches!(e, StageError::Bundle(BundleError::Io(_)))
        }),
        ("empty", Vec::new(), |e| matches!(e, StageError::Bundle(BundleError::Io(_)))),
        ("other magic", with(0, b"X"), |e| matches!(e, StageError::Bundle(BundleError::Magic))),
        ("frame count", with(12, &[0xff; 4]), |e| {
            matches!(e, StageError::Bundle(BundleError::Frames(u32::MAX)))
        }),
        ("frame length", with(16, &[0xff; 4]), |e| {
            matches!(e, StageError::Bundle(BundleError::FrameLength { .. }))
        }),
        ("too long", longer, |e| matches!(e, StageError::Bundle(BundleError::Trailing))),
        ("too short", pack(&[b"#!/bin/sh\n"]), |e| {
            matches!(e, StageError::Bundle(BundleError::Short(4)))
        }),
        (
            "other content",
            swapped,
            |e| matches!(e, StageError::Content(path) if path.as_str() == "bin/shop"),
        ),
    ];
    for (name, bundle, fits) in cases {
        let error = place.stage(&made, &bundle).unwrap_err();
        assert!(fits(&error), "{name}: {error:?}");
        assert_eq!(place.left(), Vec::<String>::new(), "{name}");
    }
    place.stage(&made, good).unwrap();
}

#[test]
fn each_hostile_manifest_is_refused_before_anything_is_written() {
    let place = place();
    let link = |path: &str, target: &str| groundswell_common::manifest::LinkEntry {
        path: path.parse().unwrap(),
        target: target.to_owned(),
    };
    let refusal = |made: &Made| {
        let error = place.stage(made, &made.bundle).unwrap_err();
        let StageError::Refused(refusal) = error else { panic!("{error:?}") };
        refusal
    };
    let invalid = |refusal: Refusal| {
        let Refusal::Trust(TrustError::Invalid { source, .. }) = refusal else {
            panic!("{refusal:?}")
        };
        *source.downcast::<ManifestError>().unwrap()
    };
    let out = release(1, FILES, &[], |raw| raw.links.push(link("etc/x", "../../out")));
    assert!(matches!(invalid(refusal(&out)), ManifestError::LinkOut { .. }));
    let through = release(1, FILES, &[], |raw| raw.links.push(link("etc", "bin")));
    assert!(matches!(invalid(refusal(&through)), ManifestError::FileAsParent(_)));
    let twice = release(1, FILES, &[], |raw| raw.files.push(raw.files[0].clone()));
    assert!(matches!(invalid(refusal(&twice)), ManifestError::Order(_)));
    let twins = release(1, &[("A", b""), ("a", b"")], &[], |_| {});
    assert!(matches!(invalid(refusal(&twins)), ManifestError::Twins(..)));
    let tree = release(1, FILES, &[], |raw| raw.tree = Digest::of(b"other"));
    assert_eq!(invalid(refusal(&tree)), ManifestError::Tree);
    let other = release(1, FILES, &[], |raw| raw.service = "bank".parse().unwrap());
    assert_eq!(refusal(&other).code(), "wrong_service");
    let platform = release(1, FILES, &[], |raw| raw.platform = "plan9-mips".to_owned());
    assert_eq!(refusal(&platform).code(), "wrong_platform");
    let mut changed = release(1, FILES, &[], |_| {});
    changed.payload.push(b' ');
    assert_eq!(refusal(&changed).code(), "wrong_release");
    let mut unsigned = release(1, FILES, &[], |_| {});
    unsigned.proof.signatures.clear();
    assert_eq!(refusal(&unsigned).code(), "untrusted");
    let climbing = String::from_utf8(release(1, FILES, &[], |_| {}).payload).unwrap();
    let climbing = climbing.replace("etc/a", "../a");
    assert!(serde_json::from_str::<groundswell_common::manifest::RawManifest>(&climbing).is_err());
    assert_eq!(place.left(), Vec::<String>::new());
}

#[test]
fn cancelled_work_leaves_nothing() {
    let place = place();
    let made = release(1, FILES, &[], |_| {});
    let asked = std::cell::Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let error = place.stage_while(&made, &made.bundle, &cancelled).unwrap_err();
    assert!(matches!(error, StageError::Cancelled), "{error:?}");
    assert_eq!(place.left(), Vec::<String>::new());
}

#[test]
fn a_full_disk_or_a_half_built_directory_does_not_stand_in_the_way() {
    let place = place();
    let made = release(1, FILES, &[], |_| {});
    let half = place.layout.releases(&shop()).join(format!("{}.tmp", made.id));
    fs::create_dir_all(half.join("tree/bin")).unwrap();
    fs::write(half.join("tree/bin/shop"), b"half").unwrap();
    place.stage(&made, &made.bundle).unwrap();
    assert_eq!(place.left(), [made.id.to_string()]);
}

#[test]
fn a_damaged_manifest_on_disk_is_no_staged_release() {
    let place = place();
    let made = release(1, FILES, &[], |_| {});
    place.stage(&made, &made.bundle).unwrap();
    let path = place.layout.release(&shop(), &made.id).join("manifest.json");
    fs::write(&path, b"{}").unwrap();
    let opened = open(&place.layout, &shop(), &made.proof, &place.trustee);
    assert!(matches!(opened, Err(StageError::Refused(Refusal::WrongRelease(_)))));
    let reopened = reopen(&place.layout, &shop(), &made.id);
    assert!(matches!(reopened, Err(StageError::Damaged(_))));
    fs::remove_file(&path).unwrap();
    let opened = open(&place.layout, &shop(), &made.proof, &place.trustee);
    assert!(matches!(opened, Err(StageError::Damaged(_))));
}

#[test]
fn neither_way_of_opening_passes_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("real/deep")).unwrap();
    fs::write(dir.path().join("outside"), b"secret").unwrap();
    std::os::unix::fs::symlink("real", tree.join("link")).unwrap();
    std::os::unix::fs::symlink("../outside", tree.join("file")).unwrap();
    let top = OwnedFd::from(File::open(&tree).unwrap());
    let builder = Builder { top, tree, made: BTreeSet::new() };
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mode = RawMode::from(0o644_u32);
    let ways: [(&str, Open); 2] = [("openat2", Builder::open), ("parts", Builder::open_by_parts)];
    for (name, open) in ways {
        open(&builder, &format!("real/deep/{name}"), create, mode).unwrap();
        open(&builder, name, create, mode).unwrap();
        open(&builder, "real", OFlags::RDONLY | OFlags::DIRECTORY, RawMode::empty()).unwrap();
        assert_eq!(open(&builder, name, create, mode).unwrap_err(), Errno::EXIST, "{name}");
        for through in ["link/x", "link/deep/x"] {
            let error = open(&builder, through, create, mode).unwrap_err();
            assert!([Errno::LOOP, Errno::NOTDIR].contains(&error), "{name} {through}: {error}");
        }
        let error = open(&builder, "file", OFlags::RDONLY, RawMode::empty()).unwrap_err();
        assert_eq!(error, Errno::LOOP, "{name}");
    }
}
