//! Owns the targets of signed documents: payloads as if their signatures were good, and whole envelopes.

use std::collections::BTreeMap;
use std::fmt::Debug;

use groundswell_common::Digest;
use groundswell_common::directive::{Directive, Permit};
use groundswell_common::limits::JSON_INTEGER_MAX;
use groundswell_common::manifest::{FileEntry, LinkEntry, Manifest, RawManifest, tree_digest};
use groundswell_common::path::TreePath;
use groundswell_common::trust::{
    Approval, Document, Envelope, Role, RoleKeys, Root, SecretKey, first_root, verify,
};
use serde::Serialize;

use crate::memory::bounded;

const MIB: usize = 1 << 20;

/// Reads JSON as the raw form of `D`; what is read is written and read again as the same value.
fn raw<D: Document>(data: &[u8]) -> Option<D::Raw>
where
    D::Raw: Serialize + PartialEq + Debug,
{
    let raw: D::Raw = bounded(16 * MIB, || serde_json::from_slice(data)).ok()?;
    let written = serde_json::to_vec(&raw).expect("a document that was read can be written");
    let again: D::Raw = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, raw);
    Some(raw)
}

/// A root: every role that must be there can be filled, by as many keys as it names.
pub fn root(data: &[u8]) {
    let Some(Ok(root)) = raw::<Root>(data).map(Root::check) else { return };
    for role in [Role::Root, Role::Release, Role::Director] {
        let keys = root.role(role, None, None).expect("a checked root has the role");
        let count = u32::try_from(keys.keys.len()).expect("few keys");
        assert!((1..=count).contains(&keys.threshold));
    }
    assert!(!root.tls_ca().is_empty() && root.version >= 1);
}

/// A directive: services ascend, numbers fit JSON.
pub fn directive(data: &[u8]) {
    let Some(Ok(directive)) = raw::<Directive>(data).map(Directive::check) else { return };
    assert!(directive.services.is_sorted_by(|a, b| a.service < b.service));
    assert!(directive.generation <= JSON_INTEGER_MAX);
}

/// A permit.
pub fn permit(data: &[u8]) {
    let Some(Ok(permit)) = raw::<Permit>(data).map(Permit::check) else { return };
    assert!(permit.generation <= JSON_INTEGER_MAX && permit.valid_ms <= JSON_INTEGER_MAX);
}

/// An approval: it lasts, and not for long.
pub fn approval(data: &[u8]) {
    let Some(Ok(approval)) = raw::<Approval>(data).map(Approval::check) else { return };
    assert!((1..=7 * 86_400).contains(&(approval.not_after - approval.not_before)));
}

/// A manifest, its tree digest made to fit: whatever passes can be laid out on a host.
pub fn manifest(data: &[u8]) {
    if let Some(raw) = raw::<Manifest>(data) {
        laid_out(raw);
    }
}

/// A manifest with the files and links of the text, one a line: `PATH`, or `PATH>TARGET` for a link.
pub fn tree(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let good = include_bytes!("../seeds/manifest/good");
    let mut raw: RawManifest = serde_json::from_slice(good).expect("the seed is good");
    let mode = raw.files.first().expect("the seed has files").clone();
    raw.files.clear();
    raw.links.clear();
    for line in text.lines().take(16) {
        let (path, target) = line.split_once('>').map_or((line, None), |(p, t)| (p, Some(t)));
        let Ok(path) = path.parse::<TreePath>() else { continue };
        match target {
            None => raw.files.push(FileEntry { path, ..mode.clone() }),
            Some(target) => raw.links.push(LinkEntry { path, target: target.to_owned() }),
        }
    }
    raw.files.sort_by(|a, b| a.path.cmp(&b.path));
    raw.links.sort_by(|a, b| a.path.cmp(&b.path));
    laid_out(raw);
}

/// What passes the check can be laid out on a host, and no link leads out.
fn laid_out(mut raw: RawManifest) {
    raw.tree = tree_digest(&raw.files, &raw.links);
    let Ok(manifest) = bounded(16 * MIB, || Manifest::check(raw)) else { return };
    let whole: u64 = manifest.contents().iter().map(|(_, size)| size).sum();
    assert!(whole <= manifest.unpacked_bytes());
    assert!(manifest.floor <= manifest.seq && manifest.blobs.contains(manifest.full_blob()));
    let paths: Vec<&str> = manifest
        .files
        .iter()
        .map(|file| file.path.as_str())
        .chain(manifest.links.iter().map(|link| link.path.as_str()))
        .collect();
    for (at, path) in paths.iter().enumerate() {
        let under = format!("{}/", path.to_lowercase());
        let clash = |other: &&str| {
            other.to_lowercase().starts_with(&under) || other.to_lowercase() == path.to_lowercase()
        };
        assert!(!paths[at + 1..].iter().any(clash), "{path:?} stands in another's way");
    }
    let mut spelled = BTreeMap::new();
    let above = |path: &&'_ str| path.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
    for at in paths.iter().flat_map(|path| above(path).into_iter().map(|at| &path[..at])) {
        let before = spelled.insert(at.to_lowercase(), at);
        assert!(
            before.is_none_or(|before| before == at),
            "{before:?} and {at:?} are one directory"
        );
    }
    let links: BTreeMap<String, &str> =
        manifest.links.iter().map(|l| (l.path.to_string(), l.target.as_str())).collect();
    manifest.links.iter().for_each(|link| stays_inside(&links, link.path.as_str()));
}

/// Follows a path as a kernel does, link by link; it must never stand above the top.
fn stays_inside(links: &BTreeMap<String, &str>, path: &str) {
    let mut place: Vec<String> = Vec::new();
    let mut todo: Vec<&str> = path.split('/').rev().collect();
    let mut steps = 0;
    while let Some(part) = todo.pop() {
        match part {
            "" | "." => {}
            ".." => assert!(place.pop().is_some(), "{path:?} leads out of the tree"),
            part => {
                place.push(part.to_owned());
                if let Some(target) = links.get(&place.join("/")) {
                    place.pop();
                    todo.extend(target.split('/').rev());
                    steps += 1;
                }
            }
        }
        // As many links as Linux follows.
        if steps > 40 {
            return;
        }
    }
}

/// An envelope: read, written, read; and no payload but the one that was signed is ever trusted.
pub fn envelope(data: &[u8]) {
    let Ok(read) = bounded(MIB, || Envelope::from_json(data, 64 * 1024)) else { return };
    let again = Envelope::from_json(&read.to_json(), 64 * 1024).expect("what was written is read");
    assert_eq!(again, read);
    let _ = first_root(&read, &read.digest());
    let key = SecretKey::from_seed(&[5; 32].into()).public();
    let role = RoleKeys { keys: [key].into(), threshold: 1 };
    if let Ok(directive) = verify::<Directive>(&read, &role) {
        let good = include_bytes!("../seeds/directive/good");
        assert_eq!(directive.digest(), Digest::of(good), "a forged directive is trusted");
    }
}
