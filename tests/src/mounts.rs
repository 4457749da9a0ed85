//! Owns knowing what is mounted, and letting go of disks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::must::Must;
use crate::tools::{output, run, tool};
use crate::wait::within;

/// How long dying processes may go on holding a disk.
const RELEASE_BOUND: Duration = Duration::from_secs(20);

/// Whether something is mounted at exactly this path.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").must("read the table of mounts");
    // The fifth field is the mount point; our paths hold nothing that the kernel would escape.
    table.lines().filter_map(|line| line.split(' ').nth(4)).any(|at| Path::new(at) == path)
}

/// Unmounts `mount_point` and waits until no loop device holds `image` any more: mounted again
/// before that, the dead file system would come back instead of the disk.
pub(crate) fn release(mount_point: &Path, image: &Path) {
    let mut complaint = String::new();
    let released = within(RELEASE_BOUND, || {
        if is_mounted(mount_point) {
            let result = output(tool("umount").arg(mount_point));
            complaint = String::from_utf8_lossy(&result.stderr).trim_end().to_owned();
        }
        let is_free = || run(tool("losetup").arg("-j").arg(image)).is_empty();
        (!is_mounted(mount_point) && is_free()).then_some(())
    });
    assert!(
        released.is_some(),
        "{} is still in use after {} s: end your own processes on it first ({complaint})",
        mount_point.display(),
        RELEASE_BOUND.as_secs()
    );
}
