//! Whether a program that a unit names can be there when the unit starts. Says that it is missing only where that is
//! certain: what a release brings, what a link leads to and what this process may not see is left to the start.

use std::io::ErrorKind;
use std::path::Path;

/// Places of which this process has its own, or none at all (`ProtectHome=`, `PrivateTmp=` of its unit).
const UNSEEN: [&str; 6] = ["/home", "/root", "/run", "/tmp", "/var/tmp", "/dev"];

/// Whether nothing is at `program`, and no release brings it; these lie beneath `state`.
pub(super) fn is_missing(program: &Path, state: &Path) -> bool {
    let unseen = UNSEEN.iter().any(|place| program.starts_with(place));
    program.is_absolute() && !unseen && is_missing_beside(program, state)
}

fn is_missing_beside(program: &Path, state: &Path) -> bool {
    // From the whole path upwards: the nearest part that is there.
    for at in program.ancestors() {
        match std::fs::symlink_metadata(at) {
            Ok(_) if at == program => return false,
            // A link may lead into what is not live yet.
            Ok(_) => {
                let real = std::fs::canonicalize(at);
                return real.is_ok_and(|real| real.is_dir() && !real.starts_with(state));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_certainly_missing_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let (opt, state) = (dir.path().join("opt"), dir.path().join("state"));
        std::fs::create_dir_all(opt.join("shop")).unwrap();
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(opt.join("shop/run"), "").unwrap();
        symlink(state.join("current"), opt.join("live")).unwrap();
        symlink(&state, opt.join("state")).unwrap();
        let missing = |path: &str| is_missing_beside(&opt.join(path), &state);
        assert!(missing("shop/gone") && missing("shop/no/such/place"));
        assert!(!missing("shop/run"), "it is there");
        assert!(!missing("live"), "a link to what is not live yet");
        assert!(!missing("live/bin/shop"), "beneath such a link");
        assert!(!missing("state/services/shop/current/tree/bin/shop"), "a release brings it");
        assert!(!missing("shop/run/more"), "not a directory: the start says more");
        assert!(!is_missing(Path::new("shop"), &state), "systemd looks for it");
        assert!(!is_missing(&opt.join("shop/gone"), &state), "not seen from here");
        assert!(is_missing(Path::new("/usr/bin/no-such-program-here"), &state));
    }
}
