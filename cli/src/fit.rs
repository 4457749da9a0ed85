//! Whether a host could run what was packed: programs that a release names must be executable files of its
//! tree, and there must be something to start. Looks at the manifest alone, so that a mistake is found
//! where the release is made and not by a host that has stopped the one before.

use std::collections::BTreeMap;

use groundswell_common::manifest::{Mode, Probe, RawManifest};

/// Links that are followed for one program.
const LINKS_MAX: usize = 40;

/// Why no host could run it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum UnfitError {
    /// Nothing to start.
    #[error(
        "release {0}: it names neither units nor a command, so a host would have nothing to start; write \
         units or command under [release] in groundswell.toml, or files_only = true where it is files alone"
    )]
    Nothing(String),
    /// Something to start where nothing is meant to be.
    #[error(
        "release {0}: files_only = true, and yet it names units or a command; take one of them out"
    )]
    NotFilesOnly(String),
    /// A program that is no file of the tree.
    #[error("release {what} {program:?}: it is no file of the tree; {hint}")]
    NotThere {
        /// Whose program.
        what: &'static str,
        /// As it is written.
        program: String,
        /// What to look at.
        hint: String,
    },
    /// A program without the bit.
    #[error("release {what} {program:?}: it is not executable; chmod +x it before publishing")]
    NotExecutable {
        /// Whose program.
        what: &'static str,
        /// As it is written.
        program: String,
    },
}

/// Checks it; what may be meant so is a warning.
pub(crate) fn check(raw: &RawManifest, files_only: bool) -> Result<Vec<String>, UnfitError> {
    let starts = !raw.units.is_empty() || !raw.command.is_empty();
    match (starts, files_only) {
        (false, false) => return Err(UnfitError::Nothing(raw.service.to_string())),
        (true, true) => return Err(UnfitError::NotFilesOnly(raw.service.to_string())),
        (true, false) | (false, true) => {}
    }
    let tree = Tree::of(raw);
    if let Some(program) = raw.command.first().filter(|program| !program.starts_with('/')) {
        tree.runs("command", program)?;
    }
    for hook in &raw.hooks {
        hook.argv.first().map_or(Ok(()), |program| tree.runs("hook", program))?;
    }
    for probe in &raw.probes {
        match probe {
            Probe::Exec { argv, .. } => {
                argv.first().map_or(Ok(()), |program| tree.probes(program))?;
            }
            Probe::Http { ca, .. } if !ca.is_empty() && !ca.starts_with('/') => {
                tree.holds("ca of a probe", ca)?;
            }
            Probe::Http { .. } | Probe::Tcp { .. } | Probe::File { .. } | Probe::Unit { .. } => {}
        }
    }
    let executable = raw.files.iter().any(|file| file.mode == Mode::Executable);
    let mut warnings = Vec::new();
    if !raw.units.is_empty() && !executable {
        warnings.push(
            "no file of the tree is executable: a unit that starts one of them would fail; stores of \
             build artifacts often drop the mode, and chmod +x brings it back"
                .to_owned(),
        );
    }
    Ok(warnings)
}

/// What lies at a path of the tree, links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    File(Mode),
    Directory,
    Nothing,
}

struct Tree<'a> {
    files: BTreeMap<&'a str, Mode>,
    links: BTreeMap<&'a str, &'a str>,
}

impl<'a> Tree<'a> {
    fn of(raw: &'a RawManifest) -> Self {
        let files = raw.files.iter().map(|file| (file.path.as_str(), file.mode)).collect();
        let links = raw.links.iter().map(|link| (link.path.as_str(), link.target.as_str()));
        Self { files, links: links.collect() }
    }

    /// A program that must be there and executable.
    fn runs(&self, what: &'static str, program: &str) -> Result<(), UnfitError> {
        self.holds(what, program)?;
        match self.find(program) {
            Found::File(Mode::Plain) => {
                Err(UnfitError::NotExecutable { what, program: program.to_owned() })
            }
            Found::File(Mode::Executable) | Found::Directory | Found::Nothing => Ok(()),
        }
    }

    /// A probe's program: a bare name that is not in the tree may be in the host's PATH.
    fn probes(&self, program: &str) -> Result<(), UnfitError> {
        let elsewhere = !program.contains('/') && self.find(program) == Found::Nothing;
        if program.starts_with('/') || elsewhere { Ok(()) } else { self.runs("probe", program) }
    }

    fn holds(&self, what: &'static str, path: &str) -> Result<(), UnfitError> {
        match self.find(path) {
            Found::File(_) => Ok(()),
            Found::Directory | Found::Nothing => {
                let program = path.to_owned();
                Err(UnfitError::NotThere { what, program, hint: self.hint(path) })
            }
        }
    }

    fn hint(&self, path: &str) -> String {
        let name = path.rsplit('/').next().unwrap_or(path);
        let of_name = |candidate: &&&str| candidate.rsplit('/').next() == Some(name);
        match self.files.keys().find(of_name) {
            Some(found) => format!("did you mean {found:?}?"),
            None => "paths are relative to the directory that is published".to_owned(),
        }
    }

    fn find(&self, path: &str) -> Found {
        let mut left: Vec<&str> = path.split('/').rev().collect();
        let (mut at, mut links): (Vec<&str>, usize) = (Vec::new(), 0);
        while let Some(part) = left.pop() {
            match part {
                "" | "." => continue,
                ".." if at.pop().is_some() => continue,
                ".." => return Found::Nothing,
                part => at.push(part),
            }
            if let Some(target) = self.links.get(at.join("/").as_str()) {
                links += 1;
                if links > LINKS_MAX {
                    return Found::Nothing;
                }
                at.pop();
                left.extend(target.split('/').rev());
            }
        }
        let at = at.join("/");
        let inside = format!("{at}/");
        match self.files.get(at.as_str()) {
            Some(mode) => Found::File(*mode),
            None if self.files.keys().any(|path| path.starts_with(&inside)) => Found::Directory,
            None => Found::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use groundswell_common::manifest::Source;
    use groundswell_common::{Digest, selector::Selector};
    use serde_json::json;

    use super::*;

    /// A release of `bin/run`, `bin/data` without the bit, and a link `run` to the first.
    fn raw(more: serde_json::Value) -> RawManifest {
        let digest = Digest::of(b"");
        let file = |path: &str, mode: &str| json!({"path": path, "mode": mode, "size": 0, "sha256": digest});
        let mut value = json!({
            "service": "shop", "version": "1", "seq": 1, "floor": 0, "platform": "any",
            "one_way": false, "tree": digest, "blobs": [], "units": [], "switch": "restart",
            "files": [file("bin/data", "0644"), file("bin/run", "0755")],
            "links": [{"path": "now", "target": "bin"}, {"path": "run", "target": "now/run"}],
            "command": ["bin/run"], "probes": [], "hooks": [], "source": Source::default(),
            "requires": Selector::default(), "barrier": false, "hotfix": false,
        });
        for (key, more) in more.as_object().expect("an object") {
            value[key] = more.clone();
        }
        serde_json::from_value(value).expect("a manifest")
    }

    fn refused(more: serde_json::Value) -> String {
        check(&raw(more), false).expect_err("unfit").to_string()
    }

    #[test]
    fn a_release_that_starts_nothing_is_meant_so_or_refused() {
        let text = refused(json!({"command": []}));
        assert!(text.starts_with("release shop: it names neither units nor a command"), "{text}");
        assert_eq!(check(&raw(json!({"command": []})), true), Ok(Vec::new()));
        let error = check(&raw(json!({})), true).expect_err("both");
        assert_eq!(error, UnfitError::NotFilesOnly("shop".into()));
    }

    #[test]
    fn programs_are_executable_files_of_the_tree() {
        for good in ["bin/run", "./bin/run", "run", "now/run", "bin/../bin/run", "/usr/bin/env"] {
            assert_eq!(check(&raw(json!({"command": [good]})), false), Ok(vec![]), "{good}");
        }
        for (bad, want) in [
            ("bin/rum", "it is no file of the tree; paths are relative to"),
            ("lib/run", "it is no file of the tree; did you mean \"bin/run\"?"),
            ("bin", "it is no file of the tree"),
            ("../bin/run", "it is no file of the tree"),
            ("bin/data", "it is not executable; chmod +x it"),
        ] {
            let text = refused(json!({"command": [bad]}));
            assert!(text.contains(&format!("release command {bad:?}: {want}")), "{text}");
        }
        let hook = |program: &str| json!({"hooks": [{"at": "drain", "argv": [program], "timeout_secs": 1}]});
        assert!(check(&raw(hook("bin/run")), false).is_ok());
        assert!(refused(hook("bin/chek")).contains("release hook \"bin/chek\": it is no file"));
    }

    #[test]
    fn a_probe_may_use_what_the_host_has() {
        let exec = |program: &str| json!({"probes": [{"kind": "exec", "argv": [program], "timeout_secs": 1}]});
        for good in ["bin/run", "curl", "/usr/bin/curl"] {
            assert!(check(&raw(exec(good)), false).is_ok(), "{good}");
        }
        assert!(refused(exec("bin/chek")).contains("release probe \"bin/chek\": it is no file"));
        assert!(refused(exec("bin/data")).contains("it is not executable"));
        let https = |ca: &str| {
            json!({"probes": [{"kind": "http", "url": "https://a", "timeout_secs": 1, "status": 0,
                "ca": ca}]})
        };
        assert!(check(&raw(https("bin/data")), false).is_ok());
        assert!(check(&raw(https("/etc/ca.pem")), false).is_ok());
        assert!(refused(https("ca.pem")).contains("release ca of a probe \"ca.pem\""));
    }

    #[test]
    fn a_tree_without_a_program_is_warned_of() {
        let mut plain = raw(json!({"command": [], "units": ["shop.service"]}));
        assert_eq!(check(&plain, false), Ok(Vec::new()));
        plain.files.retain(|file| file.mode == Mode::Plain);
        let warnings = check(&plain, false).expect("it may be meant so");
        assert!(warnings[0].starts_with("no file of the tree is executable"), "{warnings:?}");
    }
}
