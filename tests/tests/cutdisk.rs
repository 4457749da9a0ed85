//! Proves the disk with a volatile write cache, with a real file system on it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use groundswell_tests::cutdisk::CutDisk;
use groundswell_tests::private::{Private, inside};

const DISK_BYTES: u64 = 64 << 20;
const SEED: u64 = 0x67_73_77_6c;
const EIO: Option<i32> = Some(5);

#[test]
fn synced_data_survives_twenty_cuts() {
    inside("synced_data_survives_twenty_cuts", |private| {
        let mut disk = disk(private);
        let folder = disk.mount();
        let log = folder.join("log");
        let mut synced = Vec::new();
        let mut kept = 0;
        for round in 0..20_u8 {
            let mut file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
            file.write_all(&[round; 5000]).unwrap();
            file.sync_all().unwrap();
            synced.extend([round; 5000]);
            File::open(&folder).unwrap().sync_all().unwrap();
            // Sent towards the disk and perhaps in its cache, but never flushed.
            fs::write(folder.join(format!("loose-{round}")), [round; 100_000]).unwrap();
            file.write_all(&[0xff; 9000]).unwrap();
            drop(file);
            kept += disk.cut([0.0, 0.5, 0.9][usize::from(round) % 3]).kept;
            disk.remount();
            let found = fs::read(&log).unwrap();
            assert!(found.starts_with(&synced), "round {round}: synced bytes are lost");
            let file = OpenOptions::new().write(true).open(&log).unwrap();
            file.set_len(synced.len() as u64).unwrap();
            file.sync_all().unwrap();
        }
        eprintln!("{kept} unflushed writes survived in all");
    });
}

#[test]
fn unsynced_data_is_lost() {
    inside("unsynced_data_is_lost", |private| {
        let mut disk = disk(private);
        let folder = disk.mount();
        durable(&folder.join("synced"), b"kept");
        fs::write(folder.join("loose"), b"lost").unwrap();
        disk.cut(0.0);
        disk.remount();
        assert_eq!(fs::read(folder.join("synced")).unwrap(), b"kept");
        assert!(!folder.join("loose").exists());
    });
}

/// Written back by the kernel is not yet durable: that is what this disk is for.
#[test]
fn data_in_the_cache_of_the_disk_is_lost_or_kept_by_chance() {
    inside("data_in_the_cache_of_the_disk_is_lost_or_kept_by_chance", |private| {
        let mut survived = Vec::new();
        for keep in [0.0, 1.0] {
            let dir = private.dir().join(format!("disk-{keep}"));
            let mut disk = CutDisk::new(&dir, DISK_BYTES, SEED);
            let path = disk.mount().join("file");
            durable(&path, &[1; 40_960]);
            let mut file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all(&[2; 40_960]).unwrap();
            push_out(&path);
            drop(file);
            let report = disk.cut(keep);
            assert!(report.kept + report.dropped >= 10, "nothing reached the disk: {report:?}");
            disk.remount();
            survived.push(fs::read(&path).unwrap()[0]);
        }
        assert_eq!(survived, [1, 2]);
    });
}

#[test]
fn a_rename_without_fsync_can_be_lost() {
    inside("a_rename_without_fsync_can_be_lost", |private| {
        let mut disk = disk(private);
        let folder = disk.mount();
        durable(&folder.join("current"), b"old");
        let file = durable(&folder.join("next"), b"new");
        drop(file);
        fs::rename(folder.join("next"), folder.join("current")).unwrap();
        assert_eq!(fs::read(folder.join("current")).unwrap(), b"new");
        disk.cut(0.0);
        disk.remount();
        assert_eq!(fs::read(folder.join("current")).unwrap(), b"old");
        assert_eq!(fs::read(folder.join("next")).unwrap(), b"new");
    });
}

#[test]
fn a_rename_before_its_fsync_can_come_back_empty() {
    inside("a_rename_before_its_fsync_can_come_back_empty", |private| {
        let mut disk = disk(private);
        let folder = disk.mount();
        fs::write(folder.join("next"), b"new").unwrap();
        fs::rename(folder.join("next"), folder.join("current")).unwrap();
        // Another file's fsync commits the names of all.
        durable(&folder.join("other"), b"kept");
        disk.cut(0.0);
        disk.remount();
        assert_eq!(fs::read(folder.join("current")).unwrap(), b"");
        assert!(!folder.join("next").exists());
    });
}

#[test]
fn after_a_cut_writes_fail_until_the_remount() {
    inside("after_a_cut_writes_fail_until_the_remount", |private| {
        let mut disk = disk(private);
        let folder = disk.mount();
        let mut file = durable(&folder.join("file"), b"one");
        disk.cut(0.5);
        let error = file.write_all(b"two").and_then(|()| file.sync_all()).unwrap_err();
        assert_eq!(error.raw_os_error(), EIO);
        drop(file);
        disk.remount();
        durable(&folder.join("file"), b"three");
        disk.unmount();
        assert!(!folder.join("file").exists(), "unmounted, the file is still seen");
        disk.mount();
        assert_eq!(fs::read(folder.join("file")).unwrap(), b"three");
    });
}

fn disk(private: &Private) -> CutDisk {
    CutDisk::new(&private.dir().join("disk"), DISK_BYTES, SEED)
}

/// Writes a file so that it must survive: content, then name.
fn durable(path: &Path, content: &[u8]) -> File {
    let mut file = File::create(path).unwrap();
    file.write_all(content).unwrap();
    file.sync_all().unwrap();
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
    file
}

/// Sends the file's dirty pages to the disk and waits until they are there, without a flush of the disk's cache.
fn push_out(path: &Path) {
    use groundswell_tests::tools::{run, tool};
    let (send, wait) = ("sync_range -w 0 40960", "sync_range -b 0 40960");
    run(tool("xfs_io").args(["-c", send, "-c", wait]).arg(path));
}
