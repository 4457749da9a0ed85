//! Owns a mounted disk that can lose power: image, server process, loop device and ext4.
//!
//! It must live inside [`crate::private::inside`]: elsewhere other processes could pin its mounts.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use super::cache::CutReport;
use crate::bins::bin;
use crate::mounts;
use crate::must::Must;
use crate::tools::{output, run, tool};
use crate::wait::within;

/// How long the kernel may take to end the server of a disk that is in use no more.
const END_BOUND: Duration = Duration::from_secs(10);

/// An ext4 file system on a disk with a volatile write cache.
#[derive(Debug)]
pub struct CutDisk {
    image: PathBuf,
    served: PathBuf,
    mounted: PathBuf,
    server: Child,
    lines: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl CutDisk {
    /// Makes a disk of `bytes` (16 MiB at least) below the new folder `dir`, formatted and served,
    /// not mounted. The seed decides what survives the cuts, and is printed.
    ///
    /// # Panics
    /// When a step fails; the message names it.
    pub fn new(dir: &Path, bytes: u64, seed: u64) -> Self {
        eprintln!("cut disk {}: seed {seed}", dir.display());
        let (image, served, mounted) = (dir.join("image"), dir.join("served"), dir.join("mounted"));
        fs::create_dir_all(&served).must("make the folder of the served disk");
        fs::create_dir_all(&mounted).must("make the mount point of the disk");
        let file = File::create_new(&image).must("make the disk image");
        file.set_len(bytes).must("set the size of the disk image");
        format(&image);
        let mut command = std::process::Command::new(bin("cutdisk"));
        command.arg(&image).arg(&served).arg(seed.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().must("start the server of the disk");
        let lines = server.stdin.take().must("reach the server of the disk");
        let answers = server.stdout.take().map(BufReader::new).must("hear the disk's server");
        let mut disk = Self { image, served, mounted, server, lines, answers };
        assert_eq!(disk.answer(), "ready", "the server of the disk did not start");
        disk
    }

    /// Mounts the disk, which replays its journal, and returns the mount point.
    ///
    /// # Panics
    /// When it does not mount: for ext4 that means the disk is broken.
    pub fn mount(&mut self) -> PathBuf {
        // ext4 commits by itself every 5 s. Put off, a test on a slow machine loses the same.
        let options = "loop,noatime,commit=600";
        run(tool("mount")
            .args(["-t", "ext4", "-o", options])
            .arg(self.served.join("disk"))
            .arg(&self.mounted));
        self.mounted.clone()
    }

    /// The power goes: each 4 KiB write not yet flushed reaches the disk with probability `keep`
    /// (0 to 1); from now on everything answers EIO until [`CutDisk::remount`].
    ///
    /// # Panics
    /// When the server of the disk is gone.
    pub fn cut(&mut self, keep: f64) -> CutReport {
        let answer = self.command(&format!("cut {keep}"));
        let words: Vec<&str> = answer.split(' ').collect();
        match words.as_slice() {
            ["kept", kept, "dropped", dropped] => CutReport {
                kept: kept.parse().must("read how many writes were kept"),
                dropped: dropped.parse().must("read how many writes were dropped"),
            },
            _ => panic!("the server of the disk answered a cut with `{answer}`"),
        }
    }

    /// As [`CutDisk::cut`], when the flush with this number from now is asked for; a later cut tells what was
    /// lost.
    ///
    /// # Panics
    /// When the server of the disk is gone.
    pub fn cut_at_flush(&mut self, flushes: u32, keep: f64) {
        let answer = self.command(&format!("arm {flushes} {keep}"));
        assert_eq!(answer, "armed", "the server of the disk does not take the cut");
    }

    /// Whether the power is on.
    ///
    /// # Panics
    /// When the server of the disk is gone.
    pub fn has_power(&mut self) -> bool {
        self.command("power") == "on"
    }

    /// Unmounts the disk and waits until nothing holds it. With power on this flushes everything.
    ///
    /// # Panics
    /// When a process still has files open on it: end your own first.
    pub fn unmount(&mut self) {
        mounts::release(&self.mounted, &self.served.join("disk"));
    }

    /// Unmounts if need be, puts the power back and mounts what survived.
    ///
    /// # Panics
    /// As [`CutDisk::unmount`] and [`CutDisk::mount`].
    pub fn remount(&mut self) -> PathBuf {
        self.unmount();
        assert_eq!(self.command("on"), "on", "the server of the disk did not switch it on");
        self.mount()
    }

    /// Where it is mounted.
    pub fn mounted(&self) -> &Path {
        &self.mounted
    }

    /// The image below, which holds what is durable. For looking only.
    pub fn image(&self) -> &Path {
        &self.image
    }

    fn command(&mut self, line: &str) -> String {
        writeln!(self.lines, "{line}").must("command the server of the disk");
        self.lines.flush().must("command the server of the disk");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).must("hear the server of the disk");
        line.trim_end().to_owned()
    }
}

impl Drop for CutDisk {
    /// Takes everything down as far as possible; the end of the private run does the rest.
    fn drop(&mut self) {
        for target in [&self.mounted, &self.served] {
            if mounts::is_mounted(target) {
                output(tool("umount").arg("--lazy").arg(target));
            }
        }
        let ended = within(END_BOUND, || {
            self.server.kill().ok()?;
            self.server.try_wait().ok().flatten()
        });
        if ended.is_none() {
            eprintln!("the server of {} does not end", self.served.display());
        }
    }
}

fn format(image: &Path) {
    // Lazy initialisation would go on writing in the background, outside of any test's order.
    run(tool("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-b", "4096"])
        .args(["-E", "lazy_itable_init=0,lazy_journal_init=0"])
        .arg(image));
}
