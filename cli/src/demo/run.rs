//! The demo from its folder to its end: tells the story, prints what was measured, ends every process by its
//! id and removes the folder, also after an error or Ctrl-C.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::bed::{Bed, Programs};
use super::screen::Screen;
use super::story::{Told, tell};
use super::summary::{Summary, tables};
use super::svg;
use crate::args::DemoArgs;
use crate::context::Context;
use crate::exit::Exit;

/// Ended by a person.
#[derive(Debug, thiserror::Error)]
#[error("finish the demo: interrupted")]
struct Interrupted;

/// Runs `swell demo`.
pub(crate) async fn demo(context: &Context, args: &DemoArgs) -> anyhow::Result<Exit> {
    let programs = Programs::find()?;
    let dir = folder(args.dir.as_deref())?;
    let mut bed = Bed::new(&dir, programs.clone());
    let mut screen = Screen::new(context.out);
    let told = tokio::select! {
        told = tell(&mut bed, &mut screen, &programs, (&dir, args.hosts)) => told,
        stopped = interrupted() => Err(stopped.err().unwrap_or_else(|| Interrupted.into())),
    };
    screen.keep_block();
    let told = match told {
        Ok(told) => told,
        Err(error) => {
            if error.downcast_ref::<Interrupted>().is_none() {
                context.out.note(bed.log_tails())?;
            }
            end(&mut bed, &mut screen, &dir).await?;
            return Err(error);
        }
    };
    show(context, &mut screen, (&told, args))?;
    if args.keep {
        keep(&bed, &mut screen, &dir)?;
        bed.leave();
    } else {
        end(&mut bed, &mut screen, &dir).await?;
    }
    Ok(Exit::Done)
}

/// A folder of the demo's own.
fn folder(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    match given {
        None => {
            let dir = tempfile::Builder::new().prefix("groundswell-demo-").tempdir();
            Ok(dir.context("make a temporary folder")?.keep())
        }
        Some(dir) => {
            let make = || format!("make {}: give a folder that is not there yet", dir.display());
            fs::create_dir(dir).with_context(make)?;
            fs::canonicalize(dir).with_context(make)
        }
    }
}

async fn interrupted() -> anyhow::Result<()> {
    let wait = || "wait for Ctrl-C";
    let mut interrupt = signal(SignalKind::interrupt()).with_context(wait)?;
    let mut terminate = signal(SignalKind::terminate()).with_context(wait)?;
    let mut hangup = signal(SignalKind::hangup()).with_context(wait)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

fn show(
    context: &Context,
    screen: &mut Screen,
    (told, args): (&Told, &DemoArgs),
) -> anyhow::Result<()> {
    if let Some(path) = &args.svg {
        let picture = svg::draw(&told.record, &told.waves);
        fs::write(path, picture).with_context(|| format!("write {}", path.display()))?;
    }
    if context.out.json {
        context.out.line(serde_json::to_string(&Summary::new(told))?)?;
    } else {
        for line in tables(told).lines() {
            screen.line(line)?;
        }
    }
    Ok(())
}

/// Ends everything and removes the folder.
async fn end(bed: &mut Bed, screen: &mut Screen, dir: &Path) -> anyhow::Result<()> {
    let stopped = bed.stop().await?;
    fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    let killed = match stopped.killed {
        0 => String::new(),
        count => format!(" ({count} had to be killed)"),
    };
    screen.line(&format!(
        "ended {} processes and their services{killed}; nothing is left running, {} is removed",
        stopped.asked,
        dir.display()
    ))?;
    Ok(())
}

/// Leaves everything and says how to use and end it.
fn keep(bed: &Bed, screen: &mut Screen, dir: &Path) -> anyhow::Result<()> {
    let pids: Vec<String> = bed.pids().iter().map(u32::to_string).collect();
    fs::write(bed.pids_path(), pids.join("\n") + "\n").context("keep the process ids")?;
    let (profile, dir, pids) = (bed.profile_path(), dir.display(), bed.pids_path());
    let (profile, pids) = (profile.display(), pids.display());
    for line in [
        "the fleet keeps running; try:".to_owned(),
        format!("  export GROUNDSWELL_PROFILE={profile}"),
        "  swell status".to_owned(),
        "  swell host ls".to_owned(),
        format!("  swell publish --version 1.2.0 --wait {dir}/shop-1.1.0"),
        "  swell revert shop".to_owned(),
        "  swell audit log --tail 20".to_owned(),
        "end it, and every service with it:".to_owned(),
        format!("  kill $(cat {pids}) && sleep 5 && rm -r {dir}"),
    ] {
        screen.line(&line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_there_is_left_alone() {
        let dir = tempfile::tempdir().expect("dir");
        let error = folder(Some(dir.path())).expect_err("it is there");
        assert!(error.to_string().contains("that is not there yet"), "{error}");
        let new = folder(Some(&dir.path().join("new"))).expect("new");
        assert!(new.is_dir());
    }
}
