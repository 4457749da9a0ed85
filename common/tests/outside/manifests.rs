//! Owns the table of hostile manifests: each is refused with exactly one error, and none by another rule.

use std::io::Cursor;

use groundswell_common::Digest;
use groundswell_common::bundle::{BundleError, BundleWriter, ContentError, check_bundle};
use groundswell_common::limits::{ARG_MAX_BYTES, JSON_INTEGER_MAX, MANIFEST_FILES_MAX};
use groundswell_common::manifest::{
    BlobEntry, FileEntry, Hook, HookPoint, LinkEntry, Manifest, ManifestError, Mode, Probe,
    RawManifest, Switch, tree_digest,
};
use groundswell_common::path::TreePath;
use groundswell_common::trust::Document;
use serde_json::{Value, json};

use crate::samples;

fn path(text: &str) -> TreePath {
    text.parse().unwrap()
}

fn file(text: &str) -> FileEntry {
    let sha256 = Digest::of(text.as_bytes());
    FileEntry { path: path(text), mode: Mode::Plain, size: text.len() as u64, sha256 }
}

fn link(at: &str, target: &str) -> LinkEntry {
    LinkEntry { path: path(at), target: target.to_owned() }
}

/// Whether a manifest with these files and links, its tree digest made to fit, is good.
fn tree(files: &[&str], links: &[(&str, &str)]) -> Result<Manifest, ManifestError> {
    changed(|raw| {
        raw.files = files.iter().map(|text| file(text)).collect();
        raw.links = links.iter().map(|(at, target)| link(at, target)).collect();
        raw.tree = tree_digest(&raw.files, &raw.links);
    })
}

fn changed(change: impl FnOnce(&mut RawManifest)) -> Result<Manifest, ManifestError> {
    let mut raw = samples::manifest();
    change(&mut raw);
    Manifest::check(raw)
}

/// What the JSON reader says of the sample with `value` at `pointer`.
fn json_error(pointer: &str, value: Value) -> String {
    let mut document = serde_json::to_value(samples::manifest()).unwrap();
    *document.pointer_mut(pointer).unwrap() = value;
    let text = serde_json::to_string(&document).unwrap();
    serde_json::from_str::<RawManifest>(&text).expect_err(pointer).to_string()
}

#[test]
fn the_sample_is_good_and_its_tree_digest_never_changes() {
    let good = changed(|_| {}).unwrap();
    assert_eq!(
        good.tree.to_string(),
        "b64b7f3e55c2c26a6bed47a21eb29adbb931154bb92da620df4ec6f2c6421b9e"
    );
    // The same, spelled out after docs/bundle-format.md B2.5.
    let line = |mode: &str, content: &[u8], path: &str| {
        format!("f {mode} {} {} {path}\0", content.len(), Digest::of(content))
    };
    let text = line("0755", b"#!/bin/sh\n", "bin/shop")
        + &line("0644", b"a=1\n", "etc/shop")
        + "l ../bin/shop\0lib/shop\0";
    assert_eq!(good.tree, Digest::of(text.as_bytes()));
    assert_eq!(good.unpacked_bytes(), 14);
    assert_eq!(good.full_blob().sha256, Digest::of(b"bundle"));
}

#[test]
fn paths_that_a_host_could_not_keep_apart() {
    let twins = |a: &str, b: &str| Err(ManifestError::Twins(path(a), path(b)));
    let parent = |at: &str| Err(ManifestError::FileAsParent(at.to_owned()));
    for (files, links, want) in [
        (&["b", "a"][..], &[][..], Err(ManifestError::Order(path("a")))),
        (&["a", "a"], &[], Err(ManifestError::Order(path("a")))),
        (&[], &[("b", "a"), ("a", "b")], Err(ManifestError::Order(path("a")))),
        (&["a"], &[("a", "b")], Err(ManifestError::Order(path("a")))),
        (&["A", "a"], &[], twins("A", "a")),
        (&["bin/Shop", "bin/shop"], &[], twins("bin/Shop", "bin/shop")),
        (&["A/x", "a/y"], &[], twins("A/x", "a/y")),
        (&["A/x", "B/x", "a/B/y"], &[], twins("a/B/y", "A/x")),
        (&["STRASSE", "stra\u{df}e"], &[], twins("STRASSE", "stra\u{df}e")),
        (&["K", "\u{212a}x"], &[], Err(ManifestError::NotNfc(path("\u{212a}x")))),
        (&["s", "\u{17f}"], &[], twins("s", "\u{17f}")),
        (&["\u{3c2}", "\u{3c3}"], &[], twins("\u{3c2}", "\u{3c3}")),
        (&["e\u{301}"], &[], Err(ManifestError::NotNfc(path("e\u{301}")))),
        (&["\u{1100}\u{1161}"], &[], Err(ManifestError::NotNfc(path("\u{1100}\u{1161}")))),
        (&["a", "a/b"], &[], parent("a")),
        (&["a", "a-b", "a/b"], &[], parent("a")),
        (&["a/b/c"], &[("a/b", "x")], parent("a/b")),
        (&["a/b/c/d"], &[("a", "x")], parent("a")),
        (&["A", "a/b"], &[], twins("A", "a/b")),
    ] {
        assert_eq!(tree(files, links), want.map(|()| unreachable!()), "{files:?} {links:?}");
    }
    for good in [&["a", "ab", "a-b", "b"][..], &["a/x", "a/y", "b/x"], &["\u{e9}", "\u{ea}"]] {
        let mut sorted = good.to_vec();
        sorted.sort_unstable();
        tree(&sorted, &[]).unwrap();
    }
}

#[test]
fn links_that_would_leave_the_tree() {
    for (at, target) in [
        ("l", "/etc/passwd"),
        ("l", ".."),
        ("l", "../x"),
        ("a/l", "../../x"),
        ("l", "a/../../x"),
        ("l", "a//b"),
        ("l", "a/"),
        ("l", ""),
        ("l", "a\0b"),
        ("l", "a\\b"),
        // Not out by itself, but behind another link it would be: `a` may lead to the top.
        ("l", "a/../x"),
        ("b/l", "../a/../x"),
    ] {
        let want = ManifestError::LinkOut { path: path(at), target: target.to_owned() };
        assert_eq!(tree(&[], &[(at, target)]), Err(want));
    }
    // p/q/up leads to the top of the tree, so that p/q/up/.. would be outside.
    let chain = [("p/q/up", "../.."), ("z", "p/q/up/../secret")];
    let want = ManifestError::LinkOut { path: path("z"), target: "p/q/up/../secret".to_owned() };
    assert_eq!(tree(&[], &chain), Err(want));
    tree(&["a"], &[("b/c/l", "../../a"), ("d", "./a"), ("e/up", "..")]).unwrap();
}

#[test]
fn numbers_over_their_bounds() {
    const GIB: u64 = 1 << 30;
    let large = |field, value, limit| Err(ManifestError::TooLarge { field, value, limit });
    let over = JSON_INTEGER_MAX + 1;
    assert_eq!(changed(|raw| raw.seq = over), large("seq", over, JSON_INTEGER_MAX));
    assert_eq!(
        changed(|raw| raw.source.commit_time = Some(over)),
        large("commit_time", over, JSON_INTEGER_MAX)
    );
    let size = 64 * GIB + 1;
    assert_eq!(changed(|raw| raw.files[0].size = size), large("file size", size, 64 * GIB));
    let blob = 256 * GIB + 1;
    assert_eq!(changed(|raw| raw.blobs[0].size = blob), large("blob size", blob, 256 * GIB));
    let whole = changed(|raw| {
        raw.files =
            ["a", "b", "c", "d", "e"].map(|name| FileEntry { size: 60 * GIB, ..file(name) }).into();
    });
    assert_eq!(whole, large("release size", 300 * GIB, 256 * GIB));
    let floor = changed(|raw| raw.floor = 8);
    assert_eq!(floor, Err(ManifestError::FloorAboveSeq { floor: 8, seq: 7 }));
    let many = changed(|raw| raw.files = vec![file("a"); MANIFEST_FILES_MAX]);
    assert_eq!(many, Err(ManifestError::TooManyFiles(MANIFEST_FILES_MAX + 1)));
    let commits = changed(|raw| raw.source.commits = vec![String::new(); 501]);
    assert_eq!(commits, large("commits", 501, 500));
    let authors = changed(|raw| raw.source.authors = vec![String::new(); 501]);
    assert_eq!(authors, large("authors", 501, 500));
    let notes = changed(|raw| raw.source.notes = Some("x".repeat(16_385)));
    assert_eq!(notes, large("source text bytes", 16_385, 16_384));
}

#[test]
fn contents_blobs_and_digests_that_do_not_fit() {
    let sizes = changed(|raw| raw.files[1].sha256 = raw.files[0].sha256);
    assert_eq!(sizes, Err(ManifestError::TwoSizes(path("etc/shop"))));
    assert_eq!(changed(|raw| raw.blobs.clear()), Err(ManifestError::FullBlobs(0)));
    let twice = changed(|raw| raw.blobs = vec![raw.blobs[0].clone(), raw.blobs[0].clone()]);
    assert_eq!(twice, Err(ManifestError::FullBlobs(2)));
    let edits: [fn(&mut RawManifest); 6] = [
        |raw| raw.tree = Digest::of(b"another"),
        |raw| raw.files[0].mode = Mode::Plain,
        |raw| raw.files[0].size += 1,
        |raw| raw.files[0].sha256 = Digest::of(b"another"),
        |raw| raw.files[0].path = path("bin/shoq"),
        |raw| raw.links[0].target = "../etc/shop".to_owned(),
    ];
    for edit in edits {
        assert_eq!(changed(edit), Err(ManifestError::Tree));
    }
}

#[test]
fn platforms_units_and_commands_that_cannot_run() {
    for bad in ["", "linux", "linux-", "-x86_64", "linux-x86-64", "linux x86", "any "] {
        let want = ManifestError::Platform(bad.to_owned());
        assert_eq!(changed(|raw| raw.platform = bad.to_owned()), Err(want));
    }
    let long = format!("linux-{}", "x".repeat(60));
    let want = ManifestError::Platform(long.chars().take(64).collect());
    assert_eq!(changed(|raw| raw.platform = long.clone()), Err(want));

    let unit = Err(ManifestError::Run(
        "a unit name must be NAME.service, .timer, .socket or .path, without '/' or spaces",
    ));
    for bad in ["", ".service", "shop", "shop.mount", "../shop.service", "a b.service", "-.service"]
    {
        assert_eq!(changed(|raw| raw.units = vec![bad.to_owned()]), unit, "{bad}");
    }
    let count = Err(ManifestError::Run("at most 32 units and 32 probes"));
    assert_eq!(changed(|raw| raw.units = vec!["a.service".to_owned(); 33]), count);
    assert_eq!(changed(|raw| raw.probes = vec![raw.probes[0].clone(); 33]), count);

    let command = Err(ManifestError::Run(
        "the command must be 1 to 128 arguments of at most 4096 bytes, no NUL",
    ));
    let text = |text: &str| vec![text.to_owned()];
    let long = "x".repeat(ARG_MAX_BYTES + 1);
    for bad in [text(""), text("a\0b"), text(&long), vec!["x".to_owned(); 129]] {
        assert_eq!(changed(|raw| raw.command = bad.clone()), command, "{bad:.40?}");
    }
    changed(|raw| raw.command.clear()).unwrap();
}

#[test]
fn switches_that_do_not_fit_the_units() {
    let reload = "switch = \"reload\" needs units, none of them a template NAME@.service";
    let overlap = "switch = \"overlap\" needs units, each of them a template NAME@.service";
    for (switch, units, want) in [
        (Switch::Restart, &["shop@.service", "shop.service"][..], None),
        (Switch::Reload, &["shop.service", "shop@eu.service"], None),
        (Switch::Reload, &[], Some(reload)),
        (Switch::Reload, &["shop.service", "shop@.service"], Some(reload)),
        (Switch::Overlap, &["shop@.service"], None),
        (Switch::Overlap, &[], Some(overlap)),
        (Switch::Overlap, &["shop.service", "shop@.service"], Some(overlap)),
        (Switch::Overlap, &["shop@eu.service"], Some(overlap)),
    ] {
        let checked = changed(|raw| {
            raw.units = units.iter().map(|unit| (*unit).to_owned()).collect();
            raw.switch = switch;
        });
        assert_eq!(checked.err(), want.map(ManifestError::Run), "{switch:?} of {units:?}");
    }
    // The name of the instance must fit, too.
    let long = |length: usize| format!("{}@.service", "x".repeat(length - "@.service".len()));
    changed(|raw| (raw.units, raw.switch) = (vec![long(191)], Switch::Overlap)).unwrap();
    changed(|raw| (raw.units, raw.switch) = (vec![long(192)], Switch::Overlap)).unwrap_err();
}

#[test]
fn hooks_that_cannot_run() {
    let argv = "a hook needs 1 to 128 arguments of at most 4096 bytes, no NUL, the first a path in the tree";
    let time = "a hook's timeout_secs must be 1 to 240, of hook failed 1 to 30";
    let hook = |at, argv: &[&str], timeout_secs| {
        vec![Hook { at, argv: argv.iter().map(|arg| (*arg).to_owned()).collect(), timeout_secs }]
    };
    let good = hook(HookPoint::Drain, &["bin/drain", "--soft"], 240);
    for (hooks, want) in [
        (hook(HookPoint::Drain, &[], 5), argv),
        (hook(HookPoint::Drain, &["/bin/sh"], 5), argv),
        (hook(HookPoint::Drain, &["../sh"], 5), argv),
        (hook(HookPoint::Drain, &["a", "b\0"], 5), argv),
        (hook(HookPoint::Drain, &["a"], 0), time),
        (hook(HookPoint::PostSwitch, &["a"], 241), time),
        (hook(HookPoint::Failed, &["a"], 31), time),
        ([good.clone(), good.clone()].concat(), "each hook may be there once"),
    ] {
        let shown = format!("{hooks:?}");
        assert_eq!(changed(|raw| raw.hooks = hooks), Err(ManifestError::Run(want)), "{shown}");
    }
    changed(|raw| raw.hooks = good).unwrap();
}

#[test]
fn probes_that_cannot_run() {
    let http = "an http probe needs an http:// or https:// URL of at most 4096 bytes";
    let tcp = "a tcp probe needs address = \"HOST:PORT\"";
    let exec = "an exec probe needs 1 to 128 arguments of at most 4096 bytes, no NUL";
    let unit = "a unit probe needs NAME.service, .timer, .socket or .path, without '/' or spaces";
    let file = "a file probe needs an absolute path of at most 4096 bytes and max_age_secs of at most 604800";
    let look = |path: &str, max_age_secs| Probe::File { path: path.to_owned(), max_age_secs };
    let time = "a probe's timeout_secs must be 1 to 600";
    let status = "an http probe's status must be 100 to 599, or 0 for any";
    let ca =
        "an http probe needs ca, a path of at most 4096 bytes, for an https:// URL and no other";
    let ask = |url: &str, status, ca: &str| {
        let (url, ca) = (url.to_owned(), ca.to_owned());
        Probe::Http { url, timeout_secs: 5, status, ca }
    };
    let get = |url: &str, timeout_secs| Probe::Http {
        url: url.to_owned(),
        timeout_secs,
        status: 0,
        ca: String::new(),
    };
    let connect = |to: &str, timeout_secs| Probe::Tcp { address: to.to_owned(), timeout_secs };
    let run = |argv: &[&str], timeout_secs| Probe::Exec {
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        timeout_secs,
    };
    let long = "x".repeat(ARG_MAX_BYTES + 1);
    for (probe, want) in [
        (get("https://a/", 5), ca),
        (ask("http://a/", 0, "ca.pem"), ca),
        (ask("https://a/", 0, "a\0"), ca),
        (ask("https://a/", 0, &long), ca),
        (ask("https://a/", 99, "ca.pem"), status),
        (ask("http://a/", 600, ""), status),
        (get("file:///etc/passwd", 5), http),
        (get("http://a/\r\nHost: b", 5), http),
        (get("http://a/\0", 5), http),
        (get(&format!("http://{}", "a".repeat(ARG_MAX_BYTES)), 5), http),
        (get("http://a/", 0), time),
        (get("http://a/", 601), time),
        (connect("localhost", 5), tcp),
        (connect("localhost:", 5), tcp),
        (connect("localhost:65536", 5), tcp),
        (connect("localhost:0", 5), tcp),
        (connect(":80", 5), tcp),
        (connect("a b:80", 5), tcp),
        (connect("localhost:80", u64::MAX), time),
        (run(&[], 5), exec),
        (run(&[""], 5), exec),
        (run(&["a", "b\0"], 5), exec),
        (run(&["a"], 0), time),
        (Probe::Unit { unit: "../shop.service".to_owned() }, unit),
        (look("run/shop", 0), file),
        (look("", 0), file),
        (look("/run/\0", 0), file),
        (look("/run/shop", 604_801), file),
    ] {
        let got = changed(|raw| raw.probes = vec![probe.clone()]);
        assert_eq!(got, Err(ManifestError::Run(want)), "{probe:.80?}");
    }
}

#[test]
fn json_that_no_rule_gets_to_see() {
    for (pointer, value, want) in [
        ("/files/0/path", json!("/etc/passwd"), "empty part; give a relative path"),
        ("/files/0/path", json!("../x"), "'.' and '..' are refused"),
        ("/files/0/path", json!("a/./b"), "'.' and '..' are refused"),
        ("/files/0/path", json!("a\nb"), "control characters and backslashes are refused"),
        ("/files/0/path", json!("C:\\x"), "control characters and backslashes are refused"),
        ("/files/0/path", json!("x".repeat(256)), "at most 255 bytes a part and 1024 in all"),
        ("/files/0/path", json!("x/".repeat(600) + "x"), "at most 255 bytes a part"),
        ("/files/0/mode", json!("4755"), "unknown variant `4755`, expected `0644` or `0755`"),
        ("/files/0/mode", json!("0777"), "unknown variant `0777`, expected `0644` or `0755`"),
        ("/files/0/mode", json!(755), "expected"),
        ("/files/0/size", json!(-1), "invalid value: integer `-1`, expected u64"),
        ("/files/0/size", json!(1.0), "invalid type: floating point `1.0`, expected u64"),
        ("/files/0/size", json!("1"), "invalid type: string \"1\", expected u64"),
        ("/files/0/sha256", json!("AB"), "want 64 lower-case hexadecimal digits"),
        ("/blobs/0/kind", json!("tar"), "unknown variant `tar`, expected `full`"),
        ("/probes/0/kind", json!("shell"), "unknown variant `shell`"),
        ("/service", json!("../shop"), "want 1 to 63 of a-z, 0-9 and '-'"),
        ("/version", json!("1.0/../2"), "want 1 to 64 of letters, digits"),
    ] {
        let error = json_error(pointer, value.clone());
        assert!(error.contains(want), "{pointer} = {value:.40}: {error}");
    }
}

#[test]
fn deep_paths_cost_no_more_than_flat_ones() {
    // 8 MiB of paths of 500 parts each: cost that grew with parts x bytes would take minutes and gigabytes.
    let deep: Vec<String> = (0..8_000).map(|n| format!("{n:08}/{}x", "y/".repeat(500))).collect();
    let names: Vec<&str> = deep.iter().map(String::as_str).collect();
    tree(&names, &[]).unwrap();
}

#[test]
fn a_bundle_carries_what_its_manifest_lists_and_nothing_else() {
    let pack = |contents: &[&[u8]]| {
        let mut writer = BundleWriter::new(Cursor::new(Vec::new()));
        contents.iter().for_each(|content| writer.append(content).unwrap());
        let mut bytes = Vec::new();
        writer.finish(&mut bytes).unwrap();
        bytes
    };
    let manifest = changed(|_| {}).unwrap();
    let check = |bytes: &[u8]| check_bundle(bytes, &manifest);
    let good = pack(&[b"#!/bin/sh\n", b"a=1\n"]);
    check(&good).unwrap();
    let other = check(&pack(&[b"#!/bin/sh\n", b"a=2\n"]));
    let (bad, listed) = (Digest::of(b"a=2\n"), Digest::of(b"a=1\n"));
    let named =
        matches!(other, Err(ContentError::Other { got, want }) if got == bad && want == listed);
    assert!(named, "{other:?}");
    let short = check(&pack(&[b"#!/bin/sh\n", b"a=1"]));
    assert!(matches!(short, Err(ContentError::Bundle(BundleError::Short(1)))), "{short:?}");
    let long = check(&pack(&[b"#!/bin/sh\n", b"a=1\n", b"x"]));
    assert!(matches!(long, Err(ContentError::Bundle(BundleError::Trailing))), "{long:?}");
    let cut = check(&good[..good.len() - 1]);
    assert!(matches!(cut, Err(ContentError::Bundle(BundleError::Io(_)))), "{cut:?}");
}

#[test]
fn one_blob_is_named_once() {
    let other = BlobEntry { size: 1, ..samples::manifest().blobs[0].clone() };
    assert_eq!(changed(|raw| raw.blobs.push(other)), Err(ManifestError::FullBlobs(2)));
}
