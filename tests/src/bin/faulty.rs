//! A service that is broken in the way that its release says: `etc/fault` beside `bin/` holds a version, a fault
//! and how many seconds after its start the fault comes. Well, it answers each request with its version.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

const ADDRESS: &str = "0.0.0.0:8080";
/// What a leak takes at once, and how long it rests then.
const LEAK_BYTES: usize = 8 * 1024 * 1024;
const LEAK_REST: Duration = Duration::from_millis(50);
/// What filling the disk takes at once, at first and at last.
const FILL_BYTES: u64 = 64 * 1024 * 1024;
const BLOCK_BYTES: u64 = 4096;

/// Whether requests are answered by 500.
static ILL: AtomicBool = AtomicBool::new(false);

fn main() -> Result<()> {
    let program = std::env::current_exe().context("learn where the program lies")?;
    let tree = program.parent().and_then(|bin| bin.parent()).context("find the tree")?;
    let text = std::fs::read_to_string(tree.join("etc/fault")).context("read etc/fault")?;
    let [version, fault, secs] = text.split_whitespace().collect::<Vec<_>>()[..] else {
        bail!("etc/fault must hold a version, a fault and seconds");
    };
    // Where nobody reads it, it starts all the same.
    let _ = writeln!(std::io::stderr(), "{version} starts");
    let after = Duration::from_secs(secs.parse().context("read the seconds")?);
    match fault {
        "none" | "hang" => {}
        "exit" => bail!("this release does not start"),
        _ => {
            let fault = fault.to_owned();
            thread::spawn(move || come(&fault, after));
        }
    }
    let listener = TcpListener::bind(ADDRESS).context("listen")?;
    let mut held = Vec::new();
    for stream in listener.incoming() {
        let stream = stream.context("accept")?;
        match fault {
            // Accepted, and never heard.
            "hang" => held.push(stream),
            _ => answer(stream, version),
        }
    }
    Ok(())
}

/// Waits, then breaks.
fn come(fault: &str, after: Duration) {
    thread::sleep(after);
    match fault {
        "die" => std::process::exit(7),
        "ill" => ILL.store(true, Ordering::Relaxed),
        "leak" => leak(),
        "fill" => fill(),
        _ => std::process::abort(),
    }
}

/// Takes memory until there is none, which ends the process.
fn leak() {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; LEAK_BYTES]);
        thread::sleep(LEAK_REST);
    }
}

/// Takes room for its state until the disk is full, is ill from then on, and takes whatever is freed as well.
fn fill() {
    let state = PathBuf::from(std::env::var_os("STATE_DIRECTORY").unwrap_or_default());
    let Ok(file) = File::create(state.join("filling")) else { return };
    let (mut taken, mut piece) = (0, FILL_BYTES);
    loop {
        match fallocate(&file, FallocateFlags::empty(), taken, piece) {
            Ok(()) => taken += piece,
            Err(Errno::NOSPC) if piece > BLOCK_BYTES => piece /= 2,
            Err(Errno::NOSPC) => {
                ILL.store(true, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return,
        }
    }
}

/// One request, one answer. A client that goes away is no matter.
fn answer(mut stream: TcpStream, version: &str) {
    let status = if ILL.load(Ordering::Relaxed) { "500 Broken" } else { "200 OK" };
    let mut request = [0; 4096];
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let _ = stream.read(&mut request);
    let length = version.len();
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    let _ = stream.write_all(format!("{head}{version}").as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
}
