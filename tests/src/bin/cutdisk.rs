//! `cutdisk IMAGE MOUNT_POINT SEED` serves one disk that can lose power, controlled by lines on
//! standard input. Started by the test bed; see `groundswell_tests::cutdisk`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use groundswell_tests::cutdisk::serve;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let image = arguments.next().map(PathBuf::from).context("name the disk image")?;
    let mount_point = arguments.next().map(PathBuf::from).context("name the mount point")?;
    let seed = arguments.next().context("give the seed")?;
    let seed = seed.to_str().and_then(|seed| seed.parse().ok()).context("give a whole seed")?;
    let control = (std::io::stdin().lock(), std::io::stdout().lock());
    serve(&image, &mount_point, seed, control)?;
    Ok(())
}
